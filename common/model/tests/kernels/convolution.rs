//! Convolution in all directions.

use partway_model::Compute;
use partway_model::kernels::ConvShape;
use partway_model::kernels::convolution::{bias_gradient, input_gradient, output, weight_gradient};
use proptest::prelude::*;

use crate::against_burn::{self, Convolved, assert_close, assert_sums_close, uniform};

/// Arguments for a shape: input, weights, bias, the output's gradient.
fn arguments(shape: &ConvShape) -> [Vec<f32>; 4] {
    let [input, weights, output] = shape.lens();
    [
        uniform(input, "input"),
        uniform(weights, "weights"),
        uniform(shape.out_channels, "bias"),
        uniform(output, "gradient"),
    ]
}

fn own(shape: &ConvShape, [input, weights, bias, gradient]: [&[f32]; 4], threads: usize) -> Convolved {
    Compute::cpu(threads).expect("a few threads").run(|| Convolved {
        output: output(shape, input, weights, Some(bias)),
        input: input_gradient(shape, weights, gradient),
        weights: weight_gradient(shape, input, gradient),
        bias: bias_gradient(shape, gradient),
    })
}

#[track_caller]
fn check(shape: ConvShape) {
    let shape = shape.checked().expect("the tests' shapes are valid");
    let arguments = arguments(&shape);
    let arguments = arguments.each_ref().map(Vec::as_slice);
    let (own, burn) = (own(&shape, arguments, 1), against_burn::convolution(&shape, arguments));
    assert_close(&own.output, &burn.output, &format!("output of {shape:?}"));
    assert_close(&own.input, &burn.input, &format!("input gradient of {shape:?}"));
    let positions = own.output.len() / shape.out_channels;
    assert_sums_close(&own.weights, &burn.weights, positions, &format!("weight gradient of {shape:?}"));
    assert_sums_close(&own.bias, &burn.bias, positions, &format!("bias gradient of {shape:?}"));
}

fn shape(
    batch: usize,
    channels: [usize; 2],
    window: [usize; 3],
    groups: usize,
    input: [usize; 2],
) -> ConvShape {
    let ([in_channels, out_channels], [kernel, stride, padding]) = (channels, window);
    ConvShape { batch, in_channels, out_channels, kernel, stride, padding, groups, input }
}

#[test]
fn the_builtin_models_shapes() {
    for (channels, side) in [([1, 6], 28), ([3, 32], 32), ([32, 64], 16), ([64, 64], 8), ([64, 64], 32)] {
        check(shape(4, channels, [3, 1, 1], 1, [side; 2]));
    }
    check(shape(5, [6, 16], [5, 1, 0], 1, [14, 14]));
    check(shape(33, [128, 256], [3, 1, 1], 1, [4, 4]));
    check(shape(32, [128, 256], [3, 2, 1], 1, [8, 8]));
    check(shape(48, [64, 128], [3, 2, 1], 1, [16, 16]));
    check(shape(32, [256, 256], [3, 1, 1], 1, [2, 2]));
    check(shape(33, [384, 330], [3, 1, 1], 1, [2, 2]));
    check(shape(19, [320, 384], [3, 2, 1], 1, [8, 7]));
    check(shape(3, [1024, 1030], [1, 1, 0], 1, [7, 5]));
    check(shape(3, [64, 128], [3, 2, 1], 1, [16, 16]));
    check(shape(3, [64, 128], [1, 2, 0], 1, [16, 16]));
    check(shape(2, [3, 64], [7, 2, 3], 1, [56, 56]));
    check(shape(2, [3, 16], [11, 4, 2], 1, [63, 63]));
    check(shape(2, [96, 96], [3, 2, 1], 96, [14, 14]));
}

#[test]
fn maps_that_do_not_fit_into_the_cache() {
    check(shape(1, [64, 24], [3, 1, 1], 1, [90, 70]));
    check(shape(2, [24, 24], [3, 2, 1], 1, [97, 130]));
}

#[test]
fn any_number_of_threads_makes_the_same_bits() {
    let shapes = [
        shape(7, [64, 72], [3, 1, 1], 1, [4, 4]),
        shape(5, [6, 16], [5, 1, 0], 1, [14, 14]),
        shape(4, [32, 64], [3, 2, 1], 1, [17, 15]),
        shape(3, [24, 24], [3, 1, 1], 24, [10, 10]),
        shape(16, [300, 300], [3, 1, 1], 1, [3, 3]),
        shape(11, [336, 370], [3, 1, 1], 1, [3, 5]),
        shape(32, [20, 70], [3, 1, 1], 1, [4, 4]),
        shape(100, [33, 24], [3, 2, 1], 1, [7, 6]),
    ];
    for shape in shapes {
        let arguments = arguments(&shape);
        let arguments = arguments.each_ref().map(Vec::as_slice);
        let one = own(&shape, arguments, 1);
        for threads in [2, 3, 8] {
            let more = own(&shape, arguments, threads);
            let pairs = [
                (&one.output, &more.output),
                (&one.input, &more.input),
                (&one.weights, &more.weights),
                (&one.bias, &more.bias),
            ];
            for (direction, (one, more)) in pairs.into_iter().enumerate() {
                let same = one.iter().zip(more).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "direction {direction} of {shape:?} on {threads} threads");
            }
        }
    }
}

#[test]
fn what_is_not_finite_spreads_as_far_as_with_burn() {
    let shape = shape(2, [20, 18], [3, 1, 0], 1, [9, 9]);
    for value in [f32::NAN, f32::INFINITY] {
        let mut arguments = arguments(&shape);
        for (argument, place) in arguments.iter_mut().zip([200, 77, 3, 401]) {
            argument[place] = value;
        }
        for poisoned in 0..4 {
            let mut clean = self::arguments(&shape);
            clean[poisoned].clone_from(&arguments[poisoned]);
            let clean = clean.each_ref().map(Vec::as_slice);
            let (own, burn) = (own(&shape, clean, 1), against_burn::convolution(&shape, clean));
            let pairs = [
                (own.output, burn.output),
                (own.input, burn.input),
                (own.weights, burn.weights),
                (own.bias, burn.bias),
            ];
            for (direction, (own, burn)) in pairs.into_iter().enumerate() {
                // The zeros around the gradient are factors here, so a weight that is not finite reaches
                // the input's border, too.
                let spreads = poisoned == 1 && direction == 1;
                let as_burn = |(own, burn): (&f32, &f32)| {
                    own.is_finite() == burn.is_finite() || spreads && !own.is_finite()
                };
                let same = own.iter().zip(&burn).all(as_burn);
                assert!(same, "direction {direction}, {value} in argument {poisoned}");
            }
        }
    }
}

#[test]
fn impossible_shapes_are_told_apart() {
    let good = shape(1, [4, 4], [3, 1, 0], 2, [5, 5]);
    assert!(good.checked().is_ok());
    for bad in [
        ConvShape { stride: 0, ..good },
        ConvShape { groups: 3, ..good },
        ConvShape { kernel: 6, ..good },
        ConvShape { input: [5, 0], ..good },
    ] {
        assert!(bad.checked().is_err(), "{bad:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_shape_agrees_with_burn(
        batch in 1..6usize,
        channels in (1..14usize, 1..14usize),
        window in (1..6usize, 1..4usize, 0..4usize),
        groups in prop_oneof![3 => Just(1), 1 => 2..5usize],
        sides in (1..20usize, 1..40usize),
    ) {
        let channels = [channels.0 * groups, channels.1 * groups];
        let shape = shape(batch, channels, [window.0, window.1, window.2], groups, [sides.0, sides.1]);
        if shape.checked().is_ok() {
            check(shape);
        }
    }

    #[test]
    fn many_channels_agree_with_burn(
        batch in 1..5usize,
        channels in (1..70usize, 1..70usize),
        window in prop_oneof![Just([3, 1, 1]), Just([1, 1, 0]), Just([3, 2, 1]), Just([1, 2, 0])],
        sides in (1..9usize, 1..9usize),
    ) {
        let shape = shape(batch, [channels.0, channels.1], window, 1, [sides.0, sides.1]);
        if shape.checked().is_ok() {
            check(shape);
        }
    }

    #[test]
    fn many_images_agree_with_burn(
        batch in prop_oneof![15..34usize, 60..70usize, 95..101usize],
        channels in (1..40usize, 1..40usize),
        window in (1..5usize, 1..4usize, 0..3usize),
        sides in (1..12usize, 1..12usize),
    ) {
        let (kernel, stride, padding) = window;
        let shape = shape(batch, [channels.0, channels.1], [kernel, stride, padding], 1, [sides.0, sides.1]);
        if shape.checked().is_ok() {
            check(shape);
        }
    }

    #[test]
    fn any_depthwise_shape_agrees_with_burn(
        batch in 1..4usize,
        channels in (1..40usize, 1..4usize),
        window in (1..6usize, 1..3usize, 0..3usize),
        sides in (1..20usize, 1..20usize),
    ) {
        let (groups, multiplier) = channels;
        let shape =
            shape(batch, [groups, groups * multiplier], [window.0, window.1, window.2], groups, [sides.0, sides.1]);
        if shape.checked().is_ok() {
            check(shape);
        }
    }
}
