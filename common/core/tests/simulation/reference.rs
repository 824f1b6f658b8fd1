//! What undisturbed training gives, computed in one place: no messages, no rounds' plans, no replicas.

use std::collections::BTreeMap;

use partway_core::coordinator::Topology;
use partway_core::micro_batch::MicroBatch;
use partway_core::model::LayerState;

use crate::fake_model::{Accumulated, Context, FakeModel, batch, loss_gradient, parts};
use crate::ledger::Ledger;
use crate::scenario::{EdgeSetup, LAYERS, Scenario};

/// What an edge trains alone, and what it shares with all others.
struct Training<'a> {
    model: &'a FakeModel,
    ledger: Ledger,
    own: Vec<(&'a EdgeSetup, LayerState)>,
    shared: LayerState,
    /// Optimizer steps of each edge's own layers, and of the shared ones.
    own_steps: Vec<u64>,
    shared_steps: u64,
    /// Micro-batches of each step.
    in_flight: u32,
}

impl Training<'_> {
    fn step(&mut self, edge: usize, number: u64) {
        let (model, ledger, shared) = (self.model, &mut self.ledger, &mut self.shared);
        let (setup, own) = &mut self.own[edge];
        self.own_steps[edge] += 1;
        self.shared_steps += 1;
        let whole = Context {
            edge: &setup.name,
            step: number,
            optimizer_step: self.own_steps[edge],
            micro_batch: MicroBatch::WHOLE,
        };
        let (mut own_sum, mut shared_sum) = (Accumulated::default(), Accumulated::default());
        for below in parts(whole, self.in_flight) {
            let above = Context { optimizer_step: self.shared_steps, ..below };
            let (input, labels) = batch(&below);
            let tape_below = model.forward(own, input, &below, ledger);
            let tape_above = model.forward(shared, tape_below.output, &above, ledger);
            let gradient = loss_gradient(tape_above.output, &labels);
            let gradient = model.backward(shared, &tape_above, gradient, &above, &mut shared_sum, ledger);
            model.backward(own, &tape_below, gradient, &below, &mut own_sum, ledger);
        }
    }
}

impl Scenario {
    /// The global model after so many rounds. `cuts` are the common cuts by round; where every edge has a
    /// replica, or one model is handed on, it does not matter where they are cut.
    pub(crate) fn expected(&self, model: &FakeModel, rounds: u32, cuts: &BTreeMap<u32, usize>) -> LayerState {
        let spec = &model.spec;
        let mut edges: Vec<&EdgeSetup> = self.edges.iter().collect();
        edges.sort_by(|left, right| left.name.cmp(&right.name));
        let settings = self.settings(model, 1);
        let (mut global, mut optimizer_steps, mut round) = (self.initial(model), 0, 0);
        while round < rounds {
            let split = match self.topology {
                Topology::ReplicaPerEdge => LAYERS,
                Topology::Shared => cuts[&round],
                Topology::HandedOn => 0,
            };
            let mut training = Training {
                model,
                ledger: Ledger::new(self.turn()),
                own: edges.iter().map(|edge| (*edge, global.slice(spec, 0..split))).collect(),
                shared: global.slice(spec, split..LAYERS),
                own_steps: vec![optimizer_steps; edges.len()],
                shared_steps: optimizer_steps,
                in_flight: self.in_flight,
            };
            let begins = round;
            while round == begins || !settings.aggregates(round - 1) {
                let turns = (0..self.steps).flat_map(|step| (0..edges.len()).map(move |edge| (edge, step)));
                let mut turns: Vec<(usize, u32)> = turns.collect();
                if self.topology == Topology::HandedOn {
                    turns.sort_unstable();
                }
                for (edge, step) in turns {
                    training.step(edge, u64::from(round * self.steps + step));
                }
                round += 1;
            }
            let trained = f64::from((round - begins) * self.steps);
            global = if split == 0 {
                training.shared
            } else {
                let own = training.own.into_iter();
                let parts =
                    own.map(|(edge, state)| (self.trained_on(edge.samples) as f64 * trained, vec![state]));
                let mut averaged = model.average(parts.collect());
                averaged.append(training.shared);
                averaged
            };
            optimizer_steps = match self.topology {
                Topology::ReplicaPerEdge => training.own_steps[0],
                Topology::Shared | Topology::HandedOn => training.shared_steps,
            };
            if self.reset_moments {
                global.reset_moments(spec);
                optimizer_steps = 0;
            }
        }
        global
    }
}
