//! How a run is getting on, as its events tell it.

use std::collections::BTreeMap;
use std::fmt::Write;

use partway_core::event::{Event, EventKind, Recovery};

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
        let mut sorted = self.latencies_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => None,
            odd if odd % 2 == 1 => Some(sorted[middle]),
            _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
        }
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
                    *track = EdgeTrack { standing: track.standing, ..EdgeTrack::default() };
                }
                for planned in edges {
                    let track = self.edges.entry(planned.edge.clone()).or_default();
                    track.cut = Some(planned.cut);
                    if track.standing == Standing::Dropped {
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
                self.stand(edge, Standing::Present);
                notice(format!("edge {edge}: back in round {round}; {}", in_words(*how)))
            }
            EventKind::EdgeDropped { round, edge, reason } => {
                self.stand(edge, Standing::Dropped);
                notice(format!("edge {edge}: dropped in round {round}: {reason}"))
            }
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
pub(super) mod tests {
    use partway_core::event::{PlannedEdge, TermsMs};

    use super::*;

    pub(crate) fn planned(round: u32, edges: &[(&str, u32)]) -> Event {
        let edge = |&(name, cut): &(&str, u32)| PlannedEdge {
            edge: name.to_owned(),
            cut,
            feasible: true,
            reason: String::new(),
            terms_ms: TermsMs::default(),
            step_ms: 70.0,
            reserved_up_mbps: 1.0,
            reserved_down_mbps: 1.0,
            estimated_up_mbps: 1.0,
            estimated_down_mbps: 1.0,
        };
        let edges = edges.iter().map(edge).collect();
        Event { at: 0.0, kind: EventKind::Planned { round, deadline_ms: 90.0, optimality_gap: 0.0, edges } }
    }

    pub(crate) fn step(round: u32, attempt: u32, edge: &str, latency_ms: f64, loss: f32) -> Event {
        Event {
            at: 1.0,
            kind: EventKind::Step {
                round,
                attempt,
                edge: edge.to_owned(),
                step: 1,
                cut: 3,
                latency_ms,
                predicted_ms: 70.0,
                deadline_ms: 90.0,
                terms_ms: TermsMs::default(),
                loss,
                correct: 1,
                bytes_up: 1,
                bytes_down: 1,
            },
        }
    }

    fn observe(tracker: &mut Tracker, kind: EventKind) -> Option<Line> {
        tracker.observe(&Event { at: 2.0, kind })
    }

    #[test]
    fn a_round_is_one_line() {
        let mut tracker = Tracker::default();
        tracker.observe(&planned(1, &[("b", 3), ("a", 3)]));
        for (edge, latency, loss) in [("a", 80.0, 1.0), ("a", 60.0, 2.0), ("b", 95.0, 0.5)] {
            tracker.observe(&step(1, 0, edge, latency, loss));
        }
        assert_eq!(
            observe(&mut tracker, EventKind::RoundDone { round: 1, seconds: 1.234 }),
            Some(Line::Round(
                "round 1: 1.23 s, deadline 90.0 ms, mean loss 1.0000; a cut 3 70.0 ms, \
                 b cut 3 95.0 ms over the deadline"
                    .into()
            ))
        );
    }

    #[test]
    fn a_large_fleet_is_not_listed_whole() {
        let names: Vec<String> = (0..10).map(|n| format!("e{n}")).collect();
        let mut tracker = Tracker::default();
        tracker.observe(&planned(1, &names.iter().map(|name| (name.as_str(), 3)).collect::<Vec<_>>()));
        for name in &names {
            tracker.observe(&step(1, 0, name, 50.0, 1.0));
        }
        let line = observe(&mut tracker, EventKind::RoundDone { round: 1, seconds: 1.0 });
        assert!(matches!(&line, Some(Line::Round(text)) if text.ends_with("e7 cut 3 50.0 ms, and 2 more")));
    }

    #[test]
    fn steps_that_were_rolled_back_do_not_count() {
        let mut tracker = Tracker::default();
        tracker.observe(&planned(2, &[("a", 3)]));
        tracker.observe(&step(2, 0, "a", 500.0, 9.0));
        tracker.observe(&step(2, 1, "a", 60.0, 1.0));
        tracker.observe(&step(2, 0, "a", 500.0, 9.0));
        tracker.observe(&step(1, 5, "a", 500.0, 9.0));
        let track = &tracker.edges["a"];
        assert_eq!((track.steps(), track.median_ms(), track.mean_loss()), (1, Some(60.0), Some(1.0)));
    }

    #[test]
    fn what_the_edges_found_stands_beside_their_sum() {
        let mut tracker = Tracker::default();
        for (edge, accuracy, samples) in [("b", 0.5, 30), ("a", 1.0, 10)] {
            let edge = edge.to_owned();
            let kind = EventKind::EdgeEvaluated { round: 5, edge, accuracy, loss: 0.1, samples };
            assert_eq!(observe(&mut tracker, kind), None);
        }
        let sum = || EventKind::Evaluated { round: 5, accuracy: 0.625, loss: 0.1, samples: 40 };
        let said = |line| match line {
            Some(Line::Notice(text)) => text,
            other => panic!("not a notice: {other:?}"),
        };
        assert_eq!(
            said(observe(&mut tracker, sum())),
            "aggregation after round 5: accuracy 0.6250, loss 0.1000 on 40 held-out samples; a 1.0000, b 0.5000"
        );
        assert!(said(observe(&mut tracker, sum())).ends_with("on 40 test samples"), "said once");
    }

    #[test]
    fn accuracy_and_trouble_are_noticed() {
        let mut tracker = Tracker::default();
        tracker.observe(&planned(5, &[("a", 3)]));
        let edge = || "a".to_owned();
        let mut said = |kind| match observe(&mut tracker, kind) {
            Some(Line::Notice(text)) => text,
            other => panic!("not a notice: {other:?}"),
        };
        assert_eq!(
            said(EventKind::Evaluated { round: 5, accuracy: 0.91234, loss: 0.3, samples: 100 }),
            "aggregation after round 5: accuracy 0.9123, loss 0.3000 on 100 test samples"
        );
        let reason = "it did not come back".to_owned();
        assert_eq!(
            said(EventKind::EvaluationDeclined { round: 5, edge: edge(), reason }),
            "edge a: the model after round 5 was not evaluated: it did not come back"
        );
        assert_eq!(
            said(EventKind::EdgeLost { round: 5, edge: edge() }),
            "edge a: connection lost in round 5"
        );
        let how = Recovery::RolledBack;
        assert_eq!(
            said(EventKind::EdgeResumed { round: 5, edge: edge(), how }),
            "edge a: back in round 5; it repeats the round from its start"
        );
        let reason = "too slow".to_owned();
        assert!(said(EventKind::EdgeDropped { round: 5, edge: edge(), reason }).ends_with(": too slow"));
        let reason = "another protocol".to_owned();
        let refused = EventKind::EdgeRefused { edge: String::new(), reason };
        assert_eq!(said(refused), "refused a connection: another protocol");
        assert_eq!(tracker.edges["a"].standing, Standing::Dropped);
        assert_eq!(tracker.accuracy, Some(0.91234));
        tracker.observe(&planned(6, &[("a", 3)]));
        assert_eq!(tracker.edges["a"].standing, Standing::Present, "it is planned for again");
    }
}
