//! Damaged files of every format: refused or read as something else, but never a panic, and never more memory
//! than a file that is whole could ask for.

use std::{
    fs,
    path::{Path, PathBuf},
};

use partway_datasets::{
    Halves,
    own::{Format, Reading, load},
};
use proptest::prelude::*;

use crate::{folder, npz, put};

/// A whole file of each format that is not covered elsewhere; the path to load, and the file to damage.
fn whole(format: Format, folder: &Path) -> (PathBuf, PathBuf) {
    match format {
        Format::Csv => {
            let file = put(folder, "a.csv", "a;\"b c\";label\n1.5;2;cat\n-3e4;0.25;\"dog\"\n7;8;cat\n");
            (file.clone(), file)
        }
        Format::Npz => {
            let x = npz::npy("<f4", "2, 2", &[0.5f32, 1.0, -2.0, 3.0].map(f32::to_le_bytes).concat());
            let file = npz::npz(folder, &[("x", x), ("y", npz::npy("|u1", "2,", &[0, 1]))], false);
            (file.clone(), file)
        }
        _ => {
            let file = put(folder, "a/1.png", []);
            image::RgbImage::from_fn(5, 4, |x, y| image::Rgb([x as u8, y as u8, 9]))
                .save(&file)
                .expect("written");
            (folder.to_owned(), file)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]
    #[test]
    fn a_damaged_file_never_panics(
        format in prop::sample::select(vec![Format::Csv, Format::Npz, Format::Images]),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        insert in prop::collection::vec(any::<u8>(), 0..8),
    ) {
        let folder = folder();
        let (path, file) = whole(format, folder.path());
        prop_assert!(load(format, &path, None, Halves::Both, &Reading::default()).is_ok(), "it is whole before");
        let mut bytes = fs::read(&file).expect("it was written");
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            let cut = cut.index(bytes.len());
            let tail = bytes.split_off(cut);
            bytes.extend(&insert);
            if insert.len() > 3 {
                bytes.extend(tail);
            }
        }
        fs::write(&file, bytes).expect("the folder is writable");
        if let Err(error) = load(format, &path, None, Halves::Both, &Reading::default()) {
            let message = error.to_string();
            prop_assert!(message.contains(&folder.path().display().to_string()), "no place: {message}");
        }
    }
}
