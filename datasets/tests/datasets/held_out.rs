//! Properties of the held-out share.

use partway_datasets::{from_config, held_out};
use proptest::prelude::*;

use crate::{config, folder, put};

proptest! {
    #[test]
    fn the_halves_share_no_sample_and_have_the_shares_asked_for(
        labels in prop::collection::vec(0u32..6, 2..300),
        share in 0.01f64..0.99,
        seed: u64,
    ) {
        let (train, test) = held_out::split(&labels, share, seed);
        let mut all = [train.clone(), test.clone()].concat();
        all.sort_unstable();
        prop_assert!(all.into_iter().eq(0..labels.len()));
        prop_assert!(!train.is_empty() && !test.is_empty());
        prop_assert!((test.len() as f64 - share * labels.len() as f64).abs() <= 1.0);
        for class in 0..6 {
            let of_class = |part: &[usize]| part.iter().filter(|index| labels[**index] == class).count() as f64;
            let (held, all) = (of_class(&test), of_class(&train) + of_class(&test));
            prop_assert!((held - share * all).abs() <= 1.5, "class {class}: {held} of {all} at {share}");
        }
        prop_assert_eq!(held_out::split(&labels, share, seed), (train, test));
    }
}

#[test]
fn a_table_without_a_test_set_holds_out_its_share_and_limits_are_random_parts() {
    let folder = folder();
    let rows: Vec<String> = (0..100).map(|n| format!("{n},{}", n / 50)).collect();
    let path = put(folder.path(), "a.csv", format!("a,label\n{}\n", rows.join("\n")));
    let load = |more: &str| {
        from_config(&config(&format!("dataset = \"csv\"\npath = {path:?}\n{more}"))).expect("a table")
    };
    let whole = load("");
    let test = whole.test.as_ref().expect("a part of it");
    assert_eq!((whole.train.len(), test.len()), (80, 20));
    assert_eq!(test.label_counts(), [10, 10]);
    let limited = load("test_share = 0.5\ntrain_limit = 20\ntest_limit = 7");
    assert_eq!((limited.train.len(), limited.test.map(|test| test.len())), (20, Some(7)));
    assert!(
        limited.train.label_counts().iter().all(|count| *count > 2),
        "sorted rows do not limit the classes"
    );
    assert_eq!(load(""), whole);
    let edges = load("evaluate = \"edges\"");
    assert_eq!((edges.train.len(), edges.test), (100, None), "every row is there to train on");
}
