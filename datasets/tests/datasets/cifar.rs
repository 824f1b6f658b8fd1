//! CIFAR's binary files, in small.

use std::path::Path;

use partway_datasets::{Dataset, DatasetError, Pixels, SamplesError, cifar::CifarError, from_config};

use crate::{config, folder, put};

const TRAIN: [&str; 5] =
    ["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"];

/// Images with these label bytes; the pixels of the one at `n` are all `n`.
fn records(labels: &[&[u8]]) -> Vec<u8> {
    labels.iter().enumerate().flat_map(|(n, label)| [label.to_vec(), vec![n as u8; 3072]].concat()).collect()
}

fn load(name: &str, folder: &Path) -> Result<Dataset, DatasetError> {
    from_config(&config(&format!("dataset = {name:?}\npath = {:?}", folder.display().to_string())))
}

#[test]
fn cifar_10_is_read_from_its_folder_or_the_one_above() {
    for below in ["", "cifar-10-batches-bin/"] {
        let folder = folder();
        for (label, file) in TRAIN.iter().enumerate() {
            put(folder.path(), &format!("{below}{file}"), records(&[&[label as u8], &[9]]));
        }
        put(folder.path(), &format!("{below}test_batch.bin"), records(&[&[7]]));
        let cifar = load("cifar10", folder.path()).expect("all files are there");
        assert_eq!((cifar.train.shape(), cifar.train.classes()), ([3, 32, 32], 10));
        assert_eq!(cifar.train.labels(), [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]);
        let test = cifar.test.expect("there is one");
        assert_eq!((test.labels(), test.pixels()), (&[7][..], &Pixels::U8(vec![0; 3072])));
        let mut second = Vec::new();
        cifar.train.values(1, &mut second);
        assert_eq!(second, [1.0 / 255.0; 3072]);
    }
}

#[test]
fn cifar_100_has_its_fine_labels() {
    let folder = folder();
    put(folder.path(), "train.bin", records(&[&[1, 99], &[2, 0]]));
    put(folder.path(), "test.bin", records(&[&[3, 50]]));
    let cifar = load("cifar100", folder.path()).expect("all files are there");
    assert_eq!((cifar.train.classes(), cifar.train.labels()), (100, &[99, 0][..]));
    assert_eq!(cifar.test.expect("there is one").labels(), [50]);
}

#[test]
fn what_is_not_cifar_is_refused() {
    let folder = folder();
    let message = load("cifar10", folder.path()).expect_err("nothing is there").to_string();
    assert!(message.contains("`data_batch_1.bin`"), "{message}");
    assert!(message.ends_with("or download it with `partway data fetch cifar10`"), "{message}");

    put(folder.path(), "train.bin", records(&[&[1, 2]]));
    for length in [0, 1, 3073, 3075] {
        put(folder.path(), "test.bin", vec![0; length]);
        let error = load("cifar100", folder.path()).expect_err("not one whole image");
        let DatasetError::Cifar(CifarError::Length { bytes, record: 3074, .. }) = error else {
            panic!("{error}")
        };
        assert_eq!(bytes, length as u64);
    }
    put(folder.path(), "test.bin", records(&[&[1, 100]]));
    let error = load("cifar100", folder.path()).expect_err("there is no class 100");
    assert!(
        matches!(error, DatasetError::Samples { source: SamplesError::Label { label: 100, .. }, .. }),
        "{error}"
    );
    assert!(error.to_string().contains("test.bin"), "{error}");

    let archive = put(folder.path(), "cifar-10-binary.tar.gz", [0]);
    let error = load("cifar10", &archive).expect_err("an archive").to_string();
    assert!(error.ends_with("is an archive: unpack it and name the folder"), "{error}");
}
