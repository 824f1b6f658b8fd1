//! Why a plan is what it is, in words.

use super::budget::Standing;
use super::options::{CutOption, EdgeOptions};
use super::{EdgeInput, Objective, Pick, PlanInput, StepTerms};

/// Writes the reasons of one plan.
pub(super) struct Explainer<'a> {
    pub(super) input: &'a PlanInput,
    pub(super) deadline_s: f64,
    /// The deadline less the margin.
    pub(super) budget: f64,
    /// The least deadline that all edges with enough memory can meet at once, if one is turned away.
    pub(super) common_deadline_s: Option<f64>,
}

impl Explainer<'_> {
    /// Why `pick`, or why the edge misses the deadline and what would help.
    pub(super) fn reason(
        &self,
        edge: &EdgeInput,
        table: &EdgeOptions,
        pick: Pick,
        standing: Standing,
    ) -> String {
        let option = &table.options[pick.option];
        match standing {
            Standing::Meets => self.meets(edge, table, pick),
            Standing::TooSlow => self.too_slow(table),
            Standing::Crowded => {
                let needed = table.share_needed(self.budget).unwrap_or(1.0);
                format!(
                    "would meet the deadline of {} with a share of {needed:.2} of a cloud worker, but the other \
                     edges leave {:.2}, so that cut {} takes {}; more cloud workers, or a deadline of {} for all, \
                     would let it",
                    ms(self.deadline_s),
                    pick.share,
                    option.cut,
                    ms(option.seconds_at(pick.share)),
                    ms(self.common_deadline_s.unwrap_or(self.deadline_s)),
                )
            }
            Standing::NoMemory => format!(
                "cut {} needs least memory, {}, and the edge may take {}; a memory limit of {} or a smaller batch \
                 would let it",
                option.cut,
                mib(option.memory_bytes),
                mib(edge.memory_limit.unwrap_or(u64::MAX)),
                mib(option.memory_bytes),
            ),
        }
    }

    fn meets(&self, edge: &EdgeInput, table: &EdgeOptions, pick: Pick) -> String {
        let option = &table.options[pick.option];
        let mut reason = format!(
            "cut {} takes {} of {} ({} with the margin)",
            option.cut,
            ms(option.seconds_at(pick.share)),
            ms(self.deadline_s),
            ms(self.deadline_for(option.seconds_at(pick.share))),
        );
        if edge.fixed_cut.is_some() {
            return reason + "; it is fixed";
        }
        if table.current == Some(pick.option) {
            reason += ", where it is now";
        }
        for neighbour in [option.cut.checked_add(1), option.cut.checked_sub(1)].into_iter().flatten() {
            let why = match table.options.iter().find(|option| option.cut == neighbour) {
                Some(other) => self.compare(option, other, pick.share),
                None if self.input.depth.contains(&neighbour) => {
                    let needed = edge.memory_by_cut.get(neighbour).copied().unwrap_or(u64::MAX);
                    format!("needs {} of memory", mib(needed))
                }
                None => continue,
            };
            reason.push_str("; cut ");
            reason.push_str(&neighbour.to_string());
            reason.push(' ');
            reason.push_str(&why);
        }
        reason
    }

    /// What speaks against `other`, seen from `option`, with the same share of the cloud.
    fn compare(&self, option: &CutOption, other: &CutOption, share: f64) -> String {
        let share = if share > 0.0 { share } else { 1.0 };
        let seconds = other.seconds_at(share);
        if seconds > self.budget {
            return format!("would take {} ({})", ms(seconds), listed(&other.terms_at(share)));
        }
        match self.input.objective {
            Objective::Fastest => format!("would take {}", ms(seconds)),
            Objective::Deepest if other.flops > option.flops => {
                format!("would leave the cloud {:.2} MFLOP more", (other.flops - option.flops) / 1e6)
            }
            Objective::Deepest if other.flops < option.flops => format!(
                "would spare the cloud {:.2} MFLOP, which is within the hysteresis or better spent on another edge",
                (option.flops - other.flops) / 1e6
            ),
            Objective::Deepest => "would leave the cloud as much".to_owned(),
        }
    }

    fn too_slow(&self, table: &EdgeOptions) -> String {
        let option = &table.options[table.fastest_at(1.0).option];
        let (name, seconds) = largest(option);
        let mut fixes = Vec::new();
        if let Some(rate) = least(table, |option| self.uplink_needed(option, table.up_rate)) {
            fixes.push(format!("an uplink of {:.1} Mbit/s", rate * 8e-6));
        }
        if let Some(factor) = least(table, |option| self.speed_needed(option)) {
            fixes.push(format!("{factor:.1} times the compute speed"));
        }
        fixes.push(format!("a deadline of {}", ms(self.deadline_for(option.seconds_at(1.0)))));
        format!(
            "cannot meet the deadline of {} ({} before the margin) even with a cloud worker of its own: cut {}, its \
             fastest, takes {} ({}), most of it {name} with {}; it would with {}",
            ms(self.deadline_s),
            ms(self.budget),
            option.cut,
            ms(option.seconds_at(1.0)),
            listed(&option.solo),
            ms(seconds),
            fixes.join(", or "),
        )
    }

    /// Bytes per second with which this cut would meet the budget.
    fn uplink_needed(&self, option: &CutOption, rate: f64) -> Option<f64> {
        let bytes = option.bytes_up as f64;
        let left = self.budget - (option.seconds_at(1.0) - bytes / rate);
        (bytes > 0.0 && left > 0.0).then(|| bytes / left)
    }

    /// How many times as fast the edge would have to compute for this cut to meet the budget.
    fn speed_needed(&self, option: &CutOption) -> Option<f64> {
        let compute = option.solo.edge_forward + option.solo.edge_backward;
        let left = self.budget - (option.seconds_at(1.0) - compute);
        (compute > 0.0 && left > 0.0).then(|| compute / left)
    }

    fn deadline_for(&self, seconds: f64) -> f64 {
        seconds * (1.0 + self.input.margin)
    }
}

fn least(table: &EdgeOptions, value: impl Fn(&CutOption) -> Option<f64>) -> Option<f64> {
    table.options.iter().filter_map(value).min_by(f64::total_cmp)
}

fn largest(option: &CutOption) -> (&'static str, f64) {
    let StepTerms { edge_forward, uplink, cloud, downlink, edge_backward } = option.solo;
    [
        ("edge compute", edge_forward + edge_backward),
        ("uplink", uplink),
        ("cloud", cloud),
        ("downlink", downlink),
        ("weights", option.weights_s),
    ]
    .into_iter()
    .max_by(|left, right| left.1.total_cmp(&right.1))
    .unwrap_or(("edge compute", 0.0))
}

fn listed(terms: &StepTerms) -> String {
    format!(
        "edge {}, uplink {}, cloud {}, downlink {}",
        ms(terms.edge_forward + terms.edge_backward),
        ms(terms.uplink),
        ms(terms.cloud),
        ms(terms.downlink),
    )
}

fn ms(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
