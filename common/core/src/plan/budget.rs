//! The least time that all edges can meet at once, and who cannot meet a given one.

use super::options::{EdgeOptions, Tables, share_needed};
use super::pipeline::CloudCurve;
use super::{PlanInput, ROUNDING, joint};

/// Relative accuracy of the least budget.
const ACCURACY: f64 = 1e-9;

/// An edge that misses the deadline keeps at least this part of an even split of the workers, so that it
/// too makes progress.
const STRAGGLER_PART: f64 = 0.25;

/// How an edge stands against the deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It meets the deadline.
    Meets,
    /// It would not with a worker of its own.
    TooSlow,
    /// It would alone, but the workers are taken.
    Crowded,
    /// No allowed cut fits into its memory.
    NoMemory,
}

/// The least budget, seconds, that every edge with enough memory can meet at once.
pub(super) fn least(edges: &[EdgeOptions], input: &PlanInput) -> f64 {
    let fitting: Vec<&EdgeOptions> = edges.iter().filter(|edge| edge.fits).collect();
    let workers = input.cloud.workers as f64;
    if fitting.is_empty() {
        return least_within(&edges.iter().collect::<Vec<_>>(), workers, input.hysteresis);
    }
    let reserve = straggler_share(workers, edges.len()) * (edges.len() - fitting.len()) as f64;
    least_within(&fitting, workers - reserve, input.hysteresis)
}

/// The least deadline that all edges with enough memory can meet at once.
pub(super) fn common_deadline(tables: &Tables) -> f64 {
    if joint::is_needed(tables.input) {
        return joint::least_deadline(tables);
    }
    least(&tables.options(&tables.links()), tables.input) * (1.0 + 10.0 * ROUNDING)
}

/// Workers with which all edges that could meet a deadline alone meet it at once.
pub(super) fn workers_needed(tables: &Tables, deadline_s: f64) -> u64 {
    let edges = tables.options(&tables.links());
    let deadline = deadline_s * (1.0 - ROUNDING);
    let needs = edges.iter().filter(|edge| edge.fits).filter_map(|edge| edge.share_needed(deadline));
    (needs.sum::<f64>() - ROUNDING).ceil().max(1.0) as u64
}

/// The least budget that `edges` can meet with shares that add up to `capacity`. If the cuts that they
/// have now meet one that is longer by less than `hysteresis`, that one: the deadline does not follow
/// every jitter of a link.
pub(super) fn least_within(edges: &[&EdgeOptions], capacity: f64, hysteresis: f64) -> f64 {
    let mut free = Fronts::with_capacity(edges.len());
    for edge in edges {
        free.add(edge.options.iter().map(|option| (option.curve, option.service_s)));
    }
    let least = bisect(&free, capacity);
    if hysteresis > 0.0 && edges.iter().all(|edge| edge.current.is_some()) {
        let mut current = Fronts::with_capacity(edges.len());
        for edge in edges {
            let option = edge.current.map(|current| &edge.options[current]);
            current.add(option.map(|option| (option.curve, option.service_s)).into_iter());
        }
        let kept = bisect(&current, capacity);
        if kept * (1.0 - hysteresis) < least {
            return kept.max(least);
        }
    }
    least
}

/// Who meets `budget`, and the sum of shares that those need at least. If the workers do not suffice for
/// all, the edges that need most are left out first.
pub(super) fn divide(edges: &[EdgeOptions], budget: f64, workers: f64) -> (Vec<Standing>, f64) {
    let mut standings = Vec::with_capacity(edges.len());
    let mut needs = Vec::new();
    for (index, edge) in edges.iter().enumerate() {
        let need = edge.share_needed(budget);
        standings.push(match need {
            _ if !edge.fits => Standing::NoMemory,
            None => Standing::TooSlow,
            Some(need) => {
                needs.push((need, index));
                Standing::Meets
            }
        });
    }
    let floor = straggler_share(workers, edges.len());
    needs.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
    // Summed from the least on: differences would leave rounding behind.
    let mut total = 0.0;
    let totals: Vec<f64> = std::iter::once(0.0)
        .chain(needs.iter().map(|(need, _)| {
            total += need;
            total
        }))
        .collect();
    let room = |count: usize| workers - floor * (edges.len() - count) as f64;
    let most = (0..=needs.len()).rev().find(|&count| totals[count] <= room(count)).unwrap_or(0);
    for &(_, index) in &needs[most..] {
        standings[index] = Standing::Crowded;
    }
    let total = totals[most];
    (standings, total)
}

/// What an edge that misses the deadline keeps at least.
pub(super) fn straggler_share(workers: f64, edges: usize) -> f64 {
    (STRAGGLER_PART * workers / edges as f64).min(1.0)
}

/// (seconds by those in the cloud, service seconds) of some edges, each by falling service.
struct Fronts {
    pairs: Vec<(CloudCurve, f64)>,
    /// Where each edge's pairs end.
    ends: Vec<usize>,
}

impl Fronts {
    fn with_capacity(edges: usize) -> Self {
        Self { pairs: Vec::with_capacity(8 * edges), ends: Vec::with_capacity(edges) }
    }

    /// Adds the options of which no other has both less service and less of everything else.
    fn add(&mut self, options: impl DoubleEndedIterator<Item = (CloudCurve, f64)>) {
        let start = self.pairs.len();
        // The service falls with the cut: from the deepest on, only less of everything else is worth more.
        let mut rising = true;
        let mut deeper_s = f64::NEG_INFINITY;
        let mut least = f64::INFINITY;
        for (curve, service) in options.rev() {
            rising &= service >= deeper_s;
            deeper_s = service;
            // Whoever takes least alone is below nobody.
            if curve.alone_s < least || !self.pairs[start..].iter().any(|(deeper, _)| deeper.is_below(&curve))
            {
                least = least.min(curve.alone_s);
                self.pairs.push((curve, service));
            }
        }
        debug_assert!(rising, "the later layers are a part of all");
        self.pairs[start..].reverse();
        self.ends.push(self.pairs.len());
    }

    fn each(&self) -> impl Iterator<Item = &[(CloudCurve, f64)]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.pairs[start..end])
    }
}

fn bisect(fronts: &Fronts, capacity: f64) -> f64 {
    let fits = |budget: f64| {
        let mut sum = 0.0;
        fronts.each().all(|front| {
            let mut need = f64::INFINITY;
            for (curve, service) in front {
                need = share_needed(curve, *service, budget).map_or(need, |share| need.min(share));
            }
            sum += need;
            sum <= capacity
        })
    };
    // Nudged up, so that a share of 1 is not missed by rounding.
    let slowest_with = |share: f64| {
        let best = |front: &[(CloudCurve, f64)]| {
            front
                .iter()
                .map(|(curve, service)| curve.at(if *service > 0.0 { service / share } else { 0.0 }))
                .fold(f64::INFINITY, f64::min)
        };
        fronts.each().map(best).fold(0.0, f64::max) * (1.0 + ACCURACY)
    };
    let mut low = slowest_with(1.0);
    if fits(low) {
        return low;
    }
    let even = (capacity / fronts.ends.len().max(1) as f64).min(1.0);
    let mut high = slowest_with(even * (1.0 - ACCURACY));
    while high - low > ACCURACY * high {
        let middle = f64::midpoint(low, high);
        if fits(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}
