//! Axes: a range of values, where its ticks are and what they say.

use super::number::{self, grouped};

/// One axis of a plot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Axis {
    /// What it counts, with the unit.
    pub(crate) label: String,
    low: f64,
    high: f64,
    /// What one unit of the labels is in values.
    unit: f64,
    ticks: Ticks,
}

/// Where ticks may be.
#[derive(Clone, Debug, PartialEq)]
enum Ticks {
    /// At round numbers.
    Any,
    /// At whole ones.
    Whole,
    /// Where something has a name.
    Named(Vec<Tick>),
}

/// One tick.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tick {
    pub(crate) at: f64,
    pub(crate) text: String,
}

impl Axis {
    /// Round numbers around the values. Values that are no numbers do not count.
    pub(crate) fn around(label: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values);
        let step = nice_step(high - low, 6);
        let (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        Self { label: label.into(), low, high, unit: 1.0, ticks: Ticks::Any }
    }

    /// From 0 to a round number above the values.
    pub(crate) fn from_zero(label: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        Self::around(label, values.into_iter().chain([0.0]))
    }

    /// Bytes from 0; the label is given the unit.
    pub(crate) fn bytes(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let plain = Self::from_zero(label, values);
        let (unit, name) = number::byte_unit(plain.high);
        Self { label: format!("{label} ({name})"), unit, ..plain }
    }

    /// Whole numbers, ending where the values end.
    pub(crate) fn whole(label: impl Into<String>, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values);
        Self { label: label.into(), low, high, unit: 1.0, ticks: Ticks::Whole }
    }

    /// From half a unit below to half a unit above whole numbers that have names.
    pub(crate) fn named(label: impl Into<String>, names: Vec<Tick>) -> Self {
        let whole = Self::whole(label, names.iter().map(|tick| tick.at));
        Self {
            low: whole.low.floor() - 0.5,
            high: whole.high.ceil() + 0.5,
            ticks: Ticks::Named(names),
            ..whole
        }
    }

    /// The values at both ends.
    pub(crate) fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// Where a value lies: 0 at the low end, 1 at the high one.
    pub(crate) fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// Whether a value is on the axis.
    pub(crate) fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Ticks that are at least the `most`th part of the axis apart.
    pub(crate) fn ticks(&self, most: usize) -> Vec<Tick> {
        let span = (self.high - self.low) / self.unit;
        let step = match &self.ticks {
            Ticks::Any => nice_step(span, most),
            Ticks::Whole => nice_step(span, most).max(1.0),
            Ticks::Named(names) => return apart(names, span / most.max(1) as f64),
        };
        let largest = (self.low.abs().max(self.high.abs())) / self.unit;
        let first = (self.low / self.unit / step - 1e-9).ceil();
        let last = (self.high / self.unit / step + 1e-9).floor();
        let count = (last - first).clamp(0.0, most as f64) as usize;
        (0..=count)
            .map(|nth| (first + nth as f64) * step)
            .map(|number| Tick { at: number * self.unit, text: text(number, step, largest) })
            .filter(|tick| (-1e-6..=1.0 + 1e-6).contains(&self.place(tick.at)))
            .collect()
    }
}

/// Those of the ticks that are this far from the one before.
fn apart(ticks: &[Tick], distance: f64) -> Vec<Tick> {
    let mut kept: Vec<Tick> = Vec::new();
    for tick in ticks {
        if kept.last().is_none_or(|last| tick.at - last.at >= distance) {
            kept.push(tick.clone());
        }
    }
    kept
}

/// A number among others that are `step` apart and at most `largest`.
fn text(number: f64, step: f64, largest: f64) -> String {
    if step < 1e-6 || largest >= 1e15 {
        let digits = (largest.log10().floor() - step.log10().floor()).clamp(0.0, 17.0) as usize;
        return format!("{number:.digits$e}");
    }
    grouped(number, (-step.log10().floor()).max(0.0) as usize)
}

/// Both ends of the values, apart from each other.
fn range(values: impl IntoIterator<Item = f64>) -> (f64, f64) {
    // Beyond these, sums overflow and steps vanish.
    const LARGEST: f64 = 1e100;
    const SMALLEST: f64 = 1e-100;
    let finite = values.into_iter().filter(|value| value.is_finite());
    let (low, high) = finite
        .map(|value| if value.abs() < SMALLEST { 0.0 } else { value.clamp(-LARGEST, LARGEST) })
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low > high {
        (0.0, 1.0)
    } else if high - low > 1e-12 * high.abs().max(low.abs()) {
        (low, high)
    } else if low == 0.0 {
        (0.0, 1.0)
    } else {
        // As much room as the value itself leaves.
        let room = 0.1 * low.abs();
        (low - room, high + room)
    }
}

/// 1, 2 or 5 times a power of ten, so that a range has at most `most` steps.
fn nice_step(span: f64, most: usize) -> f64 {
    let least = span / most.max(1) as f64;
    let power = 10f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn texts(axis: &Axis, most: usize) -> Vec<String> {
        axis.ticks(most).into_iter().map(|tick| tick.text).collect()
    }

    #[test]
    fn ticks_are_at_round_numbers() {
        let axis = Axis::around("accuracy", [0.913, 0.9718]);
        assert_eq!(axis.ends(), (0.91, 0.98));
        assert_eq!(texts(&axis, 8), ["0.91", "0.92", "0.93", "0.94", "0.95", "0.96", "0.97", "0.98"]);
        assert_eq!(texts(&Axis::from_zero("ms", [1834.0]), 5), ["0", "500", "1,000", "1,500", "2,000"]);
        assert_eq!(texts(&Axis::whole("round", [1.0, 3.0]), 9), ["1", "2", "3"]);
        assert_eq!(texts(&Axis::whole("round", [1.0, 40.0]), 5), ["10", "20", "30", "40"]);
    }

    #[test]
    fn bytes_are_counted_in_one_unit() {
        let axis = Axis::bytes("sent", [3_400_000.0]);
        assert_eq!(axis.label, "sent (MB)");
        assert_eq!(texts(&axis, 5), ["0", "1", "2", "3", "4"]);
        assert!((axis.ticks(5)[4].at - 4e6).abs() < 1e-3);
    }

    #[test]
    fn names_stand_at_their_numbers() {
        let named = |at: f64, text: &str| Tick { at, text: text.to_owned() };
        let axis =
            Axis::named("cut", vec![named(3.0, "3 pool1"), named(4.0, "4 conv2"), named(12.0, "12 fc3")]);
        assert_eq!((axis.place(2.5), axis.place(12.5)), (0.0, 1.0));
        assert_eq!(texts(&axis, 10), ["3 pool1", "4 conv2", "12 fc3"]);
        assert_eq!(texts(&axis, 5), ["3 pool1", "12 fc3"], "two names would not fit");
    }

    #[test]
    fn nothing_to_show_is_an_axis_too() {
        assert_eq!(Axis::from_zero("x", [f64::NAN]).ends(), (0.0, 1.0));
        let one = Axis::around("x", [5.0, 5.0]);
        assert!(one.ends().0 < 5.0 && one.ends().1 > 5.0);
    }

    proptest! {
        #[test]
        fn all_values_are_on_the_axis_with_few_ticks_that_rise(
            values in prop::collection::vec(any::<f64>(), 1..20),
            most in 1usize..12,
        ) {
            let usable = || values.iter().copied().filter(|value| value.abs() < 1e99);
            for axis in [
                Axis::around("x", usable()),
                Axis::from_zero("x", usable()),
                Axis::bytes("x", usable()),
                Axis::whole("x", usable()),
            ] {
                let (low, high) = axis.ends();
                prop_assert!(low < high && low.is_finite() && high.is_finite());
                let room = 1e-9 * (high - low);
                prop_assert!(usable().all(|value| value >= low - room && value <= high + room));
                let ticks = axis.ticks(most);
                prop_assert!(ticks.len() <= most + 1);
                prop_assert!(ticks.is_sorted_by(|a, b| a.at < b.at));
                prop_assert!(ticks.iter().all(|tick| (-0.001..=1.001).contains(&axis.place(tick.at))));
                prop_assert!(ticks.iter().map(|tick| &tick.text).collect::<BTreeSet<_>>().len() == ticks.len());
            }
        }
    }
}
