//! What a model is: data that the cloud sends and an edge builds at run time.

use serde::{Deserialize, Serialize};

use super::shape::{ShapeError, infer};

/// A model: layers that run in order, from an image batch to one logit per class.
///
/// A `ModelSpec` that came through [`ModelSpec::checked`] has fitting shapes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// What it is called: a built-in name or the name in a model file.
    pub name: String,
    /// Shape of one input sample, `[channels, height, width]`.
    pub input: [usize; 3],
    /// How many classes, which is the width of the last layer's output.
    pub classes: usize,
    /// The layers. A cut `c` leaves `layers[..c]` on the edge and `layers[c..]` in the cloud.
    pub layers: Vec<LayerSpec>,
}

/// One entry of the model's list: the unit in which a cut is counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerSpec {
    /// A short name for tables, such as `conv1`. Tensors are named by the layer's index instead.
    pub name: String,
    /// What the layer computes.
    pub op: LayerOp,
}

/// The layer kinds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum LayerOp {
    /// Convolution over `[C, H, W]` with a square kernel.
    Conv2d {
        /// Channels in.
        in_channels: usize,
        /// Channels out.
        out_channels: usize,
        /// Kernel side.
        kernel: usize,
        /// Step between outputs.
        stride: usize,
        /// Zero pixels added on each side.
        padding: usize,
        /// Groups: 1 is a full convolution, `in_channels` a depthwise one.
        groups: usize,
        /// Whether a bias is added.
        bias: bool,
    },
    /// Batch normalization over each channel (Ioffe & Szegedy 2015), with running statistics.
    BatchNorm2d {
        /// Channels.
        channels: usize,
    },
    /// Fully connected layer over a flat vector.
    Linear {
        /// Features in.
        inputs: usize,
        /// Features out.
        outputs: usize,
        /// Whether a bias is added.
        bias: bool,
    },
    /// `max(x, 0)`.
    Relu,
    /// Largest value under a square window; no padding, incomplete windows are dropped.
    MaxPool2d {
        /// Window side.
        kernel: usize,
        /// Step between windows.
        stride: usize,
    },
    /// Mean under a square window; no padding, incomplete windows are dropped.
    AvgPool2d {
        /// Window side.
        kernel: usize,
        /// Step between windows.
        stride: usize,
    },
    /// Mean over the whole plane: `[C, H, W]` becomes `[C, 1, 1]`.
    GlobalAvgPool,
    /// `[C, H, W]` becomes `[C * H * W]`.
    Flatten,
    /// Each value is zeroed with probability `p` while training, the others scaled by `1 / (1 - p)`.
    Dropout {
        /// Probability of zeroing, in `[0, 1)`.
        p: f32,
    },
    /// `ResNet` basic block (He et al. 2016): conv3x3, batch norm, relu, conv3x3, batch norm, plus the
    /// input (through a 1x1 convolution and batch norm where the shape changes), then relu.
    Residual {
        /// Channels in.
        in_channels: usize,
        /// Channels out.
        out_channels: usize,
        /// Stride of the first convolution and of the shortcut.
        stride: usize,
    },
}

impl LayerOp {
    /// The kind's name, as tables, profiles and files write it.
    pub fn kind(&self) -> LayerKind {
        match self {
            Self::Conv2d { .. } => LayerKind::Conv2d,
            Self::BatchNorm2d { .. } => LayerKind::BatchNorm2d,
            Self::Linear { .. } => LayerKind::Linear,
            Self::Relu => LayerKind::Relu,
            Self::MaxPool2d { .. } => LayerKind::MaxPool2d,
            Self::AvgPool2d { .. } => LayerKind::AvgPool2d,
            Self::GlobalAvgPool => LayerKind::GlobalAvgPool,
            Self::Flatten => LayerKind::Flatten,
            Self::Dropout { .. } => LayerKind::Dropout,
            Self::Residual { .. } => LayerKind::Residual,
        }
    }
}

/// A layer's kind without its sizes: what a device's time model is fitted per.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the LayerOp of the same name")]
pub enum LayerKind {
    Conv2d,
    BatchNorm2d,
    Linear,
    Relu,
    MaxPool2d,
    AvgPool2d,
    GlobalAvgPool,
    Flatten,
    Dropout,
    Residual,
}

impl LayerKind {
    /// The kebab-case name, as in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conv2d => "conv2d",
            Self::BatchNorm2d => "batch-norm2d",
            Self::Linear => "linear",
            Self::Relu => "relu",
            Self::MaxPool2d => "max-pool2d",
            Self::AvgPool2d => "avg-pool2d",
            Self::GlobalAvgPool => "global-avg-pool",
            Self::Flatten => "flatten",
            Self::Dropout => "dropout",
            Self::Residual => "residual",
        }
    }
}

impl std::fmt::Display for LayerKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl ModelSpec {
    /// The spec, if every layer accepts what the layer before it produces and the last produces
    /// `[classes]`.
    ///
    /// # Errors
    /// The first layer that does not fit, with its index and both shapes.
    pub fn checked(self) -> Result<Self, ShapeError> {
        infer(&self)?;
        Ok(self)
    }

    /// Shapes of one sample before the first layer and after each: `len() + 1` entries.
    ///
    /// # Errors
    /// As [`ModelSpec::checked`].
    pub fn shapes(&self) -> Result<Vec<Vec<usize>>, ShapeError> {
        infer(self)
    }

    /// How many layers there are: L.
    pub fn len(&self) -> usize {
        self.layers.len()
    }

    /// Whether there are no layers.
    pub fn is_empty(&self) -> bool {
        self.layers.is_empty()
    }
}
