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
    /// How many of the first layers are frozen: they keep their weights and run in inference mode, so
    /// that batch norms use their running statistics and dropout passes everything on.
    pub frozen: usize,
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
    /// Group normalization (Wu & He 2018, arXiv 1803.08494): each sample by itself, over groups of
    /// channels.
    GroupNorm {
        /// Channels.
        channels: usize,
        /// Groups: divides the channels. 1 normalizes over all of them, `channels` over each alone.
        groups: usize,
    },
    /// Local response normalization across channels (Krizhevsky et al. 2012):
    /// `x / (k + alpha / size * sum of x^2 over size neighbouring channels)^beta`.
    LocalResponseNorm {
        /// How many neighbouring channels, itself included: odd.
        size: usize,
        /// Weight of their mean square, at least 0.
        alpha: f32,
        /// Exponent, at least 0.
        beta: f32,
        /// Added before the power, above 0.
        k: f32,
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
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x` times the probability that a standard normal number is below it (Hendrycks & Gimpel 2016,
    /// arXiv 1606.08415), exactly and not by its approximation with tanh.
    Gelu,
    /// Largest value under a square window; incomplete windows are dropped.
    MaxPool2d {
        /// Window side.
        kernel: usize,
        /// Step between windows.
        stride: usize,
        /// Pixels of minus infinity added on each side: at most half the kernel.
        padding: usize,
    },
    /// Mean under a square window; incomplete windows are dropped.
    AvgPool2d {
        /// Window side.
        kernel: usize,
        /// Step between windows.
        stride: usize,
        /// Pixels of zero added on each side, which count in the mean: at most half the kernel.
        padding: usize,
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
    /// Inverted residual block of `MobileNetV2` (Sandler et al. 2018, arXiv 1801.04381): a 1x1
    /// convolution to `expansion` times as many channels (left out where that is 1), a depthwise 3x3
    /// one, each with batch norm and relu6, then a 1x1 convolution with batch norm; plus the input
    /// where the shape stays the same.
    InvertedResidual {
        /// Channels in.
        in_channels: usize,
        /// Channels out.
        out_channels: usize,
        /// Stride of the depthwise convolution.
        stride: usize,
        /// Channels inside per channel in.
        expansion: usize,
    },
}

impl LayerOp {
    /// The kind's name, as tables, profiles and files write it.
    pub fn kind(&self) -> LayerKind {
        match self {
            Self::Conv2d { .. } => LayerKind::Conv2d,
            Self::BatchNorm2d { .. } => LayerKind::BatchNorm2d,
            Self::GroupNorm { .. } => LayerKind::GroupNorm,
            Self::LocalResponseNorm { .. } => LayerKind::LocalResponseNorm,
            Self::Linear { .. } => LayerKind::Linear,
            Self::Relu => LayerKind::Relu,
            Self::Relu6 => LayerKind::Relu6,
            Self::Gelu => LayerKind::Gelu,
            Self::MaxPool2d { .. } => LayerKind::MaxPool2d,
            Self::AvgPool2d { .. } => LayerKind::AvgPool2d,
            Self::GlobalAvgPool => LayerKind::GlobalAvgPool,
            Self::Flatten => LayerKind::Flatten,
            Self::Dropout { .. } => LayerKind::Dropout,
            Self::Residual { .. } => LayerKind::Residual,
            Self::InvertedResidual { .. } => LayerKind::InvertedResidual,
        }
    }

    /// Whether it normalizes over the batch in training: what a sample becomes then depends on the
    /// others.
    pub fn normalizes_over_batch(&self) -> bool {
        matches!(self, Self::BatchNorm2d { .. } | Self::Residual { .. } | Self::InvertedResidual { .. })
    }
}

/// A layer's kind without its sizes: what a device's time model is fitted per.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the LayerOp of the same name")]
pub enum LayerKind {
    Conv2d,
    BatchNorm2d,
    GroupNorm,
    LocalResponseNorm,
    Linear,
    Relu,
    Relu6,
    Gelu,
    MaxPool2d,
    AvgPool2d,
    GlobalAvgPool,
    Flatten,
    Dropout,
    Residual,
    InvertedResidual,
}

impl LayerKind {
    /// Every kind.
    pub const ALL: [Self; 15] = [
        Self::Conv2d,
        Self::BatchNorm2d,
        Self::GroupNorm,
        Self::LocalResponseNorm,
        Self::Linear,
        Self::Relu,
        Self::Relu6,
        Self::Gelu,
        Self::MaxPool2d,
        Self::AvgPool2d,
        Self::GlobalAvgPool,
        Self::Flatten,
        Self::Dropout,
        Self::Residual,
        Self::InvertedResidual,
    ];

    /// The kebab-case name, as in files and tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conv2d => "conv2d",
            Self::BatchNorm2d => "batch-norm2d",
            Self::GroupNorm => "group-norm",
            Self::LocalResponseNorm => "local-response-norm",
            Self::Linear => "linear",
            Self::Relu => "relu",
            Self::Relu6 => "relu6",
            Self::Gelu => "gelu",
            Self::MaxPool2d => "max-pool2d",
            Self::AvgPool2d => "avg-pool2d",
            Self::GlobalAvgPool => "global-avg-pool",
            Self::Flatten => "flatten",
            Self::Dropout => "dropout",
            Self::Residual => "residual",
            Self::InvertedResidual => "inverted-residual",
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

    /// Whether layer `index` is frozen.
    pub fn is_frozen(&self, index: usize) -> bool {
        index < self.frozen
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
