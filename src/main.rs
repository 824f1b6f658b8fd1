//! Partway: the experiment runner.
fn main() {}
