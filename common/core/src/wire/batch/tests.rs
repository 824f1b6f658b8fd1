use proptest::{collection::vec, prelude::*};
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng};

use super::*;
use crate::wire::TensorKind;

fn codecs() -> impl Strategy<Value = ActivationCodec> {
    let values = proptest::sample::select(&Codec::ALL[..]);
    let top_k = proptest::option::of((0.01..=1.0f64, 0.0..0.9f64));
    (values, top_k).prop_map(|(values, top_k)| {
        let top_k = top_k.map(|(fraction, alpha)| TopK { fraction, alpha });
        ActivationCodec { values, top_k }
    })
}

fn batches() -> impl Strategy<Value = (BatchShape, Vec<f32>)> {
    let positions = prop_oneof![Just(1usize), 2..40usize];
    (1..5usize, 1..20usize, positions).prop_flat_map(|(samples, channels, positions)| {
        let shape = BatchShape { samples, channels, positions };
        vec(-3.0..3.0f32, shape.values()).prop_map(move |values| (shape, values))
    })
}

fn header(kind: TensorKind, codec: Codec) -> TensorHeader {
    TensorHeader { round: 1, attempt: 2, step: 3, ..TensorHeader::new(kind, codec) }
}

/// What crosses a cut, and what returns: at the first one, and at that before the layers that stay with the labels.
const CUTS: [[TensorKind; 2]; 2] = [
    [TensorKind::Activations, TensorKind::CutGradient],
    [TensorKind::TailActivations, TensorKind::TailGradient],
];

fn up(codec: ActivationCodec, shape: BatchShape, values: &[f32]) -> (TensorMessage, Option<Selection>) {
    encoded(TensorKind::Activations, codec, shape, values)
}

fn encoded(
    kind: TensorKind,
    codec: ActivationCodec,
    shape: BatchShape,
    values: &[f32],
) -> (TensorMessage, Option<Selection>) {
    let header = header(kind, codec.values);
    let labels: Vec<u32> = (0..shape.samples as u32).collect();
    encode_activations(header, codec, values.to_vec(), shape, &labels, &mut ChaCha12Rng::seed_from_u64(1))
}

fn words(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

/// The tensor after its bytes crossed the wire.
fn received(tensor: &TensorMessage) -> Result<TensorMessage, TensorError> {
    let header = TensorHeader::decode(&tensor.header.encode())?;
    TensorMessage::received(header, words(tensor.body.as_ref()))
}

proptest! {
    #[test]
    fn both_sides_agree_on_what_travels(
        [activations, gradient] in proptest::sample::select(&CUTS[..]),
        codec in codecs(), gradients in codecs(), (shape, values) in batches(),
    ) {
        let (sent, selection) = encoded(activations, codec, shape, &values);
        prop_assert_eq!(sent.wire_bytes(), activation_bytes(codec, shape, shape.samples));
        let here = decode_activations(received(&sent).expect("sound"), shape).expect("sound");
        prop_assert_eq!(&here.selection, &selection);
        prop_assert_eq!(here.labels, (0..shape.samples as u32).collect::<Vec<_>>());
        prop_assert_eq!(here.values.len(), values.len());
        if codec.values == Codec::F32 {
            let kept = selection.as_ref().map(|it| it.scatter(&it.gather(&values)).expect("its own"));
            prop_assert_eq!(&here.values, kept.as_ref().unwrap_or(&values));
        }

        let reply = encode_gradient(
            header(gradient, gradients.values), values.clone(), shape, here.selection.as_ref(),
        );
        prop_assert_eq!(reply.wire_bytes(), gradient_bytes(gradients.values, codec.top_k, shape));
        let back = decode_gradient(received(&reply).expect("sound"), selection.as_ref()).expect("sound");
        prop_assert_eq!(back.len(), values.len());
        let travelled = selection.map(|it| it.scatter(&vec![1.0; it.indices().len()]).expect("its own"));
        for (at, (back, value)) in back.iter().zip(&values).enumerate() {
            if travelled.as_ref().is_some_and(|it| it[at] == 0.0) {
                prop_assert_eq!(back.to_bits(), 0, "no gradient where nothing travelled");
            } else {
                let bound = if matches!(gradients.values, Codec::Int4(_)) { 3.0 * 0.072 } else { 3.0 * 0.004 };
                prop_assert!((back - value).abs() <= bound, "{:?}: {} became {}", gradients.values, value, back);
            }
        }
    }

    #[test]
    fn any_body_decodes_or_is_refused(
        words in vec(prop_oneof![0..5u32, Just(u32::MAX), any::<u32>()], 0..24),
        codec in 0..8u8, selected in 0..3u8, exponent in prop_oneof![9 => Just(0i8), 1 => any::<i8>()],
        values in prop_oneof![0..24u32, Just(u32::MAX)], labels in prop_oneof![0..4u32, Just(u32::MAX)],
        shape in (0..4usize, 0..6usize),
    ) {
        let sound = TensorHeader { exponent, values, labels, ..header(TensorKind::Activations, Codec::F32) };
        let mut bytes = sound.encode();
        (bytes[5], bytes[7]) = (codec, selected);
        let Ok(header) = TensorHeader::decode(&bytes) else { return Ok(()) };
        let words: Vec<f32> = words.into_iter().map(f32::from_bits).collect();
        let body = 4 * words.len();
        let Ok(tensor) = TensorMessage::received(header, words) else { return Ok(()) };
        let shape = BatchShape::of(shape.0, &[shape.1]);
        if let Ok(decoded) = decode_activations(tensor, shape) {
            prop_assert_eq!(decoded.labels.len(), labels as usize);
            prop_assert!(decoded.values.len() <= (2 * body).max(shape.values()), "memory follows the body");
        }
    }

    #[test]
    fn a_damaged_tensor_never_panics(
        codec in codecs(), (shape, values) in batches(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (mut sent, _) = up(codec, shape, &values);
        let mut bytes = sent.body.as_ref().to_vec();
        for (at, byte) in damage {
            let at = at.index(bytes.len().min(40));
            bytes[at] = byte;
        }
        sent.body = crate::wire::Body::from_words(words(&bytes));
        if let Ok(decoded) = received(&sent).and_then(|tensor| decode_activations(tensor, shape)) {
            prop_assert_eq!(decoded.values.len(), shape.values());
        }
    }
}

#[test]
fn activations_selected_from_another_batch_are_refused() {
    let codec = ActivationCodec { values: Codec::F32, top_k: Some(TopK { fraction: 0.5, alpha: 0.0 }) };
    let (sent, _) = up(codec, BatchShape::of(2, &[8]), &[1.0; 16]);
    let error = decode_activations(sent.clone(), BatchShape::of(4, &[4])).expect_err("it is another batch");
    assert_eq!(
        error.to_string(),
        "the activations are selected from 8 values in each of 2 samples, but there are 4 in each of 4: \
         check that both sides use the same cut and batch size"
    );
    assert_eq!(sent.decode(), Err(TensorError::Header("its values are selected ones")));
}

#[test]
fn a_gradient_of_other_indices_is_refused() {
    let top_k = TopK { fraction: 0.5, alpha: 0.0 };
    let codec = ActivationCodec { values: Codec::Bf16, top_k: Some(top_k) };
    let (_, selection) = up(codec, BatchShape::of(2, &[8]), &[1.0; 16]);
    let gradient = TensorMessage::encode(header(TensorKind::CutGradient, Codec::F32), vec![1.0; 16], &[]);
    let error = decode_gradient(gradient, selection.as_ref()).expect_err("all of them came");
    assert_eq!(error.to_string(), "16 values came for a selection of 8");
}

#[test]
fn the_gradient_of_raw_inputs_is_a_bare_header() {
    let shape = BatchShape::of(2, &[8]);
    for codec in Codec::ALL {
        let (_, selection) = up(
            ActivationCodec { values: codec, top_k: Some(TopK { fraction: 0.5, alpha: 0.0 }) },
            shape,
            &[1.0; 16],
        );
        let reply =
            encode_gradient(header(TensorKind::CutGradient, codec), vec![], shape, selection.as_ref());
        assert_eq!(reply.wire_bytes(), HEADER_BYTES as u64);
        assert_eq!(decode_gradient(received(&reply).expect("sound"), selection.as_ref()), Ok(vec![]));
    }
}

#[test]
fn states_and_probes_are_exact() {
    for kind in [TensorKind::State, TensorKind::Probe, TensorKind::Model, TensorKind::CutGradient] {
        let mut bytes = header(kind, Codec::F32).encode();
        assert!(TensorHeader::decode(&bytes).is_ok());
        bytes[7] = 1;
        assert!(TensorHeader::decode(&bytes).is_err(), "only activations are selected");
        bytes[7] = 0;
        bytes[5] = Codec::F16.code();
        assert_eq!(TensorHeader::decode(&bytes).is_ok(), kind == TensorKind::CutGradient);
    }
}
