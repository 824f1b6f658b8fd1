//! A convolution's three directions as a share of what a large matrix product reaches.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use burn::tensor::{Device, Tensor};
use partway_model::Compute;
use partway_model::kernels::ConvShape;
use partway_model::kernels::convolution::{input_gradient, output, weight_gradient};

use crate::median;

/// Side of the square matrices whose product is the peak.
const PEAK: usize = 1024;
/// Images.
const BATCH: usize = 32;

/// GFLOP/s of `work`.
fn speed<R>(compute: &Compute, flops: f64, work: impl Fn() -> R + Sync) -> f64 {
    let begun = Instant::now();
    compute.run(|| drop(black_box(work())));
    flops / begun.elapsed().as_secs_f64() / 1e9
}

/// Prints a table of all shapes.
pub(crate) fn compare(threads: usize, budget: Duration) -> Result<(), Box<dyn Error>> {
    let compute = Compute::cpu(threads)?;
    let square = Tensor::<2>::ones([PEAK; 2], &Device::flex());
    let peak = || speed(&compute, 2.0 * (PEAK as f64).powi(3), || square.clone().matmul(square.clone()));
    println!("\nconvolution, batch {BATCH}, {threads} threads: GFLOP/s (share of the {PEAK}^3 product's)");
    println!(
        "{:<24} {:>16} {:>16} {:>16} {:>8}",
        "", "forward", "input gradient", "weight gradient", "product"
    );
    let shapes = [
        (64, 64, 3, 1, 32),
        (64, 128, 3, 1, 16),
        (64, 128, 3, 2, 32),
        (64, 128, 1, 2, 32),
        (128, 128, 3, 1, 16),
        (256, 256, 3, 1, 8),
        (512, 512, 3, 1, 4),
        (512, 512, 3, 1, 2),
    ];
    for (in_channels, out_channels, kernel, stride, side) in shapes {
        let padding = kernel / 2;
        let shape = ConvShape {
            batch: BATCH,
            in_channels,
            out_channels,
            kernel,
            stride,
            padding,
            groups: 1,
            input: [side; 2],
        };
        let shape = shape.checked()?;
        let [input, weights, gradient] =
            shape.lens().map(|len| (0..len).map(|n| (n % 251) as f32 / 125.0 - 1.0).collect::<Vec<f32>>());
        let flops = 2.0 * (gradient.len() * in_channels * kernel * kernel) as f64;
        let mut measured: [Vec<f64>; 4] = Default::default();
        let begun = Instant::now();
        while measured[0].len() < 4 || begun.elapsed() < budget / 4 {
            let speeds = [
                peak(),
                speed(&compute, flops, || output(&shape, &input, &weights, None)),
                speed(&compute, flops, || input_gradient(&shape, &weights, &gradient)),
                speed(&compute, flops, || weight_gradient(&shape, &input, &gradient)),
            ];
            for (all, speed) in measured.iter_mut().zip(speeds) {
                all.push(speed);
            }
        }
        let shown = |direction: usize| {
            let parts = measured[direction].iter().zip(&measured[0]).map(|(own, peak)| 100.0 * own / peak);
            format!("{:.0} ({:.0} %)", median(measured[direction].clone()), median(parts.collect()))
        };
        println!(
            "{:<24} {:>16} {:>16} {:>16} {:>8.0}",
            format!("{in_channels}->{out_channels} {kernel}x{kernel}/{stride} at {side}x{side}"),
            shown(1),
            shown(2),
            shown(3),
            median(measured[0].clone())
        );
    }
    Ok(())
}
