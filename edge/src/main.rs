//! `partway-edge`: takes part in a training with this device's data.

use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use partway_core::config::{ByteSize, Congestion, CpuList, DeviceKind, Mbps, Name};
use partway_core::participant::{Outcome, Progress};
use partway_datasets::own::Format;
use partway_edge::profile::{CalibrationError, cache_profile, cached_profile, calibrate_device};
use partway_edge::{JoinOptions, ReadingArgs, join};
use partway_model::memory::use_small_pages;
use partway_model::pin_to;
use partway_net::TrustedAuthority;
use tokio::signal::unix::{SignalKind, signal};

/// What a shell reports of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(name = "partway-edge", version, about = "The edge worker of Partway")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Take part in a training.
    Join(Box<Join>),
    /// Calibrate this device: seconds per layer kind.
    Profile {
        /// What computes.
        #[arg(long, value_enum, default_value_t = Device::Cpu)]
        device: Device,
        /// Print JSON instead of TOML.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
struct Join {
    /// Where the coordinator listens, as HOST:PORT.
    address: String,
    /// Where it listens for data connections (its --listen-data), as HOST:PORT: tensors then travel over a connection of
    /// their own, through the interface that leads there [default: over the first connection]
    #[arg(long, value_name = "HOST:PORT")]
    data_address: Option<String>,
    /// The coordinator's CA certificate, a PEM file.
    #[arg(long)]
    ca: PathBuf,
    /// This edge's data, which stays here: a shard, a table (.csv), arrays (.npz), a folder of pictures per class,
    /// or a folder or file of IDX images; see `partway data info`.
    #[arg(long)]
    data: PathBuf,
    #[command(flatten)]
    reading: ReadingArgs,
    /// A folder that survives a crash of this process.
    #[arg(long)]
    state: PathBuf,
    /// This edge's name, unique in the fleet. Default: that of the data.
    #[arg(long)]
    name: Option<String>,
    /// Let raw samples leave this device, if the coordinator asks for them.
    #[arg(long)]
    allow_raw_data: bool,
    /// Keep the labels, and how many there are of each, on this device.
    #[arg(long)]
    keep_labels: bool,
    /// What computes.
    #[arg(long, value_enum, default_value_t = Device::Cpu)]
    device: Device,
    /// Threads that compute.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// The processors to run on, such as 0-1 or 0,2,4-7 [default: any]
    #[arg(long, value_name = "LIST", value_parser = cpu_list)]
    cpus: Option<CpuList>,
    /// The most memory that training may take here, such as 512MiB: the cut is chosen within it [default: no limit]
    #[arg(long, value_name = "SIZE")]
    memory: Option<ByteSize>,
    /// What this device's uplink carries, as far as is known; measured transfers soon count instead
    /// [default: what the first ones show]
    #[arg(long, value_name = "MBPS", value_parser = mbps)]
    uplink_mbps: Option<Mbps>,
    /// How to find the rate that the uplink carries
    #[arg(long, value_enum, default_value_t = CongestionControl::Cubic)]
    congestion: CongestionControl,
    /// Seconds to keep trying to reach the coordinator; one attempt takes at least one.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    patience: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Device {
    /// Threads of the processor.
    Cpu,
    /// The graphics processor; needs a build with the cargo feature `wgpu`.
    Wgpu,
}

impl From<Device> for DeviceKind {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Cpu,
            Device::Wgpu => Self::Wgpu,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum CongestionControl {
    /// A lost packet means a full queue.
    Cubic,
    /// By what arrives and how late: for links that lose packets at random.
    Bbr,
}

impl From<CongestionControl> for Congestion {
    fn from(control: CongestionControl) -> Self {
        match control {
            CongestionControl::Cubic => Self::Cubic,
            CongestionControl::Bbr => Self::Bbr,
        }
    }
}

fn main() -> ExitCode {
    use_small_pages();
    match Cli::parse().command {
        Command::Join(arguments) => run_join(*arguments),
        Command::Profile { device, json } => run_profile(device, json),
    }
}

/// With 2, if there is no such device here: nothing was started.
fn fail_to_calibrate(error: &CalibrationError) -> ExitCode {
    fail(&error.to_string(), if matches!(error, CalibrationError::Compute(_)) { 2 } else { 1 })
}

fn run_profile(device: Device, json: bool) -> ExitCode {
    let calibration = match calibrate_device(device.into(), 1) {
        Ok(calibration) => calibration,
        Err(error) => return fail_to_calibrate(&error),
    };
    let profile = calibration.profile;
    note("median error of the fit, forward and backward:");
    for (kind, error) in &calibration.errors {
        note(&format!(
            "  {:<20} {:5.1} % {:5.1} %  ({} layers)",
            kind.to_string(),
            100.0 * error.forward,
            100.0 * error.backward,
            error.measurements,
        ));
    }
    match cache_profile(device.into(), 1, &profile) {
        Ok(Some(file)) => note(&format!("kept as {}", file.display())),
        Ok(None) => note("not kept: there is no cache folder that can be written"),
        Err(error) => return fail_to_calibrate(&error),
    }
    let printed = if json {
        serde_json::to_string_pretty(&profile).map_err(|error| error.to_string())
    } else {
        toml::to_string(&profile).map_err(|error| error.to_string())
    };
    match printed {
        Ok(text) => {
            let _ = writeln!(std::io::stdout().lock(), "{text}");
            ExitCode::SUCCESS
        }
        Err(reason) => fail(&reason, 1),
    }
}

fn cpu_list(text: &str) -> Result<CpuList, String> {
    CpuList::new(text).ok_or_else(|| "write processor numbers such as 0-1 or 0,2,4-7".to_owned())
}

fn mbps(text: &str) -> Result<Mbps, String> {
    let number = text.parse().ok().and_then(Mbps::new);
    number.ok_or_else(|| "write Mbit/s, a number of at least 0.001 and at most 1000000".to_owned())
}

fn run_join(arguments: Join) -> ExitCode {
    // Before there are other threads, which are pinned with this one.
    if let Some(Err(error)) = arguments.cpus.as_ref().map(pin_to) {
        return fail(&format!("--cpus: {error}"), 2);
    }
    let (address, server_name) = match resolve(&arguments.address) {
        Ok(resolved) => resolved,
        Err(reason) => return fail(&reason, 2),
    };
    let data_address = match arguments.data_address.as_deref().map(resolve).transpose() {
        // Its certificate is the coordinator's, under the name that is known already.
        Ok(resolved) => resolved.map(|(address, _)| address),
        Err(reason) => return fail(&format!("--data-address: {reason}"), 2),
    };
    // What is quickly seen to be wrong is said before the calibration.
    if let Err(error) = TrustedAuthority::from_pem_file(&arguments.ca) {
        return fail(&error.to_string(), 2);
    }
    if let Err(error) = Format::detect(&arguments.data) {
        return fail(&error.to_string(), 2);
    }
    let named = arguments.name.or_else(|| {
        let data = arguments.data.canonicalize().ok()?;
        let name = if data.is_dir() { data.file_name() } else { data.file_stem() };
        Some(name?.to_string_lossy().into_owned())
    });
    let Some(name) = named else {
        return fail(
            &format!("{} has no name of its own: give one with --name", arguments.data.display()),
            2,
        );
    };
    if Name::new(&name).is_none() {
        return fail(
            &format!(
                "{name:?} cannot be an edge's name, which is of {}: give one with --name",
                Name::ALLOWED
            ),
            2,
        );
    }
    note("calibrating this device, or taking what `partway-edge profile` kept");
    let profile = match cached_profile(arguments.device.into(), arguments.threads) {
        Ok(profile) => profile,
        Err(error) => return fail_to_calibrate(&error),
    };
    let options = JoinOptions {
        address,
        data_address,
        server_name,
        ca: arguments.ca,
        data: arguments.data,
        reading: arguments.reading.reading(),
        state: arguments.state,
        name,
        device: arguments.device.into(),
        threads: arguments.threads,
        profile,
        memory: arguments.memory.map(ByteSize::bytes),
        uplink_hint: arguments.uplink_mbps.map(|mbps| mbps.get() * 1e6 / 8.0),
        allow_raw_data: arguments.allow_raw_data,
        keep_labels: arguments.keep_labels,
        patience: Duration::from_secs(arguments.patience),
        idle_timeout: Duration::from_secs(15),
        congestion: arguments.congestion.into(),
        emulation: None,
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("no event loop can be started: {error}"), 1),
    };
    let joined = async {
        let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
        let interrupt = async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        };
        join(options, report, interrupt).await.map_err(|error| error.to_string())
    };
    match runtime.block_on(joined) {
        Ok(Some(Outcome::Finished { reason })) => {
            note(&format!("training is over: {reason}"));
            ExitCode::SUCCESS
        }
        Ok(Some(Outcome::Failed { reason })) => fail(&reason, 1),
        Ok(None) => {
            note("interrupted: the same command goes on, as long as the coordinator waits");
            ExitCode::from(INTERRUPTED)
        }
        Err(reason) => fail(&reason, 2),
    }
}

fn report(progress: &Progress) {
    note(&in_words(progress));
}

fn in_words(progress: &Progress) -> String {
    match progress {
        Progress::Asked => "asked to take part".to_owned(),
        Progress::Waiting { reason } => format!("waiting: {reason}; it is tried again"),
        Progress::Assigned { model } => format!("assigned model {model}"),
        Progress::Round { round, cut, deadline_s } => {
            format!("round {round}: cut {cut}, deadline {:.1} ms", deadline_s * 1e3)
        }
        Progress::Evaluated { round, result: Ok(score) } => format!(
            "global model after round {round}: accuracy {:.4}, loss {:.4} on {} samples that were held out",
            score.accuracy(),
            score.mean_loss(),
            score.samples
        ),
        Progress::Evaluated { round, result: Err(reason) } => {
            format!("global model after round {round}: not evaluated: {reason}")
        }
        Progress::Lost => "connection lost; trying again".to_owned(),
        Progress::Resumed => "back in the session".to_owned(),
    }
}

/// Writes progress or an error to standard error. A reader that has gone away is no reason to fail.
fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// The address to connect to, and the name to expect in the coordinator's certificate.
fn resolve(address: &str) -> Result<(SocketAddr, String), String> {
    let (host, _) = address
        .rsplit_once(':')
        .ok_or_else(|| format!("{address:?} is no address: write HOST:PORT, such as 192.0.2.7:4433"))?;
    let found = address
        .to_socket_addrs()
        .map_err(|error| format!("{address:?} cannot be resolved: {error}"))?
        .next()
        .ok_or_else(|| format!("{address:?} has no address"))?;
    Ok((found, host.trim_start_matches('[').trim_end_matches(']').to_owned()))
}

fn fail(reason: &str, code: u8) -> ExitCode {
    note(&format!("error: {reason}"));
    ExitCode::from(code)
}
