//! Partway's pure core: configuration, model shapes and costs, planning, aggregation, messages and
//! the two state machines.
//!
//! Nothing here reads a clock, a file, a socket or ambient randomness: time, seeds and bytes are
//! arguments. `clippy.toml` and the dependency check in `.ci/run` keep it so.

pub mod aggregate;
pub mod classes;
pub mod codec;
pub mod config;
pub mod coordinator;
pub mod event;
pub mod excerpt;
pub mod holdout;
pub mod link;
pub mod micro_batch;
pub mod model;
pub mod optimizer;
pub mod participant;
pub mod plan;
mod probe;
pub mod profile;
pub mod random;
pub mod standardize;
pub mod statistics;
pub mod wire;
pub mod workload;
