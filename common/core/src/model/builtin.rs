//! The built-in models.

use thiserror::Error;

use super::shape::ShapeError;
use super::spec::{LayerOp, LayerSpec, ModelSpec};

/// What [`builtin`] knows.
pub const NAMES: [&str; 7] = ["mlp", "lenet5", "vgg5", "alexnet-cifar", "vgg11", "resnet18", "mobilenet-v2"];

/// Largest number of values in one input sample: far above any real image, far below overflow.
const MAX_INPUT_ELEMENTS: usize = 1 << 28;

/// Largest side of the images that models for two sizes take for small ones, as CIFAR's.
const MAX_CIFAR_SIDE: usize = 64;

/// Why there is no such built-in model.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum BuiltinError {
    /// No built-in model has this name.
    #[error("no built-in model is called `{name}`; known are {}", NAMES.join(", "))]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The input is absurdly large.
    #[error(
        "model `{name}`: an input of {input:?} has more than {MAX_INPUT_ELEMENTS} values per sample; \
         check the data set's shape"
    )]
    InputTooLarge {
        /// The model's name.
        name: String,
        /// The input asked for, `[channels, height, width]`.
        input: [usize; 3],
    },
    /// The model does not fit the input or the classes.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// The built-in model `name` for samples of shape `input` = `[channels, height, width]`.
///
/// | name | layers |
/// |---|---|
/// | `mlp` | flatten, linear 128, relu, linear 64, relu, linear: 6 layers |
/// | `lenet5` | conv5x5 6, relu, pool, conv5x5 16, relu, pool, flatten, linear 120, relu, linear 84, relu, linear: 12 layers. After LeCun et al. 1998, with relu and max pools; inputs below 32 pixels a side are padded by 2, as the original pads MNIST to 32 |
/// | `vgg5` | conv3x3 32, relu, pool, conv3x3 64, relu, pool, conv3x3 64, relu, flatten, linear 128, relu, linear: 12 layers. After `FedAdapt` (Wu et al. 2021), without batch norm |
/// | `alexnet-cifar` | conv5x5 32, relu, pool, local response norm, conv5x5 64, relu, pool, local response norm, conv3x3 96, relu, conv3x3 96, relu, conv3x3 64, relu, pool, flatten, linear 256, relu, dropout, linear 128, relu, dropout, linear: 23 layers; pools are 3x3 with stride 2. The small `AlexNet` (Krizhevsky et al. 2012) of `BranchyNet` (Teerapittayanon et al. 2016), which Edgent cuts |
/// | `vgg11` | configuration A of Simonyan & Zisserman 2015. Up to 64 pixels a side: batch norm after each of the eight convolutions, and one linear layer, as is usual for CIFAR; above: as published, with linear 4096 twice and dropout, without batch norm |
/// | `resnet18` | stem, 8 residual blocks, global pool, flatten, linear. After He et al. 2016. Up to 64 pixels a side the stem is conv3x3 64, batch norm, relu: 14 layers; above conv7x7 64 of stride 2, batch norm, relu, pool 3x3 of stride 2: 15 layers |
/// | `mobilenet-v2` | conv3x3 32, batch norm, relu6, 17 inverted residual blocks, conv1x1 1280, batch norm, relu6, global pool, flatten, dropout, linear: 27 layers. After Sandler et al. 2018. Its strides make 1/32 of each side; up to 64 pixels the stem and the first block of 24 channels have stride 1, which makes 1/8 |
///
/// ```
/// let model = partway_core::model::builtin::builtin("lenet5", [1, 28, 28], 10)?;
/// assert_eq!(model.len(), 12);
/// # Ok::<(), partway_core::model::builtin::BuiltinError>(())
/// ```
pub fn builtin(name: &str, input: [usize; 3], classes: usize) -> Result<ModelSpec, BuiltinError> {
    let build = match name {
        "mlp" => mlp,
        "lenet5" => lenet5,
        "vgg5" => vgg5,
        "alexnet-cifar" => alexnet_cifar,
        "vgg11" => vgg11,
        "resnet18" => resnet18,
        "mobilenet-v2" => mobilenet_v2,
        _ => return Err(BuiltinError::Unknown { name: name.into() }),
    };
    let elements = input.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
    // A side may still be huge beside a side of 0.
    if elements.is_none_or(|n| n > MAX_INPUT_ELEMENTS) || input.iter().any(|side| *side > MAX_INPUT_ELEMENTS)
    {
        return Err(BuiltinError::InputTooLarge { name: name.into(), input });
    }
    let layers = build(input, classes);
    Ok(ModelSpec { name: name.into(), input, classes, frozen: 0, layers }.checked()?)
}

fn layer(name: impl Into<String>, op: LayerOp) -> LayerSpec {
    LayerSpec { name: name.into(), op }
}

fn conv(in_channels: usize, out_channels: usize, kernel: usize, padding: usize, bias: bool) -> LayerOp {
    strided_conv([in_channels, out_channels], kernel, 1, padding, bias)
}

fn strided_conv(
    [in_channels, out_channels]: [usize; 2],
    kernel: usize,
    stride: usize,
    padding: usize,
    bias: bool,
) -> LayerOp {
    LayerOp::Conv2d { in_channels, out_channels, kernel, stride, padding, groups: 1, bias }
}

fn linear(inputs: usize, outputs: usize) -> LayerOp {
    LayerOp::Linear { inputs, outputs, bias: true }
}

const HALVE: LayerOp = LayerOp::MaxPool2d { kernel: 2, stride: 2, padding: 0 };

/// Rounds up where [`HALVE`] rounds down.
const OVERLAPPING: LayerOp = LayerOp::MaxPool2d { kernel: 3, stride: 2, padding: 1 };

fn is_small([_, h, w]: [usize; 3]) -> bool {
    h.max(w) <= MAX_CIFAR_SIDE
}

fn mlp([c, h, w]: [usize; 3], classes: usize) -> Vec<LayerSpec> {
    vec![
        layer("flatten", LayerOp::Flatten),
        layer("fc1", linear(c * h * w, 128)),
        layer("relu1", LayerOp::Relu),
        layer("fc2", linear(128, 64)),
        layer("relu2", LayerOp::Relu),
        layer("fc3", linear(64, classes)),
    ]
}

fn lenet5([c, h, w]: [usize; 3], classes: usize) -> Vec<LayerSpec> {
    let padding = if h.min(w) < 32 { 2 } else { 0 };
    // Where this reaches 0 the image is too small, and the shape check names the layer.
    let after_pool2 = |side: usize| {
        let after_pool1 = (side + 2 * padding).saturating_sub(4) / 2;
        after_pool1.saturating_sub(4) / 2
    };
    vec![
        layer("conv1", conv(c, 6, 5, padding, true)),
        layer("relu1", LayerOp::Relu),
        layer("pool1", HALVE),
        layer("conv2", conv(6, 16, 5, 0, true)),
        layer("relu2", LayerOp::Relu),
        layer("pool2", HALVE),
        layer("flatten", LayerOp::Flatten),
        layer("fc1", linear(16 * after_pool2(h) * after_pool2(w), 120)),
        layer("relu3", LayerOp::Relu),
        layer("fc2", linear(120, 84)),
        layer("relu4", LayerOp::Relu),
        layer("fc3", linear(84, classes)),
    ]
}

fn vgg5([c, h, w]: [usize; 3], classes: usize) -> Vec<LayerSpec> {
    vec![
        layer("conv1", conv(c, 32, 3, 1, true)),
        layer("relu1", LayerOp::Relu),
        layer("pool1", HALVE),
        layer("conv2", conv(32, 64, 3, 1, true)),
        layer("relu2", LayerOp::Relu),
        layer("pool2", HALVE),
        layer("conv3", conv(64, 64, 3, 1, true)),
        layer("relu3", LayerOp::Relu),
        layer("flatten", LayerOp::Flatten),
        layer("fc1", linear(64 * (h / 4) * (w / 4), 128)),
        layer("relu4", LayerOp::Relu),
        layer("fc2", linear(128, classes)),
    ]
}

fn alexnet_cifar([c, h, w]: [usize; 3], classes: usize) -> Vec<LayerSpec> {
    // BranchyNet's 5e-5 weighs the sum of three squares.
    let norm = || LayerOp::LocalResponseNorm { size: 3, alpha: 3.0 * 5e-5, beta: 0.75, k: 2.0 };
    let dropout = || LayerOp::Dropout { p: 0.5 };
    let after_pools = |side: usize| side.div_ceil(8);
    vec![
        layer("conv1", conv(c, 32, 5, 2, true)),
        layer("relu1", LayerOp::Relu),
        layer("pool1", OVERLAPPING),
        layer("norm1", norm()),
        layer("conv2", conv(32, 64, 5, 2, true)),
        layer("relu2", LayerOp::Relu),
        layer("pool2", OVERLAPPING),
        layer("norm2", norm()),
        layer("conv3", conv(64, 96, 3, 1, true)),
        layer("relu3", LayerOp::Relu),
        layer("conv4", conv(96, 96, 3, 1, true)),
        layer("relu4", LayerOp::Relu),
        layer("conv5", conv(96, 64, 3, 1, true)),
        layer("relu5", LayerOp::Relu),
        layer("pool3", OVERLAPPING),
        layer("flatten", LayerOp::Flatten),
        layer("fc1", linear(64 * after_pools(h) * after_pools(w), 256)),
        layer("relu6", LayerOp::Relu),
        layer("dropout1", dropout()),
        layer("fc2", linear(256, 128)),
        layer("relu7", LayerOp::Relu),
        layer("dropout2", dropout()),
        layer("fc3", linear(128, classes)),
    ]
}

fn vgg11(input: [usize; 3], classes: usize) -> Vec<LayerSpec> {
    let small = is_small(input);
    let [mut channels, h, w] = input;
    let mut layers = Vec::new();
    let mut pools = 0;
    for (index, (out_channels, pooled)) in [
        (64, true),
        (128, true),
        (256, false),
        (256, true),
        (512, false),
        (512, true),
        (512, false),
        (512, true),
    ]
    .into_iter()
    .enumerate()
    {
        let n = index + 1;
        layers.push(layer(format!("conv{n}"), conv(channels, out_channels, 3, 1, !small)));
        if small {
            layers.push(layer(format!("bn{n}"), LayerOp::BatchNorm2d { channels: out_channels }));
        }
        layers.push(layer(format!("relu{n}"), LayerOp::Relu));
        if pooled {
            pools += 1;
            layers.push(layer(format!("pool{pools}"), HALVE));
        }
        channels = out_channels;
    }
    layers.push(layer("flatten", LayerOp::Flatten));
    let features = 512 * (h / 32) * (w / 32);
    if small {
        layers.push(layer("fc", linear(features, classes)));
        return layers;
    }
    layers.extend([
        layer("fc1", linear(features, 4096)),
        layer("relu9", LayerOp::Relu),
        layer("dropout1", LayerOp::Dropout { p: 0.5 }),
        layer("fc2", linear(4096, 4096)),
        layer("relu10", LayerOp::Relu),
        layer("dropout2", LayerOp::Dropout { p: 0.5 }),
        layer("fc3", linear(4096, classes)),
    ]);
    layers
}

fn resnet18(input: [usize; 3], classes: usize) -> Vec<LayerSpec> {
    let small = is_small(input);
    let stem =
        if small { conv(input[0], 64, 3, 1, false) } else { strided_conv([input[0], 64], 7, 2, 3, false) };
    let mut layers = vec![
        layer("conv1", stem),
        layer("bn1", LayerOp::BatchNorm2d { channels: 64 }),
        layer("relu1", LayerOp::Relu),
    ];
    if !small {
        layers.push(layer("pool1", OVERLAPPING));
    }
    let mut in_channels = 64;
    for (stage, out_channels) in [64, 128, 256, 512].into_iter().enumerate() {
        for block in 0..2 {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let op = LayerOp::Residual { in_channels, out_channels, stride };
            layers.push(layer(format!("block{}", 2 * stage + block + 1), op));
            in_channels = out_channels;
        }
    }
    layers.push(layer("pool", LayerOp::GlobalAvgPool));
    layers.push(layer("flatten", LayerOp::Flatten));
    layers.push(layer("fc", linear(512, classes)));
    layers
}

fn mobilenet_v2(input: [usize; 3], classes: usize) -> Vec<LayerSpec> {
    let early_stride = if is_small(input) { 1 } else { 2 };
    let mut layers = vec![
        layer("conv1", strided_conv([input[0], 32], 3, early_stride, 1, false)),
        layer("bn1", LayerOp::BatchNorm2d { channels: 32 }),
        layer("relu1", LayerOp::Relu6),
    ];
    // Expansion, channels, blocks, and the first one's stride: table 2 of the paper.
    let stages = [
        (1, 16, 1, 1),
        (6, 24, 2, early_stride),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    ];
    let (mut in_channels, mut number) = (32, 0);
    for (expansion, out_channels, blocks, first_stride) in stages {
        for block in 0..blocks {
            number += 1;
            let stride = if block == 0 { first_stride } else { 1 };
            let op = LayerOp::InvertedResidual { in_channels, out_channels, stride, expansion };
            layers.push(layer(format!("block{number}"), op));
            in_channels = out_channels;
        }
    }
    layers.extend([
        layer("conv2", conv(320, 1280, 1, 0, false)),
        layer("bn2", LayerOp::BatchNorm2d { channels: 1280 }),
        layer("relu2", LayerOp::Relu6),
        layer("pool", LayerOp::GlobalAvgPool),
        layer("flatten", LayerOp::Flatten),
        layer("dropout", LayerOp::Dropout { p: 0.2 }),
        layer("fc", linear(1280, classes)),
    ]);
    layers
}

#[cfg(test)]
mod tests;
