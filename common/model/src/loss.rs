//! Softmax cross-entropy and its gradient at the logits.
//!
//! On the host, in f64: there are only `batch * classes` logits, the loss is wanted there anyway, and
//! the gradient enters the tape the same way as one that came over the wire.

/// What a batch's logits are worth.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scored {
    /// Sum over the samples of `-log softmax(logits)[label]`.
    pub(crate) loss_sum: f64,
    /// Samples whose largest logit is their label's; the first of equals counts.
    pub(crate) correct: usize,
}

/// Scores `logits` `[samples, classes]`; every label is below `classes`.
pub(crate) fn score(logits: &[f32], labels: &[u32], classes: usize) -> Scored {
    let mut scored = Scored { loss_sum: 0.0, correct: 0 };
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let (largest, at) = first_largest(row);
        let sum: f64 = row.iter().map(|x| (f64::from(*x) - largest).exp()).sum();
        scored.loss_sum += sum.ln() + largest - f64::from(row[label as usize]);
        scored.correct += usize::from(at == label as usize);
    }
    scored
}

/// Gradient at `logits` of the mean loss over `batch` samples, of which these may be a part:
/// `(softmax - one_hot) / batch`.
pub(crate) fn gradient(mut logits: Vec<f32>, labels: &[u32], classes: usize, batch: usize) -> Vec<f32> {
    let samples = batch as f64;
    for (row, &label) in logits.chunks_exact_mut(classes).zip(labels) {
        let (largest, _) = first_largest(row);
        let sum: f64 = row.iter().map(|x| (f64::from(*x) - largest).exp()).sum();
        for (class, x) in row.iter_mut().enumerate() {
            let share = (f64::from(*x) - largest).exp() / sum;
            let target = if class == label as usize { 1.0 } else { 0.0 };
            *x = ((share - target) / samples) as f32;
        }
    }
    logits
}

/// The largest value and where it first is.
fn first_largest(row: &[f32]) -> (f64, usize) {
    let mut best = (f32::NEG_INFINITY, 0);
    for (at, &x) in row.iter().enumerate() {
        if x > best.0 {
            best = (x, at);
        }
    }
    (f64::from(best.0), best.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_cost_the_log_of_the_classes() {
        let scored = score(&[3.0; 8], &[0, 2], 4);
        assert!((scored.loss_sum - 2.0 * 4f64.ln()).abs() < 1e-12);
        assert_eq!(scored.correct, 1, "of equal logits the first counts");
    }

    #[test]
    fn large_logits_do_not_overflow() {
        let scored = score(&[1e30, 0.0], &[0], 2);
        assert_eq!(scored, Scored { loss_sum: 0.0, correct: 1 });
        assert_eq!(gradient(vec![1e30, 0.0], &[1], 2, 1), [1.0, -1.0]);
    }

    #[test]
    fn not_a_number_stays_one() {
        assert!(score(&[f32::NAN, 0.0], &[0], 2).loss_sum.is_nan());
    }

    #[test]
    fn gradient_is_the_slope_of_the_mean_loss() {
        let (logits, labels) = ([0.3, -1.0, 0.7, 2.0, 0.1, -0.4], [2, 1]);
        let gradient = gradient(logits.to_vec(), &labels, 3, 2);
        for at in 0..logits.len() {
            let shifted = |by: f32| {
                let mut moved = logits;
                moved[at] += by;
                score(&moved, &labels, 3).loss_sum / 2.0
            };
            let slope = (shifted(1e-2) - shifted(-1e-2)) / 2e-2;
            assert!((slope - f64::from(gradient[at])).abs() < 1e-4, "{at}: {slope} {}", gradient[at]);
        }
    }
}
