//! Properties of every partition.

use partway_datasets::{Partition, partition};
use proptest::prelude::*;

fn any_method() -> impl Strategy<Value = Partition> {
    prop_oneof![
        Just(Partition::Iid),
        (-3.0f64..3.0).prop_map(|exponent| Partition::Dirichlet { alpha: 10f64.powf(exponent) }),
        (1usize..4).prop_map(|per_edge| Partition::Shards { per_edge }),
        Just(Partition::ByLabel),
    ]
}

proptest! {
    #[test]
    fn every_sample_goes_to_one_edge_and_nobody_gets_too_few(
        method in any_method(),
        labels in prop::collection::vec(0u32..12, 60..400),
        edges in 1usize..20,
        min_samples in 0usize..4,
        seed: u64,
    ) {
        let parts = partition(&labels, 12, edges, method, min_samples, seed).expect("enough samples for each");
        prop_assert_eq!(parts.len(), edges);
        let mut all = parts.concat();
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(0..labels.len()));
        for part in &parts {
            prop_assert!(part.len() >= min_samples.max(1), "{:?}", part);
            prop_assert!(part.is_sorted());
        }
        let again = partition(&labels, 12, edges, method, min_samples, seed).expect("as before");
        prop_assert_eq!(parts, again);
    }

    /// Even if each edge needs all that there is for it.
    #[test]
    fn the_tightest_minimum_is_met(method in any_method(), edges in 1usize..12, min in 3usize..20, seed: u64) {
        let labels: Vec<u32> = (0..edges * min).map(|index| (index * index % 7) as u32).collect();
        let parts = partition(&labels, 7, edges, method, min, seed).expect("exactly enough");
        prop_assert!(parts.iter().all(|part| part.len() == min), "{:?}", parts);
    }

    #[test]
    fn iid_parts_are_equal(samples in 20usize..200, edges in 1usize..20, seed: u64) {
        let parts = partition(&vec![0; samples], 1, edges, Partition::Iid, 1, seed).expect("enough samples");
        prop_assert!(parts.iter().all(|part| (samples / edges..=samples.div_ceil(edges)).contains(&part.len())));
    }
}

#[test]
fn another_seed_is_another_partition() {
    let labels: Vec<u32> = (0..200).map(|index| index % 10).collect();
    for method in [Partition::Iid, Partition::Dirichlet { alpha: 0.5 }, Partition::Shards { per_edge: 2 }] {
        let with = |seed| partition(&labels, 10, 5, method, 1, seed).expect("enough samples");
        assert_ne!(with(1), with(2), "{method:?}");
    }
}
