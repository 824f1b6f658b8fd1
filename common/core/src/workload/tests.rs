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
