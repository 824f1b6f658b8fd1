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
    for (name, input, classes, macs) in [
        ("mlp", [1, 28, 28], 10, 109_184),
        ("lenet5", [1, 28, 28], 10, 416_520),
        ("vgg5", [3, 32, 32], 10, 8_488_192),
        ("vgg11", [3, 224, 224], 1000, 7_609_090_048),
        ("resnet18", [3, 32, 32], 10, 555_422_720),
        ("resnet18", [3, 224, 224], 1000, 1_814_073_344),
        ("mobilenet-v2", [3, 224, 224], 1000, 300_774_272),
    ] {
        let spec = builtin(name, input, classes).expect("a documented input");
        assert_eq!(ModelCost::of(&spec).total_macs(), macs, "{name}");
    }
}

#[test]
fn parameters_are_the_published_ones() {
    // torchvision's, trained on ImageNet.
    for (name, params) in [("vgg11", 132_863_336), ("resnet18", 11_689_512), ("mobilenet-v2", 3_504_872)] {
        let spec = builtin(name, [3, 224, 224], 1000).expect("a documented input");
        assert_eq!(ModelCost::of(&spec).total_params(), params, "{name}");
    }
}

#[test]
fn macs_of_small_images_by_hand() {
    let alexnet = builtin("alexnet-cifar", [3, 32, 32], 10).expect("fits CIFAR");
    let convolutions = 1024 * 75 * 32 + 256 * 800 * 64 + 64 * (576 * 96 + 864 * 96 + 864 * 64);
    let linear = 1024 * 256 + 256 * 128 + 1280;
    assert_eq!(ModelCost::of(&alexnet).total_macs(), convolutions + linear);

    // A convolution costs the same at CIFAR's 32 pixels as 1/49 of it at 224.
    let vgg11 = builtin("vgg11", [3, 32, 32], 10).expect("fits CIFAR");
    let published_convolutions = 7_609_090_048 - 4096 * (25_088 + 4096 + 1000);
    assert_eq!(ModelCost::of(&vgg11).total_macs(), published_convolutions / 49 + 5120);
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
        builtin(name, [4, 33, 52], 3).expect("an unusual input that is large enough");
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
    assert_eq!(
        error,
        "no built-in model is called `lenet`; known are mlp, lenet5, vgg5, alexnet-cifar, vgg11, resnet18, mobilenet-v2"
    );
}

#[test]
fn strides_and_stems_follow_the_size_of_the_images() {
    let shape_before = |name: &str, side: usize, layer: &str| {
        let spec = builtin(name, [3, side, side], 10).expect("fits");
        let index = spec.layers.iter().position(|at| at.name == layer).expect("it has this layer");
        spec.shapes().expect("checked")[index].clone()
    };
    assert_eq!(shape_before("resnet18", 64, "pool"), [512, 8, 8]);
    assert_eq!(shape_before("resnet18", 65, "pool"), [512, 3, 3]);
    assert_eq!(shape_before("mobilenet-v2", 32, "pool"), [1280, 4, 4]);
    assert_eq!(shape_before("mobilenet-v2", 224, "pool"), [1280, 7, 7]);
    assert_eq!(shape_before("vgg11", 64, "flatten"), [512, 2, 2]);
    assert_eq!(shape_before("vgg11", 224, "flatten"), [512, 7, 7]);
    assert_eq!(shape_before("alexnet-cifar", 32, "flatten"), [64, 4, 4]);
    assert_eq!(builtin("resnet18", [3, 224, 224], 10).expect("fits").len(), 15);
    assert_eq!(builtin("mobilenet-v2", [3, 32, 32], 10).expect("fits").len(), 27);
    assert_eq!(builtin("alexnet-cifar", [3, 32, 32], 10).expect("fits").len(), 23);
}
