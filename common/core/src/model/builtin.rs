//! The built-in models.

use thiserror::Error;

use super::shape::ShapeError;
use super::spec::{LayerOp, LayerSpec, ModelSpec};

/// What [`builtin`] knows.
pub const NAMES: [&str; 4] = ["mlp", "lenet5", "vgg5", "resnet18"];

/// Largest number of values in one input sample: far above any real image, far below overflow.
const MAX_INPUT_ELEMENTS: usize = 1 << 28;

/// Largest side that `resnet18` takes without the `ImageNet` stem.
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
    /// The `ImageNet` variant of `ResNet` needs an operation that a spec does not have.
    #[error(
        "model `resnet18`: an input of {input:?} needs the ImageNet stem, whose padded max pool is not \
         supported; use images of at most {MAX_CIFAR_SIDE} pixels a side"
    )]
    ImageNetStem {
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
/// | `resnet18` | conv3x3 64, batch norm, relu, 8 residual blocks, global pool, flatten, linear: 14 layers. After He et al. 2016 with the CIFAR stem; at most 64 pixels a side |
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
        "resnet18" => resnet18,
        _ => return Err(BuiltinError::Unknown { name: name.into() }),
    };
    let elements = input.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
    // A side may still be huge beside a side of 0.
    if elements.is_none_or(|n| n > MAX_INPUT_ELEMENTS) || input.iter().any(|side| *side > MAX_INPUT_ELEMENTS)
    {
        return Err(BuiltinError::InputTooLarge { name: name.into(), input });
    }
    if name == "resnet18" && input[1].max(input[2]) > MAX_CIFAR_SIDE {
        return Err(BuiltinError::ImageNetStem { input });
    }
    let layers = build(input, classes);
    Ok(ModelSpec { name: name.into(), input, classes, layers }.checked()?)
}

fn layer(name: impl Into<String>, op: LayerOp) -> LayerSpec {
    LayerSpec { name: name.into(), op }
}

fn conv(in_channels: usize, out_channels: usize, kernel: usize, padding: usize, bias: bool) -> LayerOp {
    LayerOp::Conv2d { in_channels, out_channels, kernel, stride: 1, padding, groups: 1, bias }
}

fn linear(inputs: usize, outputs: usize) -> LayerOp {
    LayerOp::Linear { inputs, outputs, bias: true }
}

const HALVE: LayerOp = LayerOp::MaxPool2d { kernel: 2, stride: 2 };

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

fn resnet18([c, ..]: [usize; 3], classes: usize) -> Vec<LayerSpec> {
    let mut layers = vec![
        layer("conv1", conv(c, 64, 3, 1, false)),
        layer("bn1", LayerOp::BatchNorm2d { channels: 64 }),
        layer("relu1", LayerOp::Relu),
    ];
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ModelCost;

    fn names(spec: &ModelSpec) -> Vec<&str> {
        spec.layers.iter().map(|layer| layer.name.as_str()).collect()
    }

    #[test]
    fn layer_lists_are_the_documented_ones() {
        let lenet5 = builtin("lenet5", [1, 28, 28], 10).expect("fits MNIST");
        let expected = "conv1 relu1 pool1 conv2 relu2 pool2 flatten fc1 relu3 fc2 relu4 fc3";
        assert_eq!(names(&lenet5).join(" "), expected);
        let resnet18 = builtin("resnet18", [3, 32, 32], 10).expect("fits CIFAR");
        assert_eq!(resnet18.len(), 14);
        assert_eq!(
            names(&resnet18)[3..11],
            ["block1", "block2", "block3", "block4", "block5", "block6", "block7", "block8"]
        );
    }

    #[test]
    fn forward_macs_are_the_published_ones() {
        for (name, input, macs) in [
            ("mlp", [1, 28, 28], 109_184),
            ("lenet5", [1, 28, 28], 416_520),
            ("vgg5", [3, 32, 32], 8_488_192),
            ("resnet18", [3, 32, 32], 555_422_720),
        ] {
            let spec = builtin(name, input, 10).expect("a documented input");
            assert_eq!(ModelCost::of(&spec).total_macs(), macs, "{name}");
        }
    }

    #[test]
    fn lenet5_pads_small_images_only() {
        let shape_after_conv1 = |side| {
            let spec = builtin("lenet5", [1, side, side], 10).expect("fits");
            spec.shapes().expect("checked")[1].clone()
        };
        assert_eq!(shape_after_conv1(20), [6, 20, 20]);
        assert_eq!(shape_after_conv1(28), [6, 28, 28]);
        assert_eq!(shape_after_conv1(32), [6, 28, 28]);
    }

    #[test]
    fn every_input_either_fits_or_is_refused_in_words() {
        for name in NAMES {
            for side in 0..70 {
                for input in [[1, side, 33], [3, 40, side]] {
                    if let Err(error) = builtin(name, input, 7) {
                        assert!(error.to_string().contains(name), "{error}");
                    }
                }
            }
            assert!(builtin(name, [3, 32, 32], 0).is_err());
            assert!(builtin(name, [0, 32, 32], 10).is_err());
            assert!(builtin(name, [0, usize::MAX, 1], 10).is_err());
            assert!(builtin(name, [usize::MAX, 2, 2], 10).is_err());
            builtin(name, [4, 30, 52], 3).expect("an unusual input that is large enough");
        }
    }

    #[test]
    fn a_too_small_image_is_refused_at_the_layer_that_it_does_not_fit() {
        let error = builtin("lenet5", [1, 8, 8], 10).expect_err("conv2 needs 5 pixels");
        assert!(matches!(error, BuiltinError::Shape(ShapeError::Mismatch { index: 3, .. })), "{error}");
    }

    #[test]
    fn an_unknown_name_lists_the_known_ones() {
        let error = builtin("lenet", [1, 28, 28], 10).expect_err("it is called lenet5").to_string();
        assert_eq!(error, "no built-in model is called `lenet`; known are mlp, lenet5, vgg5, resnet18");
    }

    #[test]
    fn resnet18_refuses_the_imagenet_stem() {
        let error = builtin("resnet18", [3, 224, 224], 1000).expect_err("needs the padded pool");
        assert!(matches!(error, BuiltinError::ImageNetStem { input: [3, 224, 224] }));
        builtin("resnet18", [3, 64, 64], 200).expect("64 pixels take the CIFAR stem");
    }
}
