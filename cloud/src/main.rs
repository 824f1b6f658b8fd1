//! `partway-cloud`: the coordinator daemon.

use std::fs;
use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use partway_cloud::identity::{self, Identity, IdentityError, ca_file};
use partway_cloud::state_folder::{self, StateFolder};
use partway_cloud::{Ended, ServeOptions, model_file, serve};
use partway_core::config::{ClassNames, Config};
use partway_core::coordinator::Settings;
use partway_core::event::{Event, EventKind};
use partway_core::model::ModelSpec;
use partway_core::profile::{DeviceProfile, fit};
use partway_datasets::Samples;
use partway_model::{Compute, measure, pin_to};
use partway_net::{ServerIdentity, TlsError};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the calibration takes, about.
const CALIBRATION: Duration = Duration::from_secs(1);

#[derive(Parser)]
#[command(name = "partway-cloud", version, about = "The coordinator daemon of Partway")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Wait for edges, train one model with them, and exit when training is finished.
    Serve(Serve),
}

#[derive(Args)]
struct Serve {
    /// The experiment: a TOML file; its [[edge]] tables are not needed, `fleet.min_edges` is.
    #[arg(long)]
    config: PathBuf,
    /// Set a key of it, such as `training.batch_size=32`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    /// Where to listen, as HOST:PORT; 0.0.0.0 and [::] are all of this machine's addresses.
    #[arg(long, value_name = "HOST:PORT")]
    listen: Listen,
    /// Where to listen for data connections, as HOST:PORT, on another port or interface: edges that are told this address
    /// (`--data-address`) send and receive tensors there. Required by `wire.data_connection = true`.
    #[arg(long, value_name = "HOST:PORT")]
    listen_data: Option<Listen>,
    /// A host name or address that edges connect to, beside the one of --listen; may be repeated.
    #[arg(long = "name", value_name = "HOST")]
    names: Vec<String>,
    /// The folder of certificates, checkpoints and outputs.
    #[arg(long)]
    state: PathBuf,
    /// Continue from the newest checkpoint in that folder.
    #[arg(long)]
    resume: bool,
}

/// An address of this machine, by its name or as itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Listen {
    host: String,
    address: SocketAddr,
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, _) = text
            .rsplit_once(':')
            .ok_or("write HOST:PORT, such as 0.0.0.0:4433 or coordinator.example:4433")?;
        let address = text
            .to_socket_addrs()
            .map_err(|error| error.to_string())?
            .next()
            .ok_or("this name has no address")?;
        Ok(Self { host: host.trim_start_matches('[').trim_end_matches(']').to_owned(), address })
    }
}

/// Why it ends, and with which exit code.
struct Failure(u8, String);

/// The command line, the configuration or the data is wrong: nothing was started.
fn wrong(error: impl std::fmt::Display) -> Failure {
    Failure(2, error.to_string())
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure(1, error.to_string())
}

fn main() -> ExitCode {
    let Command::Serve(arguments) = Cli::parse().command;
    match run(&arguments) {
        Ok(code) => code,
        Err(Failure(code, reason)) => {
            note(&format!("error: {reason}"));
            ExitCode::from(code)
        }
    }
}

fn run(arguments: &Serve) -> Result<ExitCode, Failure> {
    let file = arguments.config.display().to_string();
    let text = fs::read_to_string(&arguments.config)
        .map_err(|error| wrong(format!("cannot read {file}: {error}")))?;
    let mut config = Config::parse(&text, &file, &arguments.sets).map_err(wrong)?;
    let listen_data = arguments.listen_data.as_ref().map(|listen| listen.address);
    if config.wire.data_connection && listen_data.is_none() {
        return Err(wrong(format!(
            "{file}: `wire.data_connection = true` needs an address: give it with --listen-data HOST:PORT"
        )));
    }
    config.wire.data_connection = listen_data.is_some();
    if let Some(cpus) = &config.cloud.cpus {
        // Before there are other threads, which are pinned with this one.
        pin_to(cpus).map_err(|error| wrong(config.refuse_cpus("cloud.cpus", cpus, error.to_string())))?;
    }
    let _folder = StateFolder::claim(&arguments.state, &config.to_toml(), arguments.resume).map_err(wrong)?;
    let read_model = |path: &Path| fs::read_to_string(path);
    let test_set = partway_datasets::test_set(&config).map_err(|error| wrong(format!("{file}: {error}")))?;
    let spec = match &test_set {
        Some(held) => config.model_spec(held.shape(), held.classes(), read_model),
        None => config.model_spec_without_data(read_model),
    }
    .map_err(wrong)?;
    let init = match &config.model.init {
        Some(path) if !arguments.resume => Some(
            model_file::load(path, &spec)
                .map_err(|error| wrong(config.refuse_path("model.init", path, error.to_string())))?,
        ),
        _ => None,
    };
    // Depths are checked there; no profile changes that.
    Settings::from_config(&config, spec.clone(), 0, DeviceProfile::default()).map_err(wrong)?;
    let device = config.cloud.device;
    let compute = Compute::new(device, config.cloud.threads.get())
        .map_err(|error| wrong(format!("{file}: `cloud.device = \"{device}\"`: {error}")))?;
    describe(&arguments.state, &config, &spec, test_set.as_ref()).map_err(failed)?;
    let identity = identity(arguments)?;
    note(&format!("calibrating this machine: {}", compute.name()));
    let profile = calibrate(&spec, &config, &compute)?;
    let options = ServeOptions {
        config,
        spec,
        init,
        test: test_set,
        profile,
        listen: arguments.listen.address,
        listen_data,
        identity,
        out: arguments.state.clone(),
        resume: arguments.resume,
    };
    let ca = ca_file(&arguments.state);
    let awaited = format!(
        "waiting for {} edges, {:?} at most (fleet.min_edges, fleet.gather_timeout)",
        options.config.fleet.min_edges, options.config.fleet.gather_timeout
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| failed(format!("cannot start threads: {error}")))?;
    let ended = runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let interrupt = async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        };
        let report = |event: &Event| in_words(event, &ca, &awaited).iter().for_each(|line| print(line));
        serve(options, report, interrupt).await.map_err(failed)
    })?;
    match ended {
        Ended::Finished(summary) => {
            if let Some(accuracy) = summary.final_accuracy {
                print(&format!(
                    "accuracy {accuracy:.4} after {} rounds; outputs in {}",
                    summary.rounds,
                    arguments.state.display()
                ));
            }
            Ok(ExitCode::SUCCESS)
        }
        Ended::Aborted { reason } => Err(failed(reason)),
        Ended::Interrupted => {
            note(&format!("interrupted: {}", state_folder::what_to_do(&arguments.state)));
            Ok(ExitCode::from(130))
        }
    }
}

/// What the outputs are of, beside them: the whole configuration, the layers, the classes' names.
fn describe(state: &Path, config: &Config, spec: &ModelSpec, test: Option<&Samples>) -> io::Result<()> {
    fs::write(state.join(state_folder::CONFIG), config.to_toml())?;
    fs::write(state.join("model.toml"), spec.to_toml())?;
    let listed = config.data.class_names.as_ref().map(ClassNames::get);
    let names = test.map(Samples::class_names).filter(|names| !names.is_empty()).or(listed);
    names.map_or(Ok(()), |names| fs::write(state.join("classes.txt"), names.join("\n") + "\n"))
}

/// The certificate that edges know.
fn identity(arguments: &Serve) -> Result<ServerIdentity, Failure> {
    let Listen { host, address } = &arguments.listen;
    let own = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let asked: Vec<String> =
        [host.clone(), address.ip().to_string()].into_iter().chain(arguments.names.iter().cloned()).collect();
    let kept = identity::identity(&arguments.state, &own, &asked, arguments.resume);
    let Identity { server, notice } = kept.map_err(|error| match error {
        IdentityError::Tls(TlsError::Generate { .. }) => wrong(error),
        _ => failed(error),
    })?;
    if let Some(notice) = notice {
        note(&format!("warning: {notice}"));
    }
    Ok(server)
}

fn calibrate(spec: &ModelSpec, config: &Config, compute: &Compute) -> Result<DeviceProfile, Failure> {
    let batch = config.training.batch_size.get();
    let batches = [batch, (batch / 2).max(1)];
    let measurements =
        measure(&Arc::new(spec.clone()), config.training.optimizer, &batches, CALIBRATION, compute)
            .map_err(failed)?;
    fit(&measurements).map_err(failed)
}

/// What the operator is told of an event, if anything; steps are in the record.
fn in_words(event: &Event, ca: &Path, awaited: &str) -> Option<String> {
    Some(match &event.kind {
        EventKind::Listening { address, data_address } => {
            let data =
                data_address.as_ref().map_or(String::new(), |data| format!(", and on {data} for their data"));
            format!("listening on {address}{data}; edges need the CA file {}\n{awaited}", ca.display())
        }
        EventKind::EdgeJoined { edge, samples, held_out: 0, .. } => {
            format!("{edge} joined with {samples} samples")
        }
        EventKind::EdgeJoined { edge, samples, held_out, .. } => {
            format!("{edge} joined with {samples} samples, and {held_out} held out to evaluate on")
        }
        EventKind::EdgeRefused { edge, reason } if edge.is_empty() => format!("turned away: {reason}"),
        EventKind::EdgeRefused { edge, reason } => format!("{edge} was turned away: {reason}"),
        EventKind::EdgeLost { edge, round } => format!("{edge} was lost in round {round}"),
        EventKind::EdgeResumed { edge, round, .. } => format!("{edge} is back in round {round}"),
        EventKind::EdgeDropped { edge, reason, .. } => format!("{edge} is left out: {reason}"),
        EventKind::EdgeDeferred { edge, round, reason } => {
            format!("the others go on without {edge}, which finishes round {round}: {reason}")
        }
        EventKind::EdgeCaughtUp { edge, round, .. } => format!("{edge} has finished round {round}"),
        EventKind::RoundDone { round, seconds } => format!("round {round}: {seconds:.2} s"),
        EventKind::Evaluated { round, accuracy, loss, .. } => {
            format!("aggregation after round {round}: accuracy {accuracy:.4}, loss {loss:.4}")
        }
        EventKind::EdgeEvaluated { round, edge, accuracy, samples, .. } => {
            format!("{edge}, after round {round}: accuracy {accuracy:.4} on {samples} samples of its own")
        }
        EventKind::EvaluationDeclined { edge, reason, .. } => format!("{edge} does not evaluate: {reason}"),
        _ => return None,
    })
}

/// Writes a result to standard output. A reader that has gone away is no reason to fail.
fn print(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Likewise progress, a warning or an error to standard error.
fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_listens_where_a_name_or_an_address_says() {
        let listen = |text: &str| text.parse::<Listen>();
        let found = listen("localhost:4433").expect("every machine has it");
        assert_eq!((found.host.as_str(), found.address.port()), ("localhost", 4433));
        assert!(found.address.ip().is_loopback());
        let six = Listen { host: "::1".into(), address: "[::1]:0".parse().expect("an address") };
        assert_eq!(listen("[::1]:0"), Ok(six));
        assert!(listen("localhost").expect_err("no port").contains("HOST:PORT"));
        assert!(listen("127.0.0.1:99999").is_err());
    }
}
