use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

use super::*;
use crate::model::builtin::builtin;
use crate::wire::{HEADER_BYTES, TensorHeader, TensorKind, encode_activations, encode_gradient};

/// The codecs, with and without a selection.
fn codecs() -> impl Iterator<Item = ActivationCodec> {
    let some = Some(TopK { fraction: 0.07, alpha: 0.1 });
    Codec::ALL.into_iter().flat_map(move |values| [None, some].map(|top_k| ActivationCodec { values, top_k }))
}

#[test]
fn planned_bytes_are_those_on_the_wire() {
    for model in ["lenet5", "mlp"] {
        let spec = builtin(model, [1, 28, 28], 10).expect("it is built in");
        check_bytes(&spec, 3);
    }
}

fn check_bytes(spec: &ModelSpec, batch: u32) {
    let (shapes, cost) = (spec.shapes().expect("it is sound"), ModelCost::of(spec));
    for codec in codecs() {
        let up = cut_bytes_up(spec, batch, codec);
        let down = cut_bytes_down(spec, batch, codec, codec.values);
        assert_eq!((up.len(), down.len()), (spec.len() + 1, spec.len() + 1));
        assert_eq!((up[spec.len()], down[spec.len()]), (0, 0));
        for cut in 0..spec.len() {
            let shape = BatchShape::of(batch as usize, &shapes[cut]);
            let values: Vec<f32> = (0..shape.values()).map(|at| (at % 17) as f32 - 8.0).collect();
            let header = TensorHeader::new(TensorKind::Activations, codec.values);
            let mut draws = ChaCha12Rng::seed_from_u64(cut as u64);
            let (tensor, selection) =
                encode_activations(header, codec, values.clone(), shape, &vec![0; shape.samples], &mut draws);
            assert_eq!(tensor.wire_bytes(), up[cut], "{codec:?} up at cut {cut}");
            let header = TensorHeader::new(TensorKind::CutGradient, codec.values);
            let gradient = if cost.needs_cut_gradient(cut) { values } else { vec![] };
            let reply = encode_gradient(header, gradient, shape, selection.as_ref());
            assert_eq!(reply.wire_bytes(), down[cut], "{codec:?} down at cut {cut}");
        }
    }
}

#[test]
fn with_the_labels_on_the_edge_two_tensors_go_each_way_and_no_label() {
    let lenet5 = builtin("lenet5", [1, 28, 28], 10).expect("it is built in");
    let (up, down) = passed_bytes(&lenet5, 64, 11, Codec::F32.into(), Codec::F16);
    let tail = (32 + 64 * 84 * 2, 32 + 64 * 84 * 4);
    // Behind the second pooling there are 16 maps of 5 x 5.
    assert_eq!(up[6], (32 + 64 * 400 * 4) + tail.0);
    assert_eq!(down[6], (32 + 64 * 400 * 2) + tail.1);
    assert_eq!(down[0], 32 + tail.1, "nobody needs the gradient of raw inputs");
    assert_eq!((up.len(), up[11], down[11]), (12, 0, 0), "the edge is alone at the tail");
}

#[test]
fn planned_bytes_of_a_step_with_two_selections_are_those_on_the_wire() {
    let (spec, tail, batch) = (builtin("lenet5", [1, 28, 28], 10).expect("it is built in"), 11, 3);
    let (shapes, cost) = (spec.shapes().expect("it is sound"), ModelCost::of(&spec));
    // Bytes of the activations at a cut, and of the gradient that comes back for them.
    let sent = |codec: ActivationCodec, cut: usize, kinds: [TensorKind; 2]| {
        let shape = BatchShape::of(batch, &shapes[cut]);
        let values: Vec<f32> = (0..shape.values()).map(|at| (at % 17) as f32 - 8.0).collect();
        let header = |kind| TensorHeader::new(kind, codec.values);
        let mut draws = ChaCha12Rng::seed_from_u64(cut as u64);
        let (tensor, selection) =
            encode_activations(header(kinds[0]), codec, values.clone(), shape, &[], &mut draws);
        let gradient = if cost.needs_cut_gradient(cut) { values } else { vec![] };
        let reply = encode_gradient(header(kinds[1]), gradient, shape, selection.as_ref());
        (tensor.wire_bytes(), reply.wire_bytes())
    };
    for codec in codecs() {
        let (up, down) = passed_bytes(&spec, batch as u32, tail, codec, codec.values);
        let at_tail = sent(codec, tail, [TensorKind::TailActivations, TensorKind::TailGradient]);
        for cut in 0..tail {
            let at_cut = sent(codec, cut, [TensorKind::Activations, TensorKind::CutGradient]);
            assert_eq!(up[cut], at_cut.0 + at_tail.1, "{codec:?} up at cut {cut}");
            assert_eq!(down[cut], at_cut.1 + at_tail.0, "{codec:?} down at cut {cut}");
        }
    }
}

#[test]
fn the_layers_that_stay_are_sent_at_every_cut() {
    let lenet5 = builtin("lenet5", [1, 28, 28], 10).expect("it is built in");
    let all = state_bytes(&lenet5, 1);
    assert_eq!(edge_state_bytes(&lenet5, None, 1), all);
    let with_tail = edge_state_bytes(&lenet5, Some(11), 1);
    assert_eq!(with_tail.len(), 12);
    assert_eq!((with_tail[0], with_tail[11]), (4 * 2 * (84 * 10 + 10), all[12]));
}

#[test]
fn nothing_on_the_wire_is_above_the_limit() {
    let spec = builtin("vgg5", [3, 32, 32], 10).expect("it is built in");
    let limit = largest_body_bytes(&spec, 64, 1);
    let everything = ActivationCodec { values: Codec::F32, top_k: Some(TopK { fraction: 1.0, alpha: 0.0 }) };
    let most = cut_bytes_up(&spec, 64, everything).into_iter().max().unwrap_or(0);
    assert_eq!(limit, most, "f32 with the indices of all values");
    for codec in codecs() {
        let most = cut_bytes_up(&spec, 64, codec).into_iter().max().unwrap_or(0);
        assert!(most <= limit, "{codec:?}: {most} above {limit}");
    }
    assert!(4 * state::state_len(&spec, 0..spec.len(), 1) as u64 <= limit);
}

#[test]
fn absurd_batches_saturate() {
    let spec = builtin("vgg5", [3, 32, 32], 10).expect("it is built in");
    assert!(largest_body_bytes(&spec, u32::MAX, 2) > 1 << 40);
}

#[test]
fn frozen_layers_ask_for_no_backward_pass_and_no_gradient() {
    let free = builtin("lenet5", [1, 28, 28], 10).expect("it is built in");
    let frozen = ModelSpec { frozen: 4, ..free.clone() };
    let (free_cost, cost) = (ModelCost::of(&free), ModelCost::of(&frozen));
    let works = layer_works(&frozen, &cost, 8, 1);
    // The next layer with parameters, the first that is trained, is layer 7.
    assert!(works[..7].iter().all(|work| work.backward_flops + work.backward_bytes <= 0.0));
    assert_eq!(works[8..], layer_works(&free, &free_cost, 8, 1)[8..]);

    let plain = ActivationCodec { values: Codec::F32, top_k: None };
    let down = cut_bytes_down(&frozen, 8, plain, Codec::F32);
    assert!(down[..=7].iter().all(|bytes| *bytes == HEADER_BYTES as u64), "{down:?}");
    assert_eq!(down[8..], cut_bytes_down(&free, 8, plain, Codec::F32)[8..]);
    assert_eq!(cut_bytes_up(&frozen, 8, plain), cut_bytes_up(&free, 8, plain));
    // Its convolutions have no moments.
    let params = free_cost.params(0..4);
    assert_eq!(state_bytes(&free, 1)[4] - state_bytes(&frozen, 1)[4], 4 * params);
}
