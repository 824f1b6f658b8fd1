//! What each layer costs: multiply-adds, FLOPs, bytes.

/// Cost of one layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerCost;
/// Cost of every layer of a model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelCost;
