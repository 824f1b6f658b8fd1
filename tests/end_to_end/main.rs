//! The whole system: `partway` with its real processes over QUIC on this machine, and the coordinator as a
//! library against edges that break the rules.

mod accuracy;
mod algorithms;
mod bad_input;
mod comparison;
mod edge_evaluation;
mod exactness;
mod experiment;
mod faults;
#[cfg(feature = "wgpu")]
mod graphics;
mod hostile;
mod labels;
mod models;
mod outputs;
mod own_data;
mod recovery;
mod virtual_clock;
