//! An edge that costs next to nothing: its messages are real, its tensors are constants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use partway_core::codec::Codec;
use partway_core::micro_batch::MicroBatch;
use partway_core::model::{LayerState, ModelSpec};
use partway_core::participant::{Action, Computed, Job, Outcome, Participant};
use partway_core::profile::DeviceProfile;
use partway_core::statistics::{ChannelStatistics, push_sample};
use partway_core::wire::{
    Assignment, CloudMessage, PROTOCOL_VERSION, RoundPlan, StartFrom, TensorHeader, TensorKind,
    TensorMessage, TrainingRequest, decode_state, encode_state, message,
};
use partway_core::workload;
use partway_net::peer::{BodyLimit, Peer, PeerEvent};
use partway_net::timer::expired;
use partway_net::{ConnectError, Connection, TransportOptions, TrustedAuthority, connect};
use tokio::sync::mpsc;

/// Events that may wait.
const QUEUE: usize = 64;
/// Largest tensor before the model is known: the probe of the downlink.
const FIRST_LIMIT: usize = 1 << 20;
/// What every light edge says that it has.
const SAMPLES: u64 = 64;
/// How long it tries to reach the coordinator.
const PATIENCE: Duration = Duration::from_mins(2);

/// The tensors of an edge that does not compute.
#[derive(Default)]
struct Layers {
    training: Option<(Box<Assignment>, ModelSpec)>,
    head: Option<LayerState>,
}

impl Layers {
    fn handle(&mut self, job: Job) -> Computed {
        self.answer(job).unwrap_or_else(|reason| Computed::Failed { reason })
    }

    fn answer(&mut self, job: Job) -> Result<Computed, String> {
        // Nothing is computed, but no device takes no time at all.
        let seconds = 1e-6;
        match job {
            Job::Statistics { assignment, of } => {
                let [channels, height, width] = assignment.model.input;
                let mut statistics = vec![ChannelStatistics::default(); channels];
                let sample: Vec<f32> = (0..channels * height * width).map(|at| at as f32).collect();
                push_sample(&mut statistics, &sample).map_err(|error| error.to_string())?;
                Ok(Computed::Statistics { of, channels: statistics })
            }
            Job::Prepare { assignment, .. } => {
                let spec = assignment.model.clone().checked().map_err(|error| error.to_string())?;
                self.training = Some((assignment, spec));
                Ok(Computed::Prepared)
            }
            Job::Begin { plan, mut blocks, .. } => {
                let (assignment, spec) = self.training.as_ref().ok_or("a round came before a model")?;
                let moments = assignment.optimizer.moments().len();
                match (plan.start, blocks.pop()) {
                    (StartFrom::Initial, _) => {
                        let layers = 0..plan.cut as usize;
                        self.head = Some(LayerState::initial(spec, layers, moments, assignment.seed));
                    }
                    (StartFrom::Cloud, Some(block)) => {
                        let state = decode_state(spec, moments, block).map_err(|error| error.to_string())?;
                        self.head = Some(state);
                    }
                    _ => {}
                }
                Ok(Computed::Begun { round: plan.round, attempt: plan.attempt, moved: None })
            }
            Job::Forward { plan, step, micro_batch } => {
                let activations = self.activations(&plan, step, micro_batch)?;
                Ok(Computed::Forwarded {
                    round: plan.round,
                    attempt: plan.attempt,
                    step,
                    micro_batch,
                    activations,
                    seconds,
                })
            }
            Job::Backward { plan, step, micro_batch, .. } => Ok(Computed::Backwarded {
                round: plan.round,
                attempt: plan.attempt,
                step,
                micro_batch,
                seconds,
            }),
            Job::EndRound { plan } => {
                let RoundPlan { round, attempt, steps, aggregate, .. } = plan;
                let head = self.head.clone().filter(|_| aggregate);
                let uploads =
                    head.into_iter().map(|head| encode_state(round, attempt, steps, head)).collect();
                Ok(Computed::RoundEnded { round, attempt, uploads, peak_rss_bytes: 0 })
            }
            other => Err(format!("a light edge cannot do {other:?}")),
        }
    }

    fn activations(
        &self,
        plan: &RoundPlan,
        step: u32,
        micro_batch: MicroBatch,
    ) -> Result<TensorMessage, String> {
        let (assignment, spec) = self.training.as_ref().ok_or("a step came before a model")?;
        let batch = micro_batch.range(assignment.batch_size as usize).len();
        let shapes = spec.shapes().map_err(|error| error.to_string())?;
        let values =
            batch * shapes.get(plan.cut as usize).ok_or("there is no such cut")?.iter().product::<usize>();
        let header = TensorHeader {
            round: plan.round,
            attempt: plan.attempt,
            step,
            micro_batch: micro_batch.index as u16,
            ..TensorHeader::new(TensorKind::Activations, Codec::F32)
        };
        Ok(TensorMessage::encode(header, vec![0.5; values], &vec![0; batch]))
    }
}

enum Input {
    Connected(Result<Connection, ConnectError>),
}

/// Takes part in a training until it ends.
pub(super) async fn take_part(
    name: String,
    address: SocketAddr,
    server_name: &'static str,
    authority: Arc<TrustedAuthority>,
    shape: [usize; 3],
    classes: usize,
) -> Outcome {
    let begun = Instant::now();
    let request = TrainingRequest {
        version: PROTOCOL_VERSION,
        name,
        samples: SAMPLES,
        labels: vec![SAMPLES / classes as u64; classes],
        class_names: None,
        shape,
        profile: DeviceProfile::default(),
        memory_limit: None,
        uplink_hint: None,
        resume: None,
    };
    let mut participant = Participant::new(begun.elapsed(), request, None, PATIENCE);
    let mut layers = Layers::default();
    let limit = BodyLimit::new(FIRST_LIMIT);
    let (inputs, mut input) = mpsc::channel(QUEUE);
    let (events, mut from_peer) = mpsc::channel::<(u64, PeerEvent<CloudMessage>)>(QUEUE);
    let (mut peer, mut connections, mut timer) = (None::<Peer>, 0, None);
    loop {
        while let Some(action) = participant.poll_action() {
            match action {
                Action::Connect => {
                    let (authority, inputs) = (authority.clone(), inputs.clone());
                    tokio::spawn(async move {
                        let options = TransportOptions::default();
                        let connected = connect(address, server_name, &authority, &options, None).await;
                        let _ = inputs.send(Input::Connected(connected)).await;
                    });
                }
                Action::Send(sent) => match message::encode(&sent) {
                    Ok(bytes) => peer.iter().for_each(|peer| peer.send(bytes.clone())),
                    Err(error) => return Outcome::Failed { reason: error.to_string() },
                },
                Action::SendTensor { tensor, pace } => {
                    if let Some(peer) = &peer {
                        peer.send_tensor(tensor, pace);
                    }
                }
                Action::Compute(job) => participant.handle_computed(begun.elapsed(), layers.handle(job)),
                Action::SetTimer(at) => timer = at,
                Action::Report(_) => {}
                Action::Finish(outcome) => return outcome,
            }
        }
        tokio::select! {
            Some(Input::Connected(connected)) = input.recv() => match connected {
                Ok(connection) => {
                    connections += 1;
                    peer = Some(Peer::start(connections, connection, limit.clone(), events.clone()));
                    participant.handle_connected(begun.elapsed());
                }
                Err(error) => participant.handle_disconnect(begun.elapsed(), &error.to_string()),
            },
            Some((number, event)) = from_peer.recv() => match event {
                _ if number != connections => {}
                PeerEvent::Message(message) => {
                    if let CloudMessage::Assignment(assignment) = &message
                        && let Ok(spec) = assignment.model.clone().checked()
                    {
                        let moments = assignment.optimizer.moments().len();
                        limit.set(workload::largest_body_bytes(&spec, assignment.batch_size, moments) as usize);
                    }
                    participant.handle_message(begun.elapsed(), message);
                }
                PeerEvent::Tensor { tensor, seconds, .. } => {
                    participant.handle_tensor(begun.elapsed(), tensor, seconds);
                }
                PeerEvent::Malformed(reason) => participant.handle_malformed(&reason),
                PeerEvent::Closed(reason) => {
                    peer = None;
                    participant.handle_disconnect(begun.elapsed(), &reason);
                }
            },
            () = expired(begun, timer) => {
                timer = None;
                participant.handle_timeout(begun.elapsed());
            }
        }
    }
}
