//! Trains small models: split as unsplit, bit for bit; layers against plain loops; gradients against
//! finite differences; refusals; calibration.

mod any_model;
mod builtins;
mod calibration;
mod exactness;
mod forward;
mod frozen;
mod gradients;
mod inference;
mod micro_batches;
mod models;
mod reference;
mod refusals;
mod u_shape;
mod warm_up;
