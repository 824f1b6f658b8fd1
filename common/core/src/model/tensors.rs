//! The named tensors of a model: weights, biases and running statistics, in one canonical order.
//!
//! Both sides derive names, shapes and order from the spec alone, so that a block of layers crosses
//! the wire as bare values ([`crate::model::state`]) and a tensor has the same name everywhere.

use std::ops::Range;

use super::spec::{LayerOp, ModelSpec};
use crate::random;

/// What a tensor is for, which says how it is averaged and whether it has optimizer moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TensorRole {
    /// Trained by gradient descent.
    Trained,
    /// A batch norm's running mean: a buffer.
    RunningMean,
    /// A batch norm's running variance: a buffer, pooled by the law of total variance.
    RunningVar,
    /// Of a frozen layer: nothing changes it.
    Frozen,
}

/// How a tensor starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// Uniform in `[-bound, bound]`.
    Uniform {
        /// Half the width of the interval.
        bound: f32,
    },
    /// One value everywhere.
    Constant(f32),
}

/// One named tensor of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    /// `layers.<index>.<path>`, such as `layers.3.conv1.weight`.
    pub name: String,
    /// Its shape: convolution weights `[out, in / groups, k, k]`, linear weights `[out, in]`.
    pub shape: Vec<usize>,
    /// What it is for.
    pub role: TensorRole,
    /// How it starts.
    pub init: Init,
}

impl TensorSpec {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether it holds no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its starting values: a function of the seed and the name only, so that both sides, at any
    /// cut, start from the same model without sending it.
    pub fn initial_values(&self, seed: u64) -> Vec<f32> {
        match self.init {
            Init::Constant(value) => vec![value; self.len()],
            Init::Uniform { bound } => {
                let mut stream = random::stream(seed, &["initial weights", &self.name]);
                (0..self.len()).map(|_| bound * (2.0 * random::unit_f32(&mut stream) - 1.0)).collect()
            }
        }
    }
}

/// Collects the tensors of one layer under its name.
struct Collector {
    prefix: String,
    tensors: Vec<TensorSpec>,
}

impl Collector {
    fn push(&mut self, path: &str, shape: Vec<usize>, role: TensorRole, init: Init) {
        self.tensors.push(TensorSpec { name: format!("{}.{path}", self.prefix), shape, role, init });
    }

    /// Uniform with variance `1 / (3 fan_in)`, as `PyTorch` starts its convolutions and linear layers.
    /// The wider start of He et al. 2015 diverges on skewed shards at the usual learning rates.
    fn weight(&mut self, path: &str, shape: Vec<usize>) {
        let fan_in: usize = shape[1..].iter().product();
        let bound = (1.0 / fan_in as f32).sqrt();
        self.push(path, shape, TensorRole::Trained, Init::Uniform { bound });
    }

    fn zeros(&mut self, path: &str, n: usize) {
        self.push(path, vec![n], TensorRole::Trained, Init::Constant(0.0));
    }

    /// Scale and shift of a normalization.
    fn affine(&mut self, path: &str, channels: usize) {
        self.push(&format!("{path}weight"), vec![channels], TensorRole::Trained, Init::Constant(1.0));
        self.push(&format!("{path}bias"), vec![channels], TensorRole::Trained, Init::Constant(0.0));
    }

    fn batch_norm(&mut self, path: &str, channels: usize) {
        let n = || vec![channels];
        self.affine(path, channels);
        self.push(&format!("{path}running_mean"), n(), TensorRole::RunningMean, Init::Constant(0.0));
        self.push(&format!("{path}running_var"), n(), TensorRole::RunningVar, Init::Constant(1.0));
    }

    /// A convolution without bias and the batch norm after it.
    fn normed_conv(&mut self, conv: &str, norm: &str, [out, fan_in, kernel]: [usize; 3]) {
        self.weight(&format!("{conv}.weight"), vec![out, fan_in, kernel, kernel]);
        self.batch_norm(&format!("{norm}."), out);
    }
}

impl ModelSpec {
    /// The tensors of layer `index`, in the canonical order.
    ///
    /// # Panics
    /// If there is no such layer.
    pub fn layer_tensors(&self, index: usize) -> Vec<TensorSpec> {
        let mut all = Collector { prefix: format!("layers.{index}"), tensors: Vec::new() };
        match self.layers[index].op {
            LayerOp::Conv2d { in_channels, out_channels, kernel, groups, bias, .. } => {
                all.weight("weight", vec![out_channels, in_channels / groups, kernel, kernel]);
                if bias {
                    all.zeros("bias", out_channels);
                }
            }
            LayerOp::BatchNorm2d { channels } => all.batch_norm("", channels),
            LayerOp::Linear { inputs, outputs, bias } => {
                all.weight("weight", vec![outputs, inputs]);
                if bias {
                    all.zeros("bias", outputs);
                }
            }
            LayerOp::GroupNorm { channels, .. } => all.affine("", channels),
            LayerOp::Residual { in_channels, out_channels, stride } => {
                all.normed_conv("conv1", "bn1", [out_channels, in_channels, 3]);
                all.normed_conv("conv2", "bn2", [out_channels, out_channels, 3]);
                if residual_projects(in_channels, out_channels, stride) {
                    all.normed_conv("shortcut.conv", "shortcut.bn", [out_channels, in_channels, 1]);
                }
            }
            LayerOp::InvertedResidual { in_channels, out_channels, expansion, .. } => {
                let hidden = in_channels * expansion;
                if expansion != 1 {
                    all.normed_conv("expand.conv", "expand.bn", [hidden, in_channels, 1]);
                }
                all.normed_conv("depthwise.conv", "depthwise.bn", [hidden, 1, 3]);
                all.normed_conv("project.conv", "project.bn", [out_channels, hidden, 1]);
            }
            LayerOp::LocalResponseNorm { .. }
            | LayerOp::Relu
            | LayerOp::Relu6
            | LayerOp::Gelu
            | LayerOp::MaxPool2d { .. }
            | LayerOp::AvgPool2d { .. }
            | LayerOp::GlobalAvgPool
            | LayerOp::Flatten
            | LayerOp::Dropout { .. } => {}
        }
        if self.is_frozen(index) {
            all.tensors.iter_mut().for_each(|tensor| tensor.role = TensorRole::Frozen);
        }
        all.tensors
    }

    /// The tensors of a range of layers, in the canonical order.
    pub fn tensors(&self, layers: Range<usize>) -> Vec<TensorSpec> {
        layers.flat_map(|index| self.layer_tensors(index)).collect()
    }
}

/// Whether a residual block's shortcut needs a projection: where the shape changes.
pub fn residual_projects(in_channels: usize, out_channels: usize, stride: usize) -> bool {
    stride != 1 || in_channels != out_channels
}

/// Whether an inverted residual block adds its input: where the shape stays the same.
pub fn inverted_residual_adds(in_channels: usize, out_channels: usize, stride: usize) -> bool {
    stride == 1 && in_channels == out_channels
}
