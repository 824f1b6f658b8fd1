//! Partway: the experiment runner.
//!
//! `partway run` is the whole experiment on one machine: it reads the configuration ([`experiment`]),
//! calibrates ([`calibration`]) and starts itself again as a coordinator and as edges ([`run`]); under the
//! virtual clock all of them are in this process ([`virtual_fleet`]).
//! `partway plan` prints what such a run would be planned as ([`plan`]), `partway report` makes a page of
//! what it left behind ([`report`]), `partway compare` puts several side by side ([`compare`]). `partway data`
//! looks at data, deals it out and downloads it ([`data`]). `partway bench` measures ([`mod@bench`]).

mod bench;
mod calibration;
mod compare;
mod data;
mod experiment;
mod failure;
mod interrupts;
mod markup;
mod output;
mod outputs;
mod page;
mod plan;
mod plot;
mod report;
mod run;
mod statistics;
mod table;
mod virtual_fleet;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Edge-cloud split-learning training: part of the model runs on the edge, part in the cloud.
#[derive(Debug, Parser)]
#[command(name = "partway", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an experiment on this machine: a coordinator and every edge, each a process of its own.
    Run(run::RunArgs),
    /// Print what each layer costs and how each edge would be cut, without training.
    Plan(plan::PlanArgs),
    /// Write a run's report.html, from what the run left in its folder.
    Report(report::ReportArgs),
    /// Run several experiments one after the other, or take finished runs, and put them side by side.
    Compare(compare::CompareArgs),
    /// Look at data, deal it out to edges, download it.
    Data(data::DataArgs),
    /// Measure what this machine makes of it, as ratios in one run.
    Bench(bench::BenchArgs),
    #[command(hide = true)]
    BenchFleet(bench::BenchFleetArgs),
    #[command(hide = true)]
    BenchEdges(bench::BenchEdgesArgs),
    #[command(hide = true)]
    BenchThreads(bench::BenchThreadsArgs),
    #[command(hide = true)]
    RunProcess(run::processes::RunProcessArgs),
    #[command(hide = true)]
    CloudProcess(run::processes::CloudArgs),
    #[command(hide = true)]
    EdgeProcess(run::processes::EdgeArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Data(args) => data::data(&args),
        Command::Report(args) => report::report(&args),
        Command::Compare(args) => compare::compare(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::BenchFleet(args) => bench::bench_fleet(&args),
        Command::BenchThreads(args) => bench::bench_threads(&args),
        Command::BenchEdges(args) => bench::bench_edges(&args),
        Command::RunProcess(args) => run::processes::run(&args),
        Command::CloudProcess(args) => run::processes::cloud(&args),
        Command::EdgeProcess(args) => run::processes::edge(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            output::note(&failure.to_string());
            failure.exit_code()
        }
    }
}
