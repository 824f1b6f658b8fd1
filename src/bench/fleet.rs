//! What a coordinator takes beside tensor arithmetic, by the number of edges: a real one over real QUIC on the loopback
//! interface, with edges in another process that send constants.
//!
//! All edges but one ask to take part, and wait; that is when an idle one's memory is read. Then the last joins.

mod edges;
mod light_edge;
pub(super) mod usage;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::Args;
use partway_cloud::{Ended, ServeOptions};
use partway_core::config::Config;
use partway_core::event::{Event, EventKind};
use partway_core::model::{LayerOp, LayerSpec, ModelSpec};
use partway_core::profile::DeviceProfile;
use partway_datasets::{Pixels, Samples};
use partway_net::Authority;
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, oneshot};

pub(crate) use self::edges::{BenchEdgesArgs, bench_edges};
use self::usage::{CpuTime, cpu_time, resident_bytes};
use crate::failure::Failure;
use crate::output;
use crate::statistics::median;

const SERVER_NAME: &str = "coordinator";
const INPUT: [usize; 3] = [1, 8, 8];
const CLASSES: usize = 4;
/// Values that cross the cut, per sample.
const WIDTH: usize = 256;
const BATCH: usize = 8;
const STEPS_PER_ROUND: usize = 10;
/// Steps that a measurement has at least, all edges together.
const STEPS: usize = 4000;
/// How long idle edges are left alone before their memory is read.
const REST: Duration = Duration::from_secs(2);
/// The round before the first that is measured: replicas are made in it, the paths' MTU is found.
const WARM_UP: usize = 1;
/// The rounds behind the last that is measured: its models are averaged.
const LAST: usize = 1;

/// What the process of a coordinator is told.
#[derive(Clone, Debug, Args)]
pub(crate) struct BenchFleetArgs {
    /// How many edges there are.
    #[arg(long)]
    edges: usize,
}

/// What was measured of one fleet.
#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    /// Until all edges but one had asked to take part, in seconds.
    connected_s: f64,
    idle_bytes: Option<f64>,
    barrier_s: f64,
    /// Of all edges together.
    steps: usize,
    coordinator: CpuTime,
    edges: CpuTime,
}

/// Measures fleets of these sizes, and prints a line of each.
pub(super) fn fleet(sizes: &[usize]) -> Result<(), Failure> {
    output::print(
        "fleet: a step sends 8 KiB each way; per step, us on the clock and of CPU time; ratio: to the fleet before\n  \
         edges   connect s   KiB per idle edge    round ms    us per step   coordinator  ratio   of it tensors   edge",
    );
    let mut before: Option<f64> = None;
    for &edges in sizes {
        let measured = apart(edges)?;
        let Measured { connected_s, idle_bytes, barrier_s, steps, coordinator, edges: others } = measured;
        let per_step = |time: Duration| 1e6 * time.as_secs_f64() / steps as f64;
        let own = per_step(coordinator.rest);
        output::print(&format!(
            "{edges:>7} {:>11.2} {:>19} {:>11.1} {:>14.0} {own:>13.0} {:>6} {:>15.0} {:>6.0}",
            connected_s,
            idle_bytes.map_or("-".into(), |bytes| format!("{:.0}", bytes / 1024.0)),
            1e3 * barrier_s,
            1e6 * barrier_s / (edges * STEPS_PER_ROUND) as f64,
            before.map_or("-".into(), |before| format!("{:.2}", own / before)),
            per_step(coordinator.tensors),
            per_step(others.rest),
        ));
        before = Some(own);
    }
    Ok(())
}

/// Measures in a process of its own, whose memory holds nothing of another fleet.
fn apart(edges: usize) -> Result<Measured, Failure> {
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let mut command = std::process::Command::new(program);
    command.arg("bench-fleet").arg(format!("--edges={edges}")).stderr(Stdio::inherit());
    let ended = command.output().map_err(Failure::failed)?;
    if !ended.status.success() {
        return Err(Failure::Failed(format!("a fleet of {edges} edges could not be measured")));
    }
    serde_json::from_slice(&ended.stdout).map_err(Failure::failed)
}

/// A coordinator with so many edges: prints what was measured.
pub(crate) fn bench_fleet(args: &BenchFleetArgs) -> Result<(), Failure> {
    let measured = measure(args.edges)?;
    output::print(&serde_json::to_string(&measured).map_err(Failure::failed)?);
    Ok(())
}

fn measure(edges: usize) -> Result<Measured, Failure> {
    let folder = std::env::temp_dir().join(format!("partway-bench-{}-{edges}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(Failure::failed)?;
    let measured = measure_in(&folder, edges);
    // It holds nothing that anybody would miss.
    let _ = std::fs::remove_dir_all(&folder);
    measured
}

fn measure_in(folder: &Path, edges: usize) -> Result<Measured, Failure> {
    let authority = Authority::generate().map_err(Failure::failed)?;
    let ca = folder.join("ca.pem");
    authority.save(&ca).map_err(Failure::failed)?;
    let rounds = (WARM_UP + STEPS.div_ceil(edges * STEPS_PER_ROUND).max(2) + LAST) as u32;
    let test = Samples::new(INPUT, Pixels::U8(vec![1; INPUT.iter().product()]), vec![0], CLASSES);
    let options = ServeOptions {
        config: config(edges, rounds)?,
        spec: spec()?,
        init: None,
        test: Some(test.map_err(Failure::failed)?),
        profile: DeviceProfile::default(),
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        listen_data: None,
        identity: authority.issue(&[SERVER_NAME.to_owned()]).map_err(Failure::failed)?,
        out: folder.join("out"),
        resume: false,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(Failure::failed)?;
    runtime.block_on(async {
        // Much more than there are before the first round; those that do not fit are steps.
        let (events, mut happened) = mpsc::channel(4 * edges + 64);
        let watched = move |event: &Event| {
            if !matches!(event.kind, EventKind::Step { .. }) {
                let used = matches!(event.kind, EventKind::RoundDone { .. }).then(|| cpu_time(None));
                let _ = events.try_send((event.kind.clone(), used.flatten()));
            }
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = partway_cloud::serve(options, watched, async {
            let _ = stopped.await;
        });
        let watching = async {
            // Without measures there is nothing to go on for.
            let measured = watch(&mut happened, ca, edges, rounds).await;
            measured.map(|measured| (measured, stop))
        };
        let (ended, measured) = tokio::join!(serving, watching);
        let ((measured, mut edges), _) = measured?;
        match ended.map_err(Failure::failed)? {
            Ended::Finished(_) => {
                edges.wait().await.map_err(Failure::failed)?;
                Ok(measured)
            }
            Ended::Aborted { reason } => Err(Failure::Failed(reason)),
            Ended::Interrupted => Err(Failure::Interrupted("the coordinator was asked to stop".into())),
        }
    })
}

type Happened = mpsc::Receiver<(EventKind, Option<CpuTime>)>;

/// Starts the edges once the coordinator listens, and takes the measures as the training goes on.
async fn watch(
    happened: &mut Happened,
    ca: PathBuf,
    edges: usize,
    rounds: u32,
) -> Result<(Measured, Child), Failure> {
    let closed = || Failure::Failed("the coordinator has ended".into());
    let unreadable = || Failure::Failed("this system does not tell processes' CPU time".into());
    let (warm_up, last) = (WARM_UP as u32, rounds - LAST as u32);
    let mut child = None::<Child>;
    let (mut begun, mut joined, mut connected_s) = (Instant::now(), 0, 0.0);
    let (mut idle_bytes, empty) = (None, resident_bytes());
    let (mut before, mut seconds) = (None, Vec::new());
    loop {
        let (kind, own) = happened.recv().await.ok_or_else(closed)?;
        match kind {
            EventKind::Listening { address, .. } => {
                begun = Instant::now();
                child = Some(start(&address, &ca, edges)?);
            }
            EventKind::EdgeJoined { .. } => joined += 1,
            EventKind::RoundDone { round, seconds: took } => {
                let Some(running) = child.take() else { continue };
                let others = running.id().and_then(|id| cpu_time(Some(id)));
                let (own, others) = own.zip(others).ok_or_else(unreadable)?;
                if round == warm_up {
                    before = Some((own, others));
                } else {
                    seconds.push(took);
                }
                if round == last
                    && let Some((own_before, others_before)) = before
                {
                    let steps = edges * STEPS_PER_ROUND * seconds.len();
                    let barrier_s = median(seconds).unwrap_or(0.0);
                    let (coordinator, edges) = (own.since(own_before), others.since(others_before));
                    let measured = Measured { connected_s, idle_bytes, barrier_s, steps, coordinator, edges };
                    return Ok((measured, running));
                }
                child = Some(running);
            }
            EventKind::EdgeLost { edge, .. } => {
                return Err(Failure::Failed(format!(
                    "{edge} was lost: this machine is too busy for so many edges"
                )));
            }
            _ => {}
        }
        if joined + 1 == edges
            && let Some(child) = &mut child
            && let Some(stdin) = child.stdin.take()
        {
            connected_s = begun.elapsed().as_secs_f64();
            tokio::time::sleep(REST).await;
            if joined > 0 {
                let now = resident_bytes();
                idle_bytes =
                    empty.zip(now).map(|(empty, now)| now.saturating_sub(empty) as f64 / joined as f64);
            }
            // The end of its input is the last edge's sign to join.
            drop(stdin);
        }
    }
}

fn start(address: &str, ca: &Path, edges: usize) -> Result<Child, Failure> {
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let mut command = Command::new(program);
    command
        .arg("bench-edges")
        .args(["--address", address, "--edges", &edges.to_string()])
        .arg("--ca")
        .arg(ca);
    command.stdin(Stdio::piped()).kill_on_drop(true);
    command.spawn().map_err(Failure::failed)
}

fn config(edges: usize, rounds: u32) -> Result<Config, Failure> {
    let text = format!(
        "name = \"bench\"\n\
         [model]\narch = \"mlp\"\n\
         [data]\ndataset = \"synthetic\"\n\
         [training]\nbatch_size = {BATCH}\nsteps_per_round = {STEPS_PER_ROUND}\naggregate_every = {rounds}\n\
         max_rounds = {rounds}\n\
         [fleet]\nmin_edges = {edges}\ngather_timeout = \"300s\"\ncheckpoint_every = {rounds}\n\
         idle_timeout = \"60s\"\n\
         [plan]\nfixed_cut = 3\n"
    );
    Config::parse(&text, "bench", &[]).map_err(Failure::failed)
}

fn spec() -> Result<ModelSpec, Failure> {
    let linear = |inputs, outputs| LayerOp::Linear { inputs, outputs, bias: true };
    let ops = [
        ("flatten", LayerOp::Flatten),
        ("linear1", linear(INPUT.iter().product(), WIDTH)),
        ("relu", LayerOp::Relu),
        ("linear2", linear(WIDTH, CLASSES)),
    ];
    let layers = ops.map(|(name, op)| LayerSpec { name: name.into(), op }).into();
    let spec = ModelSpec { name: "light".into(), input: INPUT, classes: CLASSES, frozen: 0, layers };
    spec.checked().map_err(Failure::failed)
}
