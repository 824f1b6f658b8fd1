//! `[wire]`: how a step's tensors travel.

use super::{
    number::{Whole, literal},
    reader::section,
    setting::named,
    support,
};

section! {
    /// The `[wire]` table.
    pub struct WireConfig {
        /// How activations are coded. Default `"f32"`. Example: `activations = "f16"`.
        pub activations: Codec = Codec::F32,
        /// How cut gradients are coded. Default `"f32"`. Example: `gradients = "f16"`.
        pub gradients: Codec = Codec::F32,
        /// Micro-batches that a step is split into, from 1 to 1024, a divisor of
        /// `training.batch_size`. Default 1. Example: `in_flight = 2`.
        pub in_flight: Whole<1, 1024> = literal(Whole::new(1)),
    }
}

named! {
    /// How values are coded on the wire.
    pub enum Codec {
        /// 4 bytes per value, exact.
        F32 = "f32",
        /// 2 bytes per value (IEEE 754 binary16); gradients carry a power-of-two scale.
        F16 = "f16",
    }
    planned: support::PLANNED_CODECS
}
