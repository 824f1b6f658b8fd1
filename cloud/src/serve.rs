//! The daemon's event loop: the coordinator's state machine, driven by QUIC, workers and the clock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use partway_core::config::{Config, ConfigError};
use partway_core::coordinator::{
    Action, Computed, ConnectionId, Coordinator, Job, Outcome, Received, Replica, Settings,
};
use partway_core::event::{Event, EventKind};
use partway_core::model::{ModelCost, ModelSpec};
use partway_core::profile::DeviceProfile;
use partway_core::wire::{EdgeMessage, message};
use partway_core::workload;
use partway_datasets::Samples;
use partway_model::memory::peak_rss_bytes;
use partway_model::{Compute, ComputeError};
use partway_net::peer::{BodyLimit, Peer, PeerEvent};
use partway_net::{AcceptError, BindError, Connection, Listener, ServerIdentity, TransportOptions};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{sleep_until, timeout};

use crate::checkpoint::{self, CheckpointError};
use crate::global_model;
use crate::record::{RecordError, RunFacts, RunRecord, Summary};
use crate::workers::{Blueprint, Done, Workers};

/// Events that may wait for the loop.
const QUEUE: usize = 1024;

/// How long edges may take to read the last words.
const FAREWELL: Duration = Duration::from_secs(3);

/// What a coordinator needs.
#[derive(Debug)]
pub struct ServeOptions {
    /// The experiment.
    pub config: Config,
    /// The model.
    pub spec: ModelSpec,
    /// What accuracy is measured on.
    pub test: Samples,
    /// Seconds per layer kind of one worker.
    pub profile: DeviceProfile,
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Certificate and key.
    pub identity: ServerIdentity,
    /// The folder for everything that the run leaves behind.
    pub out: PathBuf,
    /// Whether to continue from the newest checkpoint in `out`.
    pub resume: bool,
}

/// How it ended.
#[derive(Debug)]
pub enum Ended {
    /// The target was met or the rounds are done.
    Finished(Box<Summary>),
    /// The run failed.
    Aborted {
        /// Why and what to do.
        reason: String,
    },
    /// It was interrupted and can be resumed.
    Interrupted,
}

/// The coordinator could not start, or lost its own disk or threads.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The configuration does not fit the model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The workers cannot be started.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The run's record cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// `resume` was asked for and there is nothing to resume.
    #[error("{}: there is no checkpoint to resume from; leave out --resume to start anew", out.display())]
    NothingToResume {
        /// The folder.
        out: PathBuf,
    },
}

/// What the loop waits for, beside its peers.
enum Input {
    Connected(Connection),
    Turned(AcceptError),
    Global(Computed),
}

/// Runs the coordinator until training ends or `interrupt` completes; every event also goes to
/// `on_event`.
///
/// # Errors
/// If it cannot start, or cannot keep its record. How the training went is an [`Ended`].
pub async fn serve(
    options: ServeOptions,
    mut on_event: impl FnMut(&Event) + Send,
    interrupt: impl Future<Output = ()> + Send,
) -> Result<Ended, ServeError> {
    let ServeOptions { config, spec, test, profile, listen, identity, out, resume } = options;
    let settings = Settings::from_config(&config, spec, session_id(), profile)?;
    let spec = Arc::new(settings.spec.clone());
    let (moments, optimizer) = (settings.moments(), settings.optimizer);
    let blueprint = Blueprint {
        spec: spec.clone(),
        optimizer,
        seed: settings.seed,
        batch_size: settings.batch_size as usize,
    };
    let restored = if resume {
        let latest = checkpoint::read_latest(&out, &spec, moments)?;
        for warning in &latest.skipped {
            eprintln!("warning: {warning}");
        }
        Some(latest.checkpoint.ok_or(ServeError::NothingToResume { out: out.clone() })?)
    } else {
        checkpoint::clear(&out)?;
        None
    };
    let facts = RunFacts {
        name: config.name.as_str().to_owned(),
        clock: config.clock,
        seed: settings.seed,
        batch_size: settings.batch_size,
        topology: settings.topology,
    };
    let mut record = match &restored {
        Some(checkpoint) => {
            let resumed = RunRecord::resume(&out, facts, checkpoint.rounds)?;
            if resumed.unreadable > 0 {
                eprintln!("warning: {} earlier events cannot be read and are missing", resumed.unreadable);
            }
            resumed.record
        }
        None => RunRecord::create(&out, facts)?,
    };

    let (inputs, mut input) = mpsc::channel(QUEUE);
    let (done, mut trained) = mpsc::channel::<Done>(QUEUE);
    let (peer_events, mut from_peers) = mpsc::channel::<(u64, PeerEvent<EdgeMessage>)>(QUEUE);
    let mut workers =
        Workers::start(config.cloud.workers.get(), config.cloud.threads.get(), &blueprint, &done)?;
    let evaluator = Compute::cpu(1)?;
    let test = Arc::new(test);
    let idle_timeout = config.fleet.idle_timeout;
    let transport =
        TransportOptions { idle_timeout, keep_alive: idle_timeout / 3, ..TransportOptions::default() };
    let listener = Listener::bind(listen, &identity, transport)?;
    let address = listener.local_addr().to_string();
    let (stop_listening, stopped) = tokio::sync::oneshot::channel();
    let listening = tokio::spawn(listen_for_edges(listener, inputs.clone(), stopped));

    let cost = ModelCost::of(&spec);
    let limit = workload::largest_body_bytes(&spec, &cost, settings.batch_size, moments) as usize;
    let begun = Instant::now();
    let now = || begun.elapsed();
    let mut coordinator = Coordinator::new(now(), settings, restored);
    let mut peers: BTreeMap<u64, Peer> = BTreeMap::new();
    let mut next_connection = 0;
    let mut timer: Option<Duration> = None;
    let listening_event = Event { at: now().as_secs_f64(), kind: EventKind::Listening { address } };
    record.write(&listening_event)?;
    on_event(&listening_event);

    tokio::pin!(interrupt);
    let outcome = 'run: loop {
        while let Some(action) = coordinator.poll_action() {
            match action {
                Action::Send { to, message } => {
                    if let (Some(peer), Ok(bytes)) = (peers.get(&to.0), message::encode(&message)) {
                        peer.send(bytes);
                    }
                }
                Action::SendTensor { to, tensor, pace } => {
                    if let Some(peer) = peers.get(&to.0) {
                        peer.send_tensor(tensor, pace);
                    }
                }
                Action::Close { connection, reason } => {
                    if let Some(peer) = peers.get(&connection.0) {
                        peer.close(reason);
                    }
                }
                Action::Compute(job) => match job {
                    Job::Place { ref replica, .. } | Job::Export { ref replica, .. } => {
                        workers.submit(replica.clone(), job);
                    }
                    Job::Step(ref step) => workers.submit(replica_of(step), job),
                    Job::Aggregate { round, parts, reset_moments } => {
                        let (spec, inputs) = (spec.clone(), inputs.clone());
                        tokio::task::spawn_blocking(move || {
                            let computed = global_model::aggregate(&spec, round, parts, reset_moments);
                            let _ = inputs.blocking_send(Input::Global(computed));
                        });
                    }
                    Job::Evaluate { round, state, standardizer } => {
                        let (spec, test, inputs) = (spec.clone(), test.clone(), inputs.clone());
                        let evaluator = evaluator.clone();
                        tokio::task::spawn_blocking(move || {
                            let computed = global_model::evaluate(
                                &spec,
                                optimizer,
                                &test,
                                &evaluator,
                                round,
                                &state,
                                &standardizer,
                            );
                            let _ = inputs.blocking_send(Input::Global(computed));
                        });
                    }
                },
                Action::SetTimer(at) => timer = at,
                Action::Checkpoint(checkpoint) => {
                    checkpoint::write(&out, &checkpoint, config.fleet.keep.get(), &spec)?;
                }
                Action::Emit(event) => {
                    record.write(&event)?;
                    on_event(&event);
                }
                Action::Finish(outcome) => break 'run Some(outcome),
            }
        }
        let wake = tokio::time::Instant::from_std(begun + timer.unwrap_or(Duration::from_secs(3600)));
        tokio::select! {
            () = &mut interrupt => break 'run None,
            Some(done) = trained.recv() => {
                if let Some(computed) = workers.take_back(done) {
                    coordinator.handle_computed(now(), computed);
                }
            }
            Some((number, event)) = from_peers.recv() => {
                let from = ConnectionId(number);
                match event {
                    PeerEvent::Message(message) => coordinator.handle_message(now(), from, message),
                    PeerEvent::Tensor { tensor, seconds, rtt_s } => {
                        coordinator.handle_tensor(now(), from, tensor, Received { seconds, rtt_s });
                    }
                    PeerEvent::Malformed(reason) => coordinator.handle_malformed(now(), from, &reason),
                    PeerEvent::Closed(_) => {
                        peers.remove(&number);
                        coordinator.handle_disconnect(now(), from);
                    }
                }
            }
            Some(arrived) = input.recv() => match arrived {
                Input::Connected(connection) => {
                    next_connection += 1;
                    let peer =
                        Peer::start(next_connection, connection, BodyLimit::new(limit), peer_events.clone());
                    peers.insert(next_connection, peer);
                    coordinator.handle_connected(now(), ConnectionId(next_connection));
                }
                Input::Turned(error) => {
                    let kind = EventKind::EdgeRefused { edge: String::new(), reason: error.to_string() };
                    let event = Event { at: now().as_secs_f64(), kind };
                    record.write(&event)?;
                    on_event(&event);
                }
                Input::Global(computed) => coordinator.handle_computed(now(), computed),
            },
            () = sleep_until(wake) => {
                timer = None;
                coordinator.handle_timeout(now());
            }
        }
    };
    let ended = match outcome {
        Some(Outcome::Finished { state, .. }) => {
            Ended::Finished(Box::new(record.finish(Some(&state), &spec, peak_rss_bytes())?))
        }
        Some(Outcome::Aborted { reason }) => {
            record.finish(None, &spec, peak_rss_bytes())?;
            Ended::Aborted { reason }
        }
        None => {
            record.finish(None, &spec, peak_rss_bytes())?;
            Ended::Interrupted
        }
    };
    say_goodbye(&peers, matches!(ended, Ended::Interrupted)).await;
    drop(stop_listening);
    // It only ends early if it panicked, and then there is nobody left to tell.
    let _ = timeout(FAREWELL, listening).await;
    Ok(ended)
}

fn replica_of(step: &partway_core::coordinator::StepJob) -> Replica {
    step.replica.clone()
}

/// Lets edges read the last words; an interrupted run has none, so that they wait for its return.
async fn say_goodbye(peers: &BTreeMap<u64, Peer>, interrupted: bool) {
    if interrupted {
        for peer in peers.values() {
            peer.connection().close(0, "the coordinator was interrupted");
        }
        return;
    }
    let all_gone = async {
        for peer in peers.values() {
            peer.connection().closed().await;
        }
    };
    // Whoever has not read them by then learns it from the closed connection.
    let _ = timeout(FAREWELL, all_gone).await;
}

/// Accepts connections until the loop ends.
async fn listen_for_edges(
    mut listener: Listener,
    inputs: mpsc::Sender<Input>,
    mut stopped: tokio::sync::oneshot::Receiver<()>,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stopped => None,
        };
        let input = match accepted {
            Some(Ok(connection)) => Input::Connected(connection),
            Some(Err(error)) => Input::Turned(error),
            None => break,
        };
        if inputs.send(input).await.is_err() {
            break;
        }
    }
    listener.shutdown(0, "the run is over").await;
}

/// A number that no other session of these edges has.
fn session_id() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
