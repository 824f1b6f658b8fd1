//! GB of f32 per second that each codec encodes and decodes on one core, for activations of 64 channels
//! of 32 x 32: `cargo bench -p partway-core --bench codecs -- [SAMPLES]`.

use std::error::Error;
use std::time::Instant;

use partway_core::codec::{ActivationCodec, BatchShape, Codec, TopK};
use partway_core::random::{stream, unit_f32};
use partway_core::wire::{TensorHeader, TensorKind, decode_activations, encode_activations};

const REPETITIONS: usize = 11;

/// What `work` returns, and how many seconds it takes.
#[expect(clippy::disallowed_methods, reason = "what is measured here is time")]
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let begun = Instant::now();
    (work(), begun.elapsed().as_secs_f64())
}

fn median(mut seconds: Vec<f64>) -> f64 {
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

fn main() -> Result<(), Box<dyn Error>> {
    let samples =
        std::env::args().skip(1).find(|text| text != "--bench").map_or(Ok(32), |text| text.parse())?;
    let shape = BatchShape::of(samples, &[64, 32, 32]);
    let mut rng = stream(1, &["codec speed"]);
    let values: Vec<f32> = (0..shape.values()).map(|_| unit_f32(&mut rng) - 0.5).collect();
    let gigabytes = 4e-9 * values.len() as f64;
    let top_k = |fraction, alpha| ActivationCodec {
        top_k: Some(TopK { fraction, alpha }),
        ..ActivationCodec::default()
    };
    let selections = [(0.1, 0.1), (0.1, 0.0), (0.01, 0.1)].map(|(fraction, alpha)| top_k(fraction, alpha));
    println!("{:<60} {:>8} {:>8} {:>10}", "codec", "encode", "decode", "bytes/f32");
    for codec in Codec::ALL.into_iter().map(ActivationCodec::from).chain(selections) {
        let (mut encoding, mut decoding, mut bytes) = (Vec::new(), Vec::new(), 0);
        for step in 0..REPETITIONS {
            let header = TensorHeader::new(TensorKind::Activations, codec.values);
            let draws = &mut TopK::draws(1, "timed", step as u64, 0);
            let copy = values.clone();
            let ((tensor, _), seconds) = timed(|| encode_activations(header, codec, copy, shape, &[], draws));
            encoding.push(seconds);
            bytes = tensor.wire_bytes();
            let (decoded, seconds) = timed(|| decode_activations(tensor, shape));
            decoding.push(seconds);
            decoded?;
        }
        let [encode, decode] = [encoding, decoding].map(|seconds| gigabytes / median(seconds));
        let name = match codec.top_k {
            None => format!("{:?}", codec.values),
            Some(top_k) => format!("{top_k:?}"),
        };
        println!("{name:<60} {encode:>8.2} {decode:>8.2} {:>10.3}", bytes as f64 / values.len() as f64);
    }
    Ok(())
}
