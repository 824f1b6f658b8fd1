//! What a replica answers that does not compute, and what an edge sends that does not either.

use std::ops::Range;

use partway_core::codec::Codec;
use partway_core::coordinator::{Computed, Job, StepJob, StepPart};
use partway_core::model::{ModelSpec, state::state_len};
use partway_core::wire::{RoundPlan, TensorHeader, TensorKind, TensorMessage};

use crate::fake_model::MOMENTS;

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

/// Layers that an edge sends.
pub(super) fn state(spec: &ModelSpec, plan: &RoundPlan, step: u32, layers: Range<usize>) -> TensorMessage {
    let layers = layers.start..layers.end.max(layers.start);
    let header = TensorHeader {
        round: plan.round,
        attempt: plan.attempt,
        step,
        first_layer: layers.start as u16,
        last_layer: layers.end as u16,
        ..TensorHeader::new(TensorKind::State, Codec::F32)
    };
    TensorMessage::encode(header, vec![0.25; state_len(spec, layers, MOMENTS)], &[])
}

/// The answer to a job that goes wrong, if it can: activations that cannot be trained on, a model that has diverged.
pub(super) fn spoiled(job: &Job, compute: impl FnOnce(Job) -> Option<Computed>) -> Option<Computed> {
    match job.clone() {
        Job::Step(StepJob { edge, round, attempt, .. }) => {
            Some(Computed::Rejected { edge, round, attempt, reason: "NaN".into() })
        }
        job @ Job::Export { .. } => {
            let mut computed = compute(job)?;
            if let Computed::Exported { state, .. } = &mut computed {
                state.values.fill(f32::NAN);
            }
            Some(computed)
        }
        _ => None,
    }
}
