//! Maps laid out so that every tap of a correlation is a constant distance away: with zeros around,
//! and with the pixels that a stride keeps apart in planes of their own.

use std::ops::Range;

use super::geometry::Correlation;
use super::thin_out::thin_out;
use super::tile::{Run, SLACK};

/// Where a place of the grid and a tap lie in a frame: at `position + tap`.
///
/// A frame is `[channel][phase][image][row][pitch]`. A phase holds the pixels that are equal modulo the
/// stride. The zeros right of a row are those left of the next.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// From a row to the next.
    pub(super) pitch: usize,
    /// Of one image in one phase.
    plane: usize,
    images: usize,
    /// The rows of the grid that it is for.
    rows: Range<usize>,
    /// Columns of the grid.
    width: usize,
    /// Zeros before the first row.
    margin: usize,
    /// First row of the (thinned out) source.
    top: isize,
    phases: Vec<[usize; 2]>,
    /// Pixels in a row of each phase.
    kept: Vec<usize>,
    /// Of each tap: from a place's position in the first channel.
    taps: Vec<usize>,
}

/// Least and greatest displacement along an axis.
fn reach(thinned: &[[isize; 2]], axis: usize) -> [isize; 2] {
    let along = || thinned.iter().map(|tap| tap[axis]);
    [along().min().unwrap_or(0), along().max().unwrap_or(0)]
}

impl Frame {
    /// A frame of `images` images for some rows of the grid.
    pub(super) fn new(correlation: &Correlation, images: usize, rows: Range<usize>) -> Self {
        let stride = correlation.stride as isize;
        let phase_of = |tap: &[isize; 2]| tap.map(|distance| distance.rem_euclid(stride) as usize);
        let mut phases: Vec<[usize; 2]> = correlation.taps.iter().map(phase_of).collect();
        phases.sort_unstable();
        phases.dedup();
        let thinned: Vec<[isize; 2]> =
            correlation.taps.iter().map(|tap| tap.map(|distance| distance.div_euclid(stride))).collect();
        let [least_y, greatest_y] = reach(&thinned, 0);
        let [least_x, greatest_x] = reach(&thinned, 1);
        let columns = correlation.source[1].div_ceil(correlation.stride) as isize;
        let width = correlation.grid[1];
        let (left, right) = ((-least_x).max(0), (width as isize + greatest_x - columns).max(0));
        let pitch = (columns + left.max(right)) as usize;
        let height = rows.len() + (greatest_y - least_y) as usize;
        let margin = left as usize;
        let plane = margin + height * pitch;
        let taps = correlation.taps.iter().zip(&thinned).map(|(tap, thin)| {
            let phase = phases.binary_search(&phase_of(tap)).unwrap_or_default();
            let column = (left + thin[1]) as usize;
            phase * images * plane + (thin[0] - least_y) as usize * pitch + column
        });
        let taps = taps.collect();
        let top = rows.start as isize + least_y;
        let kept = phases
            .iter()
            .map(|phase| correlation.source[1].saturating_sub(phase[1]).div_ceil(correlation.stride));
        let kept = kept.collect();
        Self { pitch, plane, images, rows, width, margin, top, phases, kept, taps }
    }

    /// Values of one channel.
    pub(super) fn channel(&self) -> usize {
        self.phases.len() * self.images * self.plane
    }

    /// Values of `channels` channels, and what tiles read beyond.
    pub(super) fn len(&self, channels: usize) -> usize {
        channels * self.channel() + SLACK
    }

    /// Of every channel and tap, in this order: the distance from a place's position.
    pub(super) fn tap_starts(&self, channels: usize) -> Vec<usize> {
        self.tap_starts_of(0..self.taps.len(), channels)
    }

    /// As [`Frame::tap_starts`], of some of the taps.
    pub(super) fn tap_starts_of(&self, taps: Range<usize>, channels: usize) -> Vec<usize> {
        let taps = &self.taps[taps];
        (0..channels).flat_map(|channel| taps.iter().map(move |tap| channel * self.channel() + tap)).collect()
    }

    /// From the first place's position to behind the last one's, of one image.
    pub(super) fn span(&self) -> usize {
        (self.rows.len() - 1) * self.pitch + self.width
    }

    /// The rows of the grid as positions, image by image.
    pub(super) fn runs(&self) -> Vec<Run> {
        let run =
            |image: usize, row: usize| Run { start: image * self.plane + row * self.pitch, len: self.width };
        (0..self.images).flat_map(|image| (0..self.rows.len()).map(move |row| run(image, row))).collect()
    }

    /// Copies the channels `channels` (counted over all groups) of the images from `image` on into
    /// `values`, which has room for them.
    #[inline(always)]
    pub(super) fn fill(
        &self,
        correlation: &Correlation,
        source: &[f32],
        image: usize,
        channels: Range<usize>,
        values: &mut [f32],
    ) {
        let (plane, all) = (correlation.source_plane(), correlation.groups * correlation.sources);
        for (channel, values) in channels.zip(values.chunks_exact_mut(self.channel())) {
            for (nth, image) in (image..image + self.images).enumerate() {
                let source = &source[(image * all + channel) * plane..][..plane];
                self.fill_planes(correlation, source, nth, values);
            }
        }
    }

    /// Copies one image's plane into the phases of its channel.
    #[inline(always)]
    fn fill_planes(&self, correlation: &Correlation, source: &[f32], image: usize, values: &mut [f32]) {
        let ([height, width], stride) = (correlation.source, correlation.stride);
        let place = |phase: usize| (phase * self.images + image) * self.plane;
        let rows = (self.plane - self.margin) / self.pitch;
        if let (1, Ok(top)) = (stride, usize::try_from(self.top))
            && self.pitch == width
            && top + rows <= height
        {
            // Nothing comes between the rows, or before them.
            let target = &mut values[place(0)..][..rows * width];
            target.copy_from_slice(&source[top * width..][..rows * width]);
            return;
        }
        let above = usize::try_from(-self.top).unwrap_or_default();
        let first = usize::try_from(self.top).unwrap_or_default();
        for (phase, ([first_row, first_column], kept)) in self.phases.iter().zip(&self.kept).enumerate() {
            let target = &mut values[place(phase)..][..self.plane];
            // Zeros between the rows are too few each to be worth a call.
            target.fill(0.0);
            let target = target[self.margin..].chunks_exact_mut(self.pitch).skip(above);
            let source = source.get((first * stride + first_row) * width..).unwrap_or_default();
            for (target, source) in target.zip(source.chunks(stride * width)) {
                thin_out(&source[..width], *first_column, stride, &mut target[..*kept]);
            }
        }
    }
}
