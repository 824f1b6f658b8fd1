//! Cuts, rates and shares at once, where the cloud's capacity does not carry all links together: which rate an
//! edge needs then depends on its cut, and the other way round.
//!
//! A step takes `fixed + up / rate + down / rate + service / share` seconds, convex in the amounts; for given
//! cuts the amounts are a convex problem with at most three scarce resources, and all cuts at once have a
//! Lagrangian of three prices (Boyd & Vandenberghe 2004, chapter 5). Prices give bounds, and cuts
//! that in a large fleet are as good as the bound but for the few edges that are between two cuts; in a small
//! one branch and bound closes the rest.

mod broyden;
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
use crate::random;
use fleet::{Fleet, Goal, Item, Part};
use least_time::{Found, LeastTime, SEARCHED_EDGES, SLACK, TOLERANCE};
use smooth::{Nearby, SMOOTH};

/// Of the uplinks' capacity, of the downlinks', of the workers.
type Amounts = [f64; 3];

/// Larger fleets find their prices with a sample of so many edges.
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
struct Contest {
    /// Indices of the edges.
    members: Vec<usize>,
    fleet: Fleet,
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

    /// What an edge can use at most, in bytes per second and workers.
    fn most(&self, edge: usize) -> Amounts {
        let edge = &self.input().edges[edge];
        [edge.up_bytes_per_s, edge.down_bytes_per_s, 1.0]
    }

    /// What there is for the edges that meet the deadline, when `others` do not.
    fn capacity(&self, others: usize) -> Amounts {
        let edges = self.input().edges.len();
        let link = self.input().cloud.capacity_bytes_per_s.unwrap_or(f64::INFINITY);
        let kept = straggler_share(1.0, edges) * others as f64;
        let workers = self.workers - straggler_share(self.workers, edges) * others as f64;
        [link * (1.0 - kept), link * (1.0 - kept), workers]
    }

    /// The edges with every cut that their memory and the depth allow; or only with those that they have now.
    fn fleet(&self, members: &[usize], only_current: bool) -> Fleet {
        let input = self.input();
        let capacity = self.capacity(input.edges.len() - members.len());
        let mut sums = [0.0; 3];
        for &edge in members {
            for (sum, most) in sums.iter_mut().zip(self.most(edge)) {
                *sum += most;
            }
        }
        let scarce: [bool; 3] = std::array::from_fn(|i| sums[i] > capacity[i]);
        let root_rates = capacity.map(|capacity| 1.0 / capacity.sqrt());
        let cuts = input.depth.end() + 1 - input.depth.start();
        let mut items = Vec::with_capacity(members.len() * cuts);
        let mut parts = Vec::with_capacity(members.len());
        for &member in members {
            let edge = &input.edges[member];
            let most = self.most(member);
            let seconds_each = most.map(|most| 1.0 / most);
            let start = items.len();
            let current = edge
                .current_cut
                .filter(|cut| self.tables.cuts(edge).contains(cut) && self.tables.fits(edge, *cut));
            for cut in self.tables.cuts(edge).filter(|cut| self.tables.fits(edge, *cut)) {
                if only_current && current != Some(cut) {
                    continue;
                }
                let overlapping = self.tables.overlap(edge, cut, most, capacity, scarce);
                items.push(overlapping.unwrap_or_else(|| {
                    let demand = self.tables.demand(edge, cut);
                    let works = [demand.up_bytes, demand.down_bytes, demand.service_s];
                    Item::in_one_part(cut, demand.fixed_s, &works, scarce, &root_rates, &seconds_each)
                }));
            }
            let caps = std::array::from_fn(|i| most[i] / capacity[i]);
            let moving = current.map_or(0.0, |current| {
                let now = items[start..].iter().find(|item| item.cut == current);
                input.hysteresis
                    * match input.objective {
                        Objective::Deepest => self.tables.flops(current),
                        Objective::Fastest => now.map_or(0.0, |item| item.alone_s(&caps)),
                    }
            });
            for item in &mut items[start..] {
                let of_cut = match input.objective {
                    Objective::Deepest => self.tables.flops(item.cut),
                    Objective::Fastest => 0.0,
                };
                item.cost = of_cut + if current == Some(item.cut) { 0.0 } else { moving };
            }
            parts.push(Part { items: start..items.len(), caps });
        }
        Fleet { items, parts, scarce, weight: 1.0 }
    }

    /// The least deadline that all with enough memory can meet, a bound, and how they would compete.
    fn least_deadline(&self, standings: &[Standing]) -> (f64, f64, Option<Contest>) {
        let members = meeting(standings);
        if members.is_empty() {
            // Nobody has enough memory: the least that the smallest cuts can do.
            return (self.tables.least_of_smallest(), 0.0, None);
        }
        let fleet = self.fleet(&members, false);
        let least = least(&fleet, None, None);
        let seconds = self.with_hysteresis(&members, least.found.seconds * slack(members.len()));
        (seconds, least.bound_s, Some(Contest { members, fleet, least }))
    }

    /// If the cuts that the edges have now meet a deadline that is longer than the least by less than the
    /// hysteresis, that one.
    fn with_hysteresis(&self, members: &[usize], seconds: f64) -> f64 {
        let input = self.input();
        if input.hysteresis <= 0.0 || members.iter().any(|&edge| input.edges[edge].current_cut.is_none()) {
            return seconds;
        }
        let current = self.fleet(members, true);
        if current.parts.iter().any(|part| part.items.is_empty()) {
            return seconds;
        }
        let kept = least_time::relax(&current).found.seconds * slack(members.len());
        if kept * (1.0 - input.hysteresis) < seconds { kept.max(seconds) } else { seconds }
    }

    /// Who meets the deadline; those that need most are turned away until the others do.
    fn admit(&self, standings: &mut [Standing], budget: f64, known: Option<Contest>) -> Contest {
        let mut contest = known.unwrap_or_else(|| self.contest(meeting(standings), budget, None));
        while !contest.members.is_empty() && contest.least.found.seconds > budget {
            self.turn_away(standings, budget, &contest);
            contest = self.contest(meeting(standings), budget, Some(contest.least.prices));
        }
        contest
    }

    /// How these would compete for `enough` seconds.
    fn contest(&self, members: Vec<usize>, enough: f64, prices: Option<Amounts>) -> Contest {
        let fleet = self.fleet(&members, false);
        let least = least(&fleet, Some(enough), prices);
        Contest { members, fleet, least }
    }

    /// Turns those away that are too slow, and of the others those that need most while all do not fit.
    fn turn_away(&self, standings: &mut [Standing], budget: f64, contest: &Contest) {
        let Contest { members, fleet, least } = contest;
        let prices = fleet::Prices::new(least.prices);
        let mut needs: Vec<(f64, usize)> = Vec::with_capacity(members.len());
        for (&edge, part) in members.iter().zip(&fleet.parts) {
            match fleet.best(part, Goal::Resources, budget, &prices, part.items.start) {
                Some(best) => needs.push((best.value, edge)),
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
        let Contest { members, fleet, least: enough } = contest;
        let goal = match input.objective {
            Objective::Deepest => Goal::Cost,
            Objective::Fastest => Goal::Seconds,
        };
        let mut seconds = deadline_s * (1.0 - super::ROUNDING);
        let mut quickest = enough;
        if goal == Goal::Seconds && members.len() == input.edges.len() && input.deadline != Deadline::Auto {
            if members.len() <= SAMPLE {
                quickest = least(&fleet, None, None);
            }
            let tightest = self.with_hysteresis(&members, quickest.found.seconds * slack(members.len()));
            seconds = seconds.min(tightest);
        }
        let (kept, rough, enough) = if members.len() > SAMPLE {
            let rough = objective::within(&sample(&fleet), goal, seconds);
            (fleet, Some(rough), quickest.found)
        } else {
            let kept = objective::within(&fleet, goal, seconds);
            let enough = translated(&fleet, &kept, quickest.found, seconds);
            (kept, None, enough)
        };
        let best = objective::optimize(&kept, rough.as_ref(), goal, seconds, enough, quickest.prices);

        let capacity = self.capacity(input.edges.len() - members.len());
        let nothing = Allotment {
            cut: 0,
            rates: LinkRates { up: 0.0, down: 0.0 },
            share: 0.0,
            standing: Standing::Meets,
        };
        let mut allotments = vec![nothing; input.edges.len()];
        for ((&edge, &index), amounts) in members.iter().zip(&best.found.chosen).zip(&best.found.amounts) {
            let most = self.most(edge);
            let of = |i: usize| if kept.scarce[i] { amounts[i] * capacity[i] } else { most[i] };
            // An edge that sends nothing still has a rate, so that nothing over it is no time.
            let rate = |i: usize| of(i).max(1e-12 * most[i]);
            let cut = kept.items[index].cut;
            let demand = self.tables.demand(&input.edges[edge], cut);
            let share = if demand.service_s > 0.0 { of(2) } else { 0.0 };
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
            let most = self.most(edge);
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
            super::shares::hand_out(&mut amounts, |edge| self.most(edge)[resource], capacity[resource]);
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
fn least(fleet: &Fleet, enough: Option<f64>, prices: Option<Amounts>) -> LeastTime {
    if fleet.parts.len() <= SAMPLE {
        let relaxed = least_time::relax(fleet);
        return if fleet.parts.len() <= SEARCHED_EDGES {
            least_time::search(fleet, enough, relaxed)
        } else {
            relaxed
        };
    }
    let nearby = match (enough, prices) {
        (Some(seconds), Some(prices)) => Nearby { seconds, prices },
        _ => {
            let rough = smooth::smooth(&sample(fleet), None, None);
            Nearby { seconds: rough.found.seconds, prices: rough.prices }
        }
    };
    smooth::smooth(fleet, Some(nearby), enough)
}

/// Some of the edges, each of which stands for as many.
fn sample(fleet: &Fleet) -> Fleet {
    let mut edges: Vec<usize> = (0..fleet.parts.len()).collect();
    random::shuffle(&mut random::stream(0, &["planner's sample"]), &mut edges);
    edges.truncate(SAMPLE);
    let mut items = Vec::new();
    let mut parts = Vec::with_capacity(edges.len());
    for &edge in &edges {
        let part = &fleet.parts[edge];
        let start = items.len();
        items.extend_from_slice(&fleet.items[part.items.clone()]);
        parts.push(Part { items: start..items.len(), caps: part.caps });
    }
    let weight = fleet.parts.len() as f64 / edges.len() as f64;
    Fleet { items, parts, scarce: fleet.scarce, weight }
}

/// What was found among all items, among those that were kept: with the same amounts the cheapest that is in time.
fn translated(fleet: &Fleet, kept: &Fleet, found: Found, seconds: f64) -> Found {
    let chosen = kept.parts.iter().zip(&found.chosen).zip(&found.amounts).map(|((part, &index), amounts)| {
        let cut = fleet.items[index].cut;
        let in_time = part
            .items
            .clone()
            .filter(|&index| kept.items[index].cut == cut || kept.items[index].seconds(amounts) <= seconds);
        let cheapest = in_time.min_by(|&one, &other| kept.items[one].cost.total_cmp(&kept.items[other].cost));
        cheapest.unwrap_or(part.items.start)
    });
    Found { chosen: chosen.collect(), ..found }
}
