//! The coordinator's and the participant's state machines against each other, over virtual links, with
//! everything going wrong that can.
//!
//! [`world`] is a deterministic simulator: one virtual clock, one seed, the contracts of the real
//! drivers. [`fake_model`] computes so that the bits of the final model tell whether every step was
//! trained exactly once, in order, from the right state; [`ledger`] says which steps are in a model. A
//! test names a topology and what goes wrong; a run that fails prints both.

#![expect(
    clippy::unchecked_time_subtraction,
    clippy::needless_pass_by_value,
    clippy::large_enum_variant,
    reason = "a simulator: a panic is a failed test, and events are consumed by whom they happen to"
)]

mod cloud;
mod edge;
mod fake_model;
mod ledger;
mod network;
mod reference;
mod retold;
mod scenario;
mod world;

mod anything;
mod connections;
mod coordinator_crashes;
mod copies;
mod crashes;
mod deferral;
mod evaluation;
mod labels;
mod micro_batches;
mod numbering;
mod operations;
mod participant_alone;
mod probing;
mod silence;
mod standardization;
mod stragglers;
mod strangers;
mod undisturbed;
mod vanished;
