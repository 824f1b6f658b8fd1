//! How a run is getting on, as its events tell it.

use std::collections::BTreeMap;
use std::fmt::Write;

use partway_core::event::{Event, EventKind, Recovery};

use crate::statistics::median;

/// At most so many edges are listed in one line.
const LISTED: usize = 8;

/// The run so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tracker {
    /// The current round, from 1; 0 before the first.
    pub(crate) round: u32,
    /// The shared deadline.
    pub(crate) deadline_ms: f64,
    /// Of the last global model that was evaluated.
    pub(crate) accuracy: Option<f64>,
    /// What each edge found of the one that is being evaluated, if they evaluate.
    accuracies: BTreeMap<String, f64>,
    /// By name.
    pub(crate) edges: BTreeMap<String, EdgeTrack>,
    /// Whether the run is over, one way or the other.
    pub(crate) is_over: bool,
    /// Why it failed.
    pub(crate) aborted: Option<String>,
}

/// One edge in the current round.
#[derive(Clone, Debug, Default)]
pub(crate) struct EdgeTrack {
    /// Its cut.
    pub(crate) cut: Option<u32>,
    /// Where it is.
    pub(crate) standing: Standing,
    is_behind: bool,
    attempt: u32,
    latencies_ms: Vec<f64>,
    losses: Vec<f32>,
}

/// Whether an edge takes part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It does.
    #[default]
    Present,
    /// Its connection is lost.
    Lost,
    /// It is left out.
    Dropped,
    /// It finishes a round that the others have left behind.
    Deferred,
}

/// Something to be said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// In any case.
    Notice(String),
    /// Only where no live line says it.
    Round(String),
}

impl EdgeTrack {
    /// Steps done in this round.
    pub(crate) fn steps(&self) -> usize {
        self.latencies_ms.len()
    }

    /// Median latency of this round's steps.
    pub(crate) fn median_ms(&self) -> Option<f64> {
        median(self.latencies_ms.iter().copied())
    }

    /// Spread loss of this round's steps.
    pub(crate) fn mean_loss(&self) -> Option<f64> {
        mean(self.losses.iter().map(|loss| f64::from(*loss)))
    }
}

impl Tracker {
    /// Takes in an event; what there is to be said of it.
    pub(crate) fn observe(&mut self, event: &Event) -> Option<Line> {
        let notice = |text: String| Some(Line::Notice(text));
        match &event.kind {
            EventKind::EdgeJoined { edge, .. } => {
                self.edges.entry(edge.clone()).or_default();
                None
            }
            EventKind::Planned { round, deadline_ms, edges, .. } => {
                self.round = *round;
                self.deadline_ms = *deadline_ms;
                for track in self.edges.values_mut() {
                    let EdgeTrack { standing, is_behind, .. } = *track;
                    *track = EdgeTrack { standing, is_behind, ..EdgeTrack::default() };
                }
                for planned in edges {
                    let track = self.edges.entry(planned.edge.clone()).or_default();
                    track.cut = Some(planned.cut);
                    track.is_behind = false;
                    if matches!(track.standing, Standing::Dropped | Standing::Deferred) {
                        track.standing = Standing::Present;
                    }
                }
                None
            }
            EventKind::Step { round, attempt, edge, cut, latency_ms, loss, .. } => {
                let track = self.edges.entry(edge.clone()).or_default();
                // Steps of an attempt that was rolled back, or of a round that is over, do not count.
                if *round != self.round || *attempt < track.attempt {
                    return None;
                }
                if *attempt > track.attempt {
                    *track = EdgeTrack { attempt: *attempt, ..EdgeTrack::default() };
                }
                track.cut = Some(*cut);
                track.standing = Standing::Present;
                track.latencies_ms.push(*latency_ms);
                track.losses.push(*loss);
                None
            }
            EventKind::RoundDone { round, seconds } => Some(Line::Round(self.round_line(*round, *seconds))),
            EventKind::Evaluated { round, accuracy, loss, samples } => {
                self.accuracy = Some(*accuracy);
                let on = self.take_edge_accuracies();
                notice(format!(
                    "aggregation after round {round}: accuracy {accuracy:.4}, loss {loss:.4} on {samples} {on}"
                ))
            }
            EventKind::EdgeEvaluated { edge, accuracy, .. } => {
                self.accuracies.insert(edge.clone(), *accuracy);
                None
            }
            EventKind::EvaluationDeclined { round: 0, edge, reason } => {
                notice(format!("edge {edge}: it evaluates no model: {reason}"))
            }
            EventKind::EvaluationDeclined { round, edge, reason } => {
                notice(format!("edge {edge}: the model after round {round} was not evaluated: {reason}"))
            }
            EventKind::EdgeLost { round, edge } => {
                self.stand(edge, Standing::Lost);
                notice(format!("edge {edge}: connection lost in round {round}"))
            }
            EventKind::EdgeResumed { round, edge, how } => {
                let is_behind = self.edges.get(edge).is_some_and(|track| track.is_behind);
                self.stand(edge, if is_behind { Standing::Deferred } else { Standing::Present });
                notice(format!("edge {edge}: back in round {round}; {}", in_words(*how)))
            }
            EventKind::EdgeDropped { round, edge, reason } => {
                self.stand(edge, Standing::Dropped);
                notice(format!("edge {edge}: dropped in round {round}: {reason}"))
            }
            EventKind::EdgeDeferred { round, edge, reason } => {
                self.stand(edge, Standing::Deferred);
                self.edges.entry(edge.clone()).or_default().is_behind = true;
                notice(format!("edge {edge}: deferred in round {round}: {reason}"))
            }
            EventKind::EdgeCaughtUp { round, edge, .. } => notice(format!(
                "edge {edge}: has finished round {round}, which counts at the next aggregation"
            )),
            EventKind::EdgeRefused { edge, reason } => {
                let who = if edge.is_empty() { "a connection" } else { edge };
                notice(format!("refused {who}: {reason}"))
            }
            EventKind::Finished { .. } => {
                self.is_over = true;
                None
            }
            EventKind::Aborted { reason } => {
                self.is_over = true;
                self.aborted = Some(reason.clone());
                None
            }
            EventKind::Listening { .. }
            | EventKind::ModelDetermined { .. }
            | EventKind::Standardized { .. }
            | EventKind::HandedOn { .. }
            | EventKind::StateMoved { .. }
            | EventKind::Probed { .. }
            | EventKind::Aggregated { .. }
            | EventKind::Checkpointed { .. }
            | EventKind::EdgeMemory { .. } => None,
        }
    }

    fn stand(&mut self, edge: &str, standing: Standing) {
        self.edges.entry(edge.to_owned()).or_default().standing = standing;
    }

    /// On what samples the edges, or the cloud, have evaluated.
    fn take_edge_accuracies(&mut self) -> String {
        let accuracies = std::mem::take(&mut self.accuracies);
        if accuracies.is_empty() {
            return "test samples".to_owned();
        }
        let mut text = "held-out samples".to_owned();
        for (nth, (edge, accuracy)) in accuracies.iter().take(LISTED).enumerate() {
            let _ = write!(text, "{} {edge} {accuracy:.4}", if nth == 0 { ";" } else { "," });
        }
        if accuracies.len() > LISTED {
            let _ = write!(text, ", and {} more", accuracies.len() - LISTED);
        }
        text
    }

    fn round_line(&self, round: u32, seconds: f64) -> String {
        let mut line = format!("round {round}: {seconds:.2} s, deadline {:.1} ms", self.deadline_ms);
        if let Some(loss) = mean(self.edges.values().filter_map(EdgeTrack::mean_loss)) {
            let _ = write!(line, ", mean loss {loss:.4}");
        }
        let trained: Vec<_> = self
            .edges
            .iter()
            .filter_map(|(name, track)| Some((name, track.cut?, track.median_ms()?)))
            .collect();
        for (nth, (name, cut, median)) in trained.iter().take(LISTED).enumerate() {
            let over = if *median > self.deadline_ms { " over the deadline" } else { "" };
            line += if nth == 0 { "; " } else { ", " };
            let _ = write!(line, "{name} cut {cut} {median:.1} ms{over}");
        }
        if trained.len() > LISTED {
            let _ = write!(line, ", and {} more", trained.len() - LISTED);
        }
        line
    }
}

fn in_words(how: Recovery) -> &'static str {
    match how {
        Recovery::Connection => "it goes on where it was",
        Recovery::RolledBack => "it repeats the round from its start",
        Recovery::StateLost => "its state was gone, it starts again from the global model",
        Recovery::Readmitted => "it takes part again, from the global model",
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (count, sum) = values.fold((0u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    (count > 0).then(|| sum / f64::from(count))
}

#[cfg(test)]
pub(super) mod tests;
