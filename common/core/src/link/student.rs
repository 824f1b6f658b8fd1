//! Student's t distribution, as far as the predictive of a normal with unknown mean and variance needs it.

/// Logarithm of the gamma function for `x > 0` (Lanczos 1964, g = 7), to about 1e-13.
fn ln_gamma(x: f64) -> f64 {
    const COEFFICIENTS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        // The reflection formula.
        return (std::f64::consts::PI / (std::f64::consts::PI * x).sin()).ln() - ln_gamma(1.0 - x);
    }
    let x = x - 1.0;
    let series = COEFFICIENTS[1..].iter().enumerate().map(|(i, c)| c / (x + i as f64 + 1.0)).sum::<f64>();
    let t = x + 7.5;
    0.5 * (2.0 * std::f64::consts::PI).ln() + (x + 0.5) * t.ln() - t + (COEFFICIENTS[0] + series).ln()
}

/// Logarithm of the density at `x`, with `freedom` degrees of freedom.
pub(super) fn ln_density(x: f64, mean: f64, scale: f64, freedom: f64) -> f64 {
    let z = (x - mean) / scale;
    ln_gamma(f64::midpoint(freedom, 1.0))
        - ln_gamma(0.5 * freedom)
        - 0.5 * (freedom * std::f64::consts::PI).ln()
        - scale.ln()
        - f64::midpoint(freedom, 1.0) * (z * z / freedom).ln_1p()
}

/// The probability of at least `x`.
pub(super) fn survival(x: f64, mean: f64, scale: f64, freedom: f64) -> f64 {
    let z = (x - mean) / scale;
    let tail = 0.5 * incomplete_beta(freedom / (freedom + z * z), 0.5 * freedom, 0.5);
    if z > 0.0 { tail } else { 1.0 - tail }
}

/// The regularized incomplete beta function, by its continued fraction in Lentz's form (Abramowitz & Stegun 1964,
/// 26.5.8).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    const TINY: f64 = 1e-300;
    const MOST_TERMS: u32 = 300;
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on this side only.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let safe = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut numerator = 1.0;
    let mut denominator = 1.0 / safe(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = denominator;
    for term in 1..MOST_TERMS {
        let m = f64::from(term);
        for coefficient in [
            m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0)),
        ] {
            denominator = 1.0 / safe(1.0 + coefficient * denominator);
            numerator = safe(1.0 + coefficient / numerator);
            fraction *= denominator * numerator;
        }
        if (denominator * numerator - 1.0).abs() < 1e-13 {
            break;
        }
    }
    front * fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gamma_function_is_the_factorial() {
        for (x, expected) in [(1.0, 1.0_f64), (2.0, 1.0), (5.0, 24.0), (11.0, 3_628_800.0)] {
            assert!((ln_gamma(x) - expected.ln()).abs() < 1e-11, "{x}");
        }
        assert!((ln_gamma(0.5) - 0.5 * std::f64::consts::PI.ln()).abs() < 1e-11);
        assert!((ln_gamma(0.25) - 1.288_022_524_698_077).abs() < 1e-10);
    }

    #[test]
    fn quantiles_are_those_of_the_tables() {
        // Two-sided 95 % points.
        for (freedom, point) in
            [(1.0, 12.706_204_7), (4.0, 2.776_445_1), (10.0, 2.228_138_9), (100.0, 1.983_971_5)]
        {
            assert!((survival(point, 0.0, 1.0, freedom) - 0.025).abs() < 1e-7, "{freedom}");
            assert!((survival(-point, 0.0, 1.0, freedom) - 0.975).abs() < 1e-7, "{freedom}");
        }
        assert!((survival(3.0, 3.0, 2.0, 5.0) - 0.5).abs() < 1e-12);
        assert!(survival(1e9, 0.0, 1.0, 4.0) >= 0.0 && survival(-1e9, 0.0, 1.0, 4.0) <= 1.0);
    }

    #[test]
    fn the_density_adds_up_to_the_survival() {
        let (mean, scale, freedom) = (0.3, 0.7, 3.5);
        let width = 1e-3;
        let sum: f64 = (0..2_000)
            .map(|i| ln_density(1.0 + (f64::from(i) + 0.5) * width, mean, scale, freedom).exp() * width)
            .sum();
        let expected = survival(1.0, mean, scale, freedom) - survival(3.0, mean, scale, freedom);
        assert!((sum - expected).abs() < 1e-6, "{sum} {expected}");
    }
}
