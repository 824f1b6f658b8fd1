//! What the processes that a run starts do: this program again, as the coordinator or as one edge.

use std::ffi::OsString;
use std::future::Future;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use partway_cloud::{Ended, ServeOptions, model_file};
use partway_core::config::{CpuList, EvaluateAt, LabelsAt};
use partway_core::event::{Event, EventKind};
use partway_core::participant::Outcome;
use partway_datasets::own::Reading;
use partway_datasets::shard;
use partway_edge::JoinOptions;
use partway_model::memory::use_small_pages;
use partway_model::pin_to;
use partway_net::ServerIdentity;
use tokio::signal::unix::{SignalKind, signal};

use super::emulation;
use super::folder::{self, SERVER_NAMES};
use super::layout::Layout;
use crate::calibration::Measured;
use crate::experiment::{read_config, read_model, read_trace};
use crate::failure::Failure;

/// Threads of the runtime; tensors are computed on others.
const RUNTIME_THREADS: usize = 2;

/// What the coordinator's process is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct CloudArgs {
    /// The run's folder.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// The process to end with.
    #[arg(long)]
    pub(crate) parent: i32,
    /// Continue from the checkpoint.
    #[arg(long)]
    pub(crate) resume: bool,
}

/// What a whole run's process is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunProcessArgs {
    /// The process to end with.
    #[arg(long)]
    pub(crate) parent: i32,
    /// The run.
    #[command(flatten)]
    pub(crate) run: super::RunArgs,
}

/// What an edge's process is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct EdgeArgs {
    /// The run's folder.
    #[arg(long)]
    pub(crate) out: PathBuf,
    /// The process to end with.
    #[arg(long)]
    pub(crate) parent: i32,
    /// Which edge of the configuration.
    #[arg(long)]
    pub(crate) name: String,
    /// Where the coordinator listens.
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// Where it listens for data connections.
    #[arg(long)]
    pub(crate) data_address: Option<SocketAddr>,
    /// When the run started, in milliseconds of Unix time.
    #[arg(long)]
    pub(crate) started_ms: u64,
}

impl CloudArgs {
    /// As a command line.
    pub(crate) fn to_command_line(&self) -> Vec<OsString> {
        let mut line = vec!["cloud-process".into(), option("parent", self.parent), out(&self.out)];
        line.extend(self.resume.then(|| "--resume".into()));
        line
    }
}

impl RunProcessArgs {
    /// As a command line.
    pub(crate) fn to_command_line(&self) -> Vec<OsString> {
        let super::RunArgs { experiment, out: folder, resume, threads } = &self.run;
        let mut line = vec!["run-process".into(), option("parent", self.parent)];
        line.extend(experiment.sets.iter().map(|set| option("set", set)));
        line.extend(folder.as_deref().map(out));
        line.extend(resume.then(|| "--resume".into()));
        line.extend(threads.map(|threads| option("threads", threads)));
        line.extend(["--".into(), experiment.config.clone().into_os_string()]);
        line
    }
}

impl EdgeArgs {
    /// As a command line.
    pub(crate) fn to_command_line(&self) -> Vec<OsString> {
        let mut line = vec![
            "edge-process".into(),
            option("parent", self.parent),
            option("name", &self.name),
            option("address", self.address),
            option("started-ms", self.started_ms),
            out(&self.out),
        ];
        line.extend(self.data_address.map(|address| option("data-address", address)));
        line
    }
}

fn option(key: &str, value: impl std::fmt::Display) -> OsString {
    format!("--{key}={value}").into()
}

fn out(folder: &Path) -> OsString {
    let mut option = OsString::from("--out=");
    option.push(folder);
    option
}

/// Milliseconds of Unix time.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A whole run.
pub(crate) fn run(args: &RunProcessArgs) -> Result<(), Failure> {
    end_with(args.parent)?;
    super::run(&args.run)
}

/// The coordinator: writes its events to standard output, one a line, and stops when it gets SIGTERM. Why it fails is
/// an event as well, as its log may be on the disk that is full.
pub(crate) fn cloud(args: &CloudArgs) -> Result<(), Failure> {
    coordinate(args).inspect_err(|failure| {
        if let Failure::Failed(reason) = failure {
            write_event(&Event { at: 0.0, kind: EventKind::Aborted { reason: reason.clone() } });
        }
    })
}

fn coordinate(args: &CloudArgs) -> Result<(), Failure> {
    end_with(args.parent)?;
    let layout = Layout::new(&args.out);
    let config = read_config(&layout.config(), &[]).map_err(Failure::failed)?;
    pin(config.cloud.cpus.as_ref())?;
    let profile =
        folder::read_calibration(&layout, Measured::of_cloud(&config.cloud)).map_err(Failure::failed)?;
    let read_model = |_: &Path| read_model(&layout.layers());
    let (test, spec) = match config.data.evaluate {
        EvaluateAt::Cloud => {
            let test = shard::read(&layout.test_set()).map_err(Failure::failed)?;
            let spec = config.model_spec(test.shape(), test.classes(), read_model);
            (Some(test), spec.map_err(Failure::failed)?)
        }
        EvaluateAt::Edges => (None, config.model_spec_without_data(read_model).map_err(Failure::failed)?),
    };
    let init = match config.model.init {
        Some(_) if !args.resume => {
            Some(model_file::load(&layout.initial_weights(), &spec).map_err(Failure::failed)?)
        }
        _ => None,
    };
    let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let options = ServeOptions {
        listen_data: config.wire.data_connection.then_some(any_port),
        spec,
        init,
        config,
        test,
        profile,
        listen: any_port,
        identity: ServerIdentity::load(&layout.certificate(), &layout.key()).map_err(Failure::failed)?,
        out: args.out.clone(),
        resume: args.resume,
    };
    let ended = block_on(async {
        let mut terminate = signal(SignalKind::terminate())
            .map_err(|error| Failure::Failed(format!("cannot wait for SIGTERM: {error}")))?;
        let interrupt = async move {
            terminate.recv().await;
        };
        partway_cloud::serve(options, write_event, interrupt).await.map_err(Failure::failed)
    })?;
    match ended {
        Ended::Finished(..) => Ok(()),
        Ended::Aborted { reason } => Err(Failure::Failed(reason)),
        Ended::Interrupted => Err(Failure::Interrupted("the coordinator was asked to stop".into())),
    }
}

/// A runner that has gone away reads no more, and ends this process anyway.
fn write_event(event: &Event) {
    if let Ok(mut line) = serde_json::to_vec(event) {
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(&line).and_then(|()| out.flush());
    }
}

/// One edge, with its device and link emulated.
pub(crate) fn edge(args: &EdgeArgs) -> Result<(), Failure> {
    end_with(args.parent)?;
    let layout = Layout::new(&args.out);
    let config = read_config(&layout.config(), &[]).map_err(Failure::failed)?;
    let described = config.edges().into_iter().find(|edge| edge.name.as_str() == args.name);
    let edge = described.ok_or_else(|| {
        Failure::Failed(format!("`{}` describes no edge `{}`", layout.config().display(), args.name))
    })?;
    use_small_pages();
    pin(edge.cpus.as_ref())?;
    let profile = folder::read_calibration(&layout, Measured::of_edge(&edge)).map_err(Failure::failed)?;
    let traces = config.traces(read_trace).map_err(Failure::failed)?;
    let trace = edge.trace.as_ref().and_then(|path| traces.get(path));
    let elapsed = Duration::from_millis(unix_ms().saturating_sub(args.started_ms));
    let options = JoinOptions {
        address: args.address,
        data_address: args.data_address,
        server_name: SERVER_NAMES[0].to_owned(),
        ca: layout.authority(),
        data: layout.shard(&args.name),
        reading: Reading::default(),
        state: layout.state(&args.name),
        name: args.name.clone(),
        device: edge.device,
        threads: edge.threads.get(),
        profile: profile.scaled(emulation::slowdown(&edge)),
        memory: edge.memory.map(partway_core::config::ByteSize::bytes),
        // The coordinator is told nothing that is emulated.
        uplink_hint: None,
        allow_raw_data: config.data.allow_raw_data,
        keep_labels: config.training.labels == LabelsAt::Edge,
        idle_timeout: config.fleet.idle_timeout.get(),
        congestion: config.wire.congestion,
        patience: config.fleet.rejoin_window.max(config.fleet.gather_timeout),
        emulation: emulation::emulation(&edge, trace.map(Arc::as_ref), config.seed, elapsed),
    };
    let joined =
        async { partway_edge::join(options, |_| {}, std::future::pending()).await.map_err(Failure::failed) };
    match block_on(joined)? {
        Some(Outcome::Failed { reason }) => Err(Failure::Failed(reason)),
        Some(Outcome::Finished { .. }) | None => Ok(()),
    }
}

fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start threads: {error}")))?
        .block_on(work)
}

/// Pins this process, which has no other threads yet.
fn pin(cpus: Option<&CpuList>) -> Result<(), Failure> {
    cpus.map_or(Ok(()), pin_to).map_err(Failure::failed)
}

/// From now on this process is killed when the thread that started it, the runner's first, ends.
fn end_with(parent: i32) -> Result<(), Failure> {
    use rustix::process::{Pid, getppid};
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| Failure::Failed(format!("cannot ask to end with the runner: {error}")))?;
    if getppid().map(Pid::as_raw_pid) == Some(parent) {
        Ok(())
    } else {
        Err(Failure::Failed("the runner that started this process has ended".into()))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::RunArgs;
    use super::*;
    use crate::experiment::ExperimentArgs;
    use crate::{Cli, Command};

    #[test]
    fn command_lines_are_read_as_they_were_meant() {
        let cloud = CloudArgs { out: "--runs/a b".into(), parent: 7, resume: true };
        let line = std::iter::once("partway".into()).chain(cloud.to_command_line());
        let Command::CloudProcess(read) = Cli::parse_from(line).command else { panic!("another command") };
        assert_eq!((read.out, read.parent, read.resume), (cloud.out, 7, true));

        let address = SocketAddr::from(([127, 0, 0, 1], 4433));
        let data_address = Some(SocketAddr::from(([127, 0, 0, 1], 4434)));
        let name = "-edge".to_owned();
        let edge = EdgeArgs { out: "runs/a".into(), parent: 7, name, address, data_address, started_ms: 123 };
        let line = std::iter::once("partway".into()).chain(edge.to_command_line());
        let Command::EdgeProcess(read) = Cli::parse_from(line).command else { panic!("another command") };
        assert_eq!((read.name.as_str(), read.address, read.started_ms), ("-edge", address, 123));
        assert_eq!(read.data_address, data_address);

        let experiment = ExperimentArgs { config: "-x.toml".into(), sets: vec!["-a=b c".into()] };
        let run = RunArgs { experiment, out: Some("--runs/a b".into()), resume: true, threads: Some(2) };
        let line = RunProcessArgs { parent: 7, run }.to_command_line();
        let line = std::iter::once("partway".into()).chain(line);
        let Command::RunProcess(read) = Cli::parse_from(line).command else { panic!("another command") };
        let RunArgs { experiment, out, resume, threads } = read.run;
        assert_eq!((experiment.config, experiment.sets), ("-x.toml".into(), vec!["-a=b c".to_owned()]));
        assert_eq!((read.parent, out, resume, threads), (7, Some("--runs/a b".into()), true, Some(2)));
    }

    #[test]
    fn a_process_whose_runner_is_gone_does_not_start() {
        // No process has its own child as its parent.
        let own = i32::try_from(std::process::id()).expect("process ids are small");
        let args = EdgeArgs {
            out: "no/such".into(),
            parent: own,
            name: "a".into(),
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            data_address: None,
            started_ms: 0,
        };
        let failure = edge(&args).expect_err("it is not its own parent");
        assert!(failure.to_string().contains("has ended"), "{failure}");
    }
}
