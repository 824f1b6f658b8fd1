//! A value of every edge in every round: a line for each edge, or the spread of a large fleet.

use super::history::{EdgeRound, History};
use crate::plot::Style;
use crate::plot::lines::{Area, Series, Shape};
use crate::statistics::{median, quantile};

/// Pixels between lines of the same value.
const ASIDE: f64 = 3.0;
/// Lines of more measurements than this are a blur.
const MOST_POINTS: usize = 80;

/// What each edge had in each round.
#[derive(Clone, Debug)]
pub(super) struct PerEdge {
    rounds: Vec<f64>,
    /// By edge, a value for each round; not a number where the edge took no part.
    values: Vec<(String, Vec<f64>)>,
}

impl PerEdge {
    /// `value` of every edge in every round that was planned.
    pub(super) fn of(history: &History, value: impl Fn(&EdgeRound) -> Option<f64>) -> Self {
        let numbers: Vec<u32> = history.rounds.keys().copied().collect();
        let values = history.edges.iter().map(|(name, edge)| {
            let at = |round: &u32| edge.rounds.get(round).and_then(&value).unwrap_or(f64::NAN);
            (name.clone(), numbers.iter().map(at).collect())
        });
        Self { values: values.collect(), rounds: numbers.into_iter().map(f64::from).collect() }
    }

    /// Medians over as many rounds as [`rounds_together`] says, in the middle of these.
    pub(super) fn together(self) -> Self {
        let size = rounds_together(self.rounds.len());
        let values = self.values.into_iter().map(|(name, values)| (name, medians(&values, size)));
        Self { values: values.collect(), rounds: medians(&self.rounds, size) }
    }

    /// Every value there is.
    pub(super) fn all(&self) -> impl Iterator<Item = f64> {
        self.values.iter().flat_map(|(_, values)| values.iter().copied()).filter(|value| value.is_finite())
    }

    /// Lines, and behind them areas where there are too many edges for a line each.
    pub(super) fn draw(&self, is_stepped: bool) -> (Vec<Series>, Vec<Area>) {
        if self.values.len() > Style::DISTINCT {
            return self.spread(is_stepped);
        }
        let middle = (self.values.len() as f64 - 1.0) / 2.0;
        let line = |(nth, (name, values)): (usize, &(String, Vec<f64>))| Series {
            name: name.clone(),
            style: Style::Nth(nth),
            shape: shape(is_stepped, ASIDE * (nth as f64 - middle)),
            points: self.rounds.iter().copied().zip(values.iter().copied()).collect(),
        };
        (self.values.iter().enumerate().map(line).collect(), Vec::new())
    }

    fn spread(&self, is_stepped: bool) -> (Vec<Series>, Vec<Area>) {
        let at = |index: usize, q: f64| {
            let values = self.values.iter().map(|(_, values)| values[index]);
            quantile(values, q).unwrap_or(f64::NAN)
        };
        let area = |name: &str, class, low: f64, high: f64| Area {
            name: name.to_owned(),
            class,
            points: self
                .rounds
                .iter()
                .enumerate()
                .map(|(i, round)| (*round, at(i, low), at(i, high)))
                .collect(),
        };
        let median = Series {
            name: format!("median of {} edges", self.values.len()),
            style: Style::All,
            shape: shape(is_stepped, 0.0),
            points: self.rounds.iter().enumerate().map(|(i, round)| (*round, at(i, 0.5))).collect(),
        };
        let areas = vec![
            area("all edges", "area-all", 0.0, 1.0),
            area("the middle half of the edges", "area-middle", 0.25, 0.75),
        ];
        (vec![median], areas)
    }
}

/// How many of so many rounds are one point of a plot of measurements.
pub(super) fn rounds_together(rounds: usize) -> usize {
    rounds.div_ceil(MOST_POINTS).max(1)
}

/// The same in words.
pub(super) fn rounds_of_a_point(history: &History) -> String {
    match rounds_together(history.rounds.len()) {
        1 => "a round".to_owned(),
        several => format!("{several} rounds"),
    }
}

/// The median of every `size` values; of none that is a number, none.
pub(super) fn medians(values: &[f64], size: usize) -> Vec<f64> {
    values.chunks(size).map(|some| median(some.iter().copied()).unwrap_or(f64::NAN)).collect()
}

fn shape(is_stepped: bool, aside: f64) -> Shape {
    if is_stepped { Shape::Steps(aside) } else { Shape::Straight }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_rounds_are_shown_several_at_a_time() {
        assert_eq!(
            (rounds_together(0), rounds_together(MOST_POINTS), rounds_together(MOST_POINTS + 1)),
            (1, 1, 2)
        );
        assert_eq!(medians(&[1.0, 3.0, 5.0, f64::NAN, 7.0], 2), [2.0, 5.0, 7.0]);
        assert!(medians(&[f64::NAN], 2)[0].is_nan());
    }
}
