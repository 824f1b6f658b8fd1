//! Cuts and shares where the links do not compete: every edge has the whole rate of its own, and the workers are
//! all that is scarce.

use super::budget::{self, Standing};
use super::options::{EdgeOptions, LinkRates, Tables};
use super::{Allotment, Deadline, Objective, Pick, ROUNDING, Solution, deepest, fastest, shares};

/// Plans all edges.
pub(super) fn solve(tables: &Tables) -> Solution {
    let input = tables.input;
    let rates = tables.links();
    let edges = tables.options(&rates);
    let (deadline_s, deadline_bound_s, least_deadline_s) = match input.deadline {
        Deadline::Auto => {
            let least = budget::least(&edges, input);
            let deadline_s = least * (1.0 + 10.0 * ROUNDING);
            (deadline_s, least, Some(deadline_s))
        }
        Deadline::Fixed(seconds) => (seconds, 0.0, None),
    };
    let (picks, standings, cost, bound) = cut(tables, &edges, deadline_s * (1.0 - ROUNDING));
    let allotment = |(((edge, pick), standing), rates): (((&EdgeOptions, Pick), Standing), LinkRates)| {
        Allotment { cut: edge.options[pick.option].cut, rates, share: pick.share, standing }
    };
    let allotments = edges.iter().zip(picks).zip(standings).zip(rates).map(allotment).collect();
    Solution { allotments, deadline_s, deadline_bound_s, least_deadline_s, cost, bound }
}

/// Cuts and shares of which no edge that can takes longer than `budget` seconds; what those cost that
/// do not, and the bound on it.
fn cut(tables: &Tables, edges: &[EdgeOptions], budget: f64) -> (Vec<Pick>, Vec<Standing>, f64, f64) {
    let input = tables.input;
    let workers = input.cloud.workers as f64;
    let (standings, needed) = budget::divide(edges, budget, workers);
    let mut picks = vec![Pick { option: 0, share: 0.0 }; edges.len()];

    // What the edges that meet the deadline can spare makes the others as quick as it can.
    let missing: Vec<usize> = (0..edges.len()).filter(|&e| standings[e] != Standing::Meets).collect();
    let even = ((workers - needed) / missing.len().max(1) as f64).clamp(0.0, 1.0);
    for &e in &missing {
        picks[e] = edges[e].fastest_at(even);
    }
    let left = workers - missing.iter().map(|&e| picks[e].share).sum::<f64>();

    let meeting: Vec<usize> = (0..edges.len()).filter(|&e| standings[e] == Standing::Meets).collect();
    let options: Vec<&EdgeOptions> = meeting.iter().map(|&e| &edges[e]).collect();
    let found = match input.objective {
        Objective::Deepest => deepest::solve(&options, budget, left, input.hysteresis),
        Objective::Fastest => {
            let tightest = if missing.is_empty() && input.deadline != Deadline::Auto {
                budget.min(budget::least_within(&options, left, input.hysteresis))
            } else {
                budget
            };
            fastest::solve(&options, tightest, left, input.hysteresis)
        }
    };
    for (&e, pick) in meeting.iter().zip(found.edges) {
        picks[e] = pick;
    }
    let mut amounts: Vec<f64> = picks.iter().map(|pick| pick.share).collect();
    shares::hand_out(&mut amounts, |_| 1.0, workers);
    for (pick, share) in picks.iter_mut().zip(amounts) {
        pick.share = share;
    }
    (picks, standings, found.cost, found.bound)
}
