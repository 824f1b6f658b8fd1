//! The least time that all edges can meet at once, and who cannot meet a given one.

use super::PlanInput;
use super::options::{EdgeOptions, share_needed};

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

/// The least budget that `edges` can meet with shares that add up to `capacity`. If the cuts that they
/// have now meet one that is longer by less than `hysteresis`, that one: the deadline does not follow
/// every jitter of a link.
pub(super) fn least_within(edges: &[&EdgeOptions], capacity: f64, hysteresis: f64) -> f64 {
    let free: Vec<Front> = edges.iter().map(|edge| front(edge)).collect();
    let least = bisect(&free, capacity);
    let current: Option<Vec<Front>> = edges
        .iter()
        .map(|edge| {
            let option = &edge.options[edge.current?];
            Some(vec![(option.other_s, option.service_s())])
        })
        .collect();
    if hysteresis > 0.0
        && let Some(current) = current
    {
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
    let mut total: f64 = needs.iter().map(|(need, _)| need).sum();
    while total > workers - floor * (edges.len() - needs.len()) as f64 {
        let Some((_, index)) = needs.pop() else { break };
        standings[index] = Standing::Crowded;
        // Summed anew: differences would leave rounding behind.
        total = needs.iter().map(|(need, _)| need).sum();
    }
    (standings, total)
}

fn straggler_share(workers: f64, edges: usize) -> f64 {
    (STRAGGLER_PART * workers / edges as f64).min(1.0)
}

/// (other seconds, service seconds) by rising other and falling service.
type Front = Vec<(f64, f64)>;

/// The options of which no other has both less service and less of everything else.
fn front(edge: &EdgeOptions) -> Front {
    let mut pairs: Front = edge.options.iter().map(|option| (option.other_s, option.service_s())).collect();
    pairs.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.total_cmp(&right.1)));
    let mut least_service = f64::INFINITY;
    pairs.retain(|&(_, service)| {
        let better = service < least_service;
        least_service = least_service.min(service);
        better
    });
    pairs
}

fn bisect(fronts: &[Front], capacity: f64) -> f64 {
    let fits = |budget: f64| {
        let mut sum = 0.0;
        fronts.iter().all(|front| {
            let need = front
                .iter()
                .filter_map(|&(other, service)| share_needed(other, service, budget))
                .min_by(f64::total_cmp);
            sum += need.unwrap_or(0.0);
            need.is_some() && sum <= capacity
        })
    };
    // Nudged up, so that a share of 1 is not missed by rounding.
    let slowest_with = |share: f64| {
        let best = |front: &Front| {
            front
                .iter()
                .map(|&(other, service)| other + if service > 0.0 { service / share } else { 0.0 })
                .fold(f64::INFINITY, f64::min)
        };
        fronts.iter().map(best).fold(0.0, f64::max) * (1.0 + ACCURACY)
    };
    let mut low = slowest_with(1.0);
    if fits(low) {
        return low;
    }
    let even = (capacity / fronts.len().max(1) as f64).min(1.0);
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
