//! The pixels of a source that a correlation reads, and which of them each tap meets at which place.

use std::ops::Range;

use super::blocks::{SIDE, STAGED, rows_to_columns};
use super::geometry::Correlation;
use super::thin_out::thin_out;

/// The pixels that some rows of the grid read: with a stride and a single tap, not all.
pub(super) struct Lattice<'a> {
    shape: &'a Correlation,
    /// Rows of the grid.
    rows: Range<usize>,
    /// From a pixel that is read to the next.
    step: usize,
    /// First pixel that is read, and how many are, in both directions.
    first: [usize; 2],
    sides: [usize; 2],
}

impl<'a> Lattice<'a> {
    pub(super) fn new(shape: &'a Correlation, rows: Range<usize>) -> Self {
        let step = if shape.taps.len() == 1 { shape.stride } else { 1 };
        let along = |axis: usize, grid: &Range<usize>| {
            let reach = shape.taps.iter().map(|tap| tap[axis]);
            let stride = shape.stride as isize;
            // Of the positions from the first place's to the last one's those that lie in the source.
            let least = grid.start as isize * stride + reach.clone().min().unwrap_or(0);
            let greatest = (grid.end as isize - 1) * stride + reach.max().unwrap_or(0);
            let outside = (-least).max(0) as usize;
            let first = (least + outside.next_multiple_of(step) as isize) as usize;
            let end = (greatest + 1).clamp(0, shape.source[axis] as isize) as usize;
            (first, end.saturating_sub(first).div_ceil(step))
        };
        let [(top, height), (left, width)] = [along(0, &rows), along(1, &(0..shape.grid[1]))];
        Self { shape, rows, step, first: [top, left], sides: [height, width] }
    }

    /// Pixels of one image.
    pub(super) fn pixels(&self) -> usize {
        self.sides[0] * self.sides[1]
    }

    /// Calls `met` with every place of the rows where the tap meets the source, and the number of the pixel.
    #[inline(always)]
    pub(super) fn meet(&self, tap: usize, mut met: impl FnMut(usize, usize)) {
        let Self { shape, step, first, sides, .. } = self;
        let number = |axis: usize, place: usize| {
            let pixel = (place * shape.stride) as isize + shape.taps[tap][axis] - first[axis] as isize;
            usize::try_from(pixel).ok().map(|pixel| pixel / step).filter(|number| *number < sides[axis])
        };
        let columns: Vec<(usize, usize)> =
            (0..shape.grid[1]).filter_map(|x| Some((x, number(1, x)?))).collect();
        for y in self.rows.clone() {
            let Some(row) = number(0, y) else { continue };
            for (x, column) in &columns {
                met(y * shape.grid[1] + x, row * sides[1] + column);
            }
        }
    }

    /// Writes the pixels of some images and channels (counted over all groups) as `[image][pixel][wide]`, of which
    /// what comes behind the last channel is arbitrary.
    #[inline(always)]
    pub(super) fn transpose(
        &self,
        source: &[f32],
        images: Range<usize>,
        channels: Range<usize>,
        wide: usize,
        stage: &mut [f32],
        panel: &mut [f32],
    ) {
        let Self { shape, step, first: [top, left], sides: [height, width], .. } = *self;
        if self.pixels() == 0 {
            return;
        }
        let plane = shape.source_plane();
        // Rows that follow each other without a gap are as one.
        let (lines, line) =
            if step == 1 && width == shape.source[1] { (1, height * width) } else { (height, width) };
        // Of every image and line in the first channel.
        let starts = images.flat_map(|image| {
            let start = move |nth| image * shape.source_image() + (top + nth * step) * shape.source[1] + left;
            (0..lines).map(start)
        });
        let starts: Vec<usize> = starts.collect();
        let at_once = (STAGED / line).max(1);
        let panel = &mut panel[..starts.len() * line * wide];
        for (lane, channel) in channels.clone().step_by(SIDE).enumerate() {
            for (starts, panel) in starts.chunks(at_once).zip(panel.chunks_mut(at_once * line * wide)) {
                // A part of a line where it is long, else some lines.
                for (part, panel) in panel.chunks_mut(STAGED * wide).enumerate() {
                    let len = panel.len() / wide;
                    for (channel, staged) in
                        (channel..channels.end).zip(stage.chunks_exact_mut(STAGED)).take(SIDE)
                    {
                        let first = channel * plane + part * STAGED * step;
                        for (start, staged) in starts.iter().zip(staged[..len].chunks_mut(line)) {
                            thin_out(&source[first + start..], 0, step, staged);
                        }
                    }
                    rows_to_columns(stage, panel, wide, lane * SIDE);
                }
            }
        }
    }
}
