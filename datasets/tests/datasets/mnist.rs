//! The committed MNIST files, and files that are not quite MNIST.

use std::{fs, path::Path};

use partway_datasets::{
    Dataset, DatasetError, Pixels, SamplesError, from_config,
    idx::{self, ValuesRef},
    test_set,
};

use crate::config;

/// Reads the data set `name` from `folder`.
fn load(name: &str, folder: &Path) -> Result<Dataset, DatasetError> {
    from_config(&config(&format!("dataset = {name:?}\npath = {:?}", folder.display().to_string())))
}

fn committed() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/mnist"))
}

#[test]
fn the_committed_files_are_mnist() {
    let mnist = load("mnist", committed()).expect("the files are in the tree");
    let test = mnist.test.expect("two of them are the test set");
    assert_eq!((mnist.train.len(), test.len()), (60_000, 10_000));
    assert_eq!((mnist.train.shape(), mnist.train.classes()), ([1, 28, 28], 10));
    assert_eq!((&mnist.train.labels()[..3], &test.labels()[..3]), (&[5, 0, 4][..], &[7, 2, 1][..]));
    assert_eq!(
        mnist.train.label_counts(),
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        "the counts that the data set is published with"
    );
    let Pixels::U8(bytes) = mnist.train.pixels() else { panic!("MNIST is bytes") };
    let mean = bytes.iter().map(|byte| f64::from(*byte)).sum::<f64>() / bytes.len() as f64 / 255.0;
    assert!((mean - 0.1307).abs() < 1e-4, "the mean pixel is {mean}");
}

/// Writes the four files with so many samples; every label is `label`.
fn write(folder: &Path, train: usize, test: usize, images: usize, label: u8) {
    for (half, labels) in [("train", train), ("t10k", test)] {
        let put = |name: String, dims: &[usize], bytes: &[u8]| {
            let mut file = Vec::new();
            idx::encode(&mut file, dims, ValuesRef::U8(bytes)).expect("the dimensions fit");
            fs::write(folder.join(name), file).expect("the folder is writable");
        };
        put(format!("{half}-images-idx3-ubyte"), &[images, 2, 2], &vec![0; images * 4]);
        put(format!("{half}-labels-idx1-ubyte"), &[labels], &vec![label; labels]);
    }
}

#[test]
fn images_without_labels_are_refused_by_both_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), 3, 2, 3, 0);
    let error = load("fashion-mnist", folder.path()).expect_err("three images, two labels");
    assert!(matches!(error, DatasetError::Counts { image_count: 3, label_count: 2, .. }), "{error}");
    let message = error.to_string();
    for name in ["t10k-images-idx3-ubyte` holds 3", "t10k-labels-idx1-ubyte` holds 2"] {
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn a_label_beyond_nine_is_refused_by_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), 2, 2, 2, 10);
    let error = load("mnist", folder.path()).expect_err("there is no digit 10");
    assert!(error.to_string().contains("train-labels-idx1-ubyte`: sample 0 has label 10"), "{error}");
    assert!(matches!(error, DatasetError::Samples { source: SamplesError::Label { .. }, .. }));
}

#[test]
fn an_empty_half_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), 0, 0, 0, 0);
    let error = load("mnist", folder.path()).expect_err("nothing to train on");
    assert!(matches!(error, DatasetError::Empty { half: "training" }), "{error}");
}

#[test]
fn a_folder_without_the_files_says_how_to_get_them() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["mnist", "fashion-mnist"] {
        let message = load(name, folder.path()).expect_err("nothing is there").to_string();
        assert!(message.contains("holds neither `train-images-idx3-ubyte.gz`"), "{message}");
        assert!(message.ends_with(&format!("`partway data fetch {name}`")), "{message}");
    }
}

/// The committed files of one half, in a folder of their own.
fn half(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for part in ["images-idx3-ubyte.gz", "labels-idx1-ubyte.gz"] {
        let file = format!("{name}-{part}");
        fs::copy(committed().join(&file), folder.path().join(&file)).expect("copied");
    }
    folder
}

#[test]
fn without_a_test_set_the_edges_can_evaluate() {
    let folder = half("train");
    let error = load("mnist", folder.path()).expect_err("nothing to test on").to_string();
    assert!(error.contains("holds neither `t10k-images-idx3-ubyte.gz`"), "{error}");
    assert!(error.contains("`partway data fetch mnist`"), "{error}");
    assert!(error.ends_with("`data.evaluate = \"edges\"`"), "{error}");
    let path = folder.path().display();
    let edges = config(&format!("dataset = \"mnist\"\npath = \"{path}\"\nevaluate = \"edges\""));
    let dataset = from_config(&edges).expect("there is what it trains on");
    assert_eq!((dataset.train.len(), dataset.test), (60_000, None));
    assert_eq!(test_set(&edges).expect("none is needed"), None);
}

#[test]
fn a_coordinator_needs_the_test_set_alone() {
    let folder = half("t10k");
    let path = folder.path().display();
    let cloud = config(&format!("dataset = \"mnist\"\npath = \"{path}\"\ntest_limit = 7\npad = 2"));
    let test = test_set(&cloud).expect("it is there").expect("the cloud evaluates");
    assert_eq!((test.len(), test.shape(), test.classes()), (7, [1, 32, 32], 10));
    let error = from_config(&cloud).expect_err("nothing to train on").to_string();
    assert!(error.contains("`train-images-idx3-ubyte.gz`") && !error.contains("edges"), "{error}");
}
