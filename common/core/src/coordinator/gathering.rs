//! Gather and Standardize: training requests, model determination, federated statistics.

use std::time::Duration;

use super::action::{Action, ConnectionId};
use super::member::Member;
use super::{Caller, Coordinator, Phase, session_of};
use crate::config::Name;
use crate::event::EventKind;
use crate::excerpt::excerpt;
use crate::link::Transfer;
use crate::model::ModelCost;
use crate::probe;
use crate::standardize::{Fit, Standardizer, Transform};
use crate::statistics::{self, ChannelStatistics};
use crate::wire::{Assignment, CloudMessage, PROTOCOL_VERSION, TrainingRequest, message};

/// Values of the probe that gives the first estimate of a link: enough to be limited by its rate,
/// a fraction of a second on most.
const PROBE_VALUES: usize = 64 * 1024;

/// How many edges are named when others have not come.
const MOST_NAMES: usize = 100;

impl Coordinator {
    pub(super) fn handle_request(&mut self, now: Duration, from: ConnectionId, mut request: TrainingRequest) {
        if let Err(reason) = self.check_request(&request) {
            self.refuse_connection(now, from, &reason);
            return;
        }
        if self.settings.labels_stay {
            // An edge that was not told so has sent how many it has of each: nobody here is to know.
            request.labels.clear();
        }
        let name = request.name.clone();
        if self.fleet.contains_key(&name) {
            self.handle_return(now, from, request);
            return;
        }
        if !matches!(self.phase, Phase::Gather) {
            let reason = format!("training has started without `{name}`; it can take part in the next run");
            self.refuse_connection(now, from, &reason);
            return;
        }
        self.connections.insert(from, Caller::Edge(name.clone()));
        let held_out = self.settings.held_out(request.samples);
        let (samples, labels) = (request.samples - held_out, request.labels.clone());
        self.emit(now, EventKind::EdgeJoined { edge: name.clone(), samples, held_out, labels });
        self.forecast.admit(&request);
        self.fleet.insert(name, Member::new(request, from));
        if self.fleet.len() >= self.settings.min_edges {
            self.determine_model(now);
        }
    }

    /// What is wrong with a request, whatever the phase.
    fn check_request(&self, request: &TrainingRequest) -> Result<(), String> {
        let TrainingRequest { version, name, samples, labels, shape, .. } = request;
        if *version != PROTOCOL_VERSION {
            return Err(message::other_version(*version));
        }
        if Name::new(name).is_none() {
            return Err(format!(
                "`{}` cannot be an edge's name, which is of {}",
                excerpt(name),
                Name::ALLOWED
            ));
        }
        if *samples == 0 {
            return Err(format!("edge `{name}` has no samples"));
        }
        if *samples == 1 && self.settings.holdout().is_some() {
            return Err(format!(
                "edge `{name}` has 1 sample; with `data.evaluate = \"edges\"` it needs at least 2, one to train on and one to evaluate on"
            ));
        }
        if *shape != self.settings.spec.input {
            return Err(format!(
                "edge `{name}` has samples of shape {shape:?}, but model `{}` takes {:?}",
                self.settings.spec.name, self.settings.spec.input
            ));
        }
        self.check_class_names(request)?;
        let classes = self.settings.spec.classes;
        if labels.len() > classes && labels[classes..].iter().any(|count| *count > 0) {
            return Err(format!(
                "edge `{name}` has samples of label {}, but model `{}` has {classes} classes",
                labels.len() - 1,
                self.settings.spec.name
            ));
        }
        Ok(())
    }

    /// Everybody who has names for the classes must number them alike: the coordinator, or the first edge that has.
    fn check_class_names(&self, request: &TrainingRequest) -> Result<(), String> {
        let Some(own) = request.class_names else { return Ok(()) };
        let others = self.fleet.iter().filter(|(name, _)| **name != request.name);
        let mut numbered = others.filter_map(|(name, member)| Some((member.request.class_names?, name)));
        let known = match self.settings.class_names {
            Some(known) => Some((known, "the coordinator".to_owned())),
            None => numbered.next().map(|(theirs, edge)| (theirs, format!("edge `{edge}`"))),
        };
        match known {
            Some((known, by)) if own != known => Err(format!(
                "edge `{}` does not number the classes as {by} does: give every edge the names of all classes in the order of the coordinator's `data.class_names`, with --class-names, or deal the data out anew",
                request.name
            )),
            _ => Ok(()),
        }
    }

    /// The time to gather is over: those who came are enough, or the run ends.
    pub(super) fn gather_is_over(&mut self, now: Duration) {
        let (here, wanted) = (self.fleet.len(), self.settings.min_edges);
        if self.settings.is_quorum(here, wanted) {
            self.determine_model(now);
            return;
        }
        let names: Vec<&str> = self.fleet.keys().map(String::as_str).take(MOST_NAMES).collect();
        let came = match here {
            0 => "none".to_owned(),
            1..=MOST_NAMES => names.join(", "),
            _ => format!("{}, and {} others", names.join(", "), here - MOST_NAMES),
        };
        self.abort(
            now,
            format!(
                "{here} of {wanted} edges asked to take part within {:?} (fleet.gather_timeout); came: {came}. Start the others, or lower fleet.min_edges or fleet.quorum",
                self.settings.gather_timeout
            ),
        );
    }

    fn determine_model(&mut self, now: Duration) {
        let spec = &self.settings.spec;
        let cost = ModelCost::of(spec);
        let kind = EventKind::ModelDetermined {
            model: spec.name.clone(),
            layers: spec.len(),
            parameters: cost.total_params(),
            macs: cost.total_macs(),
        };
        self.emit(now, kind);
        self.phase = Phase::Standardize;
        let names: Vec<String> = self.fleet.keys().cloned().collect();
        for edge in names {
            self.send_assignment(&edge);
        }
    }

    /// Sends model and standardization, with the fitted standardizer where there is one already.
    pub(super) fn send_assignment(&mut self, edge: &str) {
        let settings = &self.settings;
        let assignment = Assignment {
            session: session_of(settings.session, edge),
            seed: settings.seed,
            model: settings.spec.clone(),
            standardization: settings.standardization,
            measure: self.measured.clone(),
            standardizer: self.standardizer.clone(),
            holdout: settings.holdout(),
            optimizer: settings.optimizer,
            batch_size: settings.batch_size,
            steps_per_round: settings.steps_per_round,
            least_cut: *settings.depth.start() as u32,
            tail: settings.tail.map(|tail| tail as u32),
            probe_bytes: 4 * PROBE_VALUES as u32,
        };
        self.send(edge, CloudMessage::Assignment(Box::new(assignment)));
    }

    pub(super) fn handle_statistics(
        &mut self,
        now: Duration,
        edge: &str,
        of: &Transform,
        channels: Vec<ChannelStatistics>,
    ) {
        // Those of an earlier exchange may come late.
        if !matches!(self.phase, Phase::Standardize) || *of != self.measured {
            return;
        }
        let expected = self.settings.spec.input[0];
        if channels.len() != expected {
            let reason =
                format!("it sent statistics of {} channels, its samples have {expected}", channels.len());
            self.refuse_edge(now, edge, &reason);
            return;
        }
        // Found here, it concerns one edge; in the merged statistics it would concern them all.
        if let Err(error) = Standardizer::fit(self.settings.standardization, of, &channels) {
            self.refuse_edge(now, edge, &format!("its data cannot be standardized: {error}"));
            return;
        }
        if let Some(member) = self.fleet.get_mut(edge) {
            member.statistics = Some(channels);
        }
        self.fit_when_complete(now);
    }

    /// Fits the standardizer once every edge that takes part has answered.
    pub(super) fn fit_when_complete(&mut self, now: Duration) {
        if self.standardizer.is_some() {
            return;
        }
        let awaited = self.find_awaited(|_, member| !member.out && member.statistics.is_none());
        if self.waits_for(awaited) {
            return;
        }
        let active = || self.fleet.values().filter(|member| !member.out);
        let fitted = statistics::merge_all(active().filter_map(|member| member.statistics.as_deref()))
            .map_err(|error| error.to_string())
            .and_then(|merged| {
                Standardizer::fit(self.settings.standardization, &self.measured, &merged)
                    .map_err(|error| error.to_string())
            });
        let standardizer = match fitted {
            Ok(Fit::Done(standardizer)) => standardizer,
            Ok(Fit::Measure(transform)) => {
                self.measure(&transform);
                return;
            }
            Err(error) => {
                self.abort(now, format!("the edges' data cannot be standardized: {error}"));
                return;
            }
        };
        let kind = EventKind::Standardized {
            method: standardizer.method.to_string(),
            shifts: standardizer.transform.shifts().to_vec(),
            offsets: standardizer.channels.iter().map(|affine| affine.offset).collect(),
            scales: standardizer.channels.iter().map(|affine| affine.scale).collect(),
        };
        self.emit(now, kind);
        self.standardizer = Some(standardizer.clone());
        let names: Vec<String> = self.fleet.keys().cloned().collect();
        let probe = probe::first(PROBE_VALUES);
        for edge in names {
            self.send_tensor(&edge, probe.clone());
            self.send(&edge, CloudMessage::Standardize(standardizer.clone()));
        }
    }

    /// Asks everybody for statistics once more, of transformed samples.
    fn measure(&mut self, transform: &Transform) {
        self.measured = transform.clone();
        let names: Vec<String> = self.fleet.keys().cloned().collect();
        for edge in names {
            if let Some(member) = self.fleet.get_mut(&edge) {
                member.statistics = None;
            }
            self.send(&edge, CloudMessage::Measure(transform.clone()));
        }
    }

    pub(super) fn handle_ready(
        &mut self,
        now: Duration,
        edge: &str,
        downlink: Option<Transfer>,
        evaluates_not: Option<String>,
    ) {
        if let Some(transfer) = downlink {
            self.forecast.observe_probe_down(edge, transfer);
        }
        if self.standardizer.is_none() {
            self.refuse_edge(now, edge, "it said that it is ready before it got the standardizer");
            return;
        }
        self.note_evaluation(now, edge, evaluates_not);
        let Some(member) = self.fleet.get_mut(edge) else { return };
        // Said again: what is known of where the edge left off is out of date by now.
        if std::mem::replace(&mut member.ready, true) {
            return;
        }
        match self.phase {
            Phase::Standardize => self.train_when_ready(now),
            _ => self.take_back(now, edge),
        }
    }

    /// Starts the first round once every edge that takes part is ready.
    pub(super) fn train_when_ready(&mut self, now: Duration) {
        let awaited = self.find_awaited(|_, member| !member.out && !member.ready);
        if !matches!(self.phase, Phase::Standardize) || self.waits_for(awaited) {
            return;
        }
        if let Some(reason) = self.lacks_evaluators() {
            self.abort(now, reason);
        } else if self.global_rounds > 0 {
            // The coordinator before may have ended before it knew how good the checkpoint's model is.
            self.evaluate_then_go_on(now);
        } else {
            self.start_round(now, self.round);
        }
    }

    /// The rate that an edge was told to pace its uplink to.
    pub(super) fn pace_up(&self, edge: &str) -> Option<f64> {
        self.fleet.get(edge)?.round.as_ref()?.plan.pace
    }

    /// Attaches an edge's new connection, closing the one before.
    pub(super) fn attach(&mut self, now: Duration, edge: &str, connection: ConnectionId) {
        self.connections.insert(connection, Caller::Edge(edge.to_owned()));
        let Some(member) = self.fleet.get_mut(edge) else { return };
        if let (Some(lost_at), Some(round)) = (member.lost_at, member.round.as_mut()) {
            round.begun_at =
                round.begun_at.map(|begun_at| begun_at + now.saturating_sub(lost_at.max(begun_at)));
        }
        (member.lost_at, member.refused) = (None, None);
        if let Some(old) = member.connection.replace(connection)
            && old != connection
        {
            self.connections.remove(old);
            self.push(Action::Close { connection: old, reason: "the edge has connected again".into() });
        }
        self.expect_in_time(edge);
        self.note_word(now);
    }
}
