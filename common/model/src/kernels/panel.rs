//! Packing: what neighbouring columns of a product see, copied side by side.

use std::ops::Range;

use super::tile::Run;

/// Some columns of a packed product: a matrix `[depth, width]` of their own.
#[derive(Debug)]
pub(super) struct Panel {
    width: usize,
    /// Where pieces of the columns come from, and their first column.
    pieces: Vec<(Run, usize)>,
    /// Columns that stand for a place; the others are zero.
    used: usize,
    /// The length of every piece, where they have one length.
    piece: Option<usize>,
}

impl Panel {
    /// The columns `columns` of those that `runs` make one after the other.
    pub(super) fn new(runs: &[Run], columns: Range<usize>) -> Self {
        let mut pieces = Vec::new();
        let (mut column, mut used) = (0, 0);
        for run in runs {
            let (begin, end) = (column.max(columns.start), (column + run.len).min(columns.end));
            if begin < end {
                let piece = Run { start: run.start + begin - column, len: end - begin };
                pieces.push((piece, begin - columns.start));
                used = end - columns.start;
            }
            column += run.len;
        }
        let piece = pieces.first().map(|(first, _)| first.len);
        let piece = piece.filter(|len| pieces.iter().all(|(piece, _)| piece.len == *len));
        Self { width: columns.len(), pieces, used, piece }
    }

    /// Fills a row of `packed` for each tap.
    #[inline(always)]
    pub(super) fn pack(&self, values: &[f32], taps: &[usize], packed: &mut [f32]) {
        // A copy of a length that the compiler knows is one or two instructions.
        match self.piece {
            Some(2) => self.pack_pieces::<2>(values, taps, packed),
            Some(4) => self.pack_pieces::<4>(values, taps, packed),
            Some(7) => self.pack_pieces::<7>(values, taps, packed),
            Some(8) => self.pack_pieces::<8>(values, taps, packed),
            Some(14) => self.pack_pieces::<14>(values, taps, packed),
            Some(16) => self.pack_pieces::<16>(values, taps, packed),
            _ => self.pack_any(values, taps, packed),
        }
    }

    #[inline(always)]
    fn pack_pieces<const N: usize>(&self, values: &[f32], taps: &[usize], packed: &mut [f32]) {
        for (tap, row) in taps.iter().zip(packed.chunks_exact_mut(self.width)) {
            let values = &values[*tap..];
            for (piece, column) in &self.pieces {
                row[*column..][..N].copy_from_slice(&values[piece.start..][..N]);
            }
            row[self.used..].fill(0.0);
        }
    }

    #[inline(always)]
    fn pack_any(&self, values: &[f32], taps: &[usize], packed: &mut [f32]) {
        for (tap, row) in taps.iter().zip(packed.chunks_exact_mut(self.width)) {
            let values = &values[*tap..];
            for (piece, column) in &self.pieces {
                let target = &mut row[*column..][..piece.len];
                for (target, value) in target.iter_mut().zip(&values[piece.start..][..piece.len]) {
                    *target = *value;
                }
            }
            row[self.used..].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_follow_the_columns() {
        let runs = [Run { start: 10, len: 3 }, Run { start: 20, len: 3 }];
        let values: Vec<f32> = (0..40).map(|value| value as f32).collect();
        let mut packed = vec![-1.0; 8];
        Panel::new(&runs, 2..6).pack(&values, &[0, 5], &mut packed);
        assert_eq!(packed, [12.0, 20.0, 21.0, 22.0, 17.0, 25.0, 26.0, 27.0]);
        Panel::new(&runs, 4..8).pack(&values, &[0, 5], &mut packed);
        assert_eq!(packed, [21.0, 22.0, 0.0, 0.0, 26.0, 27.0, 0.0, 0.0]);
    }
}
