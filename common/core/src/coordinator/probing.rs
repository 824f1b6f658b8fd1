//! Probes: those that come first from every edge, and those of edges that train alone.

use std::time::Duration;

use super::Coordinator;
use crate::event::EventKind;
use crate::link::Transfer;
use crate::probe;
use crate::wire::TensorHeader;

impl Coordinator {
    /// Values without meaning came from an edge.
    pub(super) fn handle_probe(
        &mut self,
        now: Duration,
        edge: &str,
        header: TensorHeader,
        transfer: Transfer,
        rtt_s: f64,
    ) {
        if header.round == probe::FIRST {
            // Control messages overtake it: training may have begun.
            self.forecast.observe_probe_up(edge, transfer, rtt_s);
            return;
        }
        if !self.is_current(edge, header.round, header.attempt) {
            return;
        }
        let Some(round) = self.fleet.get_mut(edge).and_then(|member| member.round.as_mut()) else { return };
        // More than were asked for, such as copies, say nothing new.
        if round.plan.probe_bytes > 0 && round.probes < probe::PER_ROUND {
            round.probes += 1;
            self.forecast.observe_uplink(edge, transfer, rtt_s);
            self.emit_probed(now, edge, header.round, transfer.bytes, "up");
        }
    }

    /// Sends a probe to an edge that trains alone and has reported a step, if there is one with it. The edge tells what
    /// it measured with a later step.
    pub(super) fn probe_downlink(&mut self, now: Duration, edge: &str, step: u32) {
        let Some(round) = self.fleet.get(edge).and_then(|member| member.round.as_ref()) else { return };
        let (plan, bytes) = (round.plan, round.prediction.probe_bytes.1);
        if bytes > 0 && probe::is_due(step, plan.steps) && step + 1 < plan.steps {
            let tensor = probe::tensor(&plan, step, bytes);
            self.emit_probed(now, edge, plan.round, tensor.wire_bytes(), "down");
            self.send_tensor(edge, tensor);
        }
    }

    fn emit_probed(&mut self, now: Duration, edge: &str, round: u32, bytes: u64, direction: &str) {
        let (edge, direction) = (edge.to_owned(), direction.to_owned());
        self.emit(now, EventKind::Probed { round: round + 1, edge, direction, bytes });
    }
}
