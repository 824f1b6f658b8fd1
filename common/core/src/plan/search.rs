//! Branch and bound over one option per edge, with bounds from one Lagrange multiplier on the shares.

/// One option of one edge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    /// The least share it needs.
    pub(super) share: f64,
    /// Its cost plus the price of the share it takes, at its best share for that price: no solution with
    /// this option adds less to the Lagrangian.
    pub(super) priced: f64,
}

/// A choice of one option per edge, by index, and what it costs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Choice {
    pub(super) options: Vec<usize>,
    pub(super) cost: f64,
}

/// Relative improvements below this are rounding.
const LEAST_GAIN: f64 = 1e-12;

/// The search for the cheapest choice whose shares add up to `capacity` at most.
pub(super) struct Search<'a, F> {
    pub(super) branches: &'a [Vec<Branch>],
    pub(super) capacity: f64,
    /// The price times `capacity`: what the Lagrangian gives back.
    pub(super) rebate: f64,
    /// How many nodes may be visited.
    pub(super) nodes: u32,
    /// What a complete choice costs.
    pub(super) cost: F,
}

impl<F: Fn(&[usize]) -> f64> Search<'_, F> {
    /// The best choice found, not worse than `incumbent`, and whether it is proven best.
    pub(super) fn run(mut self, incumbent: Choice) -> (Choice, bool) {
        let edges = self.branches.len();
        let mut rest = vec![(0.0, 0.0); edges + 1];
        for edge in (0..edges).rev() {
            let least = |value: fn(&Branch) -> f64| {
                self.branches[edge].iter().map(value).fold(f64::INFINITY, f64::min)
            };
            let (share, priced) = rest[edge + 1];
            rest[edge] = (share + least(|branch| branch.share), priced + least(|branch| branch.priced));
        }
        let order: Vec<Vec<usize>> = self
            .branches
            .iter()
            .map(|branches| {
                let mut indices: Vec<usize> = (0..branches.len()).collect();
                indices.sort_by(|&left, &right| branches[left].priced.total_cmp(&branches[right].priced));
                indices
            })
            .collect();
        let mut best = incumbent;
        let mut path = Vec::with_capacity(edges);
        self.descend(&rest, &order, &mut path, (0.0, 0.0), &mut best);
        (best, self.nodes > 0)
    }

    fn descend(
        &mut self,
        rest: &[(f64, f64)],
        order: &[Vec<usize>],
        path: &mut Vec<usize>,
        (share, priced): (f64, f64),
        best: &mut Choice,
    ) {
        let edge = path.len();
        if edge == self.branches.len() {
            let cost = (self.cost)(path);
            if cost < best.cost {
                *best = Choice { options: path.clone(), cost };
            }
            return;
        }
        for &index in &order[edge] {
            self.nodes = self.nodes.saturating_sub(1);
            if self.nodes == 0 {
                return;
            }
            let branch = self.branches[edge][index];
            let (share, priced) = (share + branch.share, priced + branch.priced);
            let bound = priced + rest[edge + 1].1 - self.rebate;
            if bound >= best.cost - LEAST_GAIN * best.cost.abs() {
                // The others of this edge are dearer still.
                return;
            }
            if share + rest[edge + 1].0 <= self.capacity {
                path.push(index);
                self.descend(rest, order, path, (share, priced), best);
                path.pop();
            }
        }
    }
}
