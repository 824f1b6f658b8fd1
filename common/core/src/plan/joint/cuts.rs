//! The edges that compete, with every cut that depth and memory allow. A large fleet's cuts are made from tables
//! whenever they are looked at: that takes less time than memory for all of them would.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::Amounts;
use super::fleet::{Answer, Fleet, Goal, Item, Part, Prices, least_value};
use super::overlap::Overlap;
use crate::plan::options::Tables;
use crate::plan::{EdgeInput, Objective};
use crate::random;

/// The edges that compete for the scarce resources.
pub(super) struct Cuts<'a> {
    tables: &'a Tables<'a>,
    /// Indices of the edges.
    pub(super) members: Vec<usize>,
    /// What there is for them, in bytes per second and workers.
    capacity: Amounts,
    pub(super) scarce: [bool; 3],
    /// Whether they stay where they are cut now.
    only_current: bool,
    /// How many edges each of these stands for, in a sample.
    pub(super) weight: f64,
    /// Works up and down by cut, for every cut that an edge has now; the last for edges that have none.
    transfers: Vec<Option<[Vec<f64>; 2]>>,
    services: Vec<f64>,
}

impl<'a> Cuts<'a> {
    /// Those of these edges, for which there is so much.
    pub(super) fn of(tables: &'a Tables, members: Vec<usize>, capacity: Amounts, only_current: bool) -> Self {
        let mut sums = [0.0; 3];
        for &member in &members {
            for (sum, most) in sums.iter_mut().zip(most(&tables.input.edges[member])) {
                *sum += most;
            }
        }
        let scarce: [bool; 3] = std::array::from_fn(|i| sums[i] > capacity[i]);
        // Of what is scarce, only roots are needed.
        let of = |resource: usize, work: f64| {
            if scarce[resource] { work.sqrt() / capacity[resource].sqrt() } else { work }
        };
        let layers = tables.input.layers();
        let mut transfers = vec![None; layers + 2];
        for &member in &members {
            let current = tables.input.edges[member].current_cut;
            transfers[current.unwrap_or(layers + 1)].get_or_insert_with(|| {
                let bytes = (0..=layers).map(|cut| tables.charged_bytes(current, cut));
                let (up, down) = bytes.map(|(up, down)| (of(0, up), of(1, down))).unzip();
                [up, down]
            });
        }
        let services = tables.input.cloud.service_s.iter().map(|service_s| of(2, *service_s)).collect();
        Self { tables, members, capacity, scarce, only_current, weight: 1.0, transfers, services }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many cuts there are at most.
    pub(super) fn count(&self) -> usize {
        let depth = &self.tables.input.depth;
        self.members.len() * (depth.end() + 1 - depth.start())
    }

    fn edge(&self, member: usize) -> &'a EdgeInput {
        &self.tables.input.edges[self.members[member]]
    }

    /// The largest part of each resource that an edge can use.
    pub(super) fn caps(&self, member: usize) -> Amounts {
        let most = most(self.edge(member));
        std::array::from_fn(|i| most[i] / self.capacity[i])
    }

    /// Where an edge is cut now, if it may stay there.
    fn current(&self, edge: &EdgeInput) -> Option<usize> {
        edge.current_cut.filter(|cut| self.tables.cuts(edge).contains(cut) && self.tables.fits(edge, *cut))
    }

    /// All cuts of an edge.
    pub(super) fn columns(&self, member: usize, columns: &mut Columns) {
        let edge = self.edge(member);
        let cuts = match (self.only_current, self.current(edge)) {
            (false, _) => self.tables.cuts(edge),
            (true, Some(current)) => current..=current,
            #[expect(clippy::reversed_empty_ranges, reason = "no cut at all")]
            (true, None) => 1..=0,
        };
        self.columns_of(member, cuts, columns);
    }

    /// One cut of an edge.
    pub(super) fn item(&self, member: usize, cut: usize) -> Item {
        let mut columns = Columns::default();
        self.columns_of(member, cut..=cut, &mut columns);
        columns.item(0)
    }

    fn columns_of(&self, member: usize, cuts: RangeInclusive<usize>, columns: &mut Columns) {
        let edge = self.edge(member);
        columns.first = *cuts.start();
        if self.tables.input.micro_batches > 1 {
            self.overlapping(edge, cuts.clone(), columns);
        } else {
            self.in_one_part(edge, cuts.clone(), columns);
        }
        if let Some(limit) = edge.memory_limit {
            let memory = self.tables.input.memory_by_cut[cuts.clone()].iter();
            for (fixed_s, memory) in columns.fixed_s.iter_mut().zip(memory) {
                if *memory > limit {
                    *fixed_s = f64::INFINITY;
                }
            }
        }
        self.costs(member, cuts, columns);
    }

    /// Steps of one micro-batch.
    fn in_one_part(&self, edge: &EdgeInput, cuts: RangeInclusive<usize>, columns: &mut Columns) {
        let input = self.tables.input;
        let device = &input.devices[edge.device];
        let factor = 1.0 + edge.margin;
        let latency_s = edge.rtt_s + edge.latency_overhead_s;
        let seconds = |table_s: f64, call_s: f64| if table_s > 0.0 { table_s + call_s } else { 0.0 };
        columns.fixed_s.clear();
        let tables = device.forward_s[cuts.clone()].iter().zip(&device.backward_s[cuts.clone()]);
        columns.fixed_s.extend(cuts.clone().zip(tables).map(|(cut, (forward_s, backward_s))| {
            let forward_s = edge.forward_factor * seconds(*forward_s, edge.forward_call_s);
            let backward_s = edge.backward_factor * seconds(*backward_s, edge.backward_call_s);
            let latency_s = if cut == input.layers() { 0.0 } else { latency_s };
            factor * (forward_s + backward_s + latency_s)
        }));
        let transfers = &self.transfers[edge.current_cut.unwrap_or(input.layers() + 1)];
        let Some([up, down]) = transfers else { return };
        let (root, most) = (factor.sqrt(), most(edge));
        for (resource, works) in [up, down, &self.services].into_iter().enumerate() {
            let works = works[cuts.clone()].iter();
            let roots = &mut columns.roots[resource];
            roots.clear();
            if self.scarce[resource] {
                roots.extend(works.map(|work| root * work));
            } else {
                let seconds_each = factor / most[resource];
                for (fixed_s, work) in columns.fixed_s.iter_mut().zip(works) {
                    *fixed_s += work * seconds_each;
                }
                roots.resize(columns.fixed_s.len(), 0.0);
            }
        }
    }

    /// Steps of several, which overlap unless all layers run on the edge.
    fn overlapping(&self, edge: &EdgeInput, cuts: RangeInclusive<usize>, columns: &mut Columns) {
        columns.fixed_s.clear();
        columns.overlaps.clear();
        columns.roots.iter_mut().for_each(Vec::clear);
        for cut in cuts {
            let (fixed_s, roots, overlap) =
                self.tables.overlap(edge, cut, most(edge), self.capacity, self.scarce);
            columns.fixed_s.push(fixed_s);
            columns.overlaps.push(overlap);
            for (column, root) in columns.roots.iter_mut().zip(roots) {
                column.push(root);
            }
        }
    }

    /// What the objective minimizes besides seconds, with what moving counts as.
    fn costs(&self, member: usize, cuts: RangeInclusive<usize>, columns: &mut Columns) {
        let input = self.tables.input;
        let edge = self.edge(member);
        let current = self.current(edge);
        let moving = match current.filter(|_| input.hysteresis > 0.0) {
            None => 0.0,
            Some(current) if input.objective == Objective::Deepest => self.tables.flops(current),
            Some(current) if cuts.contains(&current) => {
                columns.item(current - cuts.start()).seconds(&self.caps(member))
            }
            Some(current) => self.item(member, current).seconds(&self.caps(member)),
        };
        let moving = input.hysteresis * moving;
        columns.costs.clear();
        columns.costs.extend(cuts.map(|cut| {
            let of_cut = if input.objective == Objective::Deepest { self.tables.flops(cut) } else { 0.0 };
            if current == Some(cut) { of_cut } else { of_cut + moving }
        }));
    }

    /// What every edge needs of all resources at these prices to step within `seconds`; `None` if it cannot.
    pub(super) fn needs(&self, seconds: f64, prices: &Prices) -> Vec<Option<f64>> {
        let (mut columns, mut values) = (Columns::default(), Vec::new());
        let of = |member: usize| {
            self.columns(member, &mut columns);
            columns.least_values(Goal::Resources, seconds, prices, &mut values);
            let caps = self.caps(member);
            columns.best(&values, &caps, Goal::Resources, seconds, prices).map(|answer| answer.value)
        };
        (0..self.len()).map(of).collect()
    }

    /// All cuts of all.
    pub(super) fn fleet(&self) -> Fleet {
        let mut columns = Columns::default();
        let mut items = Vec::with_capacity(self.count());
        let of = |member: usize| {
            self.columns(member, &mut columns);
            let start = items.len();
            items.extend((0..columns.len()).filter(|&at| columns.is_allowed(at)).map(|at| columns.item(at)));
            Part { items: start..items.len(), caps: self.caps(member) }
        };
        let parts = (0..self.len()).map(of).collect();
        Fleet { items, parts, scarce: self.scarce, weight: self.weight }
    }

    /// All edges, each with one cut.
    pub(super) fn fixed(&self, cuts: &[usize]) -> Fleet {
        let items = cuts.iter().enumerate().map(|(member, &cut)| self.item(member, cut)).collect();
        let parts = (0..self.len()).map(|member| Part { items: member..member + 1, caps: self.caps(member) });
        Fleet { items, parts: parts.collect(), scarce: self.scarce, weight: self.weight }
    }

    /// So many of the edges, each of which stands for as many.
    pub(super) fn sample(&self, size: usize) -> Cuts<'a> {
        let mut members = self.members.clone();
        random::shuffle(&mut random::stream(0, &["planner's sample"]), &mut members);
        members.truncate(size);
        let weight = self.len() as f64 / members.len() as f64;
        let (transfers, services) = (self.transfers.clone(), self.services.clone());
        Self { members, weight, transfers, services, ..*self }
    }
}

/// What an edge can use at most, in bytes per second and workers.
pub(super) fn most(edge: &EdgeInput) -> Amounts {
    [edge.up_bytes_per_s, edge.down_bytes_per_s, 1.0]
}

/// The cuts of one edge, number by number.
#[derive(Debug, Default)]
pub(super) struct Columns {
    first: usize,
    /// Infinite where memory does not allow the cut.
    fixed_s: Vec<f64>,
    roots: [Vec<f64>; 3],
    costs: Vec<f64>,
    /// Empty where nothing overlaps.
    overlaps: Vec<Option<Overlap>>,
}

impl Columns {
    pub(super) fn len(&self) -> usize {
        self.fixed_s.len()
    }

    pub(super) fn is_allowed(&self, at: usize) -> bool {
        self.fixed_s[at].is_finite()
    }

    pub(super) fn item(&self, at: usize) -> Item {
        Item {
            cut: self.first + at,
            fixed_s: self.fixed_s[at],
            roots: std::array::from_fn(|i| self.roots[i][at]),
            cost: self.costs.get(at).copied().unwrap_or(0.0),
            overlap: self.overlaps.get(at).copied().flatten().map(Arc::new),
        }
    }

    /// What each cut is worth at least at these prices, whatever the caps; infinite if it is not in time.
    pub(super) fn least_values(&self, goal: Goal, seconds: f64, prices: &Prices, values: &mut Vec<f64>) {
        let roots = self.roots[0].iter().zip(&self.roots[1]).zip(&self.roots[2]);
        let cuts = self.fixed_s.iter().zip(&self.costs).zip(roots);
        values.clear();
        values.extend(cuts.map(|((fixed_s, cost), ((up, down), service))| {
            let root = prices.root(&[*up, *down, *service]);
            least_value(goal, *cost, *fixed_s, root, seconds)
        }));
    }
    /// What the edge would do at these prices, where the cuts are worth so much at least.
    pub(super) fn best(
        &self,
        least_values: &[f64],
        caps: &Amounts,
        goal: Goal,
        seconds: f64,
        prices: &Prices,
    ) -> Option<Answer> {
        // Whichever seems best mostly is: the others need not be looked at.
        let likely = least_values.iter().enumerate().min_by(|one, other| one.1.total_cmp(other.1))?.0;
        let (mut best, mut least) = (None, f64::INFINITY);
        for at in std::iter::once(likely).chain(0..least_values.len()) {
            if least_values[at] < least
                && let Some(answer) = self.item(at).answer(caps, goal, seconds, prices, least)
            {
                (best, least) = (Some(answer), answer.value);
            }
        }
        best
    }
}
