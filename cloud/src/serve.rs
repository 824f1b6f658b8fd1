//! The daemon's event loop: the coordinator's state machine, driven by QUIC, workers and the clock.

mod options;
mod pairing;
mod peers;
mod refusals;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use partway_core::classes::fingerprint;
use partway_core::config::CloudConfig;
use partway_core::coordinator::{
    Action, Checkpoint, Computed, ConnectionId, Coordinator, Job, Outcome, Received, Settings,
};
use partway_core::event::{Event, EventKind};
use partway_core::excerpt::excerpt;
use partway_core::model::{LayerState, ModelSpec};
use partway_core::standardize::Standardizer;
use partway_core::wire::{EdgeMessage, message};
use partway_core::workload;
use partway_model::Compute;
use partway_net::peer::{BodyLimit, Peer, PeerEvent};
use partway_net::timer::expired;
use partway_net::{AcceptError, Connection, DataListener, Listener, TransportOptions, Unpaired};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::global_model::{self, Evaluator};
use crate::outputs::{Begun, Ended, Outputs};
use crate::replica::Blueprint;
use crate::workers::{Done, Workers};
pub use options::{ServeError, ServeOptions};
use pairing::Pairing;
use peers::{FAREWELL, listen_for_edges, say_goodbye};
use refusals::Refusals;

/// Events that may wait for the loop.
const QUEUE: usize = 1024;

/// Largest tensor of a connection that has not asked to take part, in bytes.
const FIRST_LIMIT: usize = 64 << 10;

/// What the loop waits for, beside its peers.
enum Input {
    Connected(Connection),
    Data(Unpaired),
    /// A data connection that nobody came for.
    Expired(Connection),
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
    on_event: impl FnMut(&Event) + Send,
    interrupt: impl Future<Output = ()> + Send,
) -> Result<Ended, ServeError> {
    let (inputs, mut input) = mpsc::channel(QUEUE);
    let (done, mut trained) = mpsc::channel::<Done>(QUEUE);
    let (peer_events, mut from_peers) = mpsc::channel::<(u64, PeerEvent<EdgeMessage>)>(QUEUE);
    let idle_timeout = options.config.fleet.idle_timeout.get();
    let transport = TransportOptions {
        idle_timeout,
        keep_alive: idle_timeout / 3,
        congestion: options.config.wire.congestion,
        ..TransportOptions::default()
    };
    let listener = Listener::bind(options.listen, &options.identity, transport.clone())?;
    let data_listener = match options.listen_data {
        Some(listen) => Some(DataListener::bind(listen, &options.identity, transport)?),
        None => None,
    };
    let address = listener.local_addr().to_string();
    let data_address = data_listener.as_ref().map(|listener| listener.local_addr().to_string());
    let mut driver = Driver::new(options, on_event, inputs.clone(), &done)?;
    let at = driver.now().as_secs_f64();
    driver.record(Event { at, kind: EventKind::Listening { address, data_address } })?;
    let (stop_listening, stopped) = tokio::sync::oneshot::channel();
    let listening = tokio::spawn(listen_for_edges(listener, data_listener, inputs, stopped));

    tokio::pin!(interrupt);
    let outcome = loop {
        match driver.act() {
            Ok(Some(outcome)) => break Ok(Some(outcome)),
            Ok(None) => {}
            Err(error) => break Err(error),
        }
        tokio::select! {
            () = &mut interrupt => break Ok(None),
            Some(done) = trained.recv() => driver.take_back(done),
            Some((number, event)) = from_peers.recv() => driver.handle_peer(number, event),
            Some(arrived) = input.recv() => match arrived {
                Input::Connected(connection) => driver.handle_connection(&connection, &peer_events),
                Input::Data(data) => driver.handle_data_connection(data, &peer_events),
                Input::Expired(data) => if let Some(error) = driver.expire(&data)
                    && let Err(error) = driver.handle_turned(&error)
                {
                    break Err(error);
                },
                Input::Turned(error) => if let Err(error) = driver.handle_turned(&error) {
                    break Err(error);
                },
                Input::Global(computed) => driver.handle_global(computed),
            },
            () = expired(driver.begun, driver.timer) => driver.handle_timeout(),
        }
    };
    let peers = std::mem::take(&mut driver.peers);
    let ended = outcome.and_then(|outcome| {
        driver.record_rest()?;
        Ok(driver.outputs.end(outcome)?)
    });
    // After a full disk, as after an interruption, edges wait for the coordinator's return.
    say_goodbye(&peers, !matches!(ended, Ok(Ended::Finished(_) | Ended::Aborted { .. }))).await;
    drop(stop_listening);
    // It only ends early if it panicked, and then there is nobody left to tell.
    let _ = timeout(FAREWELL, listening).await;
    ended
}

/// The coordinator with everything that it acts on.
struct Driver<E> {
    coordinator: Coordinator,
    begun: Instant,
    timer: Option<Duration>,
    peers: BTreeMap<u64, Peer>,
    connections: u64,
    /// Connections that have not asked to take part, with what they may send until then.
    limits: BTreeMap<u64, BodyLimit>,
    /// If there are data connections.
    pairing: Option<Pairing>,
    body_limit: usize,
    workers: Workers,
    /// None if the edges evaluate.
    evaluator: Option<Evaluator>,
    is_evaluating: bool,
    next_evaluation: Option<(u32, Arc<LayerState>, Standardizer)>,
    spec: Arc<ModelSpec>,
    inputs: mpsc::Sender<Input>,
    outputs: Outputs,
    refusals: Refusals,
    on_event: E,
}

impl<E: FnMut(&Event)> Driver<E> {
    fn new(
        options: ServeOptions,
        on_event: E,
        inputs: mpsc::Sender<Input>,
        done: &mpsc::Sender<Done>,
    ) -> Result<Self, ServeError> {
        let ServeOptions { config, spec, init, test, profile, listen_data, out, resume, .. } = options;
        let mut settings = Settings::from_config(&config, spec, session_id(), profile)?;
        if let Some(test) = &test {
            settings.class_names = fingerprint(test.class_names());
        }
        let spec = Arc::new(settings.spec.clone());
        let (moments, optimizer) = (settings.moments(), settings.optimizer);
        let blueprint = Blueprint {
            spec: spec.clone(),
            optimizer,
            seed: settings.seed,
            batch_size: settings.batch_size as usize,
        };
        let CloudConfig { device, workers, threads, .. } = &config.cloud;
        let workers = Workers::start(*device, workers.get(), threads.get(), &blueprint, done)?;
        let Begun { outputs, checkpoint, warnings } = Outputs::begin(&out, &config, &settings, resume)?;
        for warning in warnings {
            eprintln!("warning: {warning}");
        }
        let given =
            init.map(|weights| Checkpoint::before_training(weights.with_zero_moments(&spec, moments)));
        let body_limit = workload::largest_body_bytes(&spec, settings.batch_size, moments) as usize;
        let evaluator = match test {
            Some(test) => {
                let (spec, test) = (spec.clone(), Arc::new(test));
                Some(Evaluator { spec, optimizer, test, compute: Compute::new(config.cloud.device, 1)? })
            }
            None => None,
        };
        let begun = Instant::now();
        Ok(Self {
            coordinator: Coordinator::new(begun.elapsed(), settings, checkpoint.or(given)),
            begun,
            timer: None,
            peers: BTreeMap::new(),
            connections: 0,
            limits: BTreeMap::new(),
            pairing: listen_data.map(|_| Pairing::default()),
            body_limit,
            workers,
            evaluator,
            is_evaluating: false,
            next_evaluation: None,
            spec,
            inputs,
            outputs,
            refusals: Refusals::default(),
            on_event,
        })
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn record(&mut self, event: Event) -> Result<(), ServeError> {
        match self.refusals.handle(event) {
            Some(event) => self.write(&event),
            None => Ok(()),
        }
    }

    fn write(&mut self, event: &Event) -> Result<(), ServeError> {
        self.outputs.write(event)?;
        (self.on_event)(event);
        Ok(())
    }

    /// The last event, if there is one to come.
    fn record_rest(&mut self) -> Result<(), ServeError> {
        self.refusals.finish(self.now()).map_or(Ok(()), |event| self.write(&event))
    }

    /// Does everything that the coordinator asks for; returns how the run ended, if it did.
    fn act(&mut self) -> Result<Option<Outcome>, ServeError> {
        while let Some(action) = self.coordinator.poll_action() {
            match action {
                Action::Send { to, message } => match (message::encode(&message), self.peers.get(&to.0)) {
                    (Ok(bytes), Some(peer)) => peer.send(bytes),
                    (Ok(_), None) => {}
                    // It concerns one edge, not the run.
                    (Err(error), _) => {
                        let reason = format!("what is to be said to it cannot be sent: {error}");
                        self.coordinator.handle_malformed(self.now(), to, &reason);
                    }
                },
                Action::SendTensor { to, tensor, pace } => {
                    if let Some(peer) = self.peers.get(&to.0) {
                        peer.send_tensor(tensor, pace);
                    }
                }
                Action::Close { connection, reason } => {
                    if let Some(peer) = self.peers.get(&connection.0) {
                        peer.close(reason);
                    }
                }
                Action::Compute(job) => self.compute(job),
                Action::SetTimer(at) => self.timer = at,
                Action::Checkpoint(checkpoint) => self.outputs.checkpoint(&checkpoint)?,
                Action::Emit(event) => self.record(event)?,
                Action::Finish(outcome) => return Ok(Some(outcome)),
            }
        }
        Ok(None)
    }

    fn compute(&mut self, job: Job) {
        match job {
            Job::Place { ref replica, .. }
            | Job::Export { ref replica, .. }
            | Job::Discard { ref replica } => {
                self.workers.submit(replica.clone(), job);
            }
            Job::Step(ref step) => self.workers.submit(step.replica.clone(), job),
            Job::Aggregate { round, models, reset_moments } => {
                let spec = self.spec.clone();
                self.in_background(move || global_model::aggregate(&spec, round, models, reset_moments));
            }
            Job::Evaluate { round, state, standardizer } => {
                // Where evaluations take longer than rounds, some models have none: of those that wait the newest is the best guess.
                self.next_evaluation = Some((round, state, standardizer));
                self.evaluate_next();
            }
        }
    }

    /// Starts the waiting evaluation, unless one is running.
    fn evaluate_next(&mut self) {
        if self.is_evaluating {
            return;
        }
        let Some((round, state, standardizer)) = self.next_evaluation.take() else { return };
        self.is_evaluating = true;
        let evaluator = self.evaluator.clone();
        self.in_background(move || match evaluator {
            Some(evaluator) => evaluator.evaluate(round, state, &standardizer),
            None => Computed::Failed { reason: "the coordinator was started without a test set".into() },
        });
    }

    fn handle_global(&mut self, computed: Computed) {
        if matches!(computed, Computed::Evaluated { .. }) {
            self.is_evaluating = false;
            self.evaluate_next();
        }
        self.handle_computed(computed);
    }

    fn in_background(&self, work: impl FnOnce() -> Computed + Send + 'static) {
        let inputs = self.inputs.clone();
        tokio::task::spawn_blocking(move || {
            // The receiver is gone when the run has ended.
            let computed = catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Computed::Failed {
                reason: "work on the global model panicked; the log says where".into(),
            });
            let _ = inputs.blocking_send(Input::Global(computed));
        });
    }

    fn take_back(&mut self, done: Done) {
        if let Some(computed) = self.workers.take_back(done) {
            self.handle_computed(computed);
        }
    }

    fn handle_computed(&mut self, computed: Computed) {
        self.coordinator.handle_computed(self.now(), computed);
    }

    fn handle_timeout(&mut self) {
        self.timer = None;
        self.coordinator.handle_timeout(self.now());
    }

    fn handle_connection(
        &mut self,
        connection: &Connection,
        events: &mpsc::Sender<(u64, PeerEvent<EdgeMessage>)>,
    ) {
        self.connections += 1;
        let number = self.connections;
        let limit = BodyLimit::new(FIRST_LIMIT);
        let peer = Peer::start(number, connection.clone(), limit.clone(), events.clone());
        self.peers.insert(number, peer);
        self.limits.insert(number, limit);
        self.expect_data(number, connection, events);
        self.coordinator.handle_connected(self.now(), ConnectionId(number));
    }

    fn handle_turned(&mut self, error: &AcceptError) -> Result<(), ServeError> {
        let kind = EventKind::EdgeRefused { edge: String::new(), reason: excerpt(&error.to_string()) };
        self.record(Event { at: self.now().as_secs_f64(), kind })
    }

    fn handle_peer(&mut self, number: u64, event: PeerEvent<EdgeMessage>) {
        let (now, from) = (self.now(), ConnectionId(number));
        match event {
            PeerEvent::Message(message) => {
                // Whoever was turned away has no connection any more; the others may send more now.
                if let Some(limit) = self.limits.remove(&number) {
                    limit.set(self.body_limit);
                    self.pairing.iter_mut().for_each(|pairing| pairing.forget(number));
                }
                self.coordinator.handle_message(now, from, message);
            }
            PeerEvent::Tensor { tensor, seconds, rtt_s } => {
                self.coordinator.handle_tensor(now, from, tensor, Received { seconds, rtt_s });
            }
            PeerEvent::Malformed(reason) => self.coordinator.handle_malformed(now, from, &reason),
            PeerEvent::Closed(_) => {
                self.peers.remove(&number);
                self.limits.remove(&number);
                self.pairing.iter_mut().for_each(|pairing| pairing.forget(number));
                self.coordinator.handle_disconnect(now, from);
            }
        }
    }
}

/// A number that no other session of these edges has.
fn session_id() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}
