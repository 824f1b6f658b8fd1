//! Fewer points of many, the same ones every time.

/// At most `most` of `points`, evenly spread over their order, the first and the last among them.
pub(crate) fn thin<T: Clone>(points: &[T], most: usize) -> Vec<T> {
    if points.len() <= most {
        return points.to_vec();
    }
    let last = points.len() - 1;
    match most {
        0 => Vec::new(),
        1 => vec![points[last].clone()],
        _ => (0..most).map(|nth| points[nth * last / (most - 1)].clone()).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn few_points_are_all_kept() {
        assert_eq!(thin(&[1, 2, 3], 3), [1, 2, 3]);
        assert_eq!(thin(&[1, 2, 3, 4, 5], 3), [1, 3, 5]);
        assert_eq!(thin(&[1, 2, 3], 1), [3]);
        assert!(thin::<u8>(&[], 5).is_empty());
    }

    proptest! {
        #[test]
        fn what_is_kept_is_in_order_once_and_has_both_ends(len in 1usize..3000, most in 2usize..300) {
            let points: Vec<usize> = (0..len).collect();
            let kept = thin(&points, most);
            prop_assert_eq!(kept.len(), len.min(most));
            prop_assert!(kept.is_sorted_by(|a, b| a < b));
            prop_assert_eq!((kept[0], kept[kept.len() - 1]), (0, len - 1));
        }
    }
}
