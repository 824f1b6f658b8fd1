//! The coordinator's and the participant's state machines against each other, over virtual links, with
//! everything going wrong that can.
//!
//! [`world`] is a deterministic simulator: one virtual clock, one seed, the contracts of the real
//! drivers. [`fake_model`] computes so that the bits of the final model tell whether every step was
//! trained exactly once, in order, from the right state; [`ledger`] says which steps are in a model. A
//! test names a topology and what goes wrong; a run that fails prints both.

mod cloud;
mod edge;
mod fake_model;
mod ledger;
mod network;
mod scenario;
mod world;

mod connections;
mod coordinator_crashes;
mod copies;
mod crashes;
mod operations;
mod participant_alone;
mod strangers;
mod stress;
mod undisturbed;
mod vanished;
