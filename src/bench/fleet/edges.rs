//! The process of the light edges.

use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use partway_core::participant::Outcome;
use partway_net::TrustedAuthority;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use super::light_edge::take_part;
use super::{CLASSES, INPUT, SERVER_NAME};
use crate::failure::Failure;

/// Files that a process has open beside its sockets, at most.
const OTHER_FILES: u64 = 64;

/// What the process of the light edges is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchEdgesArgs {
    /// Where the coordinator listens.
    #[arg(long)]
    pub(super) address: SocketAddr,
    /// The certificate of its authority.
    #[arg(long)]
    pub(super) ca: PathBuf,
    /// How many edges there are; the last joins when standard input ends.
    #[arg(long)]
    pub(super) edges: usize,
}

/// Runs the edges until the training ends.
pub(crate) fn bench_edges(args: &BenchEdgesArgs) -> Result<(), Failure> {
    allow_sockets(args.edges as u64)?;
    let authority = TrustedAuthority::from_pem_file(&args.ca).map_err(Failure::failed)?;
    let authority = Arc::new(authority);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::failed)?;
    runtime.block_on(async {
        let mut edges = JoinSet::new();
        let mut join = |number: usize| {
            let name = format!("light-{number:05}");
            edges.spawn(take_part(name, args.address, SERVER_NAME, authority.clone(), INPUT, CLASSES));
        };
        (1..args.edges).for_each(&mut join);
        let told = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
        told.await.map_err(Failure::failed)?.map_err(Failure::failed)?;
        join(args.edges);
        while let Some(outcome) = edges.join_next().await {
            if let Outcome::Failed { reason } = outcome.map_err(Failure::failed)? {
                return Err(Failure::Failed(reason));
            }
        }
        Ok(())
    })
}

/// Every edge has a socket of its own: raises the limit of open files as far as that needs and the system lets it.
fn allow_sockets(edges: u64) -> Result<(), Failure> {
    let needed = edges + OTHER_FILES;
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(maximum) = maximum.filter(|maximum| *maximum < needed) {
        return Err(Failure::Wrong(format!(
            "{edges} edges need {needed} open files, and this process may have {maximum}: raise the limit with \
             `ulimit -n {needed}`, or measure fewer with --edges"
        )));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), maximum })
        .map_err(|error| Failure::Failed(format!("cannot raise the limit of open files: {error}")))
}
