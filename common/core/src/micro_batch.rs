//! Micro-batches: a step's batch in equal parts, whose gradients accumulate to that of the whole, so that one part can
//! be on the wire while the next is computed (`GPipe`: Huang et al. 2019, arXiv 1811.06965; between an edge and a
//! cloud, `PiPar`: Zhang et al. 2023, arXiv 2302.12803).

use std::ops::Range;

/// One of the equal parts of a step's batch.
///
/// ```
/// use partway_core::micro_batch::MicroBatch;
/// let last = MicroBatch { index: 2, of: 3 };
/// assert_eq!(last.range(12), 8..12);
/// assert!(last.is_last() && MicroBatch::WHOLE.is_last());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MicroBatch {
    /// Which of them, from 0. They are trained in this order.
    pub index: u32,
    /// How many there are, from 1.
    pub of: u32,
}

impl MicroBatch {
    /// A batch that is not split.
    pub const WHOLE: Self = Self { index: 0, of: 1 };

    /// Whether the optimizer steps after it.
    pub fn is_last(self) -> bool {
        self.index + 1 == self.of
    }

    /// How many of a batch's samples are in it.
    pub fn samples(self, batch: usize) -> usize {
        batch / self.of.max(1) as usize
    }

    /// Which of a batch's samples these are.
    pub fn range(self, batch: usize) -> Range<usize> {
        let samples = self.samples(batch);
        let start = self.index as usize * samples;
        start..start + samples
    }
}
