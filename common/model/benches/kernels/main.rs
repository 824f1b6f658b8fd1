//! How fast this crate's kernels are beside burn's, in one process:
//! `cargo bench -p partway-model --bench kernels -- [SECONDS] [THREADS ...]`.
//!
//! First the convolution's three directions against the peak of a large matrix product, then whole training
//! steps. What is compared runs alternately, and ratios are medians over the pairs, so that a machine that
//! is busy or clocks up and down weighs little. SECONDS is what each comparison may take (default 5).
//!
//! `kernels own MODEL THREADS SECONDS` prints nothing but the median time of this crate's step in ms, for
//! `scripts/compare_with_pytorch.py`.

mod convolutions;
mod models;
mod steps;

use std::error::Error;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|text| text != "--bench").collect();
    if let [own, model, threads, seconds] = arguments.as_slice()
        && own == "own"
    {
        let budget = Duration::try_from_secs_f64(seconds.parse()?)?;
        println!("{:.4}", steps::own(model, threads.parse()?, budget)?);
        return Ok(());
    }
    let mut arguments = arguments.iter();
    let seconds: f64 = arguments.next().map_or(Ok(5.0), |text| text.parse())?;
    let budget = Duration::try_from_secs_f64(seconds)?;
    let threads: Vec<usize> = arguments.map(|text| text.parse()).collect::<Result<_, _>>()?;
    for threads in if threads.is_empty() { vec![1, 2] } else { threads } {
        convolutions::compare(threads, budget)?;
        steps::compare(threads, budget)?;
    }
    Ok(())
}

/// The middle one, or the upper of the middle two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
