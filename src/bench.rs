//! `partway bench`: what this machine makes of it, as ratios in one run.

mod fleet;
mod step;
mod threads;
mod transport;

use clap::{Args, ValueEnum};

pub(crate) use self::fleet::{BenchEdgesArgs, BenchFleetArgs, bench_edges, bench_fleet};
pub(crate) use self::threads::{BenchThreadsArgs, bench_threads};
use crate::failure::Failure;

/// What to measure.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchArgs {
    /// The benchmark [default: all]
    #[arg(value_enum)]
    name: Option<Name>,
    /// Fleet: how many edges there are, one measurement each
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = [1, 10, 100, 1000], value_parser = sizes)]
    edges: Vec<usize>,
    /// Transport: how often each measurement on the loopback interface is made
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
    turns: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// Tensors over QUIC, beside QUIC alone, on the loopback interface and over a slow, distant link
    Transport,
    /// What a coordinator takes beside tensor arithmetic, by the number of its edges
    Fleet,
    /// Where the time of a step goes, beside the layers
    Step,
    /// Replicas in the cloud, by workers, threads and the processors that they are pinned to
    Threads,
}

fn sizes(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|edges| (1..=10_000).contains(edges))
        .ok_or_else(|| "write 1 to 10000".to_owned())
}

/// Runs one benchmark, or all.
pub(crate) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let runs = |name| args.name.is_none_or(|only| only == name);
    if runs(Name::Transport) {
        transport::transport(args.turns.into())?;
    }
    if runs(Name::Fleet) {
        fleet::fleet(&args.edges)?;
    }
    if runs(Name::Step) {
        step::step()?;
    }
    if runs(Name::Threads) {
        threads::threads()?;
    }
    Ok(())
}
