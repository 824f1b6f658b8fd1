//! Which edge gets which samples.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use partway_core::random::{shuffle, stream};
use rand_chacha::ChaCha12Rng;
use thiserror::Error;

mod dirichlet;
mod table;

pub use table::table;

/// How the samples are spread over the edges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Partition {
    /// Every edge a random part of the same size; sizes differ by one at most.
    Iid,
    /// Label skew: the samples of each class are split over the edges in proportions drawn from a
    /// symmetric Dirichlet distribution, as Li, Diao, Chen & He (2021, arXiv 2102.02079) do after Hsu,
    /// Qi & Brown (2019, arXiv 1909.06335).
    Dirichlet {
        /// Concentration, above 0. Small: few edges hold most of a class; large: like [`Partition::Iid`].
        alpha: f64,
    },
    /// Sorted by label, cut into pieces of one size, and dealt at random (`McMahan` et al. 2017,
    /// arXiv 1602.05629, who deal two to each).
    Shards {
        /// Pieces that each edge gets, at least 1.
        per_edge: usize,
    },
    /// Labels are dealt round robin. If there are more edges than classes, the edges are, and those that
    /// got the same label share its samples.
    ByLabel,
}

/// A partition that there is not.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PartitionError {
    /// Nobody to give samples to.
    #[error("there are no edges to spread the samples over: configure at least one")]
    NoEdges,
    /// Fewer samples than the edges need.
    #[error(
        "{samples} samples cannot give each of {edges} edges {min_samples}: use more samples, fewer edges \
         or a smaller min_samples"
    )]
    TooFewSamples {
        /// Samples there are.
        samples: usize,
        /// Edges there are.
        edges: usize,
        /// Samples that each edge must get.
        min_samples: usize,
    },
    /// A concentration that no Dirichlet distribution has.
    #[error("partition alpha = {alpha}: must be above 0 and finite")]
    Alpha {
        /// The value given.
        alpha: f64,
    },
    /// Shards that are not there to be dealt.
    #[error(
        "partition shards with per_edge = {per_edge}: needs at least 1 and at most one shard per sample, \
         but {edges} edges share {samples} samples"
    )]
    Shards {
        /// Shards asked for.
        per_edge: usize,
        /// Edges there are.
        edges: usize,
        /// Samples there are.
        samples: usize,
    },
    /// A label that is no class.
    #[error("sample {index} has label {label}, but labels must be below classes = {classes}")]
    Label {
        /// Which sample.
        index: usize,
        /// Its label.
        label: u32,
        /// Classes there are.
        classes: usize,
    },
}

/// Spreads the samples with `labels` over `edges`: per edge, the ascending indices of its samples. Every
/// sample goes to exactly one edge, and every edge gets at least `min_samples` (and at least one, since
/// nothing can be trained without): an edge that `method` gives fewer gets random ones from whichever edge
/// has most. The same arguments give the same partition.
pub fn partition(
    labels: &[u32],
    classes: usize,
    edges: usize,
    method: Partition,
    min_samples: usize,
    seed: u64,
) -> Result<Vec<Vec<usize>>, PartitionError> {
    if edges == 0 {
        return Err(PartitionError::NoEdges);
    }
    let min_samples = min_samples.max(1);
    let samples = labels.len();
    if edges.checked_mul(min_samples).is_none_or(|needed| needed > samples) {
        return Err(PartitionError::TooFewSamples { samples, edges, min_samples });
    }
    if let Some(index) = labels.iter().position(|label| *label as usize >= classes) {
        return Err(PartitionError::Label { index, label: labels[index], classes });
    }
    let mut rng = stream(seed, &["partition"]);
    let mut parts = match method {
        Partition::Iid => {
            let mut all: Vec<usize> = (0..samples).collect();
            shuffle(&mut rng, &mut all);
            cut(&all, edges).map(<[usize]>::to_vec).collect()
        }
        Partition::Dirichlet { alpha } if alpha > 0.0 && alpha.is_finite() => {
            let mut parts = vec![Vec::new(); edges];
            for mut class in by_class(labels).into_values() {
                shuffle(&mut rng, &mut class);
                let shares = dirichlet::draw(&mut rng, alpha, edges);
                for (part, samples) in parts.iter_mut().zip(dirichlet::split(&class, &shares)) {
                    part.extend_from_slice(samples);
                }
            }
            parts
        }
        Partition::Dirichlet { alpha } => return Err(PartitionError::Alpha { alpha }),
        Partition::Shards { per_edge } => match edges.checked_mul(per_edge) {
            Some(shards) if (1..=samples).contains(&shards) => {
                let sorted: Vec<usize> = by_class(labels).into_values().flatten().collect();
                let mut shards: Vec<&[usize]> = cut(&sorted, shards).collect();
                shuffle(&mut rng, &mut shards);
                shards.chunks_exact(per_edge).map(<[_]>::concat).collect()
            }
            _ => return Err(PartitionError::Shards { per_edge, edges, samples }),
        },
        Partition::ByLabel => by_label(labels, classes, edges, &mut rng),
    };
    top_up(&mut parts, min_samples, &mut stream(seed, &["partition minimum"]));
    for part in &mut parts {
        part.sort_unstable();
    }
    Ok(parts)
}

/// The ascending indices of each class that occurs.
fn by_class(labels: &[u32]) -> BTreeMap<u32, Vec<usize>> {
    let mut indices: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (index, label) in labels.iter().enumerate() {
        indices.entry(*label).or_default().push(index);
    }
    indices
}

/// Cuts `items` into `pieces` whose lengths differ by one at most, the longer ones first.
fn cut<T>(items: &[T], pieces: usize) -> impl Iterator<Item = &[T]> {
    let (short, longer) = (items.len() / pieces, items.len() % pieces);
    (0..pieces).scan(items, move |rest, piece| {
        let (head, tail) = rest.split_at(short + usize::from(piece < longer));
        *rest = tail;
        Some(head)
    })
}

fn by_label(labels: &[u32], classes: usize, edges: usize, rng: &mut ChaCha12Rng) -> Vec<Vec<usize>> {
    let mut parts = vec![Vec::new(); edges];
    for (class, mut samples) in by_class(labels) {
        // Just one unless there are more edges than classes.
        let sharers: Vec<usize> = (class as usize % edges..edges).step_by(classes).collect();
        shuffle(rng, &mut samples);
        for (edge, samples) in sharers.iter().zip(cut(&samples, sharers.len())) {
            parts[*edge].extend_from_slice(samples);
        }
    }
    parts
}

/// Moves random samples, one at a time, from the largest part to those below `min_samples`; there must be
/// enough in all. Of equally large parts the first gives.
fn top_up(parts: &mut [Vec<usize>], min_samples: usize, rng: &mut ChaCha12Rng) {
    let mut givers: BinaryHeap<(usize, Reverse<usize>)> = BinaryHeap::new();
    let mut moved = Vec::new();
    let needed: usize = parts.iter().map(|part| min_samples.saturating_sub(part.len())).sum();
    if needed == 0 {
        return;
    }
    for (edge, part) in parts.iter_mut().enumerate().filter(|(_, part)| part.len() > min_samples) {
        shuffle(rng, part);
        givers.push((part.len(), Reverse(edge)));
    }
    while moved.len() < needed {
        let Some((len, Reverse(edge))) = givers.pop() else { break };
        moved.extend(parts[edge].pop());
        if len - 1 > min_samples {
            givers.push((len - 1, Reverse(edge)));
        }
    }
    // Shuffled, so that the neediest edges do not each get a single giver's labels.
    shuffle(rng, &mut moved);
    for part in parts.iter_mut() {
        let missing = min_samples.saturating_sub(part.len()).min(moved.len());
        part.extend(moved.drain(moved.len() - missing..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `per_class` samples of each class, classes interleaved.
    fn labels(classes: u32, per_class: usize) -> Vec<u32> {
        (0..per_class).flat_map(|_| 0..classes).collect()
    }

    fn labels_of(part: &[usize], labels: &[u32]) -> Vec<u32> {
        let mut seen: Vec<u32> = part.iter().map(|index| labels[*index]).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }

    #[test]
    fn iid_sizes_differ_by_one_at_most() {
        let parts = partition(&labels(10, 10), 10, 7, Partition::Iid, 1, 42).expect("enough samples");
        let sizes: Vec<usize> = parts.iter().map(Vec::len).collect();
        assert_eq!(sizes, [15, 15, 14, 14, 14, 14, 14]);
    }

    #[test]
    fn two_shards_hold_few_labels() {
        let labels = labels(10, 60);
        let method = Partition::Shards { per_edge: 2 };
        for part in partition(&labels, 10, 10, method, 1, 42).expect("enough samples") {
            assert_eq!(part.len(), 60);
            assert!(labels_of(&part, &labels).len() <= 4, "a shard of 30 lies in two classes at most");
        }
    }

    #[test]
    fn labels_are_dealt_round_robin() {
        let labels = labels(5, 4);
        let parts = partition(&labels, 5, 2, Partition::ByLabel, 1, 42).expect("enough samples");
        assert_eq!(labels_of(&parts[0], &labels), [0, 2, 4]);
        assert_eq!(labels_of(&parts[1], &labels), [1, 3]);
    }

    #[test]
    fn edges_beyond_the_classes_share_a_label() {
        let labels = labels(2, 10);
        let parts = partition(&labels, 2, 5, Partition::ByLabel, 1, 42).expect("enough samples");
        let held: Vec<Vec<u32>> = parts.iter().map(|part| labels_of(part, &labels)).collect();
        assert_eq!(held, [[0], [1], [0], [1], [0]]);
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [4, 5, 3, 5, 3]);
    }

    #[test]
    fn the_largest_part_gives_to_those_below_the_minimum() {
        let mut parts = vec![(0..10).collect(), vec![10, 11, 12, 13, 14, 15], vec![], vec![16]];
        top_up(&mut parts, 3, &mut stream(1, &["test"]));
        assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [5, 6, 3, 3]);
    }

    #[test]
    fn a_small_alpha_skews_and_a_large_one_does_not() {
        let labels = labels(10, 200);
        // The share of an edge's most frequent label, averaged over the edges.
        let skew = |alpha| {
            let parts = partition(&labels, 10, 10, Partition::Dirichlet { alpha }, 1, 42).expect("enough");
            let share = |part: &Vec<usize>| {
                let counts = crate::samples::label_counts(part.iter().map(|i| labels[*i]), 10);
                *counts.iter().max().expect("ten classes") as f64 / part.len() as f64
            };
            parts.iter().map(share).sum::<f64>() / 10.0
        };
        assert!(skew(1e6) < 0.11, "{}", skew(1e6));
        assert!(skew(0.05) > 0.5, "{}", skew(0.05));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let labels = labels(2, 5);
        let refuse =
            |edges, method, min| partition(&labels, 2, edges, method, min, 42).expect_err("impossible");
        assert_eq!(refuse(0, Partition::Iid, 1), PartitionError::NoEdges);
        let too_few = PartitionError::TooFewSamples { samples: 10, edges: 3, min_samples: 4 };
        assert_eq!(refuse(3, Partition::Iid, 4), too_few);
        assert!(matches!(refuse(11, Partition::Iid, 0), PartitionError::TooFewSamples { .. }));
        assert!(matches!(refuse(usize::MAX, Partition::Iid, 2), PartitionError::TooFewSamples { .. }));
        for alpha in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(matches!(refuse(2, Partition::Dirichlet { alpha }, 1), PartitionError::Alpha { .. }));
        }
        for per_edge in [0, 6, usize::MAX] {
            assert!(matches!(refuse(2, Partition::Shards { per_edge }, 1), PartitionError::Shards { .. }));
        }
        let error = partition(&[0, 3], 3, 1, Partition::Iid, 1, 42).expect_err("label 3 of 3 classes");
        assert_eq!(error, PartitionError::Label { index: 1, label: 3, classes: 3 });
    }
}
