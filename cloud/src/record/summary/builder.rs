//! Events into a [`Summary`].

use std::collections::BTreeMap;

use partway_core::event::{Event, EventKind};

use super::{CloudSummary, EdgeSummary, Summary, mebibytes};
use crate::record::ledger::{Ledger, StepRecord, Totals, median};
use crate::record::metrics::MetricsRow;
use crate::record::{FleetLedger, RunFacts};

/// Takes a run's events one by one, in order, and says what they add up to. It reads no clock.
///
/// It holds some bytes per step, as medians need every value. The events of a coordinator that was
/// started again follow those of the one before, their times as well.
#[derive(Clone, Debug)]
pub struct SummaryBuilder {
    facts: RunFacts,
    edges: BTreeMap<String, Edge>,
    ledgers: FleetLedger<StepRecord>,
    /// Whether the fleet is complete: an edge that leaves before is none of it.
    gathered: bool,
    /// Of each round, in milliseconds.
    deadlines_ms: BTreeMap<u32, f64>,
    /// By the round after which.
    aggregations: BTreeMap<u32, Aggregation>,
    /// By the round after which the model was made.
    evaluations: BTreeMap<u32, Evaluation>,
    bytes_up: u64,
    bytes_down: u64,
    training_since: Option<f64>,
    last_at: f64,
    finished: Option<Finished>,
}

#[derive(Clone, Debug, Default)]
struct Edge {
    samples: u64,
    held_out: u64,
    /// Accuracy of the global models, by the round after which each was made.
    accuracies: BTreeMap<u32, f64>,
    peak_rss_bytes: Option<u64>,
    dropped: bool,
    deferred: u32,
}

/// The run up to an aggregation.
#[derive(Clone, Copy, Debug)]
struct Aggregation {
    number: u32,
    totals: Totals,
    /// Mean loss of the steps since the one before.
    training_loss: Option<f64>,
    bytes_up: u64,
    bytes_down: u64,
}

#[derive(Clone, Copy, Debug)]
struct Evaluation {
    at: f64,
    accuracy: f64,
}

#[derive(Clone, Copy, Debug)]
struct Finished {
    at: f64,
    round: u32,
    target_reached: bool,
}

impl SummaryBuilder {
    /// The summary of a run in which nothing has happened yet.
    pub fn new(facts: RunFacts) -> Self {
        Self {
            ledgers: FleetLedger::new(facts.topology),
            facts,
            edges: BTreeMap::new(),
            gathered: false,
            deadlines_ms: BTreeMap::new(),
            aggregations: BTreeMap::new(),
            evaluations: BTreeMap::new(),
            bytes_up: 0,
            bytes_down: 0,
            training_since: None,
            last_at: 0.0,
            finished: None,
        }
    }

    /// Takes the next event; the evaluation of an aggregation makes a row of `metrics.csv`.
    pub fn observe(&mut self, event: &Event) -> Option<MetricsRow> {
        let at = event.at;
        self.last_at = self.last_at.max(at);
        self.ledgers.observe(&event.kind);
        match &event.kind {
            EventKind::Listening { .. } => self.gathered = false,
            EventKind::EdgeJoined { edge, samples, held_out, .. } => {
                let edge = self.edge(edge);
                (edge.samples, edge.held_out) = (*samples, *held_out);
            }
            EventKind::ModelDetermined { .. } => self.gathered = true,
            EventKind::Planned { round, deadline_ms, .. } => self.plan(at, *round, *deadline_ms),
            EventKind::Step {
                round,
                attempt,
                edge,
                cut,
                latency_ms,
                predicted_ms,
                deadline_ms,
                loss,
                bytes_up,
                bytes_down,
                ..
            } => {
                self.bytes_up += bytes_up;
                self.bytes_down += bytes_down;
                let step = StepRecord {
                    latency_ms: *latency_ms,
                    predicted_ms: *predicted_ms,
                    loss: *loss,
                    in_time: latency_ms <= deadline_ms,
                };
                self.edge(edge);
                self.ledgers.add(edge, *round, *attempt, *cut, step);
            }
            EventKind::StateMoved { direction, bytes, .. } | EventKind::Probed { direction, bytes, .. } => {
                let total = if direction == "up" { &mut self.bytes_up } else { &mut self.bytes_down };
                *total += bytes;
            }
            EventKind::Aggregated { round, aggregation, .. } => self.aggregate(*round, *aggregation),
            // A run that goes on evaluates the model of its checkpoint, which may be known.
            EventKind::Evaluated { round, .. } if self.evaluations.contains_key(round) => {}
            EventKind::Evaluated { round, accuracy, loss, .. } => {
                self.evaluations.insert(*round, Evaluation { at, accuracy: *accuracy });
                return self.row(at, *round, *accuracy, *loss);
            }
            EventKind::EdgeEvaluated { round, edge, accuracy, .. } => {
                self.edge(edge).accuracies.insert(*round, *accuracy);
            }
            EventKind::EdgeLost { edge, .. } => {
                if !self.gathered && self.ledgers.of(edge).is_none_or(Ledger::is_empty) {
                    self.edges.remove(edge);
                }
            }
            EventKind::EdgeDropped { edge, .. } => self.edge(edge).dropped = true,
            EventKind::EdgeDeferred { edge, .. } => self.edge(edge).deferred += 1,
            EventKind::EdgeMemory { edge, peak_rss_bytes } => {
                let peak = &mut self.edge(edge).peak_rss_bytes;
                *peak = (*peak).max(Some(*peak_rss_bytes));
            }
            EventKind::Finished { round, target_reached, .. } => {
                self.finished = Some(Finished { at, round: *round, target_reached: *target_reached });
            }
            EventKind::RoundDone { .. }
            | EventKind::HandedOn { .. }
            | EventKind::EdgeResumed { .. }
            | EventKind::EdgeCaughtUp { .. }
            | EventKind::EdgeRefused { .. }
            | EventKind::Standardized { .. }
            | EventKind::EvaluationDeclined { .. }
            | EventKind::Checkpointed { .. }
            | EventKind::Aborted { .. } => {}
        }
        None
    }

    fn edge(&mut self, name: &str) -> &mut Edge {
        if !self.edges.contains_key(name) {
            self.edges.insert(name.to_owned(), Edge::default());
        }
        self.edges.get_mut(name).expect("it is there or was just added")
    }

    /// A round starts. If it or later ones were done before, the coordinator has gone back to a
    /// checkpoint, and they do not count.
    fn plan(&mut self, at: f64, round: u32, deadline_ms: f64) {
        self.training_since.get_or_insert(at);
        self.finished = None;
        self.deadlines_ms.split_off(&round);
        self.aggregations.split_off(&round);
        self.evaluations.split_off(&round);
        for edge in self.edges.values_mut() {
            edge.accuracies.split_off(&round);
        }
        self.deadlines_ms.insert(round, deadline_ms);
    }

    fn aggregate(&mut self, round: u32, number: u32) {
        let before = self.aggregations.range(..round).next_back().map(|(round, before)| (*round, *before));
        let since = before.map_or(0, |(round, _)| round) + 1;
        let new = self
            .ledgers
            .iter()
            .map(|(_, ledger)| Totals::of(ledger.attempts(since..=round).flat_map(|attempt| &attempt.steps)))
            .fold(Totals::default(), Totals::plus);
        let totals = before.map_or(Totals::default(), |(_, before)| before.totals).plus(new);
        let aggregation = Aggregation {
            number,
            totals,
            training_loss: new.mean_loss(),
            bytes_up: self.bytes_up,
            bytes_down: self.bytes_down,
        };
        self.aggregations.insert(round, aggregation);
    }

    fn row(&self, at: f64, round: u32, accuracy: f64, loss: f64) -> Option<MetricsRow> {
        let aggregation = self.aggregations.get(&round)?;
        Some(MetricsRow {
            round,
            aggregation: aggregation.number,
            seconds: at - self.training_since.unwrap_or(at),
            accuracy,
            loss,
            training_loss: aggregation.training_loss,
            bytes_up: aggregation.bytes_up,
            bytes_down: aggregation.bytes_down,
            deadline_hit_rate: aggregation.totals.hit_rate(),
            samples_trained: aggregation.totals.steps * u64::from(self.facts.batch_size),
        })
    }

    /// From the coordinator's start to the last event so far, in seconds.
    pub fn seconds_total(&self) -> f64 {
        self.last_at
    }

    /// The run so far; an unfinished one up to its last aggregation. Nothing that the events do not
    /// say: no hash of the weights, no memory of the cloud.
    pub fn build(&self) -> Summary {
        let rounds = self.finished.map_or_else(|| self.ledgers.last_aggregated(), |finished| finished.round);
        let steps = || {
            let ledgers = self.ledgers.iter();
            ledgers.flat_map(|(_, ledger)| ledger.attempts(1..=rounds)).flat_map(|attempt| &attempt.steps)
        };
        let totals = Totals::of(steps());
        let since = self.training_since;
        let seconds_training =
            since.map_or(0.0, |since| self.finished.map_or(self.last_at, |f| f.at) - since);
        let samples_trained = totals.steps * u64::from(self.facts.batch_size);
        let evaluations = || self.evaluations.range(..=rounds).map(|(_, evaluation)| evaluation);
        let target_reached = self.finished.is_some_and(|finished| finished.target_reached);
        let reached_at = self.evaluations.get(&rounds).filter(|_| target_reached).map(|reached| reached.at);
        let errors = steps().filter(|step| step.latency_ms > 0.0);
        let errors = errors.map(|step| (step.latency_ms - step.predicted_ms).abs() / step.latency_ms);
        Summary {
            name: self.facts.name.clone(),
            clock: self.facts.clock,
            seed: self.facts.seed,
            rounds,
            aggregations: self.aggregations.range(..=rounds).next_back().map_or(0, |(_, last)| last.number),
            final_accuracy: evaluations().next_back().map(|last| last.accuracy),
            best_accuracy: evaluations().map(|evaluation| evaluation.accuracy).reduce(f64::max),
            target_reached,
            seconds_total: self.last_at,
            seconds_training,
            seconds_to_target: reached_at.zip(since).map(|(at, since)| at - since),
            seconds_clock: seconds_training,
            samples_trained,
            samples_per_second: if seconds_training > 0.0 {
                samples_trained as f64 / seconds_training
            } else {
                0.0
            },
            bytes_up: self.bytes_up,
            bytes_down: self.bytes_down,
            deadline_ms: self.deadlines_ms.range(..=rounds).next_back().map(|(_, deadline)| *deadline),
            deadline_hit_rate: totals.hit_rate(),
            prediction_median_error: median(errors.collect()),
            repeatability_floor: self.repeatability_floor(rounds),
            weights_sha256: None,
            edges: self.edges.iter().map(|(name, edge)| self.edge_summary(name, edge, rounds)).collect(),
            cloud: CloudSummary::default(),
        }
    }

    fn repeatability_floor(&self, rounds: u32) -> Option<f64> {
        let mut deviations = Vec::new();
        for attempt in self.ledgers.iter().flat_map(|(_, ledger)| ledger.attempts(1..=rounds)) {
            let latencies: Vec<f64> = attempt.steps.iter().map(|step| step.latency_ms).collect();
            if latencies.len() < 2 {
                continue;
            }
            let Some(middle) = median(latencies.clone()) else { continue };
            let measured = latencies.into_iter().filter(|latency| *latency > 0.0);
            deviations.extend(measured.map(|latency| (latency - middle).abs() / latency));
        }
        median(deviations)
    }

    fn edge_summary(&self, name: &str, edge: &Edge, rounds: u32) -> EdgeSummary {
        let attempts = || self.ledgers.of(name).into_iter().flat_map(|ledger| ledger.attempts(1..=rounds));
        let cuts: Vec<u32> = attempts().map(|attempt| attempt.cut).collect();
        let steps = || attempts().flat_map(|attempt| &attempt.steps);
        EdgeSummary {
            name: name.to_owned(),
            cut_first: cuts.first().copied(),
            cut_last: cuts.last().copied(),
            recuts: cuts.windows(2).filter(|pair| pair[0] != pair[1]).count() as u32,
            steps: steps().count() as u64,
            samples: edge.samples,
            held_out: (edge.held_out > 0).then_some(edge.held_out),
            accuracy: edge.accuracies.range(..=rounds).next_back().map(|(_, accuracy)| *accuracy),
            step_ms_median: median(steps().map(|step| step.latency_ms).collect()),
            step_ms_predicted: median(steps().map(|step| step.predicted_ms).collect()),
            peak_rss_mib: edge.peak_rss_bytes.map(mebibytes),
            dropped: edge.dropped,
            deferred: edge.deferred,
        }
    }
}

#[cfg(test)]
mod tests;
