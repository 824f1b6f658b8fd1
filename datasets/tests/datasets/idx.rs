//! The IDX format: what is written is read, what is wrong is refused in words.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use partway_datasets::idx::{self, IdxError, Values, ValuesRef};
use proptest::prelude::*;
use tempfile::TempDir;

/// A header of bytes and its values.
fn file(dims: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 8, dims.len() as u8];
    bytes.extend(dims.iter().flat_map(|side| side.to_be_bytes()));
    bytes.extend_from_slice(values);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).expect("memory takes it");
    encoder.finish().expect("memory takes it")
}

/// Puts `bytes` into a file of a new folder.
fn put(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    fs::write(&path, bytes).expect("the folder is writable");
    (folder, path)
}

/// How reading `bytes` as two dimensions fails, plain and compressed; each message must name the file.
fn refused(bytes: &[u8]) -> [IdxError; 2] {
    [("images", bytes.to_vec()), ("images.gz", gzip(bytes))].map(|(name, bytes)| {
        let (_folder, path) = put(name, &bytes);
        let error = idx::read::<2>(&path).expect_err("the file is wrong");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
        error
    })
}

#[test]
fn plain_and_compressed_files_are_read() {
    let bytes = file(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    for (name, bytes) in [("images", bytes.clone()), ("images.gz", gzip(&bytes))] {
        let (folder, _) = put(name, &bytes);
        let path = idx::find(folder.path(), "images").expect("one of the names is there");
        let read = idx::read::<2>(&path).expect("the file is right");
        assert_eq!((read.dims, read.values), ([2, 3], Values::U8(vec![1, 2, 3, 4, 5, 6])));
    }
}

#[test]
fn a_missing_file_says_which_names_were_tried_and_where() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let message = idx::find(folder.path(), "images").expect_err("nothing is there").to_string();
    for part in ["`images.gz`", "`images`", &folder.path().display().to_string()] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn other_files_are_refused() {
    for bytes in [&b"PK\x03\x04 and so on"[..], &[0, 0, 9, 2, 0, 0, 0, 0], &[0, 1, 8, 2]] {
        for error in refused(bytes) {
            assert!(matches!(&error, IdxError::Magic { found, .. } if *found == bytes[..4]), "{error}");
        }
    }
}

#[test]
fn another_number_of_dimensions_is_refused() {
    for error in refused(&file(&[1, 1, 1], &[0])) {
        assert!(matches!(error, IdxError::Rank { expected: 2, found: 3, .. }), "{error}");
    }
}

#[test]
fn a_file_that_is_cut_off_is_refused_wherever_it_is_cut() {
    let whole = file(&[2, 3], &[1, 2, 3, 4, 5, 6]);
    for length in 0..whole.len() {
        for error in refused(&whole[..length]) {
            let IdxError::Truncated { expected, actual, .. } = error else { panic!("{length}: {error}") };
            assert_eq!(actual, length as u64);
            assert!(expected > actual && expected <= whole.len() as u64, "{expected} of {actual}");
        }
    }
}

#[test]
fn a_compressed_file_that_is_cut_off_is_refused_wherever_it_is_cut() {
    let whole = gzip(&file(&[2, 3], &[1, 2, 3, 4, 5, 6]));
    for length in 0..whole.len() {
        let (_folder, path) = put("images.gz", &whole[..length]);
        let error = idx::read::<2>(&path).expect_err("the file is cut off");
        assert!(matches!(error, IdxError::Truncated { .. } | IdxError::Io { .. }), "{length}: {error}");
    }
}

#[test]
fn a_damaged_compressed_file_is_refused() {
    let mut bytes = gzip(&file(&[2, 3], &[1, 2, 3, 4, 5, 6]));
    let checksum = bytes.len() - 8;
    bytes[checksum] ^= 1;
    let (_folder, path) = put("images.gz", &bytes);
    let error = idx::read::<2>(&path).expect_err("the checksum is wrong");
    assert!(matches!(error, IdxError::Io { .. }), "{error}");
}

#[test]
fn a_file_that_goes_on_is_refused_with_both_lengths() {
    for error in refused(&file(&[2, 3], &[0; 9])) {
        assert!(matches!(error, IdxError::TooLong { expected: 18, actual: 21, more: false, .. }), "{error}");
    }
}

#[test]
fn a_bomb_is_not_unpacked() {
    // 64 MiB of zeros in 64 KiB behind a header that claims six of them.
    let (_folder, path) = put("images.gz", &gzip(&file(&[2, 3], &vec![0; 64 << 20])));
    let error = idx::read::<2>(&path).expect_err("it is too long");
    assert!(matches!(error, IdxError::TooLong { expected: 18, more: true, .. }), "{error}");
}

#[test]
fn a_claim_beyond_memory_is_refused_before_it_is_believed() {
    for dims in [[u32::MAX, u32::MAX], [u32::MAX, 1], [1 << 16, 1 << 16]] {
        for error in refused(&file(&dims, &[])) {
            assert!(matches!(error, IdxError::TooLarge { .. }), "{error}");
        }
    }
    // Within the limit, but not in a file of 12 bytes: nothing is reserved for it.
    for error in refused(&file(&[1 << 15, 1 << 15], &[])) {
        assert!(matches!(error, IdxError::Truncated { actual: 12, .. }), "{error}");
    }
}

#[test]
fn dimensions_that_do_not_fit_the_values_are_not_written() {
    for dims in [&[2, 2][..], &[], &[usize::MAX, 2], &[1; 300]] {
        let error = idx::encode(&mut Vec::new(), dims, ValuesRef::U8(&[1, 2, 3])).expect_err("three values");
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        rows in 0usize..5,
        columns in 0usize..5,
        element in 0..3,
        words in prop::collection::vec(any::<u32>(), 25),
    ) {
        let count = rows * columns;
        let values = match element {
            0 => Values::U8(words[..count].iter().map(|word| *word as u8).collect()),
            1 => Values::I32(words[..count].iter().map(|word| word.cast_signed()).collect()),
            _ => Values::F32(words[..count].iter().map(|word| *word as f32 / 3.0).collect()),
        };
        let borrowed = match &values {
            Values::U8(values) => ValuesRef::U8(values),
            Values::I32(values) => ValuesRef::I32(values),
            Values::F32(values) => ValuesRef::F32(values),
        };
        let mut bytes = Vec::new();
        idx::encode(&mut bytes, &[rows, columns], borrowed).expect("the dimensions fit");
        let read = idx::decode::<2>(&bytes[..], Path::new("memory"), 0).expect("it was just written");
        prop_assert_eq!((read.dims, read.values), ([rows, columns], values));
    }

    #[test]
    fn no_bytes_make_it_panic(start in 0usize..3, noise in prop::collection::vec(any::<u8>(), 0..64)) {
        let start = [&[][..], &[0, 0, 8, 3], &[0, 0, 13, 3, 0, 0, 0, 2, 0, 0, 0, 2]][start];
        let bytes = [start, &noise].concat();
        if let Ok(read) = idx::decode::<3>(&bytes[..], Path::new("memory"), u64::MAX) {
            let values = match read.values {
                Values::U8(values) => values.len(),
                Values::I32(values) => values.len(),
                Values::F32(values) => values.len(),
            };
            prop_assert_eq!(values, read.dims.iter().product::<usize>());
        }
    }
}
