//! A root of three functions of three unknowns by Broyden's method (Broyden 1965), for functions that fall with
//! their unknowns: how loads answer to the logarithms of prices.

/// Numbers of the three resources.
type Triple = [f64; 3];

/// The longest step of one unknown.
const LONGEST: f64 = 0.6;
/// A difference of values that is less than this part of the steps' says nothing.
const LEAST_CHANGE: f64 = 1e-4;

/// The steps that the values so far ask for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Broyden {
    /// Steps per value, the negative inverse of the derivatives.
    steps: [Triple; 3],
    last: Option<(Triple, Triple)>,
}

impl Broyden {
    /// For functions that fall by about as much as their own unknown rises where another falls, and by `together` times
    /// as much where all rise.
    pub(super) fn new(together: f64) -> Self {
        let all = (1.0 / together - 1.0) / 3.0;
        let steps = std::array::from_fn(|row| std::array::from_fn(|i| all + f64::from(u8::from(i == row))));
        Self { steps, last: None }
    }

    /// With what is known of the derivatives, for similar functions.
    pub(super) fn again(self) -> Self {
        Self { last: None, ..self }
    }

    /// Where to look next after `values` at `at`.
    pub(super) fn next(&mut self, at: &Triple, values: &Triple) -> Triple {
        if let Some((before, values_before)) = self.last {
            self.learn(&difference(at, &before), &difference(values, &values_before));
        }
        self.last = Some((*at, *values));
        let step = self.times(values);
        std::array::from_fn(|i| at[i] + step[i].clamp(-LONGEST, LONGEST))
    }

    /// Steps times values.
    fn times(&self, values: &Triple) -> Triple {
        self.steps.map(|row| dot(&row, values))
    }

    /// The least change after which `-change` would have asked for `step` (Sherman & Morrison 1950).
    fn learn(&mut self, step: &Triple, change: &Triple) {
        let fall = change.map(|change| -change);
        let asked = self.times(&fall);
        let left: Triple = std::array::from_fn(|i| (0..3).map(|row| step[row] * self.steps[row][i]).sum());
        let scale = dot(&left, &fall);
        if scale <= LEAST_CHANGE * dot(step, step) {
            return;
        }
        for row in 0..3 {
            for (steps, left) in self.steps[row].iter_mut().zip(left) {
                *steps += (step[row] - asked[row]) * left / scale;
            }
        }
    }
}

fn dot(one: &Triple, other: &Triple) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

fn difference(one: &Triple, other: &Triple) -> Triple {
    std::array::from_fn(|i| one[i] - other[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What power-law demands want more than 1 at the logarithms of prices.
    fn excess(at: &Triple) -> Triple {
        let prices = at.map(f64::exp);
        let scale: f64 = prices.iter().sum();
        std::array::from_fn(|i| {
            [0.3, 0.5, 0.2][i] * (scale / prices[i]).powf(0.8) * (4.0 / scale).powf(0.05) - 1.0
        })
    }

    #[test]
    fn a_point_that_is_asked_for_again_teaches_nothing() {
        let mut broyden = Broyden::new(0.1);
        let expected = broyden.next(&[0.0; 3], &[0.1, -0.1, 0.2]);
        for _ in 0..3 {
            assert_eq!(
                broyden.next(&[0.0; 3], &[0.1, -0.1, 0.2]).map(f64::to_bits),
                expected.map(f64::to_bits)
            );
        }
    }

    #[test]
    fn a_root_is_found_in_a_few_steps_though_all_prices_together_matter_little() {
        let mut broyden = Broyden::new(0.1);
        let mut at = [0.0; 3];
        let mut count = 0;
        while excess(&at).iter().any(|value| value.abs() > 1e-6) {
            at = broyden.next(&at, &excess(&at));
            count += 1;
            assert!(count < 30, "{at:?} {:?}", excess(&at));
        }
        let mut nearby = at.map(|value| value + 0.02);
        let mut again = broyden.again();
        for _ in 0..4 {
            nearby = again.next(&nearby, &excess(&nearby));
        }
        assert!(excess(&nearby).iter().all(|value| value.abs() < 1e-5), "{:?}", excess(&nearby));
    }
}
