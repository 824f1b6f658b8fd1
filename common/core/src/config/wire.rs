//! `[wire]`: how a step's tensors travel.

use super::{
    number::{Whole, literal},
    reader::section,
    setting::named,
};
use crate::codec::{ActivationCodec, Codec};

section! {
    /// The `[wire]` table.
    pub struct WireConfig {
        /// How activations travel: `"f32"`, `"f16"`, `"bf16"`, `"int8"` or `"int4"` (with a scale per
        /// channel; `{ kind = "int8", scale = "tensor" }` has one for all), or only some of them:
        /// `{ kind = "topk", fraction = 0.1, alpha = 0.1, values = "f32" }`, where `fraction` (above 0, at
        /// most 1) of each sample's values travel, each represented as `values` (any of the others;
        /// default `"f32"`), and `alpha` (from 0, below 1; default 0.1) is the probability of a pick that
        /// is not one of the largest. Default `"f32"`. Example: `activations = "int8"`.
        pub activations: ActivationCodec = ActivationCodec::default(),
        /// How cut gradients travel, as for activations but for `"topk"`: gradients of activations that
        /// did not travel stay away, too, and the others are represented as this says. Default `"f32"`.
        /// Example: `gradients = "f16"`.
        pub gradients: Codec = Codec::F32,
        /// Micro-batches that a step's batch is split into, from 1 to 1024, a divisor of
        /// `training.batch_size`: one is computed while others are on the wire and in the cloud. Their gradients
        /// accumulate, and the optimizer steps after the last, so that training differs by rounding only; not for models
        /// with batch norm, whose layers see the whole batch. A step that does not cross the wire (`fedavg`, cut L) is
        /// not split. Default 1. Example: `in_flight = 2`.
        pub in_flight: Whole<1, 1024> = literal(Whole::new(1)),
        /// Whether tensors travel over a QUIC connection of their own, beside that of the control messages, under the
        /// wall clock. `partway run` opens both on the loopback interface, and an emulated link carries both, with
        /// one rate and one queue. `partway-cloud serve` needs `--listen-data`, where each edge that is given
        /// `--data-address` opens its second connection. Default false. Example: `data_connection = true`.
        pub data_connection: bool = false,
        /// How both sides find the rate that a link carries, under the wall clock. `"cubic"` takes a lost packet for a
        /// full queue; `"bbr"` goes by what arrives and how late, and keeps up its rate where packets are lost at
        /// random, but is slower on a link without loss. An edge that was started by hand has its own
        /// (`partway-edge join --congestion`). Default `"cubic"`. Example: `congestion = "bbr"`.
        pub congestion: Congestion = Congestion::Cubic,
    }
}

named! {
    /// How a sender finds the rate that a link carries.
    pub enum Congestion {
        /// CUBIC (RFC 9438).
        Cubic = "cubic",
        /// BBR, version 1 (Cardwell et al., ACM Queue 14(5), 2016).
        Bbr = "bbr",
    }
}
