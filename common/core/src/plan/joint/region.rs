//! Where the best prices may still be: a convex region of the simplex, cut down by every evaluation.

use super::Amounts;

/// Corners closer than this are one.
const SAME: f64 = 1e-12;

/// Non-negative prices that add up to 1: a point, a segment or a convex polygon, by its corners in order.
#[derive(Clone, Debug)]
pub(super) struct Region {
    corners: Vec<Amounts>,
}

impl Region {
    /// All prices of the scarce resources; the others cost nothing.
    pub(super) fn of(scarce: [bool; 3]) -> Self {
        let corner = |resource: usize| std::array::from_fn(|other| f64::from(u8::from(other == resource)));
        Self { corners: (0..3).filter(|&resource| scarce[resource]).map(corner).collect() }
    }

    /// The centre of gravity: every cut through it leaves at most 1 - 1/e of the area (Grünbaum 1960).
    pub(super) fn centre(&self) -> Amounts {
        let Some((&first, rest)) = self.corners.split_first() else { return [0.0; 3] };
        let (mut sum, mut total) = ([0.0; 3], 0.0);
        for pair in rest.windows(2) {
            let area = triangle(&first, &pair[0], &pair[1]);
            total += area;
            for (resource, sum) in sum.iter_mut().enumerate() {
                *sum += area * (first[resource] + pair[0][resource] + pair[1][resource]) / 3.0;
            }
        }
        if total > f64::MIN_POSITIVE {
            return sum.map(|value| value / total);
        }
        let count = self.corners.len() as f64;
        std::array::from_fn(|resource| {
            self.corners.iter().map(|corner| corner[resource]).sum::<f64>() / count
        })
    }

    /// Keeps the prices at which `loads` cost 1 or more.
    pub(super) fn keep(&mut self, loads: &Amounts) {
        let above =
            |corner: &Amounts| corner.iter().zip(loads).map(|(price, load)| price * load).sum::<f64>() - 1.0;
        let mut kept: Vec<Amounts> = Vec::with_capacity(self.corners.len() + 1);
        for (index, corner) in self.corners.iter().enumerate() {
            let next = &self.corners[(index + 1) % self.corners.len()];
            let (here, there) = (above(corner), above(next));
            if here >= 0.0 {
                add(&mut kept, *corner);
            }
            if (here < 0.0) != (there < 0.0) {
                let part = here / (here - there);
                add(&mut kept, std::array::from_fn(|i| corner[i] + part * (next[i] - corner[i])));
            }
        }
        self.corners = kept;
    }

    /// Whether nothing is left to choose, to within `accuracy`.
    pub(super) fn is_settled(&self, accuracy: f64) -> bool {
        let Some((first, rest)) = self.corners.split_first() else { return true };
        rest.iter().all(|corner| distance(first, corner) <= accuracy)
    }
}

fn add(corners: &mut Vec<Amounts>, corner: Amounts) {
    let is_new = |other: Option<&Amounts>| other.is_none_or(|other| distance(other, &corner) > SAME);
    if is_new(corners.last()) && is_new(corners.first()) {
        corners.push(corner);
    }
}

fn distance(left: &Amounts, right: &Amounts) -> f64 {
    left.iter().zip(right).map(|(left, right)| (left - right).abs()).fold(0.0, f64::max)
}

/// The area between three corners.
fn triangle(corner: &Amounts, one: &Amounts, other: &Amounts) -> f64 {
    let (one, other): (Amounts, Amounts) =
        (std::array::from_fn(|i| one[i] - corner[i]), std::array::from_fn(|i| other[i] - corner[i]));
    let cross = |i: usize, j: usize| one[i] * other[j] - one[j] * other[i];
    0.5 * [cross(1, 2), cross(2, 0), cross(0, 1)].map(|value| value * value).iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(left: &Amounts, right: &Amounts) -> bool {
        distance(left, right) < 1e-9
    }

    #[test]
    fn one_two_and_three_resources() {
        assert!(near(&Region::of([false, true, false]).centre(), &[0.0, 1.0, 0.0]));
        assert!(near(&Region::of([true, false, true]).centre(), &[0.5, 0.0, 0.5]));
        assert!(near(&Region::of([true; 3]).centre(), &[1.0 / 3.0; 3]));
        assert!(Region::of([false, true, false]).is_settled(0.0));
    }

    #[test]
    fn a_cut_keeps_the_side_that_costs_more() {
        let mut region = Region::of([true, true, false]);
        region.keep(&[2.0, 0.0, 0.0]);
        assert!(near(&region.centre(), &[0.75, 0.25, 0.0]));
        let mut region = Region::of([true; 3]);
        region.keep(&[2.0, 0.0, 0.0]);
        assert!(near(&region.centre(), &[2.0 / 3.0, 1.0 / 6.0, 1.0 / 6.0]));
        region.keep(&[0.5; 3]);
        assert!(region.corners.is_empty() && region.is_settled(0.0));
    }

    #[test]
    fn a_hidden_price_is_found_by_cuts_through_the_centre() {
        let hidden = [0.7, 0.06, 0.24];
        let mut region = Region::of([true; 3]);
        for _ in 0..60 {
            let centre = region.centre();
            // The side of the centre on which the hidden price is.
            let loads: Amounts = std::array::from_fn(|i| 1.0 + 10.0 * (hidden[i] - centre[i]));
            let shift: f64 = loads.iter().zip(&centre).map(|(load, price)| load * price).sum::<f64>() - 1.0;
            region.keep(&loads.map(|load| load - shift));
        }
        assert!(distance(&region.centre(), &hidden) < 1e-3, "{:?}", region.centre());
    }
}
