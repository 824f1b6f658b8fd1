//! What a run's events add up to, for the plots.
//!
//! A step counts as in `summary.json`, if its work is not lost, but that a run which is not finished counts up to its
//! last event. Bytes count whenever they crossed the wire.

use std::collections::BTreeMap;

use partway_cloud::record::{Attempt, FleetLedger};
use partway_core::coordinator::Topology;
use partway_core::event::{Event, EventKind, Recovery, TermsMs};

/// More incidents than this tell nothing new; a stranger could make any number of them.
const MOST_INCIDENTS: usize = 500;

/// A run so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// By name.
    pub(crate) edges: BTreeMap<String, EdgeHistory>,
    /// By number, from 1.
    pub(crate) rounds: BTreeMap<u32, RoundHistory>,
    pub(crate) incidents: Vec<Incident>,
    /// Incidents beyond those that are kept.
    pub(crate) further_incidents: u64,
    pub(crate) model: Option<Model>,
    /// When the first round was planned.
    pub(crate) training_since: Option<f64>,
    pub(crate) last_at: f64,
    pub(crate) ending: Option<Ending>,
}

/// One edge.
#[derive(Clone, Debug, Default)]
pub(crate) struct EdgeHistory {
    pub(crate) samples: u64,
    /// Samples per label.
    pub(crate) labels: Vec<u64>,
    /// Those in which it made steps that count.
    pub(crate) rounds: BTreeMap<u32, EdgeRound>,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
    pub(crate) is_dropped: bool,
    /// Rounds that the others did not wait for.
    pub(crate) deferrals: u32,
}

/// One edge in one round.
#[derive(Clone, Debug, Default)]
pub(crate) struct EdgeRound {
    pub(crate) cut: u32,
    pub(crate) steps: Vec<Step>,
}

/// What is kept of a step; there may be millions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) latency_ms: f32,
    pub(crate) predicted_ms: f32,
    pub(crate) loss: f32,
    /// Edge forward, uplink, cloud, downlink, edge backward.
    pub(crate) terms_ms: [f32; 5],
    pub(crate) in_time: bool,
}

/// One round of all edges.
#[derive(Clone, Debug, Default)]
pub(crate) struct RoundHistory {
    pub(crate) deadline_ms: f64,
    /// When its barrier was passed.
    pub(crate) done_at: Option<f64>,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
}

/// The model as it was sent.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) layers: usize,
    pub(crate) parameters: u64,
    pub(crate) macs: u64,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Training was over.
    Finished(String),
    /// It failed.
    Aborted(String),
}

/// Something that did not go as planned.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Incident {
    pub(crate) at: f64,
    /// Unknown before the first.
    pub(crate) round: Option<u32>,
    pub(crate) edge: String,
    pub(crate) what: What,
}

/// What did not go as planned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Lost,
    Back(Recovery),
    Dropped(String),
    Deferred(String),
    CaughtUp,
    Refused(String),
    /// The coordinator was started again.
    Resumed,
}

impl Step {
    /// By how much the prediction missed, as a share of the measurement.
    pub(crate) fn error(&self) -> Option<f64> {
        let (measured, predicted) = (f64::from(self.latency_ms), f64::from(self.predicted_ms));
        (measured > 0.0).then(|| (measured - predicted).abs() / measured)
    }
}

impl EdgeHistory {
    /// All steps that count.
    pub(crate) fn steps(&self) -> impl Iterator<Item = &Step> {
        self.rounds.values().flat_map(|round| &round.steps)
    }
}

impl History {
    /// Of a run with these server-side models; `read` hands its events to what it is given, in order.
    pub(crate) fn read<T, E>(
        topology: Topology,
        read: impl FnOnce(&mut dyn FnMut(Event)) -> Result<T, E>,
    ) -> Result<(Self, T), E> {
        let (mut history, mut ledgers) = (Self::default(), FleetLedger::new(topology));
        let read = read(&mut |event| history.observe(&mut ledgers, event))?;
        history.settle(ledgers);
        Ok((history, read))
    }

    /// Keeps what counts.
    fn settle(&mut self, ledgers: FleetLedger<Step>) {
        let last = ledgers.finished().unwrap_or(u32::MAX);
        if let Some(beyond) = last.checked_add(1) {
            self.rounds.split_off(&beyond);
        }
        for (name, ledger) in ledgers.into_ledgers() {
            let rounds = ledger.into_rounds(1..=last);
            let rounds = rounds.map(|(round, Attempt { cut, steps, .. })| (round, EdgeRound { cut, steps }));
            self.edges.entry(name).or_default().rounds = rounds.collect();
        }
    }

    /// Takes the next event.
    fn observe(&mut self, ledgers: &mut FleetLedger<Step>, event: Event) {
        let at = event.at;
        self.last_at = self.last_at.max(at);
        ledgers.observe(&event.kind);
        match event.kind {
            EventKind::Listening { .. } if self.training_since.is_some() => {
                self.incident(at, None, String::new(), What::Resumed);
            }
            EventKind::EdgeJoined { edge, samples, labels, .. } => {
                let edge = self.edges.entry(edge).or_default();
                (edge.samples, edge.labels) = (samples, labels);
            }
            EventKind::ModelDetermined { model, layers, parameters, macs } => {
                self.model = Some(Model { name: model, layers, parameters, macs });
            }
            EventKind::Planned { round, deadline_ms, .. } => {
                self.training_since.get_or_insert(at);
                self.ending = None;
                for (_, later) in self.rounds.range_mut(round..) {
                    later.done_at = None;
                }
                self.rounds.entry(round).or_default().deadline_ms = deadline_ms;
            }
            EventKind::Step {
                round,
                attempt,
                edge,
                cut,
                latency_ms,
                predicted_ms,
                deadline_ms,
                terms_ms,
                loss,
                bytes_up,
                bytes_down,
                ..
            } => {
                self.carry(round, &edge, (bytes_up, bytes_down));
                let step = Step {
                    latency_ms: latency_ms as f32,
                    predicted_ms: predicted_ms as f32,
                    loss,
                    terms_ms: in_order(terms_ms),
                    in_time: latency_ms <= deadline_ms,
                };
                ledgers.add(&edge, round, attempt, cut, step);
            }
            EventKind::RoundDone { round, .. } => {
                self.rounds.entry(round).or_default().done_at = Some(at);
            }
            EventKind::StateMoved { round, edge, direction, bytes }
            | EventKind::Probed { round, edge, direction, bytes } => {
                let is_up = direction == "up";
                self.carry(round, &edge, if is_up { (bytes, 0) } else { (0, bytes) });
            }
            EventKind::EdgeLost { round, edge } => self.incident(at, Some(round), edge, What::Lost),
            EventKind::EdgeResumed { round, edge, how } => {
                self.incident(at, Some(round), edge, What::Back(how));
            }
            EventKind::EdgeDropped { round, edge, reason } => {
                self.edges.entry(edge.clone()).or_default().is_dropped = true;
                self.incident(at, Some(round), edge, What::Dropped(reason));
            }
            EventKind::EdgeDeferred { round, edge, reason } => {
                self.edges.entry(edge.clone()).or_default().deferrals += 1;
                self.incident(at, Some(round), edge, What::Deferred(reason));
            }
            EventKind::EdgeCaughtUp { round, edge, .. } => {
                self.incident(at, Some(round), edge, What::CaughtUp);
            }
            EventKind::EdgeRefused { edge, reason } => {
                self.incident(at, None, edge, What::Refused(reason));
            }
            EventKind::Finished { reason, .. } => self.ending = Some(Ending::Finished(reason)),
            EventKind::Aborted { reason } => self.ending = Some(Ending::Aborted(reason)),
            // The other kinds say nothing that is drawn.
            _ => {}
        }
    }

    /// Counts bytes up and down.
    fn carry(&mut self, round: u32, edge: &str, (up, down): (u64, u64)) {
        if !self.edges.contains_key(edge) {
            self.edges.insert(edge.to_owned(), EdgeHistory::default());
        }
        let edge = self.edges.get_mut(edge).expect("it is there or was just added");
        let round = self.rounds.entry(round).or_default();
        for (total, bytes) in [
            (&mut edge.bytes_up, up),
            (&mut edge.bytes_down, down),
            (&mut round.bytes_up, up),
            (&mut round.bytes_down, down),
        ] {
            *total = total.saturating_add(bytes);
        }
    }

    fn incident(&mut self, at: f64, round: Option<u32>, edge: String, what: What) {
        if self.incidents.len() < MOST_INCIDENTS {
            self.incidents.push(Incident { at, round, edge, what });
        } else {
            self.further_incidents += 1;
        }
    }

    /// The last round that all edges finished, or 0.
    pub(crate) fn rounds_done(&self) -> u32 {
        let done = self.rounds.iter().rev().find(|(_, round)| round.done_at.is_some());
        done.map_or(0, |(number, _)| *number)
    }

    /// All steps that count, with their edge.
    pub(crate) fn steps(&self) -> impl Iterator<Item = (&str, &Step)> {
        self.edges.iter().flat_map(|(name, edge)| edge.steps().map(|step| (name.as_str(), step)))
    }

    /// Seconds since training began.
    pub(crate) fn training_time(&self, at: f64) -> f64 {
        at - self.training_since.unwrap_or(at)
    }
}

fn in_order(terms: TermsMs) -> [f32; 5] {
    let TermsMs { edge_forward, uplink, cloud, downlink, edge_backward } = terms;
    [edge_forward, uplink, cloud, downlink, edge_backward].map(|ms| ms as f32)
}

#[cfg(test)]
mod tests;
