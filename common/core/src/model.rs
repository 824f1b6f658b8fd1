//! What is trained: the spec, its shapes, its named tensors and what each layer costs.

pub mod builtin;
pub mod calibration;
pub mod cost;
pub mod shape;
pub mod spec;
pub mod state;
pub mod tensors;

pub use cost::{LayerCost, ModelCost};
pub use shape::ShapeError;
pub use spec::{LayerKind, LayerOp, LayerSpec, ModelSpec};
pub use state::LayerState;
pub use tensors::{Init, TensorRole, TensorSpec};
