//! Drawing from a Dirichlet distribution, and splitting a class by what was drawn.
//!
//! Logarithms and cosines may differ in their last bit from one system's maths library to another's; that
//! moves a sample only where a running sum lies as close as that to a half.

use partway_core::random::unit_f64;
use rand::Rng;

/// Shares of `count` parts, which sum to 1, from the symmetric Dirichlet distribution of `alpha`.
pub(super) fn draw(rng: &mut impl Rng, alpha: f64, count: usize) -> Vec<f64> {
    // Gamma variates as logarithms: with a small alpha all of them may be too small for an f64.
    let logs: Vec<f64> = (0..count).map(|_| ln_gamma_variate(rng, alpha)).collect();
    let largest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = logs.iter().map(|log| (log - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

/// Cuts `items` at the rounded running sums of `shares`; the last part takes what rounding left.
pub(super) fn split<'a, T>(items: &'a [T], shares: &[f64]) -> Vec<&'a [T]> {
    let (mut sum, mut start) = (0.0, 0);
    let mut parts = Vec::with_capacity(shares.len());
    for (part, share) in shares.iter().enumerate() {
        sum += share;
        let end = if part + 1 == shares.len() {
            items.len()
        } else {
            ((sum * items.len() as f64).round() as usize).min(items.len())
        };
        parts.push(&items[start..end]);
        start = end;
    }
    parts
}

/// The logarithm of a draw from Gamma(`shape`, 1), `shape` above 0 (Marsaglia & Tsang 2000).
fn ln_gamma_variate(rng: &mut impl Rng, shape: f64) -> f64 {
    if shape < 1.0 {
        // Gamma(a) is Gamma(a + 1) times U^(1/a); the bound keeps the smallest shapes finite.
        return ln_gamma_variate(rng, shape + 1.0) + (positive(rng).ln() / shape).max(f64::MIN);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = normal(rng);
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && positive(rng).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d.ln() + v.ln();
        }
    }
}

/// A draw from the standard normal distribution (Box & Muller 1958).
fn normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * positive(rng).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit_f64(rng)).cos()
}

/// Uniform in (0, 1], which has a logarithm.
fn positive(rng: &mut impl Rng) -> f64 {
    1.0 - unit_f64(rng)
}

#[cfg(test)]
mod tests {
    use partway_core::random::stream;

    use super::*;

    /// Mean and variance of 20,000 draws.
    fn moments(mut draw: impl FnMut() -> f64) -> (f64, f64) {
        let draws: Vec<f64> = (0..20_000).map(|_| draw()).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        (mean, draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / draws.len() as f64)
    }

    #[test]
    fn gamma_has_mean_and_variance_equal_to_its_shape() {
        for shape in [0.3, 1.0, 4.5] {
            let mut rng = stream(7, &["gamma test"]);
            let (mean, variance) = moments(|| ln_gamma_variate(&mut rng, shape).exp());
            assert!((mean / shape - 1.0).abs() < 0.04, "shape {shape}: mean {mean}");
            assert!((variance / shape - 1.0).abs() < 0.1, "shape {shape}: variance {variance}");
        }
    }

    #[test]
    fn dirichlet_has_the_variance_of_its_alpha() {
        // Var[x_i] = (1/k)(1 - 1/k) / (k alpha + 1).
        for alpha in [0.1, 0.5, 5.0] {
            let mut rng = stream(7, &["dirichlet test"]);
            let (mean, variance) = moments(|| draw(&mut rng, alpha, 4)[0]);
            let expected = 0.25 * 0.75 / (4.0 * alpha + 1.0);
            assert!((mean - 0.25).abs() < 0.01, "alpha {alpha}: mean {mean}");
            assert!((variance / expected - 1.0).abs() < 0.05, "alpha {alpha}: {variance}, not {expected}");
        }
    }

    #[test]
    fn extreme_alphas_still_give_shares() {
        let mut rng = stream(7, &["extreme test"]);
        for alpha in [f64::from_bits(1), 1e-9, 1e300] {
            let shares = draw(&mut rng, alpha, 8);
            let sum: f64 = shares.iter().sum();
            assert!((sum - 1.0).abs() < 1e-9, "alpha {alpha}: {shares:?}");
        }
    }

    #[test]
    fn a_split_loses_nothing() {
        let items: Vec<usize> = (0..10).collect();
        let parts = split(&items, &[0.26, 0.0, 0.5, 0.24]);
        assert_eq!(parts, [&items[..3], &[], &items[3..8], &items[8..]]);
        assert_eq!(split(&items, &[0.9, 0.9]).concat(), items);
    }
}
