//! How good the global model is: by the cloud, while the next round is trained, or by the edges before
//! it begins, so that no step is timed beside an evaluation. And the end of the run that follows.
//!
//! An edge answers for what it holds out. One that is lost is waited for as in a round, for
//! `rejoin_window`, then its part is missing; one that is back by then is asked again. Likewise one that hangs, where
//! stragglers are not waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::action::{Action, Job};
use super::member::Member;
use super::settings::Evaluation;
use super::{Coordinator, Phase};
use crate::event::EventKind;
use crate::model::LayerState;
use crate::wire::{Score, TensorMessage, encode_model};

/// One global model that is evaluated by the edges.
#[derive(Debug)]
pub(super) struct EdgeEvaluation {
    /// The round after which it was made.
    round: u32,
    model: TensorMessage,
    /// By edge; none of one that could not.
    answers: BTreeMap<String, Option<Score>>,
    /// Edges that have been away, or have said nothing, for too long to be waited for.
    given_up: BTreeSet<String>,
}

impl Coordinator {
    /// Has the global model evaluated, and goes on to the next round or to the end.
    pub(super) fn evaluate_then_go_on(&mut self, now: Duration) {
        let round = self.global_rounds.saturating_sub(1);
        match self.settings.evaluation {
            Evaluation::Cloud => {
                if let Some(standardizer) = self.standardizer.clone() {
                    let state = self.global.clone();
                    self.push(Action::Compute(Job::Evaluate { round, state, standardizer }));
                }
                if self.is_last() {
                    self.phase = Phase::LastEvaluation;
                } else {
                    self.start_round(now, self.global_rounds);
                }
            }
            Evaluation::Edges { .. } => {
                let model = encode_model(round, self.global.without_moments(&self.settings.spec));
                self.evaluation = Some(EdgeEvaluation {
                    round,
                    model,
                    answers: BTreeMap::new(),
                    given_up: BTreeSet::new(),
                });
                self.phase = Phase::EdgeEvaluation;
                let names: Vec<String> = self.fleet.keys().cloned().collect();
                for edge in names {
                    self.ask_for_evaluation(now, &edge);
                }
                self.give_up_the_lost(now);
                self.end_edge_evaluation(now);
            }
        }
    }

    /// Whether the global model is of the last round.
    fn is_last(&self) -> bool {
        self.global_rounds >= self.settings.max_rounds
    }

    /// Sends the global model to an edge that has not answered for it, if it is there and can.
    pub(super) fn ask_for_evaluation(&mut self, now: Duration, edge: &str) {
        let Some(evaluation) = self.evaluation.as_mut() else { return };
        let is_there = |member: &Member| member.is_here() && !member.evaluates_not && !member.is_behind();
        if !self.fleet.get(edge).is_some_and(is_there) || evaluation.answers.contains_key(edge) {
            return;
        }
        evaluation.given_up.remove(edge);
        let (round, tensor) = (evaluation.round, evaluation.model.clone());
        self.emit_state_moved(now, edge, round, tensor.wire_bytes(), "down");
        self.send_tensor(edge, tensor);
    }

    /// An edge says, when it is ready, whether it can evaluate.
    pub(super) fn note_evaluation(&mut self, now: Duration, edge: &str, evaluates_not: Option<String>) {
        let Some(member) = self.fleet.get_mut(edge) else { return };
        let could = !std::mem::replace(&mut member.evaluates_not, evaluates_not.is_some());
        if let Some(reason) = evaluates_not.filter(|_| could) {
            self.emit(now, EventKind::EvaluationDeclined { round: 0, edge: edge.to_owned(), reason });
        }
    }

    /// Why training would be without any accuracy: all edges that take part cannot evaluate.
    pub(super) fn lacks_evaluators(&self) -> Option<String> {
        let mut active = self.fleet.values().filter(|member| !member.out);
        let lacks = self.settings.holdout().is_some() && active.all(|member| member.evaluates_not);
        lacks.then(|| {
            format!(
                "no edge can evaluate `{}`, their memory does not hold all of it (data.evaluate = \"edges\"): give one of them more, choose a smaller model or training.batch_size, or set data.evaluate = \"cloud\"",
                self.settings.spec.name
            )
        })
    }

    pub(super) fn handle_edge_evaluated(
        &mut self,
        now: Duration,
        edge: &str,
        round: u32,
        result: Result<Score, String>,
    ) {
        let Some(member) = self.fleet.get(edge) else { return };
        let held_out = self.settings.held_out(member.request.samples);
        let Some(evaluation) = self.evaluation.as_mut().filter(|evaluation| evaluation.round == round) else {
            return;
        };
        if evaluation.answers.contains_key(edge) {
            return;
        }
        if let Ok(score) = &result
            && !score.is_of(held_out)
        {
            let reason = format!("it sent {score:?} for the {held_out} samples that it holds out");
            self.refuse_edge(now, edge, &reason);
            return;
        }
        evaluation.answers.insert(edge.to_owned(), result.as_ref().ok().copied());
        let (round, edge) = (round + 1, edge.to_owned());
        self.emit(
            now,
            match result {
                Ok(score) => EventKind::EdgeEvaluated {
                    round,
                    edge,
                    accuracy: score.accuracy(),
                    loss: score.mean_loss(),
                    samples: score.samples,
                },
                Err(reason) => EventKind::EvaluationDeclined { round, edge, reason },
            },
        );
        self.end_edge_evaluation(now);
    }

    /// Whether an edge owes an answer: it is there, or may come back in time.
    fn owes(&self, edge: &str, member: &Member) -> bool {
        let takes_part = !member.out || member.is_here();
        let is_owed = |evaluation: &EdgeEvaluation| {
            !evaluation.answers.contains_key(edge) && !evaluation.given_up.contains(edge)
        };
        takes_part
            && !member.evaluates_not
            && !member.is_behind()
            && self.evaluation.as_ref().is_some_and(is_owed)
    }

    /// The edges that owe an answer.
    fn owing(&self) -> impl Iterator<Item = (&String, &Member)> {
        self.fleet.iter().filter(|(edge, member)| self.owes(edge, member))
    }

    /// When the next lost edge is given up.
    pub(super) fn next_given_up(&self) -> Option<Duration> {
        let lost = self.owing().filter_map(|(_, member)| member.lost_at);
        lost.map(|at| at + self.settings.rejoin_window).min()
    }

    /// Once nobody is waited for, adds up what the edges have answered, and goes on.
    pub(super) fn end_edge_evaluation(&mut self, now: Duration) {
        if !matches!(self.phase, Phase::EdgeEvaluation) {
            return;
        }
        let awaited = self.find_awaited(|edge, member| self.owes(edge, member));
        if self.waits_for(awaited) {
            return;
        }
        let Some(EdgeEvaluation { round, answers, .. }) = self.evaluation.take() else { return };
        self.excuse_those_behind(now, round);
        let mut total = Score::default();
        answers.into_values().flatten().for_each(|score| total += score);
        let accuracy = (total.samples > 0).then(|| total.accuracy());
        if let Some(accuracy) = accuracy {
            let (loss, samples) = (total.mean_loss(), total.samples);
            self.emit(now, EventKind::Evaluated { round: round + 1, accuracy, loss, samples });
            if self.finish_at_target(now, (self.global_rounds, self.global.clone()), accuracy) {
                return;
            }
        }
        if self.is_last() {
            self.finish_after_last(now, accuracy);
        } else {
            self.start_round(now, self.global_rounds);
        }
    }

    /// Gives up who has been away for too long.
    pub(super) fn give_up_the_lost(&mut self, now: Duration) {
        let window = self.settings.rejoin_window;
        let reason = format!("it did not come back within {window:?} (fleet.rejoin_window)");
        self.give_up(now, &reason, |member| member.lost_at.is_some_and(|at| now >= at + window));
    }

    /// Gives up who is connected and does not answer, if anybody has.
    pub(super) fn give_up_the_silent(&mut self, now: Duration, reason: &str) {
        if self.evaluation.as_ref().is_some_and(|evaluation| !evaluation.answers.is_empty()) {
            self.give_up(now, reason, |member| member.connection.is_some());
        }
    }

    fn give_up(&mut self, now: Duration, reason: &str, is_over: impl Fn(&Member) -> bool) {
        let over: Vec<String> =
            self.owing().filter(|(_, member)| is_over(member)).map(|(edge, _)| edge.clone()).collect();
        for edge in over {
            let Some(evaluation) = self.evaluation.as_mut() else { return };
            evaluation.given_up.insert(edge.clone());
            let (round, reason) = (evaluation.round + 1, reason.to_owned());
            self.emit(now, EventKind::EvaluationDeclined { round, edge, reason });
        }
    }

    /// An edge that finishes a round has no memory for a second model, and is not waited for.
    fn excuse_those_behind(&mut self, now: Duration, round: u32) {
        let behind = |member: &Member| member.is_behind() && !member.evaluates_not;
        let behind: Vec<(String, u32)> = self
            .fleet
            .iter()
            .filter(|(_, member)| behind(member))
            .filter_map(|(edge, member)| Some((edge.clone(), member.round.as_ref()?.plan.round + 1)))
            .collect();
        for (edge, of) in behind {
            let reason = format!("it is still at round {of}, in which it was deferred");
            self.emit(now, EventKind::EvaluationDeclined { round: round + 1, edge, reason });
        }
    }

    /// The cloud has evaluated a global model: one that is good enough ends the run, even if another has been made since.
    pub(super) fn handle_evaluated(
        &mut self,
        now: Duration,
        round: u32,
        state: Arc<LayerState>,
        accuracy: f64,
    ) {
        let is_newest = round + 1 == self.global_rounds;
        if !self.finish_at_target(now, (round + 1, state), accuracy)
            && is_newest
            && matches!(self.phase, Phase::LastEvaluation)
        {
            self.finish_after_last(now, Some(accuracy));
        }
    }

    /// Ends the run if a global model, after so many rounds, meets the target; says whether it does.
    fn finish_at_target(&mut self, now: Duration, model: (u32, Arc<LayerState>), accuracy: f64) -> bool {
        let Some(target) = self.settings.target_accuracy.filter(|target| accuracy >= *target) else {
            return false;
        };
        self.finish(now, model, format!("the accuracy target was met: {accuracy:.4} >= {target}"), true);
        true
    }

    fn finish_after_last(&mut self, now: Duration, accuracy: Option<f64>) {
        let at = match accuracy {
            Some(accuracy) => format!("at accuracy {accuracy:.4}"),
            None => "without an evaluation of the last model".to_owned(),
        };
        let reason = match self.settings.target_accuracy {
            Some(target) => format!("max_rounds were done {at}, target {target}"),
            None => format!("max_rounds were done {at}"),
        };
        self.finish(now, (self.global_rounds, self.global.clone()), reason, false);
    }
}
