//! An edge's shard, written and read back.

use std::{fs, path::Path};

use partway_datasets::{
    Pixels, Samples, SamplesError, ShardError,
    idx::{self, IdxError, ValuesRef},
    shard,
};
use proptest::prelude::*;

fn bytes() -> Samples {
    let pixels = Pixels::U8((0..12).collect());
    Samples::new([1, 2, 2], pixels, vec![2, 0, 2], 10).expect("three samples of four pixels")
}

fn floats() -> Samples {
    let pixels = Pixels::F32(vec![-1.5, 0.25, 3e-30, 1.0]);
    Samples::new([2, 1, 1], pixels, vec![300, 0], 1000).expect("two samples of two pixels")
}

#[test]
fn bytes_and_floats_come_back_and_replace_each_other() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let folder = folder.path().join("not/yet/there");
    for samples in [bytes(), floats(), bytes()] {
        shard::write(&folder, &samples).expect("the folder is writable");
        assert_eq!(shard::read(&folder).expect("it was just written"), samples);
    }
    let mut names: Vec<_> = fs::read_dir(&folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("it can be listed").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["images.idx", "labels.idx", "shard.toml"], "nothing unfinished is left");
}

/// How a shard is refused after `damage`.
fn refused(damage: impl FnOnce(&Path)) -> ShardError {
    let folder = tempfile::tempdir().expect("a temporary folder");
    shard::write(folder.path(), &bytes()).expect("the folder is writable");
    damage(folder.path());
    let error = shard::read(folder.path()).expect_err("the shard is damaged");
    assert!(error.to_string().contains(&folder.path().display().to_string()), "{error}");
    error
}

fn put(folder: &Path, name: &str, dims: &[usize], values: ValuesRef<'_>) {
    let mut file = Vec::new();
    idx::encode(&mut file, dims, values).expect("the dimensions fit");
    fs::write(folder.join(name), file).expect("the folder is writable");
}

#[test]
fn a_shard_that_was_not_written_to_the_end_is_refused() {
    let error = refused(|folder| fs::remove_file(folder.join("shard.toml")).expect("it is there"));
    assert!(matches!(error, ShardError::Missing { .. }), "{error}");
}

#[test]
fn a_missing_or_short_file_is_refused() {
    let error = refused(|folder| fs::remove_file(folder.join("labels.idx")).expect("it is there"));
    assert!(matches!(error, ShardError::Idx(IdxError::Io { .. })), "{error}");
    let error = refused(|folder| fs::write(folder.join("images.idx"), [0, 0, 8, 4]).expect("writable"));
    assert!(matches!(error, ShardError::Idx(IdxError::Truncated { .. })), "{error}");
}

#[test]
fn classes_that_are_no_number_are_refused() {
    let long = format!("classes = {}", "1".repeat(1000));
    for text in ["", "classes", "classes = ten", "classes = -1", "classes = 10\nextra = 1", &long] {
        let error = refused(|folder| fs::write(folder.join("shard.toml"), text).expect("writable"));
        assert!(matches!(error, ShardError::Info { .. }), "{text:?}: {error}");
    }
}

#[test]
fn files_of_different_shards_are_refused() {
    let error = refused(|folder| put(folder, "labels.idx", &[2], ValuesRef::I32(&[0, 1])));
    assert!(matches!(error, ShardError::Counts { images: 3, labels: 2, .. }), "{error}");
    let error = refused(|folder| put(folder, "labels.idx", &[3], ValuesRef::I32(&[0, -1, 0])));
    assert!(matches!(error, ShardError::Label { index: 1, label: -1, .. }), "{error}");
    let error = refused(|folder| put(folder, "labels.idx", &[3], ValuesRef::I32(&[0, 10, 0])));
    assert!(matches!(error, ShardError::Samples { source: SamplesError::Label { .. }, .. }), "{error}");
    let error =
        refused(|folder| fs::write(folder.join("shard.toml"), "classes = 99999999999").expect("writable"));
    assert!(matches!(error, ShardError::Samples { source: SamplesError::Classes { .. }, .. }), "{error}");
}

#[test]
fn values_of_another_type_are_refused() {
    let error = refused(|folder| put(folder, "labels.idx", &[3], ValuesRef::U8(&[0, 1, 2])));
    assert!(matches!(error, ShardError::Idx(IdxError::WrongElement { .. })), "{error}");
    let error = refused(|folder| put(folder, "images.idx", &[1, 1, 1, 1], ValuesRef::I32(&[0])));
    assert!(error.to_string().contains("type 32-bit integer, expected unsigned byte or"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn any_shard_comes_back(
        labels in prop::collection::vec(0u32..50, 0..20),
        shape in [1usize..4, 1usize..4, 1usize..4],
        seed: u8,
    ) {
        let values = labels.len() * shape.iter().product::<usize>();
        let pixels = Pixels::U8((0..values).map(|at| (at as u8).wrapping_mul(seed)).collect());
        let samples = Samples::new(shape, pixels, labels, 50).expect("it fits");
        let folder = tempfile::tempdir().expect("a temporary folder");
        shard::write(folder.path(), &samples).expect("the folder is writable");
        prop_assert_eq!(shard::read(folder.path()).expect("it was just written"), samples);
    }
}
