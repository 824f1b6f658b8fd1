//! `partway data`: looks at data, deals it out to edges, downloads it.

mod fetch;
pub(crate) mod info;
mod partition;

use clap::{Args, Subcommand};

use crate::failure::Failure;

/// What to do with data.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataArgs {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum DataCommand {
    /// Say what a file or folder of data, or the data of an experiment, is.
    Info(info::InfoArgs),
    /// Deal an experiment's training samples out to its edges, each a folder for `partway-edge join --data`.
    Partition(partition::PartitionArgs),
    /// Download a published data set and check that it is whole.
    Fetch(fetch::FetchArgs),
}

/// Does it.
pub(crate) fn data(args: &DataArgs) -> Result<(), Failure> {
    match &args.command {
        DataCommand::Info(args) => info::info(args),
        DataCommand::Partition(args) => partition::partition(args),
        DataCommand::Fetch(args) => fetch::fetch(args),
    }
}
