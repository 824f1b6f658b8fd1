//! Federated averaging of layer states: FedAvg (`McMahan` et al. 2017, arXiv 1602.05629).

use std::ops::Range;

use thiserror::Error;

use crate::model::{
    LayerState, ModelSpec, TensorRole, TensorSpec,
    state::{TensorSlot, slots},
};

/// Why states cannot be averaged. A contributor is named by its position in the list.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AggregateError {
    /// Nobody contributes.
    #[error("there is no state to average")]
    Empty,
    /// A weight that is not a share of anything.
    #[error("contributor {contributor}: its weight {weight} must be finite and not negative")]
    Weight {
        /// Who.
        contributor: usize,
        /// Its weight.
        weight: f64,
    },
    /// The weights add up to nothing, or to more than a float holds.
    #[error("the contributors' weights add up to {total}, which must be finite and above 0")]
    TotalWeight {
        /// Their sum.
        total: f64,
    },
    /// A state of other layers or moments than the first one's, or of layers that the model lacks.
    #[error(
        "contributor {contributor}: its state is of layers {layers:?} with {moments} optimizer moments, \
         but layers {expected_layers:?} of {model_layers} with {expected_moments} are averaged"
    )]
    Mismatch {
        /// Who.
        contributor: usize,
        /// Layers of its state.
        layers: Range<usize>,
        /// Moments of its state.
        moments: usize,
        /// Layers of the first state.
        expected_layers: Range<usize>,
        /// Moments of the first state.
        expected_moments: usize,
        /// Layers of the model.
        model_layers: usize,
    },
    /// A state with too many or too few values.
    #[error("contributor {contributor}: its state has {actual} values, but the model's has {expected}")]
    Length {
        /// Who.
        contributor: usize,
        /// Values that the spec asks for.
        expected: usize,
        /// Values present.
        actual: usize,
    },
    /// A diverged state, which would spoil everybody's.
    #[error(
        "contributor {contributor}: `{tensor}` has values that are not finite; its training diverged \
         (a lower learning rate may help)"
    )]
    NonFinite {
        /// Who.
        contributor: usize,
        /// The first such tensor.
        tensor: String,
    },
}

/// As [`average`], for full models that come in parts, as they lie in edge and cloud: adjoining layers,
/// in order.
///
/// # Panics
/// If parts of one model do not adjoin.
pub fn average_parts(
    spec: &ModelSpec,
    models: Vec<(f64, Vec<LayerState>)>,
) -> Result<LayerState, AggregateError> {
    let joined = |(weight, parts)| Some((weight, LayerState::joined(parts)?));
    let whole: Vec<(f64, LayerState)> = models.into_iter().filter_map(joined).collect();
    let weighted: Vec<(f64, &LayerState)> = whole.iter().map(|(weight, state)| (*weight, state)).collect();
    average(spec, &weighted)
}

/// The weighted average of states of the same layers (full models `[0, L)`, or client halves that
/// share a cut), summed in f64 in the given order. Pass the contributors in edge-id order: the result
/// then depends on who contributes, never on who came first.
///
/// Trained tensors, their moments and running means become weighted means. Running variances are
/// pooled by the law of total variance, `E[var] + Var[mean]`, as if one batch norm had seen all
/// contributors' data. Frozen tensors, which all have alike, are the first contributor's. States of
/// weight 0 contribute nothing. A single contributor, and contributors that are all equal, come out bit
/// for bit.
pub fn average(spec: &ModelSpec, contributions: &[(f64, &LayerState)]) -> Result<LayerState, AggregateError> {
    let Some((_, first)) = contributions.first() else { return Err(AggregateError::Empty) };
    let (layers, moments) = (first.layers.clone(), first.moments);
    check(spec, contributions, &layers, moments)?;
    let shares = shares(contributions)?;
    let slots = slots(spec, layers.clone(), moments);
    check_finite(&slots, contributions)?;

    let contributing: Vec<(f64, &[f32])> = shares
        .into_iter()
        .zip(contributions)
        .filter(|(share, _)| *share > 0.0)
        .map(|(share, (_, state))| (share, state.values.as_slice()))
        .collect();
    if let [(_, only)] = contributing[..] {
        return Ok(LayerState { layers, moments, values: only.to_vec() });
    }
    let mut values = vec![0.0; first.values.len()];
    let mut sums = Vec::new();
    for slot in &slots {
        let all = whole(slot);
        if slot.tensor.role == TensorRole::Frozen {
            let (_, first) = contributing[0];
            values[all.clone()].copy_from_slice(&first[all]);
            continue;
        }
        weighted_mean(&contributing, all.clone(), &mut sums);
        if slot.tensor.role == TensorRole::RunningVar {
            // A running mean directly precedes its variance in the canonical order.
            let means = all.start - all.len()..all.start;
            add_variance_of_means(&contributing, means, &mut sums);
        }
        for (value, sum) in values[all].iter_mut().zip(&sums) {
            *value = *sum as f32;
        }
    }
    Ok(LayerState { layers, moments, values })
}

/// A tensor's values and moments, which lie side by side.
fn whole(slot: &TensorSlot) -> Range<usize> {
    slot.values.start..slot.moments.last().map_or(slot.values.end, |last| last.end)
}

fn check(
    spec: &ModelSpec,
    contributions: &[(f64, &LayerState)],
    layers: &Range<usize>,
    moments: usize,
) -> Result<(), AggregateError> {
    let in_model = layers.start <= layers.end && layers.end <= spec.len();
    for (contributor, (_, state)) in contributions.iter().enumerate() {
        if !in_model || state.layers != *layers || state.moments != moments {
            return Err(AggregateError::Mismatch {
                contributor,
                layers: state.layers.clone(),
                moments: state.moments,
                expected_layers: layers.clone(),
                expected_moments: moments,
                model_layers: spec.len(),
            });
        }
    }
    let expected = saturating_state_len(spec, layers.clone(), moments);
    for (contributor, (_, state)) in contributions.iter().enumerate() {
        let actual = state.values.len();
        if expected != actual {
            return Err(AggregateError::Length { contributor, expected, actual });
        }
    }
    Ok(())
}

/// As [`crate::model::state::state_len`], for a number of moments that nobody has checked.
fn saturating_state_len(spec: &ModelSpec, layers: Range<usize>, moments: usize) -> usize {
    let len = |tensor: TensorSpec| match tensor.role {
        TensorRole::Trained => tensor.len().saturating_mul(moments.saturating_add(1)),
        TensorRole::RunningMean | TensorRole::RunningVar | TensorRole::Frozen => tensor.len(),
    };
    spec.tensors(layers).into_iter().map(len).fold(0, usize::saturating_add)
}

/// The weights as shares that add up to 1.
fn shares(contributions: &[(f64, &LayerState)]) -> Result<Vec<f64>, AggregateError> {
    let mut total = 0.0;
    for (contributor, &(weight, _)) in contributions.iter().enumerate() {
        if !weight.is_finite() || weight < 0.0 {
            return Err(AggregateError::Weight { contributor, weight });
        }
        total += weight;
    }
    if total.is_finite() && total > 0.0 {
        Ok(contributions.iter().map(|(weight, _)| weight / total).collect())
    } else {
        Err(AggregateError::TotalWeight { total })
    }
}

fn check_finite(slots: &[TensorSlot], contributions: &[(f64, &LayerState)]) -> Result<(), AggregateError> {
    for (contributor, (weight, state)) in contributions.iter().enumerate() {
        let diverged = |slot: &&TensorSlot| state.values[whole(slot)].iter().any(|value| !value.is_finite());
        if let Some(slot) = slots.iter().find(diverged)
            && *weight > 0.0
        {
            return Err(AggregateError::NonFinite { contributor, tensor: slot.tensor.name.clone() });
        }
    }
    Ok(())
}

/// `sums[k]` becomes the mean of the values at `at.start + k`. Starts from the first contributor and
/// not from 0, so that a mean of negative zeros keeps its sign.
fn weighted_mean(contributing: &[(f64, &[f32])], at: Range<usize>, sums: &mut Vec<f64>) {
    sums.clear();
    for (share, values) in contributing {
        let terms = values[at.clone()].iter().map(|value| share * f64::from(*value));
        if sums.is_empty() {
            sums.extend(terms);
        } else {
            sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
    }
}

/// Adds the variance of the means at `means`, one per element of `sums`. Incremental (West 1979):
/// never negative, and exactly 0 where the means are equal.
fn add_variance_of_means(contributing: &[(f64, &[f32])], means: Range<usize>, sums: &mut [f64]) {
    for (at, sum) in means.zip(sums) {
        let (mut seen, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for (share, values) in contributing {
            seen += share;
            let delta = f64::from(values[at]) - mean;
            // For the first contributor the quotient is exactly 1, so that its deviation is exactly 0.
            let step = delta * (share / seen);
            mean += step;
            squares += share * delta * (delta - step);
        }
        *sum += squares / seen;
    }
}

#[cfg(test)]
mod tests;
