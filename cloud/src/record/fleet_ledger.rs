//! Which steps of a whole fleet count, as the events of a run tell it.

use std::collections::{BTreeMap, BTreeSet};

use partway_core::coordinator::Topology;
use partway_core::event::{EventKind, Recovery};

use super::ledger::Ledger;

/// The steps of all edges, of which those count whose work is in the global model. `S` is what is kept of one.
#[derive(Clone, Debug)]
pub struct FleetLedger<S> {
    topology: Topology,
    edges: BTreeMap<String, EdgeLedger<S>>,
    /// The rounds after which there was an aggregation.
    aggregated: BTreeSet<u32>,
    /// The last round whose barrier was passed.
    round_done: u32,
    /// The last round of the run, once that is over.
    finished: Option<u32>,
}

#[derive(Clone, Debug)]
struct EdgeLedger<S> {
    ledger: Ledger<S>,
    /// The last round in which its turn came to its end.
    handed_on: u32,
}

impl<S> Default for EdgeLedger<S> {
    fn default() -> Self {
        Self { ledger: Ledger::default(), handed_on: 0 }
    }
}

impl<S> FleetLedger<S> {
    /// Of a run with these server-side models in which nothing has happened yet.
    pub fn new(topology: Topology) -> Self {
        Self { topology, edges: BTreeMap::new(), aggregated: BTreeSet::new(), round_done: 0, finished: None }
    }

    /// Adds a step of an edge at an attempt at a round.
    pub fn add(&mut self, edge: &str, round: u32, attempt: u32, cut: u32, step: S) {
        self.edge(edge).ledger.add(round, attempt, cut, step);
    }

    /// Takes in what else happens, in order.
    pub fn observe(&mut self, kind: &EventKind) {
        match kind {
            EventKind::Listening { .. } => {
                self.edges.values_mut().for_each(|edge| edge.ledger.lose_handed_in());
            }
            EventKind::Planned { round, .. } => self.go_back_to(*round),
            EventKind::RoundDone { round, .. } => self.round_done = *round,
            EventKind::HandedOn { round, edge, .. } => self.edge(edge).handed_on = *round,
            EventKind::Aggregated { round, .. } => {
                self.edges.values_mut().for_each(|edge| edge.ledger.merge(*round));
                self.aggregated.insert(*round);
            }
            EventKind::EdgeResumed { round, edge, how } => match how {
                Recovery::Connection | Recovery::Readmitted => {}
                Recovery::RolledBack => self.edge(edge).ledger.forget_from(*round),
                Recovery::StateLost => self.lose_work(edge),
            },
            EventKind::EdgeDropped { edge, .. } => self.lose_work(edge),
            EventKind::EdgeDeferred { round, edge, .. } => {
                let since = self.last_aggregated();
                self.edge(edge).ledger.defer(since, *round);
            }
            EventKind::EdgeCaughtUp { edge, .. } => {
                let round = self.round_done;
                self.edge(edge).ledger.catch_up(round);
            }
            EventKind::Finished { round, .. } => self.finished = Some(*round),
            _ => {}
        }
    }

    /// The last round after which there was an aggregation, or 0.
    pub fn last_aggregated(&self) -> u32 {
        self.aggregated.last().copied().unwrap_or(0)
    }

    /// The last round of the run, once that is over.
    pub fn finished(&self) -> Option<u32> {
        self.finished
    }

    /// The ledger of an edge that has made a step, or had one undone.
    pub fn of(&self, edge: &str) -> Option<&Ledger<S>> {
        self.edges.get(edge).map(|edge| &edge.ledger)
    }

    /// All ledgers, by edge.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Ledger<S>)> {
        self.edges.iter().map(|(name, edge)| (name.as_str(), &edge.ledger))
    }

    /// All ledgers, by edge, for good.
    pub fn into_ledgers(self) -> impl Iterator<Item = (String, Ledger<S>)> {
        self.edges.into_iter().map(|(name, edge)| (name, edge.ledger))
    }

    fn edge(&mut self, name: &str) -> &mut EdgeLedger<S> {
        if !self.edges.contains_key(name) {
            self.edges.insert(name.to_owned(), EdgeLedger::default());
        }
        self.edges.get_mut(name).expect("it is there or was just added")
    }

    /// A round starts. If it or later ones were done before, the coordinator has gone back to a checkpoint, and they
    /// do not count.
    fn go_back_to(&mut self, round: u32) {
        let before = round.saturating_sub(1);
        self.finished = None;
        self.round_done = before;
        self.aggregated.split_off(&round);
        for edge in self.edges.values_mut() {
            edge.ledger.go_back_to(round);
            edge.handed_on = edge.handed_on.min(before);
        }
    }

    /// An edge is left out or starts from the global model. With a replica of its own, all that it did
    /// since the last aggregation is gone; in a shared model, only the round that it did not end; in one
    /// that is handed on, only the turn.
    fn lose_work(&mut self, edge: &str) {
        let kept = match self.topology {
            Topology::ReplicaPerEdge => self.last_aggregated(),
            Topology::Shared => self.round_done,
            Topology::HandedOn => self.edge(edge).handed_on,
        };
        self.edge(edge).ledger.forget_from(kept.saturating_add(1));
    }
}
