//! The worker's event loop: the participant's state machine, driven by QUIC, a compute thread and the
//! clock.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Arc, mpsc as thread_mpsc};
use std::time::{Duration, Instant};

use partway_core::classes::fingerprint;
use partway_core::config::{Congestion, DeviceKind};
use partway_core::participant::{Action, Computed, Job, Outcome, Participant, Progress};
use partway_core::profile::DeviceProfile;
use partway_core::wire::{CloudMessage, MessageError, PROTOCOL_VERSION, TrainingRequest, message};
use partway_core::workload;
use partway_datasets::Samples;
use partway_datasets::own::{EdgeDataError, Reading, load_for_edge};
use partway_model::{Compute, ComputeError};
use partway_net::peer::{BodyLimit, Peer, PeerEvent};
use partway_net::timer::expired;
use partway_net::{ConnectError, EmulatedLink, ProfileError, TlsError, TrustedAuthority};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::Emulation;
use crate::connecting::{self, Connected, is_final};
use crate::emulation::Speed;
use crate::state_folder::{FolderError, StateFolder};
use crate::worker::Worker;

/// Events that may wait for the loop, and jobs for the compute thread.
const QUEUE: usize = 256;

/// Largest tensor before the model is known: the downlink probe.
const FIRST_LIMIT: usize = 1 << 20;

/// How long a state folder that is in use is waited for.
const LETTING_GO: Duration = Duration::from_secs(2);

/// How long the coordinator may take to read this edge's last words.
const FAREWELL: Duration = Duration::from_secs(3);

/// What a worker needs.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// Where the coordinator listens.
    pub address: SocketAddr,
    /// Where it listens for data connections, if tensors are to travel over one of their own.
    pub data_address: Option<SocketAddr>,
    /// The name or address in the coordinator's certificate.
    pub server_name: String,
    /// The certificate of the authority that issued it.
    pub ca: PathBuf,
    /// This edge's shard, or data that it has had before.
    pub data: PathBuf,
    /// How that is read, if it is no shard.
    pub reading: Reading,
    /// The folder that survives a crash.
    pub state: PathBuf,
    /// This edge's name.
    pub name: String,
    /// What computes.
    pub device: DeviceKind,
    /// Threads that compute.
    pub threads: usize,
    /// Seconds per layer kind, as this device calibrated itself.
    pub profile: DeviceProfile,
    /// Memory for training, in bytes.
    pub memory: Option<u64>,
    /// What the operator thinks of the uplink, in bytes per second.
    pub uplink_hint: Option<f64>,
    /// Whether raw samples may leave this device, if the coordinator asks for them.
    pub allow_raw_data: bool,
    /// Whether labels, and how many there are of each, stay on this device.
    pub keep_labels: bool,
    /// How long to try to reach the coordinator before giving up.
    pub patience: Duration,
    /// A silent connection is dead after this time.
    pub idle_timeout: Duration,
    /// How this side finds the rate that the uplink carries.
    pub congestion: Congestion,
    /// What to pretend this device is.
    pub emulation: Option<Emulation>,
}

/// The worker could not even start.
#[derive(Debug, Error)]
pub enum JoinError {
    /// The data cannot be read, or not be trained on with others'.
    #[error(transparent)]
    Data(#[from] EdgeDataError),
    /// The state folder cannot be used.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The CA file cannot be used.
    #[error(transparent)]
    Authority(#[from] TlsError),
    /// The device or its threads cannot be used.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// The emulated link makes no sense.
    #[error(transparent)]
    Link(#[from] ProfileError),
    /// What is to be said does not fit a control message.
    #[error("a message to the coordinator cannot be sent: {0}")]
    Message(#[from] MessageError),
    /// The compute thread could not be started, or has died.
    #[error("the compute thread {0}")]
    Thread(String),
}

/// What the loop waits for.
enum Input {
    Connected(Result<Connected, ConnectError>),
    Computed(Computed),
}

/// Takes part in a training until it ends, or until `interrupt` completes: then there is no outcome, and the
/// coordinator knows at once that this edge is gone.
///
/// # Errors
/// If the worker cannot start. What happens later is an [`Outcome`].
pub async fn join(
    options: JoinOptions,
    mut on_progress: impl FnMut(&Progress) + Send,
    interrupt: impl Future<Output = ()> + Send,
) -> Result<Option<Outcome>, JoinError> {
    let shard = Arc::new(load_for_edge(&options.data, &options.reading)?);
    let folder = open_folder(&options).await?;
    let authority = Arc::new(TrustedAuthority::from_pem_file(&options.ca)?);
    let link = match &options.emulation {
        Some(emulation) => Some(EmulatedLink::start(&emulation.link)?),
        None => None,
    };
    let request = first_request(&options, &shard);
    let restored = folder.restore();
    let (inputs, mut input) = mpsc::channel(QUEUE);
    let jobs = start_worker(&options, shard, folder, inputs.clone()).await?;
    let (peer_events, mut from_peer) = mpsc::channel::<(u64, PeerEvent<CloudMessage>)>(QUEUE);

    let begun = Instant::now();
    let now = || begun.elapsed();
    let mut participant = Participant::new(now(), request, restored, options.patience)
        .with_raw_data(options.allow_raw_data)
        .with_labels_kept(options.keep_labels);
    let limit = BodyLimit::new(FIRST_LIMIT);
    let mut peer: Option<Peer> = None;
    let mut connection_number = 0;
    let mut timer: Option<Duration> = None;
    tokio::pin!(interrupt);
    loop {
        while let Some(action) = participant.poll_action() {
            match action {
                Action::Connect => {
                    let connecting = connecting::connect(&options, &authority, link.as_ref());
                    report_connection(connecting, inputs.clone());
                }
                Action::Send(message) => {
                    let bytes = message::encode(&message)?;
                    if let Some(peer) = &peer {
                        peer.send(bytes);
                    }
                }
                Action::SendTensor { tensor, pace } => {
                    if let Some(peer) = &peer {
                        peer.send_tensor(tensor, pace);
                    }
                }
                Action::Compute(job) => {
                    if jobs.try_send(job).is_err() {
                        return Err(JoinError::Thread("has died".into()));
                    }
                }
                Action::SetTimer(at) => timer = at,
                Action::Report(progress) => on_progress(&progress),
                Action::Finish(outcome) => {
                    if let Some(peer) = peer {
                        say_goodbye(&peer, &outcome).await;
                    }
                    return Ok(Some(outcome));
                }
            }
        }
        tokio::select! {
            () = &mut interrupt => {
                if let Some(peer) = &peer {
                    leave(peer).await;
                }
                return Ok(None);
            }
            Some(arrived) = input.recv() => match arrived {
                Input::Computed(computed) => participant.handle_computed(now(), computed),
                Input::Connected(Ok(connected)) => {
                    connection_number += 1;
                    peer = Some(connected.start(connection_number, &limit, &peer_events));
                    participant.handle_connected(now());
                }
                Input::Connected(Err(error)) => {
                    if is_final(&error) {
                        return Ok(Some(Outcome::Failed { reason: error.to_string() }));
                    }
                    participant.handle_disconnect(now(), &error.to_string());
                }
            },
            Some((number, event)) = from_peer.recv() => {
                if number == connection_number {
                    match event {
                        PeerEvent::Message(message) => {
                            make_room(&message, &limit);
                            participant.handle_message(now(), message);
                        }
                        PeerEvent::Tensor { tensor, seconds, .. } => participant.handle_tensor(now(), tensor, seconds),
                        PeerEvent::Malformed(reason) => participant.handle_malformed(&reason),
                        PeerEvent::Closed(reason) => {
                            peer = None;
                            participant.handle_disconnect(now(), &reason);
                        }
                    }
                }
            },
            () = expired(begun, timer) => {
                timer = None;
                participant.handle_timeout(now());
            }
        }
    }
}

fn first_request(options: &JoinOptions, shard: &Samples) -> TrainingRequest {
    let JoinOptions { name, profile, memory, uplink_hint, .. } = options;
    training_request(name, shard, profile.clone(), *memory, *uplink_hint)
}

/// What an edge asks with at first: its name, what it has, and its device with `memory_limit` bytes for training.
/// `uplink_hint` is in bytes per second.
pub fn training_request(
    name: &str,
    shard: &Samples,
    profile: DeviceProfile,
    memory_limit: Option<u64>,
    uplink_hint: Option<f64>,
) -> TrainingRequest {
    TrainingRequest {
        version: PROTOCOL_VERSION,
        name: name.to_owned(),
        samples: shard.len() as u64,
        labels: shard.label_counts().into_iter().map(|count| count as u64).collect(),
        class_names: fingerprint(shard.class_names()),
        shape: shard.shape(),
        profile,
        memory_limit,
        uplink_hint,
        resume: None,
    }
}

/// Connects beside the loop.
fn report_connection(
    connecting: impl Future<Output = Result<Connected, ConnectError>> + Send + 'static,
    inputs: mpsc::Sender<Input>,
) {
    tokio::spawn(async move {
        // The loop is gone when the worker has ended.
        let _ = inputs.send(Input::Connected(connecting.await)).await;
    });
}

/// Starts the compute thread with what `options` say of the device.
async fn start_worker(
    options: &JoinOptions,
    shard: Arc<Samples>,
    folder: StateFolder,
    inputs: mpsc::Sender<Input>,
) -> Result<thread_mpsc::SyncSender<Job>, JoinError> {
    let speed = options.emulation.as_ref().map(Speed::starting);
    let (device, threads, name) = (options.device, options.threads, options.name.clone());
    let make = move || Ok(Worker::new(name, shard, folder, Compute::on_this_thread(device, threads)?, speed));
    spawn_worker(make, inputs).await
}

/// The compute thread, the first of them: makes its worker, and takes jobs until the loop is gone.
async fn spawn_worker(
    make: impl FnOnce() -> Result<Worker, ComputeError> + Send + 'static,
    inputs: mpsc::Sender<Input>,
) -> Result<thread_mpsc::SyncSender<Job>, JoinError> {
    let (jobs, queue) = thread_mpsc::sync_channel::<Job>(QUEUE);
    let (ready, told) = oneshot::channel();
    let work = move || {
        let mut worker = match make() {
            Ok(worker) => worker,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let _ = ready.send(Ok(()));
        while let Ok(job) = queue.recv() {
            let computed = catch_unwind(AssertUnwindSafe(|| worker.handle(job))).unwrap_or_else(|_| {
                Computed::Failed { reason: "the compute thread panicked; the log says where".into() }
            });
            if inputs.blocking_send(Input::Computed(computed)).is_err() {
                return;
            }
        }
    };
    let spawned = std::thread::Builder::new().name("compute-0".into()).spawn(work);
    spawned.map_err(|error| JoinError::Thread(format!("could not be started: {error}")))?;
    told.await.map_err(|_| JoinError::Thread("has died".into()))??;
    Ok(jobs)
}

/// Opens the state folder. A worker that has just ended may need a moment to let go of it.
async fn open_folder(options: &JoinOptions) -> Result<StateFolder, FolderError> {
    let begun = Instant::now();
    loop {
        match StateFolder::open(&options.state, &options.name) {
            Err(FolderError::Busy { .. }) if begun.elapsed() < LETTING_GO => {
                tokio::time::sleep(LETTING_GO / 20).await;
            }
            opened => return opened,
        }
    }
}

/// Once the model is known, so is how large its tensors are.
fn make_room(message: &CloudMessage, limit: &BodyLimit) {
    if let CloudMessage::Assignment(assignment) = message
        && let Ok(model) = assignment.model.clone().checked()
    {
        let moments = assignment.optimizer.moments().len();
        limit.set(workload::largest_body_bytes(&model, assignment.batch_size, moments) as usize);
    }
}

/// Ends the connection for now, so that the coordinator need not wait for its timeout.
async fn leave(peer: &Peer) {
    let gone = peer.connection().shutdown(0, "the edge was interrupted, and may come back");
    let _ = timeout(FAREWELL, gone).await;
}

/// Ends the connection so that the coordinator need not wait for its timeout.
async fn say_goodbye(peer: &Peer, outcome: &Outcome) {
    let reason = match outcome {
        Outcome::Finished { .. } => "finished",
        Outcome::Failed { reason } => {
            // Its last message says why; the coordinator closes when it has read that.
            peer.close(reason.clone());
            let _ = timeout(FAREWELL, peer.connection().closed()).await;
            reason
        }
    };
    let _ = timeout(FAREWELL, peer.connection().shutdown(0, reason)).await;
}
