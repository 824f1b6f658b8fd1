//! What a replica answers that does not compute.

use partway_core::coordinator::{Computed, StepJob, StepPart};
use partway_core::wire::{TensorHeader, TensorKind, TensorMessage};

/// The answer to a step's part: one value.
pub(super) fn stepped(job: StepJob) -> Computed {
    let StepJob { part, edge, round, attempt, step, micro_batch, activations, gradients, .. } = job;
    let (kind, codec) = match part {
        StepPart::Forward => (TensorKind::TailActivations, activations.values),
        StepPart::Whole | StepPart::Backward => (TensorKind::CutGradient, gradients),
    };
    let ids = TensorHeader { round, attempt, step, ..TensorHeader::new(kind, codec) };
    let header = TensorHeader { micro_batch: micro_batch.index as u16, ..ids };
    let (reply, seconds) = (TensorMessage::encode(header, vec![1.0], &[]), 0.01);
    if part == StepPart::Whole {
        let (loss, correct) = (1.0, 1);
        Computed::Stepped { edge, round, attempt, step, micro_batch, reply, loss, correct, seconds }
    } else {
        Computed::Passed { edge, round, attempt, step, micro_batch, reply, seconds }
    }
}
