//! What each layer computes in training, against plain loops.

use partway_core::model::LayerOp::{
    AvgPool2d, BatchNorm2d, Conv2d, Dropout, Flatten, Gelu, GlobalAvgPool, GroupNorm, InvertedResidual,
    LocalResponseNorm, MaxPool2d, Relu, Relu6, Residual,
};
use partway_core::model::{LayerOp, LayerState};
use partway_core::optimizer::Optimizer;
use partway_model::Half;

use crate::models::{half, linear, model, one_thread, step, uniform};
use crate::reference::Maps;

const BATCH: usize = 3;
const PLAIN: Optimizer = Optimizer::Sgd { lr: 0.1, momentum: 0.0, weight_decay: 0.0 };

/// `ops`, which make `output` of `input`, as the client-side model of a model with two classes, and
/// its tensors, drawn at random.
fn client(ops: Vec<LayerOp>, input: [usize; 3], output: [usize; 3]) -> (Half, Vec<Vec<f32>>) {
    let cut = ops.len();
    let mut all = ops;
    all.extend([Flatten, linear(output.iter().product(), 2)]);
    let spec = model(input, 2, all);
    let tensors: Vec<Vec<f32>> = spec
        .tensors(0..cut)
        .iter()
        .map(|tensor| {
            // A variance is positive.
            let least = if tensor.name.ends_with("running_var") { 1.5 } else { 0.0 };
            uniform(tensor.len(), &tensor.name).into_iter().map(|x| least + x).collect()
        })
        .collect();
    let state = LayerState { layers: 0..cut, moments: 0, values: tensors.concat() };
    (half(&spec, PLAIN, state, &one_thread()), tensors)
}

fn input(shape: [usize; 3]) -> Vec<f32> {
    uniform(BATCH * shape.iter().product::<usize>(), "layer input")
}

fn maps([c, h, w]: [usize; 3]) -> Maps {
    Maps::new([BATCH, c, h, w], &input([c, h, w]))
}

fn forward(half: &Half, shape: [usize; 3]) -> Vec<f32> {
    half.forward(input(shape), &step(0, BATCH)).expect("a good batch").1
}

#[track_caller]
fn assert_close(actual: &[f32], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len());
    for (at, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((f64::from(*a) - e).abs() < 2e-5 * (1.0 + e.abs()), "value {at}: {a} instead of {e}");
    }
}

#[track_caller]
fn check_conv(channels: [usize; 2], side: usize, geometry: [usize; 4], output_side: usize, bias: bool) {
    let [in_channels, out_channels] = channels;
    let [kernel, stride, padding, groups] = geometry;
    let shape = [in_channels, side, side + 1];
    // One more pixel in width makes no difference where the stride skips it.
    let width = (side + 1 + 2 * padding - kernel) / stride + 1;
    let op = Conv2d { in_channels, out_channels, kernel, stride, padding, groups, bias };
    let (half, tensors) = client(vec![op], shape, [out_channels, output_side, width]);
    let weight = Maps::new([out_channels, in_channels / groups, kernel, kernel], &tensors[0]);
    let bias: Vec<f64> = tensors.get(1).into_iter().flatten().map(|x| f64::from(*x)).collect();
    let expected = maps(shape).conv(&weight, &bias, stride, padding, groups);
    assert_close(&forward(&half, shape), &expected.values);
}

#[test]
fn convolution() {
    check_conv([3, 4], 6, [3, 1, 1, 1], 6, true);
}

#[test]
fn convolution_with_stride_and_without_padding_or_bias() {
    check_conv([2, 5], 7, [3, 2, 0, 1], 3, false);
}

#[test]
fn convolution_with_a_large_kernel_and_padding() {
    check_conv([1, 2], 5, [5, 1, 2, 1], 5, true);
}

#[test]
fn grouped_and_depthwise_convolution() {
    check_conv([4, 6], 5, [3, 1, 1, 2], 5, true);
    check_conv([4, 4], 5, [3, 2, 1, 4], 3, true);
}

#[test]
fn linear_multiplies_by_the_transposed_weight() {
    let shape = [2, 2, 3];
    let spec = model(shape, 5, vec![Flatten, linear(12, 5), linear(5, 5)]);
    let (weight, bias) = (uniform(60, "weight"), uniform(5, "bias"));
    let state = LayerState { layers: 0..2, moments: 0, values: [weight.clone(), bias.clone()].concat() };
    let half = half(&spec, PLAIN, state, &one_thread());
    let mut expected = Vec::new();
    for sample in input(shape).chunks(12) {
        for (row, bias) in weight.chunks(12).zip(&bias) {
            let dot: f64 = row.iter().zip(sample).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            expected.push(dot + f64::from(*bias));
        }
    }
    assert_close(&forward(&half, shape), &expected);
}

#[test]
fn max_pool_with_overlap_drops_incomplete_windows() {
    let shape = [2, 6, 7];
    let (half, _) = client(vec![MaxPool2d { kernel: 3, stride: 2, padding: 0 }], shape, [2, 2, 3]);
    assert_close(&forward(&half, shape), &maps(shape).pool(3, 2, f64::NEG_INFINITY, f64::max).values);
}

#[test]
fn max_pool_pads_with_nothing_that_could_win() {
    let shape = [2, 6, 7];
    let (half, _) = client(vec![MaxPool2d { kernel: 3, stride: 2, padding: 1 }], shape, [2, 3, 4]);
    // Below every value: zeros would win.
    let negative = |x: f32| x - 5.0;
    let values: Vec<f32> = input(shape).into_iter().map(negative).collect();
    let padded = Maps::new([BATCH, 2, 6, 7], &values).padded(1, f64::NEG_INFINITY);
    let actual = half.forward(values, &step(0, BATCH)).expect("a good batch").1;
    assert_close(&actual, &padded.pool(3, 2, f64::NEG_INFINITY, f64::max).values);
}

#[test]
fn average_pool_counts_its_padding() {
    let shape = [2, 5, 4];
    let (half, _) = client(vec![AvgPool2d { kernel: 3, stride: 2, padding: 1 }], shape, [2, 3, 2]);
    let sums = maps(shape).padded(1, 0.0).pool(3, 2, 0.0, |a, b| a + b);
    assert_close(&forward(&half, shape), &sums.scaled(1.0 / 9.0).values);
}

#[test]
fn average_pools() {
    let shape = [2, 5, 5];
    let (half, _) = client(vec![AvgPool2d { kernel: 2, stride: 2, padding: 0 }], shape, [2, 2, 2]);
    let sums = maps(shape).pool(2, 2, 0.0, |a, b| a + b);
    assert_close(&forward(&half, shape), &sums.scaled(0.25).values);

    let (half, _) = client(vec![GlobalAvgPool], shape, [2, 1, 1]);
    let sums = maps(shape).pool(5, 1, 0.0, |a, b| a + b);
    assert_close(&forward(&half, shape), &sums.scaled(1.0 / 25.0).values);
}

#[test]
fn batch_norm_normalizes_by_the_batch_and_keeps_running_statistics() {
    let shape = [2, 3, 4];
    let (mut half, tensors) = client(vec![BatchNorm2d { channels: 2 }], shape, shape);
    let statistics = maps(shape).statistics();
    let expected = maps(shape).normalized(&statistics, &tensors[0], &tensors[1]);
    let (pending, actual) = half.forward(input(shape), &step(0, BATCH)).expect("a good batch");
    assert_close(&actual, &expected.values);

    let gradient = uniform(actual.len(), "gradient");
    half.backward(pending, gradient, &step(0, BATCH)).expect("a good gradient");
    // As PyTorch keeps them: a tenth of the batch's mean and of its unbiased variance.
    let values = (BATCH * 12) as f64;
    let running = |old: f32, new: f64| 0.9 * f64::from(old) + 0.1 * new;
    let expected: Vec<f64> = [0, 1]
        .map(|c: usize| running(tensors[2][c], statistics[c].0))
        .into_iter()
        .chain([0, 1].map(|c: usize| running(tensors[3][c], statistics[c].1 * values / (values - 1.0))))
        .collect();
    assert_close(&half.state().values[4..], &expected);
}

#[track_caller]
fn check_residual(channels: [usize; 2], stride: usize, output: [usize; 3]) {
    let [in_channels, out_channels] = channels;
    let shape = [in_channels, 5, 5];
    let (half, tensors) = client(vec![Residual { in_channels, out_channels, stride }], shape, output);
    let normed_conv = |x: &Maps, tensors: &[Vec<f32>], kernel: usize, stride: usize, padding: usize| {
        let weight = Maps::new([out_channels, x.dims[1], kernel, kernel], &tensors[0]);
        let x = x.conv(&weight, &[], stride, padding, 1);
        x.normalized(&x.statistics(), &tensors[1], &tensors[2])
    };
    let x = maps(shape);
    let inner = normed_conv(&x, &tensors, 3, stride, 1).relu();
    let inner = normed_conv(&inner, &tensors[5..], 3, 1, 1);
    let shortcut = if tensors.len() > 10 { normed_conv(&x, &tensors[10..], 1, stride, 0) } else { x };
    assert_close(&forward(&half, shape), &inner.plus(&shortcut).relu().values);
}

#[test]
fn residual_block_with_identity_shortcut() {
    check_residual([3, 3], 1, [3, 5, 5]);
}

#[test]
fn residual_block_with_projection() {
    check_residual([2, 4], 2, [4, 3, 3]);
    check_residual([2, 2], 2, [2, 3, 3]);
}

#[test]
fn relu_is_zero_below_zero() {
    let shape = [2, 3, 3];
    let (half, _) = client(vec![Relu], shape, shape);
    assert_close(&forward(&half, shape), &maps(shape).relu().values);
}

#[test]
fn relu6_is_cut_off_at_both_ends() {
    let shape = [2, 3, 3];
    let (half, _) = client(vec![Relu6], shape, shape);
    let values: Vec<f32> = input(shape).into_iter().map(|x| 9.0 * x).collect();
    let expected = Maps::new([BATCH, 2, 3, 3], &values).map(|x| x.clamp(0.0, 6.0));
    let actual = half.forward(values, &step(0, BATCH)).expect("a good batch").1;
    assert_close(&actual, &expected.values);
}

#[test]
fn gelu_is_the_exact_one() {
    let shape = [1, 1, 5];
    let (half, _) = client(vec![Gelu], shape, shape);
    let values: Vec<f32> = [-3.0, -1.0, 0.0, 1.0, 3.0].repeat(BATCH);
    let actual = half.forward(values, &step(0, BATCH)).expect("a good batch").1;
    // x times the standard normal distribution's share below x, from its tables.
    let expected = [-3.0 * 0.001_349_898, -0.158_655_254, 0.0, 0.841_344_746, 3.0 * 0.998_650_102];
    assert_close(&actual, &expected.repeat(BATCH));
}

#[test]
fn group_norm_normalizes_each_sample_by_itself() {
    let shape = [6, 3, 4];
    for groups in [1, 3, 6] {
        let (half, tensors) = client(vec![GroupNorm { channels: 6, groups }], shape, shape);
        let expected = maps(shape).group_normalized(groups, &tensors[0], &tensors[1]);
        assert_close(&forward(&half, shape), &expected.values);
    }
}

#[test]
fn local_response_norm_weighs_neighbouring_channels() {
    let shape = [5, 3, 2];
    for size in [1, 3, 7] {
        let (alpha, beta, k) = (0.5, 0.75, 2.0);
        let (half, _) = client(vec![LocalResponseNorm { size, alpha, beta, k }], shape, shape);
        let expected = maps(shape).response_normalized(size, [0.5, 0.75, 2.0]);
        assert_close(&forward(&half, shape), &expected.values);
    }
}

#[track_caller]
fn check_inverted_residual(channels: [usize; 2], stride: usize, expansion: usize, output: [usize; 3]) {
    let [in_channels, out_channels] = channels;
    let shape = [in_channels, 5, 5];
    let op = InvertedResidual { in_channels, out_channels, stride, expansion };
    let (half, tensors) = client(vec![op], shape, output);
    let hidden = in_channels * expansion;
    let mut rest = tensors.as_slice();
    let mut normed_conv = |x: &Maps, out: usize, kernel: usize, stride: usize, groups: usize| {
        let weight = Maps::new([out, x.dims[1] / groups, kernel, kernel], &rest[0]);
        let x = x.conv(&weight, &[], stride, kernel / 2, groups);
        let x = x.normalized(&x.statistics(), &rest[1], &rest[2]);
        rest = &rest[5..];
        x
    };
    let relu6 = |x: Maps| x.map(|x| x.clamp(0.0, 6.0));
    let mut x = maps(shape);
    if expansion > 1 {
        x = relu6(normed_conv(&x, hidden, 1, 1, 1));
    }
    x = relu6(normed_conv(&x, hidden, 3, stride, hidden));
    x = normed_conv(&x, out_channels, 1, 1, 1);
    if channels == [3, 3] && stride == 1 {
        x = x.plus(&maps(shape));
    }
    assert!(rest.is_empty());
    assert_close(&forward(&half, shape), &x.values);
}

#[test]
fn inverted_residual_blocks() {
    check_inverted_residual([3, 3], 1, 4, [3, 5, 5]);
    check_inverted_residual([3, 3], 2, 2, [3, 3, 3]);
    check_inverted_residual([3, 4], 1, 6, [4, 5, 5]);
    check_inverted_residual([3, 2], 1, 1, [2, 5, 5]);
}

#[test]
fn dropout_zeroes_a_share_and_scales_the_rest() {
    let shape = [4, 20, 20];
    let (half, _) = client(vec![Dropout { p: 0.25 }], shape, shape);
    let (before, after) = (input(shape), forward(&half, shape));
    let zeroed = after.iter().filter(|x| **x == 0.0).count() as f64 / after.len() as f64;
    // Three standard deviations of 4800 draws.
    assert!((zeroed - 0.25).abs() < 0.019, "{zeroed}");
    let kept: Vec<_> = before.iter().zip(&after).filter(|(_, after)| **after != 0.0).collect();
    assert!(kept.iter().all(|(before, after)| (*before / 0.75 - *after).abs() < 1e-6));
}

#[test]
fn an_empty_client_side_model_passes_inputs_on() {
    let spec = model([1, 2, 2], 2, vec![Flatten, linear(4, 2)]);
    let state = LayerState { layers: 0..0, moments: 0, values: Vec::new() };
    let half = half(&spec, PLAIN, state, &one_thread());
    assert_eq!(forward(&half, [1, 2, 2]), input([1, 2, 2]));
}
