//! Cuts, rates and shares at once, where the cloud's capacity does not carry all links together: which rate an
//! edge needs then depends on its cut, and the other way round.
//!
//! A step takes `fixed + up / rate + down / rate + service / share` seconds, convex in the amounts; for given
//! cuts the amounts are a convex problem with at most three scarce resources, and all cuts at once have a
//! Lagrangian of three prices (Boyd & Vandenberghe 2004, chapter 5). Prices give bounds, and cuts
//! that in a large fleet are as good as the bound but for the few edges that are between two cuts; in a small
//! one branch and bound closes the rest.

mod broyden;
mod cuts;
mod fleet;
mod least_time;
mod narrow;
mod objective;
mod overlap;
mod region;
mod settle;
mod smooth;

use super::budget::{Standing, straggler_share};
use super::options::{LinkRates, Tables};
use super::{Allotment, Deadline, Objective, PlanInput, Solution};
use cuts::{Cuts, most};
use fleet::{Goal, Prices};
use least_time::{LeastTime, SEARCHED_EDGES, SLACK, TOLERANCE};
use smooth::{Nearby, SMOOTH};

/// Of the uplinks' capacity, of the downlinks', of the workers.
type Amounts = [f64; 3];

/// Larger fleets find their prices with samples, the smallest of so many edges.
const SAMPLE: usize = 256;

/// Whether the capacity is too small for all links at once.
pub(super) fn is_needed(input: &PlanInput) -> bool {
    let exceeds = |rates: f64| input.cloud.capacity_bytes_per_s.is_some_and(|capacity| rates > capacity);
    exceeds(input.edges.iter().map(|edge| edge.up_bytes_per_s).sum())
        || exceeds(input.edges.iter().map(|edge| edge.down_bytes_per_s).sum())
}

/// The least deadline that all edges with enough memory can meet at once.
pub(super) fn least_deadline(tables: &Tables) -> f64 {
    Planner::new(tables).least_deadline(&by_memory(tables)).0
}

/// Plans all edges.
pub(super) fn solve(tables: &Tables) -> Solution {
    let planner = Planner::new(tables);
    let mut standings = by_memory(tables);
    let (deadline_s, deadline_bound_s, least, known) = match tables.input.deadline {
        // A small fleet's least deadline is not found as quickly as what is within a longer one.
        Deadline::Fixed(seconds) if standings.len() <= SAMPLE => (seconds, 0.0, None, None),
        deadline => {
            let (least_s, bound_s, known) = planner.least_deadline(&standings);
            match deadline {
                Deadline::Fixed(seconds) => (seconds, 0.0, Some(least_s), known),
                Deadline::Auto => (least_s, bound_s, Some(least_s), known),
            }
        }
    };
    let contest = planner.admit(&mut standings, deadline_s * (1.0 - super::ROUNDING), known);
    let (allotments, cost, bound) = planner.allot(&standings, contest, deadline_s);
    Solution { allotments, deadline_s, deadline_bound_s, least_deadline_s: least, cost, bound }
}

/// The edges that compete, and how quick they can be at once.
struct Contest<'a> {
    cuts: Cuts<'a>,
    least: LeastTime,
}

/// Who has memory for a cut.
fn by_memory(tables: &Tables) -> Vec<Standing> {
    let of = |edge| {
        let has_memory = tables.cuts(edge).any(|cut| tables.fits(edge, cut));
        if has_memory { Standing::Meets } else { Standing::NoMemory }
    };
    tables.input.edges.iter().map(of).collect()
}

struct Planner<'a> {
    tables: &'a Tables<'a>,
    workers: f64,
}

impl<'a> Planner<'a> {
    fn new(tables: &'a Tables<'a>) -> Self {
        Self { tables, workers: tables.input.cloud.workers as f64 }
    }

    fn input(&self) -> &PlanInput {
        self.tables.input
    }

    /// What there is for the edges that meet the deadline, when `others` do not.
    fn capacity(&self, others: usize) -> Amounts {
        let edges = self.input().edges.len();
        let link = self.input().cloud.capacity_bytes_per_s.unwrap_or(f64::INFINITY);
        let kept = straggler_share(1.0, edges) * others as f64;
        let workers = self.workers - straggler_share(self.workers, edges) * others as f64;
        [link * (1.0 - kept), link * (1.0 - kept), workers]
    }

    /// These edges, with what there is for them.
    fn cuts(&self, members: Vec<usize>, only_current: bool) -> Cuts<'a> {
        let capacity = self.capacity(self.input().edges.len() - members.len());
        Cuts::of(self.tables, members, capacity, only_current)
    }

    /// The least deadline that all with enough memory can meet, a bound, and how they would compete.
    fn least_deadline(&self, standings: &[Standing]) -> (f64, f64, Option<Contest<'a>>) {
        let members = meeting(standings);
        if members.is_empty() {
            // Nobody has enough memory: the least that the smallest cuts can do.
            return (self.tables.least_of_smallest(), 0.0, None);
        }
        let cuts = self.cuts(members, false);
        let least = least(&cuts, None, None);
        let seconds = self.with_hysteresis(&cuts.members, least.found.seconds * slack(cuts.len()));
        (seconds, least.bound_s, Some(Contest { cuts, least }))
    }

    /// If the cuts that the edges have now meet a deadline that is longer than the least by less than the
    /// hysteresis, that one.
    fn with_hysteresis(&self, members: &[usize], seconds: f64) -> f64 {
        let input = self.input();
        let may_stay = |&edge: &usize| {
            let edge = &input.edges[edge];
            let allows = |cut: &usize| self.tables.cuts(edge).contains(cut) && self.tables.fits(edge, *cut);
            edge.current_cut.is_some_and(|cut| allows(&cut))
        };
        if input.hysteresis <= 0.0 || !members.iter().all(may_stay) {
            return seconds;
        }
        let current = self.cuts(members.to_vec(), true);
        let kept = least_time::relax(&current.fleet()).found.seconds * slack(members.len());
        if kept * (1.0 - input.hysteresis) < seconds { kept.max(seconds) } else { seconds }
    }

    /// Who meets the deadline; those that need most are turned away until the others do.
    fn admit(&self, standings: &mut [Standing], budget: f64, known: Option<Contest<'a>>) -> Contest<'a> {
        let mut contest = known.unwrap_or_else(|| self.contest(meeting(standings), budget, None));
        while contest.cuts.len() > 0 && contest.least.found.seconds > budget {
            self.turn_away(standings, budget, &contest);
            contest = self.contest(meeting(standings), budget, Some(contest.least.prices));
        }
        contest
    }

    /// How these would compete for `enough` seconds.
    fn contest(&self, members: Vec<usize>, enough: f64, prices: Option<Amounts>) -> Contest<'a> {
        let cuts = self.cuts(members, false);
        let least = least(&cuts, Some(enough), prices);
        Contest { cuts, least }
    }

    /// Turns those away that are too slow, and of the others those that need most while all do not fit.
    fn turn_away(&self, standings: &mut [Standing], budget: f64, contest: &Contest) {
        let members = &contest.cuts.members;
        let mut needs: Vec<(f64, usize)> = Vec::with_capacity(members.len());
        for (&edge, need) in
            members.iter().zip(contest.cuts.needs(budget, &Prices::new(contest.least.prices)))
        {
            match need {
                Some(need) => needs.push((need, edge)),
                None => standings[edge] = Standing::TooSlow,
            }
        }
        let slow = members.len() - needs.len();
        needs.sort_by(|left, right| right.0.total_cmp(&left.0).then(right.1.cmp(&left.1)));
        let mut sum: f64 = needs.iter().map(|(need, _)| need).sum();
        let kept = straggler_share(1.0, self.input().edges.len());
        let enough = 1.0 - if members.len() > SAMPLE { SMOOTH } else { 0.0 };
        // At least one goes, and a hundredth of those that a price cannot decide about.
        let least = if slow > 0 { 0 } else { members.len() / 100 + 1 };
        for (turned_away, (need, edge)) in needs.iter().enumerate() {
            if turned_away >= least && sum <= enough - kept * (slow + turned_away) as f64 {
                break;
            }
            standings[*edge] = Standing::Crowded;
            sum -= need;
        }
    }

    /// What everybody gets, with what that costs and a bound on it.
    fn allot(&self, standings: &[Standing], contest: Contest, deadline_s: f64) -> (Vec<Allotment>, f64, f64) {
        let input = self.input();
        let Contest { cuts, least: mut enough } = contest;
        let members = &cuts.members;
        let goal = match input.objective {
            Objective::Deepest => Goal::Cost,
            Objective::Fastest => Goal::Seconds,
        };
        let mut seconds = deadline_s * (1.0 - super::ROUNDING);
        if goal == Goal::Seconds && members.len() == input.edges.len() && input.deadline != Deadline::Auto {
            if members.len() <= SAMPLE {
                enough = least(&cuts, None, None);
            }
            let tightest = self.with_hysteresis(members, enough.found.seconds * slack(members.len()));
            seconds = seconds.min(tightest);
        }
        let best = if members.len() <= SEARCHED_EDGES {
            objective::optimize(&cuts.fleet(), goal, seconds, enough)
        } else {
            settle::optimize(&cuts, goal, seconds, enough)
        };

        let capacity = self.capacity(input.edges.len() - members.len());
        let nothing = Allotment {
            cut: 0,
            rates: LinkRates { up: 0.0, down: 0.0 },
            share: 0.0,
            standing: Standing::Meets,
        };
        let mut allotments = vec![nothing; input.edges.len()];
        for ((&edge, &cut), amounts) in members.iter().zip(&best.found.cuts).zip(&best.found.amounts) {
            let most = most(&input.edges[edge]);
            let of = |i: usize| if cuts.scarce[i] { amounts[i] * capacity[i] } else { most[i] };
            // An edge that sends nothing still has a rate, so that nothing over it is no time.
            let rate = |i: usize| of(i).max(1e-12 * most[i]);
            let share = if input.cloud.service_s[cut] > 0.0 { of(2) } else { 0.0 };
            allotments[edge] = Allotment {
                cut,
                rates: LinkRates { up: rate(0), down: rate(1) },
                share,
                standing: Standing::Meets,
            };
        }
        self.leave_the_rest(standings, &mut allotments);
        self.hand_out(&mut allotments);
        (allotments, best.cost, best.bound)
    }

    /// What the edges that meet the deadline spare makes the others as quick as it can.
    fn leave_the_rest(&self, standings: &[Standing], allotments: &mut [Allotment]) {
        let input = self.input();
        let late: Vec<usize> =
            (0..standings.len()).filter(|&edge| standings[edge] != Standing::Meets).collect();
        let all = self.capacity(0);
        let used = |amount: fn(&Allotment) -> f64| allotments.iter().map(amount).sum::<f64>();
        let used = [used(|edge| edge.rates.up), used(|edge| edge.rates.down), used(|edge| edge.share)];
        for &edge in &late {
            let most = most(&input.edges[edge]);
            let amounts: Amounts = std::array::from_fn(|i| {
                let part = (all[i] - used[i]).max(0.0) / late.len() as f64;
                part.clamp(1e-12 * most[i], most[i])
            });
            let rates = LinkRates { up: amounts[0], down: amounts[1] };
            let (cut, needs_share) = self.tables.fastest(&input.edges[edge], rates, amounts[2]);
            let share = if needs_share { amounts[2] } else { 0.0 };
            allotments[edge] = Allotment { cut, rates, share, standing: standings[edge] };
        }
    }

    /// Nothing is left over that somebody could use.
    fn hand_out(&self, allotments: &mut [Allotment]) {
        let capacity = self.capacity(0);
        for resource in 0..3 {
            let mut amounts: Vec<f64> = allotments
                .iter()
                .map(|edge| [edge.rates.up, edge.rates.down, edge.share][resource])
                .collect();
            super::shares::hand_out(
                &mut amounts,
                |edge| most(&self.input().edges[edge])[resource],
                capacity[resource],
            );
            for (edge, amount) in allotments.iter_mut().zip(amounts) {
                match resource {
                    0 => edge.rates.up = amount,
                    1 => edge.rates.down = amount,
                    _ => edge.share = amount,
                }
            }
        }
    }
}

/// What the least deadline is multiplied by.
fn slack(edges: usize) -> f64 {
    1.0 + if edges > SEARCHED_EDGES { SLACK } else { TOLERANCE }
}

fn meeting(standings: &[Standing]) -> Vec<usize> {
    (0..standings.len()).filter(|&edge| standings[edge] == Standing::Meets).collect()
}

/// The least time, or one within `enough` seconds where there is one. What a large fleet's prices are about may be
/// known.
fn least(cuts: &Cuts, enough: Option<f64>, prices: Option<Amounts>) -> LeastTime {
    if cuts.len() <= SAMPLE {
        let fleet = cuts.fleet();
        let relaxed = least_time::relax(&fleet);
        return if cuts.len() <= SEARCHED_EDGES {
            least_time::search(&fleet, enough, relaxed)
        } else {
            relaxed
        };
    }
    let known = enough.zip(prices).map(|(seconds, prices)| Nearby { seconds, prices });
    let mut nearby = known;
    for size in samples(cuts.len()).filter(|_| known.is_none()) {
        let rough = smooth::smooth(&cuts.sample(size), nearby, None);
        nearby = Some(Nearby { seconds: rough.found.seconds, prices: rough.prices });
    }
    smooth::smooth(cuts, nearby, enough)
}

/// The sizes of the samples with which a large fleet's prices are found, before they are found with all of it.
fn samples(edges: usize) -> impl Iterator<Item = usize> {
    [SAMPLE, 8 * SAMPLE].into_iter().filter(move |size| 2 * size < edges)
}
