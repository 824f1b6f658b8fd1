//! Data that an edge has of its own.

use std::path::Path;

use partway_datasets::{
    Pixels, Samples,
    own::{Format, Reading, load_for_edge},
    shard,
};

use crate::{folder, npz, put};

fn named(names: &[&str]) -> Reading {
    Reading { class_names: Some(names.iter().map(ToString::to_string).collect()), ..Reading::default() }
}

fn refused(path: &Path, reading: &Reading) -> String {
    load_for_edge(path, reading).expect_err("it is refused").to_string()
}

#[test]
fn formats_are_known_by_their_names() {
    let folder = folder();
    let path = folder.path();
    let detect = |name: &str| Format::detect(&path.join(name)).map(|format| format.to_string());
    put(path, "shard/shard.toml", "");
    put(path, "mnist/train-images-idx3-ubyte.gz", "");
    put(path, "cifar/cifar-100-binary/train.bin", "");
    put(path, "pictures/cat/1.png", "");
    for file in ["a.csv", "b.TSV", "c.npz", "x-images-idx3-ubyte.gz", "images.idx", "d.txt", "e.csv.gz"] {
        put(path, file, "");
    }
    assert_eq!(detect("shard").as_deref(), Ok("an edge's shard"));
    assert_eq!(detect("mnist").as_deref(), Ok("IDX files as MNIST's"));
    assert_eq!(detect("cifar").as_deref(), Ok("CIFAR-100's binary files"));
    assert_eq!(detect("pictures").as_deref(), Ok("a folder of pictures per class"));
    assert_eq!(detect("a.csv"), detect("b.TSV"));
    assert_eq!(detect("c.npz").as_deref(), Ok("NumPy arrays (.npz)"));
    assert_eq!(detect("x-images-idx3-ubyte.gz"), detect("images.idx"));
    for other in ["d.txt", "e.csv.gz", "shard/shard.toml", "pictures/cat"] {
        let error = detect(other).expect_err("no format").to_string();
        assert!(error.contains("is no data that is known"), "{other}: {error}");
    }
    assert!(detect("f").expect_err("nothing").to_string().contains("is not there"));
    put(path, "shards/b/shard.toml", "");
    put(path, "shards/a/shard.toml", "");
    let error = detect("shards").expect_err("which one?").to_string();
    assert!(error.contains("holds the shards of 2 edges") && error.ends_with("shards/a`"), "{error}");
}

#[test]
fn numbers_and_listed_names_agree_on_every_edge() {
    let folder = folder();
    let numbers = put(folder.path(), "a.csv", "a,label\n5,2\n6,0\n");
    let samples = load_for_edge(&numbers, &Reading::default()).expect("numbers agree");
    assert_eq!((samples.labels(), samples.classes()), (&[2, 0][..], 3));

    // This edge has seen no bird; it numbers the others as those do who have.
    let names = put(folder.path(), "b.csv", "a,label\n5,dog\n6,cat\n");
    let samples = load_for_edge(&names, &named(&["bird", "cat", "dog"])).expect("names are listed");
    assert_eq!((samples.labels(), samples.classes()), (&[2, 1][..], 3));
    let message = refused(&names, &Reading::default());
    assert!(
        message.contains("labels that are names (cat, dog), and every edge must number them alike"),
        "{message}"
    );
    assert!(message.contains("--class-names"), "{message}");
    assert!(refused(&names, &named(&["bird", "cat"])).contains("label `dog` is none of the class names"));

    put(folder.path(), "c/cat/1.png", "");
    image::GrayImage::new(2, 2).save(folder.path().join("c/cat/1.png")).expect("written");
    assert!(refused(&folder.path().join("c"), &Reading::default()).contains("labels that are names (cat)"));
}

#[test]
fn every_format_is_an_edges_data() {
    let folder = folder();
    let samples = Samples::new([1, 1, 2], Pixels::U8(vec![1, 2]), vec![3], 5).expect("one sample");
    shard::write(&folder.path().join("shard"), &samples).expect("the folder is writable");
    assert_eq!(load_for_edge(&folder.path().join("shard"), &Reading::default()).expect("a shard"), samples);

    let idx = |kind: u8, dims: &[u8], values: &[u8]| {
        let dims: Vec<u8> = dims.iter().flat_map(|side| u32::from(*side).to_be_bytes()).collect();
        [&[0, 0, 8, kind][..], &dims, values].concat()
    };
    let images = put(folder.path(), "own-images.idx3", idx(3, &[1, 1, 2], &[1, 2]));
    put(folder.path(), "own-labels.idx1", idx(1, &[1], &[3]));
    let read = load_for_edge(&images, &Reading::default()).expect("a pair of files");
    assert_eq!((read.shape(), read.pixels(), read.classes()), ([1, 1, 2], samples.pixels(), 4));
    let padded = load_for_edge(&images, &Reading { pad: 1, ..Reading::default() }).expect("a pair of files");
    assert_eq!(padded.shape(), [1, 3, 4]);

    let arrays = [("x", npz::npy("|u1", "1, 2", &[1, 2])), ("y", npz::npy("|u1", "1", &[3]))];
    let path = npz::npz(folder.path(), &arrays, false);
    let read = load_for_edge(&path, &Reading { shape: Some([1, 1, 2]), ..Reading::default() });
    assert_eq!(read.expect("arrays").shape(), [1, 1, 2]);
}
