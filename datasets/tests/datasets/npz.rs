//! `NumPy` arrays.

use std::{
    io::{Cursor, Write},
    path::{Path, PathBuf},
};

use partway_datasets::{
    DatasetError, Halves, Pixels,
    own::{Format, Loaded, Reading, load},
};
use proptest::prelude::*;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::{folder, put};

/// An array as `numpy.save` writes it.
pub(crate) fn npy(dtype: &str, shape: &str, values: &[u8]) -> Vec<u8> {
    let mut header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = u16::try_from(header.len()).expect("short").to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), values].concat()
}

/// An archive of arrays in `folder`.
pub(crate) fn npz(folder: &Path, arrays: &[(&str, Vec<u8>)], compress: bool) -> PathBuf {
    let mut archive = ZipWriter::new(Cursor::new(Vec::new()));
    let method = if compress { CompressionMethod::Deflated } else { CompressionMethod::Stored };
    // `numpy.savez` writes every file as one that may be large.
    let options = SimpleFileOptions::default().compression_method(method).large_file(true);
    for (name, bytes) in arrays {
        archive.start_file(format!("{name}.npy"), options).expect("a new file");
        archive.write_all(bytes).expect("memory takes it");
    }
    put(folder, "a.npz", archive.finish().expect("it is whole").into_inner())
}

fn read(arrays: &[(&str, Vec<u8>)]) -> Result<Loaded, DatasetError> {
    let folder = folder();
    load(Format::Npz, &npz(folder.path(), arrays, true), None, Halves::Both, &Reading::default())
}

/// Two labels.
fn y() -> (&'static str, Vec<u8>) {
    ("y", npy("<i8", "2,", &[1i64.to_le_bytes(), 0i64.to_le_bytes()].concat()))
}

#[test]
fn arrays_for_training_and_testing_are_halves() {
    let folder = folder();
    let arrays = [
        ("x_train", npy("|u1", "2, 1, 3", &[1, 2, 3, 4, 5, 6])),
        ("y_train", npy("|u1", "2, 1", &[4, 0])),
        ("X_test", npy("|u1", "1, 1, 3", &[7, 8, 9])),
        ("Y_test", npy("|u1", "1,", &[2])),
    ];
    for compress in [false, true] {
        let path = npz(folder.path(), &arrays, compress);
        let loaded = load(Format::Npz, &path, None, Halves::Both, &Reading::default()).expect("four arrays");
        assert_eq!((loaded.train.shape(), loaded.train.labels()), ([1, 1, 3], &[4, 0][..]));
        let test = loaded.test.expect("there is one");
        assert_eq!((test.pixels(), test.labels(), test.classes()), (&Pixels::U8(vec![7, 8, 9]), &[2][..], 5));
    }
}

#[test]
fn every_type_of_numbers_is_read() {
    let values = |x: Vec<u8>| read(&[("x", x), y()]).expect("numbers").train.pixels().clone();
    assert_eq!(values(npy("|b1", "2, 1", &[0, 1])), Pixels::F32(vec![0.0, 1.0]));
    assert_eq!(values(npy("|i1", "2, 1", &[255, 1])), Pixels::F32(vec![-1.0, 1.0]));
    assert_eq!(values(npy(">i2", "2, 1", &[255, 254, 1, 0])), Pixels::F32(vec![-2.0, 256.0]));
    assert_eq!(values(npy("<u4", "2, 1", &[1, 0, 0, 0, 0, 0, 1, 0])), Pixels::F32(vec![1.0, 65_536.0]));
    let doubles = [0.5f64, -3.0].map(f64::to_be_bytes).concat();
    assert_eq!(values(npy(">f8", "2, 1", &doubles)), Pixels::F32(vec![0.5, -3.0]));
    let y = ("y", npy("<f4", "2,", &[1.0f32, 0.0].map(f32::to_le_bytes).concat()));
    let labels = read(&[("x", npy("|u1", "2, 1", &[0, 1])), y]).expect("whole numbers").train;
    assert_eq!(labels.labels(), [1, 0]);
}

#[test]
fn shapes_are_taken_for_what_they_look_like() {
    let shape = |dims: &str, count: usize| {
        read(&[("x", npy("|u1", dims, &vec![0; count])), y()]).expect("samples").train.shape()
    };
    assert_eq!(shape("2, 5", 10), [5, 1, 1]);
    assert_eq!(shape("2, 4, 5", 40), [1, 4, 5]);
    assert_eq!(shape("2, 3, 4, 5", 120), [3, 4, 5]);
    assert_eq!(shape("2, 4, 5, 3", 120), [3, 4, 5]);
    let last = npy("|u1", "2, 2, 1, 3", &(0..12).collect::<Vec<u8>>());
    let planes = read(&[("x", last), y()]).expect("two samples").train;
    assert_eq!(planes.pixels(), &Pixels::U8(vec![0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]));
}

#[test]
fn what_cannot_be_trained_on_is_named() {
    let refused = |arrays: &[(&str, Vec<u8>)]| {
        let message = read(arrays).expect_err("it is wrong").to_string();
        message.split_once("a.npz`").expect("the file is named").1.trim_start_matches([',', ' ']).to_owned()
    };
    let x = || ("x", npy("|u1", "2, 1", &[0, 1]));
    let message = refused(&[("a", npy("|u1", "1", &[0]))]);
    assert!(message.starts_with("has no array `y`") && message.ends_with("it has a.npy"), "{message}");
    assert!(
        refused(&[("x", npy("<f2", "2, 1", &[0; 4])), y()])
            .starts_with("array `x`: type `<f2` cannot be used")
    );
    assert!(refused(&[("x", npy("|O", "2, 1", &[0; 4])), y()]).contains("type `|O` cannot be used"));
    assert!(refused(&[("x", npy("<U4", "2, 1", &[0; 32])), y()]).contains("type `<U4`"));
    assert!(refused(&[("x", npy("|u1", "2", &[0, 1])), y()]).contains("shape [2]: samples must be"));
    assert!(refused(&[("x", npy("|u1", "2, 1", &[0])), y()]).ends_with("it is cut off: save it again"));
    assert!(refused(&[("x", npy("|u1", "2, 1", &[0; 3])), y()]).contains("it goes on after its last value"));
    assert!(refused(&[("x", npy("|u1", "3, 1", &[0; 3])), y()]).contains("2 labels, but `x` has 3 samples"));
    assert!(refused(&[x(), ("y", npy("|u1", "2, 2", &[0; 4]))]).contains("shape [2, 2]: labels must be [N]"));
    assert!(refused(&[x(), ("y", npy("|i1", "2", &[0, 255]))]).contains("sample 1 has label -1"));
    let half = npy("<f4", "2", &[0.0f32, 0.5].map(f32::to_le_bytes).concat());
    assert!(refused(&[x(), ("y", half)]).contains("sample 1 has label 0.5"));
    let huge = npy("|u1", "4294967295, 4294967295", &[]);
    assert!(refused(&[("x", huge), y()]).contains("more than"));
    // Within the limit, but not in a file of so few bytes: nothing is reserved for it.
    assert!(refused(&[("x", npy("|u1", "2000000000, 1", &[])), y()]).contains("it is cut off"));
    let fortran = String::from_utf8_lossy(&x().1).replace("False", "True ").into_bytes();
    let fortran = [b"\x93", &fortran[3..]].concat();
    assert!(refused(&[("x", fortran), y()]).contains("ascontiguousarray"));
    let nan = npy("<f4", "2, 1", &[0.0f32, f32::NAN].map(f32::to_le_bytes).concat());
    assert!(
        read(&[("x", nan), y()]).expect_err("NaN").to_string().contains("sample 1 has a pixel that is NaN")
    );
    let folder = folder();
    let error =
        load(Format::Npz, &put(folder.path(), "a.npz", "no"), None, Halves::Both, &Reading::default());
    assert!(error.expect_err("no archive").to_string().contains("is no .npz file that can be read"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn floats_come_back(values in prop::collection::vec(-1e30f32..1e30, 2..40), big: bool) {
        let features = values.len() / 2;
        let values = &values[..2 * features];
        let (dtype, bytes): (_, Vec<u8>) = if big {
            (">f4", values.iter().flat_map(|value| value.to_be_bytes()).collect())
        } else {
            ("<f4", values.iter().flat_map(|value| value.to_le_bytes()).collect())
        };
        let loaded = read(&[("x", npy(dtype, &format!("2, {features}"), &bytes)), y()]).expect("two samples");
        prop_assert_eq!(loaded.train.pixels(), &Pixels::F32(values.to_vec()));
    }
}
