//! A test set held out of data that has none.

use partway_core::random::{shuffle, stream};

/// The indices to train on and those to test on: `share` of the samples, above 0 and below 1, and of each class
/// as nearly as whole samples allow; at least one sample on either side where there are two. Both are in
/// random order, so that the first few of them have the classes' frequencies. The same arguments give the same
/// indices.
pub fn split(labels: &[u32], share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut rng = stream(seed, &["held out"]);
    let mut order: Vec<usize> = (0..labels.len()).collect();
    shuffle(&mut rng, &mut order);
    // Stable: samples of one class stay shuffled.
    order.sort_by_key(|index| labels[*index]);
    let most = labels.len().saturating_sub(1);
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (seen, index) in (1..).zip(order) {
        let least = usize::from(seen > most).min(most);
        let due = ((seen as f64 * share).round() as usize).clamp(least, most);
        if test.len() < due { test.push(index) } else { train.push(index) }
    }
    shuffle(&mut rng, &mut train);
    shuffle(&mut rng, &mut test);
    (train, test)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_class_gives_its_share() {
        let labels: Vec<u32> = (0..100).map(|index| u32::from(index >= 70)).collect();
        let (train, test) = split(&labels, 0.2, 7);
        let of_class_0 = |part: &[usize]| part.iter().filter(|index| labels[**index] == 0).count();
        assert_eq!((train.len(), of_class_0(&train)), (80, 56));
        assert_eq!((test.len(), of_class_0(&test)), (20, 14));
        assert_ne!(split(&labels, 0.2, 8), (train, test), "another seed holds out others");
    }

    #[test]
    fn the_smallest_data_has_both_halves() {
        for share in [0.001, 0.5, 0.999] {
            let (train, test) = split(&[0, 0], share, 7);
            assert_eq!((train.len(), test.len()), (1, 1), "{share}");
            assert_eq!(split(&[0], share, 7).1.len(), 0);
        }
    }
}
