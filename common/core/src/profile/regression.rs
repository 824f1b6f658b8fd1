//! Non-negative least squares over (FLOPs, bytes, 1) in relative error.

use super::Line;

/// Shorter times are taken for this long: relative error has no meaning below a clock's resolution.
pub(super) const LEAST_SECONDS: f64 = 1e-9;

/// A column whose part orthogonal to the columns before it is smaller than this, relative and squared,
/// counts as a copy of them.
const LEAST_PIVOT: f64 = 1e-9;

/// Every set of columns that may be non-zero, fewest first; among equals, the model that extrapolates
/// most plausibly comes first.
const ACTIVE_SETS: [&[usize]; 7] = [&[0], &[1], &[2], &[0, 2], &[1, 2], &[0, 1], &[0, 1, 2]];

/// One timed pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) flops: f64,
    pub(super) bytes: f64,
    pub(super) seconds: f64,
}

impl Sample {
    pub(super) fn new(flops: f64, bytes: f64, seconds: f64) -> Self {
        Self { flops, bytes, seconds: seconds.max(LEAST_SECONDS) }
    }

    /// The row of the weighted design matrix; its target is 1.
    fn row(&self) -> [f64; 3] {
        [self.flops / self.seconds, self.bytes / self.seconds, 1.0 / self.seconds]
    }
}

/// The line with the least sum of squared relative errors and no negative coefficient.
///
/// The optimum of non-negative least squares is the ordinary least squares solution on its own support
/// (Lawson & Hanson 1974), and three columns have only seven supports: all are tried. Where several fit
/// equally well, as with one or two distinct sizes, the one with the fewest columns is taken.
pub(super) fn fit_line(samples: &[Sample]) -> Line {
    let rows: Vec<[f64; 3]> = samples.iter().map(Sample::row).collect();
    let mut gram = [[0.0; 3]; 3];
    let mut moments = [0.0; 3];
    for row in &rows {
        for (i, left) in row.iter().enumerate() {
            moments[i] += left;
            for (j, right) in row.iter().enumerate() {
                gram[i][j] += left * right;
            }
        }
    }
    let candidates: Vec<([f64; 3], f64)> = ACTIVE_SETS
        .iter()
        .filter_map(|columns| solve(&gram, &moments, columns))
        .map(|line| (line, squared_error(&rows, &line)))
        .collect();
    let least = candidates.iter().map(|(_, error)| *error).fold(f64::INFINITY, f64::min);
    let close_enough = least * (1.0 + 1e-9) + 1e-12 * rows.len() as f64;
    let [per_flop, per_byte, fixed] =
        candidates.into_iter().find(|(_, error)| *error <= close_enough).map_or([0.0; 3], |(line, _)| line);
    Line { per_flop, per_byte, fixed }
}

/// Least squares on `columns` alone; `None` if they depend on each other or a coefficient is negative.
fn solve(gram: &[[f64; 3]; 3], moments: &[f64; 3], columns: &[usize]) -> Option<[f64; 3]> {
    // Columns differ by ten orders of magnitude: scaled to unit length, pivots can be compared with 1.
    let size = columns.len();
    let mut norms = [1.0; 3];
    for (norm, &column) in norms.iter_mut().zip(columns) {
        *norm = gram[column][column].sqrt();
        if !norm.is_normal() {
            return None;
        }
    }
    let mut matrix = [[0.0; 3]; 3];
    let mut target = [0.0; 3];
    for (i, &row) in columns.iter().enumerate() {
        target[i] = moments[row] / norms[i];
        for (j, &column) in columns.iter().enumerate() {
            matrix[i][j] = gram[row][column] / norms[i] / norms[j];
        }
    }
    for pivot in 0..size {
        if matrix[pivot][pivot] < LEAST_PIVOT {
            return None;
        }
        for row in pivot + 1..size {
            let factor = matrix[row][pivot] / matrix[pivot][pivot];
            let pivot_row = matrix[pivot];
            for (value, above) in matrix[row].iter_mut().zip(pivot_row) {
                *value -= factor * above;
            }
            target[row] -= factor * target[pivot];
        }
    }
    let mut line = [0.0; 3];
    for row in (0..size).rev() {
        let known: f64 = (row + 1..size).map(|column| matrix[row][column] * target[column]).sum();
        target[row] = (target[row] - known) / matrix[row][row];
        line[columns[row]] = target[row] / norms[row];
    }
    line.iter().all(|coefficient| coefficient.is_finite() && *coefficient >= 0.0).then_some(line)
}

fn squared_error(rows: &[[f64; 3]], line: &[f64; 3]) -> f64 {
    rows.iter()
        .map(|row| {
            let relative: f64 = row.iter().zip(line).map(|(value, coefficient)| value * coefficient).sum();
            (relative - 1.0).powi(2)
        })
        .sum()
}
