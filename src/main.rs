//! Partway: the experiment runner.
//!
//! `partway run` is the whole experiment on one machine: it reads the configuration ([`experiment`]),
//! calibrates ([`calibration`]) and starts itself again as a coordinator and as edges ([`run`]).
//! `partway plan` prints what such a run would be planned as ([`plan`]); `partway data` looks at data, deals it
//! out and downloads it ([`data`]).

mod calibration;
mod data;
mod experiment;
mod failure;
mod output;
mod plan;
mod run;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    /// Look at data, deal it out to edges, download it.
    Data(data::DataArgs),
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
