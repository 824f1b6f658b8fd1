//! A run of layers as tensors: built from a flat state, and flattened back.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use partway_core::model::state::{StateLengthError, TensorSlot, slots, state_len};
use partway_core::model::{LayerState, ModelSpec, ShapeError, TensorRole};
use partway_core::optimizer::Optimizer;
use thiserror::Error;

use crate::Compute;
use crate::accumulated::Accumulated;
use crate::activation::into_values;

/// One tensor of a half: flat, without a tape, so that its layer, the optimizer and the state need no
/// translation between each other.
#[derive(Clone, Debug)]
pub(crate) struct HeldTensor {
    pub(crate) role: TensorRole,
    pub(crate) values: Tensor<1>,
    /// In the optimizer's order; empty for a buffer.
    pub(crate) moments: Vec<Tensor<1>>,
}

/// The layers `[start, end)` of a model with their weights, buffers and optimizer moments, on a device.
///
/// It changes only in [`Half::backward`], [`Half::finish_step`] and [`Half::local_step`], and in those
/// only if they return `Ok`; its weights and moments with the last of a step's micro-batches. A clone shares the tensors until either side changes them.
#[derive(Clone, Debug)]
pub struct Half {
    pub(crate) spec: Arc<ModelSpec>,
    pub(crate) layers: Range<usize>,
    pub(crate) optimizer: Optimizer,
    /// In the canonical order.
    pub(crate) tensors: Vec<HeldTensor>,
    /// Shapes of one sample before the first layer of the model and after each.
    pub(crate) shapes: Vec<Vec<usize>>,
    pub(crate) compute: Compute,
    /// Of a step's micro-batches so far.
    pub(crate) accumulated: Accumulated,
}

/// A state that no half can be built from.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum HalfError {
    /// The spec itself does not fit together.
    #[error(transparent)]
    Shape(#[from] ShapeError),
    /// The state is of layers that the model does not have.
    #[error("the state is of layers {layers:?}, but model `{model}` has the layers 0..{len}")]
    Layers {
        /// The model's name.
        model: String,
        /// What the state is of.
        layers: Range<usize>,
        /// How many layers the model has.
        len: usize,
    },
    /// The state belongs to another optimizer.
    #[error(
        "the state has {actual} moments per trained tensor, but {optimizer:?} keeps {expected}: \
         use the optimizer that the state was made with"
    )]
    Moments {
        /// The optimizer asked for.
        optimizer: Optimizer,
        /// What it keeps.
        expected: usize,
        /// What the state has.
        actual: usize,
    },
    /// The state has too few or too many values.
    #[error(transparent)]
    Length(#[from] StateLengthError),
}

impl Half {
    /// The half that `state` describes, trained by `optimizer`, on the workers of `compute`. It costs
    /// one copy of the state.
    pub fn from_state(
        spec: &Arc<ModelSpec>,
        optimizer: Optimizer,
        state: LayerState,
        compute: &Compute,
    ) -> Result<Self, HalfError> {
        let shapes = spec.shapes()?;
        let LayerState { layers, moments, values } = state;
        if layers.start > layers.end || layers.end > spec.len() {
            return Err(HalfError::Layers { model: spec.name.clone(), layers, len: spec.len() });
        }
        let expected = optimizer.moments().len();
        if moments != expected {
            return Err(HalfError::Moments { optimizer, expected, actual: moments });
        }
        let state = LayerState::new(spec, layers, moments, values)?;
        let flat = |range: Range<usize>| {
            let data = TensorData::new(state.values[range.clone()].to_vec(), [range.len()]);
            Tensor::from_data(data, compute.device())
        };
        let held = |slot: TensorSlot| HeldTensor {
            role: slot.tensor.role,
            values: flat(slot.values),
            moments: slot.moments.into_iter().map(flat).collect(),
        };
        let slots = slots(spec, state.layers.clone(), moments);
        let tensors = compute.run(|| slots.into_iter().map(held).collect());
        Ok(Self {
            spec: Arc::clone(spec),
            layers: state.layers,
            optimizer,
            tensors,
            shapes,
            compute: compute.clone(),
            accumulated: Accumulated::default(),
        })
    }

    /// Exactly what [`Half::from_state`] would restore this half from.
    pub fn state(&self) -> LayerState {
        self.clone().into_state()
    }

    /// As [`Half::state`], without an extra copy of the tensors.
    pub fn into_state(self) -> LayerState {
        let Self { spec, layers, optimizer, tensors, compute, .. } = self;
        let moments = optimizer.moments().len();
        let mut values = Vec::with_capacity(state_len(&spec, layers.clone(), moments));
        compute.run(|| {
            for tensor in tensors {
                for flat in std::iter::once(tensor.values).chain(tensor.moments) {
                    values.extend(into_values(flat));
                }
            }
        });
        LayerState { layers, moments, values }
    }

    /// Runs on the workers of `compute` from now on, which must be of the same device.
    pub fn move_to(&mut self, compute: &Compute) {
        self.compute = compute.clone();
    }

    /// Which layers.
    pub fn layers(&self) -> Range<usize> {
        self.layers.clone()
    }

    /// The model that the layers are of.
    pub fn spec(&self) -> &Arc<ModelSpec> {
        &self.spec
    }

    /// What trains it.
    pub fn optimizer(&self) -> Optimizer {
        self.optimizer
    }

    /// Shape of one sample that reaches the first layer.
    pub fn input_shape(&self) -> &[usize] {
        &self.shapes[self.layers.start]
    }

    /// Shape of one sample that leaves the last layer.
    pub fn output_shape(&self) -> &[usize] {
        &self.shapes[self.layers.end]
    }

    /// Whether anything here is trained.
    pub fn is_trained(&self) -> bool {
        self.tensors.iter().any(|tensor| tensor.role == TensorRole::Trained)
    }

    /// Whether anything before here is trained, so that somebody needs the gradient at the first layer.
    pub(crate) fn is_trained_before(&self) -> bool {
        let before = self.spec.tensors(0..self.layers.start);
        before.iter().any(|tensor| tensor.role == TensorRole::Trained)
    }
}
