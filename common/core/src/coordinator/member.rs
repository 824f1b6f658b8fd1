//! What the coordinator knows of one edge.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use super::Received;
use super::action::{ConnectionId, StepPart};
use super::deferral::{Deferral, LateModel};
use super::forecast::Prediction;
use super::settings::Settings;
use crate::model::LayerState;
use crate::statistics::ChannelStatistics;
use crate::wire::{RoundPlan, StartFrom, TensorMessage, TrainingRequest};

/// Some layers of a state that is shared with others.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub(super) state: Arc<LayerState>,
    pub(super) layers: Range<usize>,
}

/// One edge of the fleet.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other, not one state")]
pub(super) struct Member {
    pub(super) request: TrainingRequest,
    pub(super) connection: Option<ConnectionId>,
    /// Since when there is no connection.
    pub(super) lost_at: Option<Duration>,
    /// Why its last connection was closed, if it was turned away.
    pub(super) refused: Option<String>,
    pub(super) statistics: Option<Vec<ChannelStatistics>>,
    pub(super) ready: bool,
    /// Whether it has said that it cannot evaluate the global model.
    pub(super) evaluates_not: bool,
    /// It came back between two rounds: what it still has is looked at when the next one begins.
    pub(super) came_back: bool,
    /// Left out until the next aggregation.
    pub(super) out: bool,
    /// Not waited for.
    pub(super) deferral: Option<Deferral>,
    /// What it has handed in since the last aggregation, in that order.
    pub(super) late_models: Vec<LateModel>,
    /// Steps done since the global model that it started from: its weight.
    pub(super) steps_done: u64,
    pub(super) round: Option<MemberRound>,
}

impl Member {
    pub(super) fn new(request: TrainingRequest, connection: ConnectionId) -> Self {
        Self {
            request,
            connection: Some(connection),
            lost_at: None,
            refused: None,
            statistics: None,
            ready: false,
            evaluates_not: false,
            came_back: false,
            out: false,
            deferral: None,
            late_models: Vec::new(),
            steps_done: 0,
            round: None,
        }
    }

    /// Whether the round is planned with it, and waits for it.
    pub(super) fn takes_part(&self) -> bool {
        !self.out && self.deferral.is_none()
    }

    /// Whether it can be given work.
    pub(super) fn is_here(&self) -> bool {
        self.ready && self.connection.is_some()
    }

    /// Whether it finishes a round that the others have left behind.
    pub(super) fn is_behind(&self) -> bool {
        matches!(self.deferral, Some(Deferral::Behind { .. }))
    }
}

/// What the cloud measured of one step.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Served {
    pub(super) loss: f32,
    pub(super) correct: u32,
    /// How long the activations waited for the turn of their edge, in seconds.
    pub(super) turn_s: f64,
    /// From the last byte of each tensor, or its turn if that came later, or the reply before it, to its reply, in
    /// seconds.
    pub(super) residence_s: f64,
    /// From the first byte of each tensor to its last, in seconds, and the round-trip time.
    pub(super) uplink_s: f64,
    pub(super) rtt_s: f64,
    /// The computation alone, in seconds.
    pub(super) service_s: f64,
    pub(super) bytes_up: u64,
    pub(super) bytes_down: u64,
}

/// Activations, or a gradient, that wait to be served.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) part: StepPart,
    pub(super) tensor: TensorMessage,
    pub(super) at: Duration,
    pub(super) received: Received,
}

/// A tensor that a replica is at; what was measured of it counts once it is served.
#[derive(Clone, Copy, Debug)]
pub(super) struct InService {
    /// Since when nothing but the cloud has held it up.
    pub(super) since: Duration,
    pub(super) turn_s: f64,
    pub(super) received: Received,
    pub(super) bytes_up: u64,
}

/// How far one edge is in the current round.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other, not one state")]
pub(super) struct MemberRound {
    pub(super) plan: RoundPlan,
    pub(super) prediction: Prediction,
    /// When the edge got its plan, or would have had it been ready; later by the time for which it was away.
    pub(super) begun_at: Option<Duration>,
    /// It has taken longer than it may.
    pub(super) late: bool,
    /// The replica at the start of the round; unknown until moved layers have come.
    pub(super) start: Option<Slice>,
    /// The layers that the cloud sends to the edge at the start, a tensor each.
    pub(super) blocks: Vec<Slice>,
    /// The layers that the edge sends to the cloud at the start, and what follows them.
    pub(super) moved: Option<(Range<usize>, Arc<LayerState>)>,
    /// The first step that the cloud has not trained, and the first of its micro-batches.
    pub(super) next_step: u32,
    pub(super) next_micro_batch: u32,
    /// Labels on the edge: whether all micro-batches of that step have gone forward; that one is the first that has not
    /// come back then.
    pub(super) passed: bool,
    pub(super) in_service: Option<InService>,
    /// What waits to be served, by whether it goes back, and by micro-batch.
    pub(super) arrived: BTreeMap<(bool, u32), Arrived>,
    /// The answers to the last step's micro-batches, until one to another step, or what follows them.
    pub(super) replies: Vec<TensorMessage>,
    /// When the last one was given.
    pub(super) replied_at: Duration,
    pub(super) served: Vec<Served>,
    pub(super) reported: Vec<bool>,
    /// How many probes have come from the edge.
    pub(super) probes: u32,
    pub(super) done: bool,
    pub(super) upload: Option<LayerState>,
    /// Labels on the edge: its last layers, as it sent them for the aggregation.
    pub(super) tail: Option<LayerState>,
    pub(super) export_asked: bool,
    pub(super) exported: Option<LayerState>,
    /// Its turn is over: the model that it trained is the next edge's.
    pub(super) handed_on: bool,
}

impl MemberRound {
    pub(super) fn new(plan: RoundPlan, prediction: Prediction) -> Self {
        let steps = plan.steps as usize;
        Self {
            plan,
            prediction,
            begun_at: None,
            late: false,
            start: None,
            blocks: Vec::new(),
            moved: None,
            next_step: 0,
            next_micro_batch: 0,
            passed: false,
            in_service: None,
            arrived: BTreeMap::new(),
            replies: Vec::new(),
            replied_at: Duration::ZERO,
            served: vec![Served::default(); steps],
            reported: vec![false; steps],
            probes: 0,
            done: false,
            upload: None,
            tail: None,
            export_asked: false,
            exported: None,
            handed_on: false,
        }
    }

    /// Where the round's layers come from: what the edge `ended` the last one with, its cut and the cloud's half, or the
    /// global model.
    pub(super) fn lay_out(
        &mut self,
        settings: &Settings,
        global: &Arc<LayerState>,
        ended: Option<(usize, LayerState)>,
    ) {
        let (cut, end) = (self.cut(), settings.cloud_end());
        match ended {
            Some((old, exported)) => {
                let state = Arc::new(exported);
                if cut < old {
                    self.moved = Some((cut..old, state));
                } else {
                    if cut > old {
                        self.blocks = vec![Slice { state: state.clone(), layers: old..cut }];
                    }
                    self.start = Some(Slice { state, layers: cut..end });
                }
            }
            None => {
                if self.plan.start == StartFrom::Cloud {
                    self.blocks = settings.edge_blocks(global, cut);
                }
                self.start = Some(Slice { state: global.clone(), layers: cut..end });
            }
        }
    }

    /// The same round from its start, as another attempt.
    pub(super) fn again(self) -> Self {
        let plan = RoundPlan { attempt: self.plan.attempt + 1, ..self.plan };
        let (start, blocks, moved) = (self.start, self.blocks, self.moved);
        Self { start, blocks, moved, ..Self::new(plan, self.prediction) }
    }

    /// Whether the cloud has served anything of the round.
    pub(super) fn has_begun(&self) -> bool {
        !self.replies.is_empty() || self.reported.contains(&true)
    }

    /// Keeps an answer for replays, with the others to the same step.
    pub(super) fn keep_reply(&mut self, now: Duration, reply: TensorMessage) {
        let (step, micro_batch) = (reply.header.step, reply.header.micro_batch);
        // The edge has had a micro-batch's activations when it sends their gradient.
        self.replies.retain(|other| {
            let follows = other.header.micro_batch == micro_batch && other.header.kind != reply.header.kind;
            other.header.step == step && !follows
        });
        self.replies.push(reply);
        self.replied_at = now;
    }

    /// Whether a micro-batch of the step has gone forward, so that its gradient can be on its way back.
    pub(super) fn has_passed(&self, micro_batch: u32) -> bool {
        self.passed || micro_batch < self.next_micro_batch
    }

    pub(super) fn cut(&self) -> usize {
        self.plan.cut as usize
    }

    /// Whether the step runs on layers that have only just come, with cold caches and on fresh memory: it says nothing
    /// of the steps after it, of which there must be some.
    pub(super) fn is_cold(&self, step: u32) -> bool {
        let kept = StartFrom::Own { upload_moved: false };
        let is_new = self.plan.attempt > 0 || !self.blocks.is_empty() || self.plan.start != kept;
        step == 0 && self.plan.steps > 1 && is_new
    }

    /// Whether the cloud has trained all that it has of the round, with layers up to `end`.
    pub(super) fn is_trained(&self, end: usize) -> bool {
        self.cut() == end || self.next_step == self.plan.steps
    }
}
