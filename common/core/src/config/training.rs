//! `[training]`: the algorithm and its numbers.

use super::{
    number::{AtLeastOne, Share, Whole, literal},
    optimizer::default_optimizer,
    reader::section,
    setting::named,
};
use crate::optimizer::Optimizer;

section! {
    /// The `[training]` table.
    pub struct TrainingConfig {
        /// Who trains what. Default `"splitfed-v1"`. Example: `algorithm = "fedavg"`.
        pub algorithm: Algorithm = Algorithm::SplitFedV1,
        /// Samples per step, from 1 to 65536. Default 64. Example: `batch_size = 32`.
        pub batch_size: Whole<1, 65_536> = literal(Whole::new(64)),
        /// Steps that each edge makes per round, from 1 to 10000. Default 10. Example: `steps_per_round = 20`.
        pub steps_per_round: Whole<1, 10_000> = literal(Whole::new(10)),
        /// Rounds from one aggregation to the next, at least 1. Default 5. Example: `aggregate_every = 1`.
        pub aggregate_every: AtLeastOne = literal(AtLeastOne::new(5)),
        /// Rounds after which the run ends, at least 1. Default 100. Example: `max_rounds = 40`.
        pub max_rounds: AtLeastOne = literal(AtLeastOne::new(100)),
        /// Accuracy of the global model at which the run ends, above 0 and at most 1. Default: none, it
        /// ends at `max_rounds`. Example: `target_accuracy = 0.97`.
        pub target_accuracy: Option<Share>,
        /// The optimizer of both halves: `{ kind = "sgd", lr, momentum = 0.0, weight_decay = 0.0 }` or
        /// `{ kind = "adam", lr = 0.001, beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8, weight_decay = 0.0 }`.
        /// Default `{ kind = "sgd", lr = 0.05, momentum = 0.9 }`. Example:
        /// `optimizer = { kind = "adam", lr = 0.0005 }`.
        pub optimizer: Optimizer = default_optimizer(),
        /// What becomes of the optimizers' moments at an aggregation. Default `"average"`. Example:
        /// `aggregate_moments = "reset"`.
        pub aggregate_moments: AggregateMoments = AggregateMoments::Average,
        /// Who has the labels and computes the loss. With `"edge"` the last layer that has parameters, and
        /// what follows it, runs on the edge too (a U-shaped split, arXiv 1812.00564); for
        /// `"splitfed-v1"` and `"fedavg"`, where they stay anyway. Default `"cloud"`. Example:
        /// `labels = "edge"`.
        pub labels: LabelsAt = LabelsAt::Cloud,
    }
}

named! {
    /// Who trains what.
    pub enum Algorithm {
        /// A replica of the server-side model per edge, both halves averaged layer by layer (Thapa et
        /// al., arXiv 2004.12088); every edge its own cut.
        SplitFedV1 = "splitfed-v1",
        /// One server-side model, updated by the edges' batches in name order; client-side halves
        /// averaged and joined with it at aggregations. One common cut, at least 1, which moves at
        /// aggregations only: between them the client-side halves differ (arXiv 2004.12088).
        SplitFedV2 = "splitfed-v2",
        /// Vanilla split learning: in every round the edges take turns of `steps_per_round` steps in name
        /// order, and the model is handed on through the cloud. Nothing is averaged: at an "aggregation"
        /// the model becomes the global one, to be evaluated and kept (Gupta & Raskar, arXiv 1810.06060).
        Sequential = "sequential",
        /// Cut L: local training and averaging (`McMahan` et al., arXiv 1602.05629).
        FedAvg = "fedavg",
        /// Cut 0: the edges' batches in edge-id order in one model, the reference for accuracy.
        Centralized = "centralized",
    }
}

named! {
    /// What becomes of the optimizers' moments at an aggregation.
    pub enum AggregateMoments {
        /// Averaged with the weights of the parameters.
        Average = "average",
        /// Set to zero.
        Reset = "reset",
    }
}

named! {
    /// Who has the labels and computes the loss.
    pub enum LabelsAt {
        /// They follow the smashed data to the cloud.
        Cloud = "cloud",
        /// They stay on the edge.
        Edge = "edge",
    }
}
