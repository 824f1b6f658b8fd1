//! Why a plan is what it is, in words.

use std::fmt::{self, Display, Write};

use super::budget::{self, Standing};
use super::fixes::Fixes;
use super::options::{LinkRates, Tables};
use super::{Allotment, EdgeInput, Neighbour, Objective, Obstacle, Solution, StepTerms, joint};

/// Most reasons are shorter.
const REASON_BYTES: usize = 384;

/// Writes the reasons of one plan.
pub(super) struct Explainer<'a> {
    tables: &'a Tables<'a>,
    deadline_s: f64,
    /// The least deadline that all edges with enough memory can meet at once, if one misses this.
    pub(super) common_deadline_s: Option<f64>,
    /// Workers with which those meet it that are in each other's way.
    workers: Option<u64>,
}

impl<'a> Explainer<'a> {
    pub(super) fn new(tables: &'a Tables<'a>, solution: &Solution) -> Self {
        let has = |standing: Standing| solution.allotments.iter().any(|edge| edge.standing == standing);
        let deadline_s = solution.deadline_s;
        let is_late = has(Standing::Crowded) || has(Standing::TooSlow);
        Self {
            tables,
            deadline_s,
            common_deadline_s: is_late
                .then(|| solution.least_deadline_s.unwrap_or_else(|| budget::common_deadline(tables))),
            workers: (has(Standing::Crowded) && !joint::is_needed(tables.input))
                .then(|| budget::workers_needed(tables, deadline_s)),
        }
    }

    /// What would let an edge meet the deadline.
    pub(super) fn fixes(&self, edge: &EdgeInput, standing: Standing) -> Option<Fixes> {
        match standing {
            Standing::Meets => None,
            Standing::TooSlow => Some(Fixes::of(self.tables, edge, self.deadline_s)),
            Standing::NoMemory => Some(Fixes::memory(self.tables, edge, self.deadline_s)),
            Standing::Crowded => Some(Fixes {
                deadline_s: self.common_deadline_s,
                cloud_workers: self.workers,
                ..Fixes::default()
            }),
        }
    }

    /// The cuts next to an edge's own, at the same rates and share.
    pub(super) fn neighbours(&self, edge: &EdgeInput, allotment: &Allotment) -> Vec<Neighbour> {
        let &Allotment { cut, rates, share, .. } = allotment;
        let share = if share > 0.0 { share } else { 1.0 };
        let layers = self.tables.input.layers();
        let of = |other: usize| {
            let terms = self.tables.terms(edge, other, rates, share);
            let charged_s = self.seconds(edge, other, rates, share) * (1.0 + edge.margin);
            let obstacle = if !self.tables.cuts(edge).contains(&other) {
                Some(Obstacle::Depth)
            } else if !self.tables.fits(edge, other) {
                Some(Obstacle::Memory)
            } else {
                (charged_s > self.deadline_s).then_some(Obstacle::Deadline)
            };
            Neighbour {
                cut: other,
                obstacle,
                step_s: self.tables.step_s(edge, other, &terms),
                terms,
                charged_s,
                cloud_flops_more: self.tables.flops(other) - self.tables.flops(cut),
                memory_bytes: self.tables.input.memory_by_cut[other],
            }
        };
        let neighbours = [cut.checked_sub(1), Some(cut + 1)];
        neighbours.into_iter().flatten().filter(|&cut| cut <= layers).map(of).collect()
    }

    /// Why this cut, or why the edge misses the deadline and what would help.
    pub(super) fn reason(&self, edge: &EdgeInput, allotment: &Allotment) -> String {
        let &Allotment { cut, rates, share, standing } = allotment;
        let seconds = self.seconds(edge, cut, rates, share);
        let input = self.tables.input;
        match standing {
            Standing::Meets => self.meets(edge, allotment),
            Standing::TooSlow => self.too_slow(edge),
            Standing::Crowded => {
                let links = LinkRates { up: edge.up_bytes_per_s, down: edge.down_bytes_per_s };
                let needed = self.tables.options_of(edge, links).share_needed(self.deadline_s).unwrap_or(1.0);
                let (with_link, link, or_capacity) = if joint::is_needed(input) {
                    let leave = format!(
                        ", {:.1} Mbit/s up and {:.1} Mbit/s down",
                        rates.up * 8e-6,
                        rates.down * 8e-6
                    );
                    (" and its link to itself", leave, " or network capacity")
                } else {
                    ("", String::new(), "")
                };
                let workers = self
                    .workers
                    .map_or_else(|| "more cloud workers".to_owned(), |n| format!("{n} cloud workers"));
                format!(
                    "would meet the deadline of {} with a share of {needed:.2} of a cloud worker{with_link}, but the \
                     other edges leave {share:.2}{link}, so that cut {cut} takes {}; {workers}{or_capacity}, \
                     or a deadline of {} for all, would let it",
                    ms(self.deadline_s),
                    ms(seconds),
                    ms(self.common_deadline_s.unwrap_or(self.deadline_s)),
                )
            }
            Standing::NoMemory => format!(
                "cut {cut} needs least memory, {}, and the edge may take {}; a memory limit of {} or a smaller batch \
                 would let it",
                mib(input.memory_by_cut[cut]),
                mib(edge.memory_limit.unwrap_or(u64::MAX)),
                mib(input.memory_by_cut[cut]),
            ),
        }
    }

    fn meets(&self, edge: &EdgeInput, allotment: &Allotment) -> String {
        let &Allotment { cut, rates, share, .. } = allotment;
        let seconds = self.seconds(edge, cut, rates, share);
        let mut reason = String::with_capacity(REASON_BYTES);
        let _ = write!(
            reason,
            "cut {cut} takes {} of {} ({} with the margin)",
            ms(seconds),
            ms(self.deadline_s),
            ms(seconds * (1.0 + edge.margin)),
        );
        if edge.fixed_cut.is_some() {
            return reason + "; it is fixed";
        }
        if edge.current_cut == Some(cut) {
            reason += ", where it is now";
        }
        let depth = &self.tables.input.depth;
        for neighbour in [cut + 1, cut.wrapping_sub(1)].into_iter().filter(|cut| depth.contains(cut)) {
            let _ = write!(reason, "; cut {neighbour} ");
            if self.tables.fits(edge, neighbour) {
                self.compare(edge, allotment, neighbour, &mut reason);
            } else {
                let _ = write!(reason, "needs {} of memory", mib(self.tables.input.memory_by_cut[neighbour]));
            }
        }
        reason
    }

    /// What speaks against `other`, with the same rates and share of the cloud.
    fn compare(&self, edge: &EdgeInput, allotment: &Allotment, other: usize, reason: &mut String) {
        let &Allotment { cut, rates, share, .. } = allotment;
        let share = if share > 0.0 { share } else { 1.0 };
        let seconds = self.seconds(edge, other, rates, share);
        let (here, there) = (self.tables.flops(cut), self.tables.flops(other));
        let terms = self.tables.terms(edge, other, rates, share);
        let (name, more) = most_grown(&self.tables.terms(edge, cut, rates, share), &terms);
        let _ = if seconds * (1.0 + edge.margin) > self.deadline_s {
            write!(
                reason,
                "would take {} ({}), {} too long with the margin, most of it {name} ({} more)",
                ms(seconds),
                listed(&terms),
                ms(seconds * (1.0 + edge.margin) - self.deadline_s),
                ms(more),
            )
        } else if self.tables.input.objective == Objective::Fastest {
            write!(reason, "would take {}, for {name} takes {} more", ms(seconds), ms(more))
        } else if there > here {
            write!(reason, "would leave the cloud {:.2} MFLOP more", (there - here) / 1e6)
        } else if there < here {
            write!(
                reason,
                "would spare the cloud {:.2} MFLOP, which is within the hysteresis or better spent on another edge",
                (here - there) / 1e6
            )
        } else {
            write!(reason, "would leave the cloud as much")
        };
    }

    fn too_slow(&self, edge: &EdgeInput) -> String {
        let links = LinkRates { up: edge.up_bytes_per_s, down: edge.down_bytes_per_s };
        let (cut, _) = self.tables.fastest(edge, links, 1.0);
        let seconds = self.seconds(edge, cut, links, 1.0);
        let terms = self.tables.terms(edge, cut, links, 1.0);
        let (name, largest) = largest(&terms, seconds - self.tables.step_s(edge, cut, &terms));
        let fixes = Fixes::of(self.tables, edge, self.deadline_s);
        format!(
            "cannot meet the deadline of {} ({} before the margin) even with a cloud worker of its own: cut {cut}, its \
             fastest, takes {} ({}), most of it {name} with {}; it would with {}",
            ms(self.deadline_s),
            ms(self.deadline_s / (1.0 + edge.margin)),
            ms(seconds),
            listed(&terms),
            ms(largest),
            fixes.in_words(),
        )
    }

    /// What is charged against the deadline, before the margin.
    fn seconds(&self, edge: &EdgeInput, cut: usize, rates: LinkRates, share: f64) -> f64 {
        self.tables.charged_s(edge, cut, rates, share)
    }
}

fn largest(terms: &StepTerms, weights_s: f64) -> (&'static str, f64) {
    let &StepTerms { edge_forward, uplink, cloud, downlink, edge_backward } = terms;
    [
        ("edge compute", edge_forward + edge_backward),
        ("uplink", uplink),
        ("cloud", cloud),
        ("downlink", downlink),
        ("weights", weights_s),
    ]
    .into_iter()
    .max_by(|left, right| left.1.total_cmp(&right.1))
    .unwrap_or(("edge compute", 0.0))
}

/// The part of a step that grows most from one cut to another, and by how many seconds.
fn most_grown(from: &StepTerms, to: &StepTerms) -> (&'static str, f64) {
    let more = StepTerms {
        edge_forward: to.edge_forward - from.edge_forward,
        uplink: to.uplink - from.uplink,
        cloud: to.cloud - from.cloud,
        downlink: to.downlink - from.downlink,
        edge_backward: to.edge_backward - from.edge_backward,
    };
    largest(&more, f64::NEG_INFINITY)
}

fn listed(terms: &StepTerms) -> impl Display {
    fmt::from_fn(move |f| {
        let &StepTerms { edge_forward, uplink, cloud, downlink, edge_backward } = terms;
        let edge = ms(edge_forward + edge_backward);
        write!(f, "edge {edge}, uplink {}, cloud {}, downlink {}", ms(uplink), ms(cloud), ms(downlink))
    })
}

pub(super) fn ms(seconds: f64) -> impl Display {
    fmt::from_fn(move |f| write!(f, "{} ms", Tenths(seconds * 1e3)))
}

pub(super) fn mib(bytes: u64) -> impl Display {
    fmt::from_fn(move |f| write!(f, "{} MiB", Tenths(bytes as f64 / f64::from(1 << 20))))
}

/// A number to one decimal. Whole numbers are written several times as quickly as others, of which a large fleet's
/// reasons have hundreds of thousands.
struct Tenths(f64);

impl Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0.abs() * 10.0).round();
        if tenths >= 1e15 {
            return write!(f, "{:.1}", self.0);
        }
        let tenths = tenths as u64;
        let sign = if self.0 < 0.0 && tenths > 0 { "-" } else { "" };
        write!(f, "{sign}{}.{}", tenths / 10, tenths % 10)
    }
}
