//! How the values of a batch are arranged.

/// `samples` samples of `channels` channels of `positions` values, in this order: `[N, C, H, W]` with
/// `positions = H * W`, or flat features `[N, F]` with `positions = 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchShape {
    /// Samples: N.
    pub samples: usize,
    /// Channels or features of a sample: C or F.
    pub channels: usize,
    /// Values of a channel in a sample: H * W, or 1.
    pub positions: usize,
}

impl BatchShape {
    /// `samples` samples of `shape`: `[C, H, W]` or `[F]`.
    ///
    /// ```
    /// use partway_core::codec::BatchShape;
    /// let maps = BatchShape { samples: 8, channels: 6, positions: 14 * 14 };
    /// assert_eq!(BatchShape::of(8, &[6, 14, 14]), maps);
    /// assert_eq!(BatchShape::of(8, &[120]), BatchShape { samples: 8, channels: 120, positions: 1 });
    /// ```
    pub fn of(samples: usize, shape: &[usize]) -> Self {
        let channels = shape.first().copied().unwrap_or(1);
        let positions = shape.iter().skip(1).fold(1usize, |product, side| product.saturating_mul(*side));
        Self { samples, channels, positions }
    }

    /// `n` values that are one sample of flat features.
    pub fn row(n: usize) -> Self {
        Self { samples: 1, channels: n, positions: 1 }
    }

    /// Values of one sample; saturates.
    pub fn sample_len(self) -> usize {
        self.channels.saturating_mul(self.positions)
    }

    /// Values of all samples; saturates.
    pub fn values(self) -> usize {
        self.samples.saturating_mul(self.sample_len())
    }
}
