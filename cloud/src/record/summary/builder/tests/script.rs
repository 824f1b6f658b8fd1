//! A run whose events are made up.

use partway_core::config::Clock;
use partway_core::coordinator::Topology;
use partway_core::event::{Recovery, TermsMs};

use super::super::*;

fn builder(topology: Topology) -> SummaryBuilder {
    SummaryBuilder::new(RunFacts {
        name: "quickstart".into(),
        clock: Clock::Wall,
        seed: 42,
        batch_size: 64,
        topology,
    })
}

/// A made-up run: every event happens a second after the one before.
pub(super) struct Run {
    at: f64,
    builder: SummaryBuilder,
    pub(super) rows: Vec<MetricsRow>,
}

impl Run {
    pub(super) fn new(topology: Topology) -> Self {
        Self { at: 0.0, builder: builder(topology), rows: Vec::new() }
    }

    /// A run with replicas whose edges have joined and whose model was determined: 2 + `edges` seconds.
    pub(super) fn with(edges: &[&str]) -> Self {
        Self::of(Topology::ReplicaPerEdge, edges)
    }

    pub(super) fn of(topology: Topology, edges: &[&str]) -> Self {
        let mut run = Self::new(topology);
        run.gather(edges);
        run
    }

    pub(super) fn gather(&mut self, edges: &[&str]) {
        self.then(EventKind::Listening { address: "127.0.0.1:1".into(), data_address: None });
        for edge in edges {
            self.join(edge);
        }
        self.then(EventKind::ModelDetermined { model: "lenet5".into(), layers: 12, parameters: 1, macs: 1 });
    }

    pub(super) fn then(&mut self, kind: EventKind) {
        self.at += 1.0;
        self.rows.extend(self.builder.observe(&Event { at: self.at, kind }));
    }

    pub(super) fn join(&mut self, edge: &str) {
        self.then(EventKind::EdgeJoined {
            edge: edge.into(),
            samples: 3000,
            held_out: 0,
            labels: vec![300; 10],
        });
    }

    pub(super) fn plan(&mut self, round: u32) {
        let deadline_ms = f64::from(100 + round);
        self.then(EventKind::Planned { round, deadline_ms, optimality_gap: 0.0, edges: Vec::new() });
    }

    pub(super) fn step(&mut self, edge: &str, (round, attempt): (u32, u32), cut: u32, latency_ms: f64) {
        self.then(EventKind::Step {
            round,
            attempt,
            edge: edge.into(),
            step: 1,
            cut,
            latency_ms,
            predicted_ms: 90.0,
            deadline_ms: 100.0,
            terms_ms: TermsMs::default(),
            loss: latency_ms as f32 / 100.0,
            correct: 1,
            bytes_up: 1000,
            bytes_down: 10,
        });
    }

    /// Plans a round in which each edge does one step of 100 ms at cut 3.
    pub(super) fn round(&mut self, round: u32, edges: &[&str]) {
        self.plan(round);
        for edge in edges {
            self.step(edge, (round, 0), 3, 100.0);
        }
        self.then(EventKind::RoundDone { round, seconds: 1.0 });
    }

    pub(super) fn aggregate(&mut self, round: u32, aggregation: u32) {
        self.then(EventKind::Aggregated { round, aggregation, weights: Vec::new() });
    }

    pub(super) fn evaluate(&mut self, round: u32, accuracy: f64) {
        self.then(EventKind::Evaluated { round, accuracy, loss: 0.5, samples: 10_000 });
    }

    pub(super) fn finish(&mut self, round: u32, target_reached: bool) {
        self.then(EventKind::Finished { round, reason: "done".into(), target_reached });
    }

    pub(super) fn back(&mut self, edge: &str, round: u32, how: Recovery) {
        self.then(EventKind::EdgeLost { round, edge: edge.into() });
        self.then(EventKind::EdgeResumed { round, edge: edge.into(), how });
    }

    pub(super) fn drop(&mut self, edge: &str, round: u32) {
        self.then(EventKind::EdgeLost { round, edge: edge.into() });
        self.then(EventKind::EdgeDropped { round, edge: edge.into(), reason: "it is gone".into() });
    }

    pub(super) fn defer(&mut self, edge: &str, round: u32) {
        self.then(EventKind::EdgeDeferred { round, edge: edge.into(), reason: "it is late".into() });
        self.then(EventKind::RoundDone { round, seconds: 1.0 });
    }

    pub(super) fn catch_up(&mut self, edge: &str, round: u32) {
        self.then(EventKind::EdgeCaughtUp { round, edge: edge.into(), steps: 1 });
    }

    pub(super) fn summary(&self) -> Summary {
        self.builder.build()
    }
}
