//! Folders of pictures.

use std::{fs, path::Path};

use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage};
use partway_datasets::{
    DatasetError, Halves, Pixels,
    own::{Format, Loaded, Reading, load},
};
use proptest::prelude::*;

use crate::{folder, put};

fn grey(folder: &Path, name: &str, width: u32, height: u32, value: u8) {
    put(folder, name, []);
    GrayImage::from_pixel(width, height, Luma([value])).save(folder.join(name)).expect("written");
}

fn read(folder: &Path, reading: &Reading) -> Result<Loaded, DatasetError> {
    load(Format::Images, folder, None, Halves::Both, reading)
}

/// Why the pictures in `folder` are refused.
fn refused(folder: &Path) -> String {
    read(folder, &Reading::default()).expect_err("it is wrong").to_string()
}

#[test]
fn folders_are_classes_in_the_order_of_their_names() {
    let folder = folder();
    grey(folder.path(), "dog/1.png", 3, 2, 7);
    grey(folder.path(), "cat/b.PNG", 3, 2, 8);
    grey(folder.path(), "cat/a.jpeg", 3, 2, 9);
    put(folder.path(), "cat/.DS_Store", "left behind");
    let loaded = read(folder.path(), &Reading::default()).expect("three pictures");
    assert_eq!((loaded.train.shape(), loaded.train.labels()), ([1, 2, 3], &[0, 0, 1][..]));
    assert_eq!(loaded.train.pixels(), &Pixels::U8([[9; 6], [8; 6], [7; 6]].concat()));
    assert_eq!((loaded.train.class_names().join(" "), loaded.test), ("cat dog".to_owned(), None));
}

#[test]
fn colours_are_planes_and_train_and_test_are_halves() {
    let folder = folder();
    put(folder.path(), "train/0/a.png", []);
    put(folder.path(), "test/3/a.png", []);
    let mut picture = RgbImage::new(2, 1);
    picture.put_pixel(0, 0, Rgb([1, 2, 3]));
    picture.put_pixel(1, 0, Rgb([4, 5, 6]));
    for half in ["train/0", "test/3"] {
        picture.save(folder.path().join(half).join("a.png")).expect("written");
    }
    let loaded = read(folder.path(), &Reading::default()).expect("two pictures");
    assert_eq!(
        (loaded.train.shape(), loaded.train.pixels()),
        ([3, 1, 2], &Pixels::U8(vec![1, 4, 2, 5, 3, 6]))
    );
    let test = loaded.test.expect("it has a test set");
    // Numbers are classes themselves, and there are as many as the largest says.
    assert_eq!((loaded.train.labels(), test.labels(), test.classes()), (&[0][..], &[3][..], 4));
    assert!(loaded.train.class_names().is_empty());
}

#[test]
fn listed_names_number_the_classes() {
    let folder = folder();
    grey(folder.path(), "dog/1.png", 2, 2, 0);
    grey(folder.path(), "cat/1.png", 2, 2, 0);
    let listed = |names: &[&str]| Reading {
        class_names: Some(names.iter().map(ToString::to_string).collect()),
        ..Reading::default()
    };
    let loaded = read(folder.path(), &listed(&["dog", "emu", "cat"])).expect("both are listed");
    assert_eq!((loaded.train.labels(), loaded.train.classes()), (&[2, 0][..], 3));
    let error = read(folder.path(), &listed(&["dog", "emu"])).expect_err("no cat").to_string();
    assert!(error.ends_with("folder `cat`: label `cat` is none of the class names: dog, emu"), "{error}");
}

#[test]
fn pictures_have_one_size_or_are_resized() {
    let folder = folder();
    grey(folder.path(), "a/1.png", 4, 4, 200);
    grey(folder.path(), "a/2.png", 6, 3, 100);
    let message = refused(folder.path());
    assert!(message.contains("2.png` is [3, 6] pixels"), "{message}");
    assert!(message.contains("are [4, 4]: set a size for all with `data.resize`"), "{message}");
    let reading = Reading { resize: Some([2, 3]), ..Reading::default() };
    let loaded = read(folder.path(), &reading).expect("they are resized");
    assert_eq!((loaded.train.shape(), loaded.train.len()), ([1, 2, 3], 2));
    assert_eq!(loaded.train.pixels(), &Pixels::U8([[200; 6], [100; 6]].concat()), "flat stays flat");
}

#[test]
fn other_colours_are_refused() {
    let folder = folder();
    grey(folder.path(), "a/1.png", 2, 2, 0);
    put(folder.path(), "a/2.png", []);
    RgbImage::new(2, 2).save(folder.path().join("a/2.png")).expect("written");
    let message = refused(folder.path());
    assert!(
        message.ends_with("2.png` is Rgb8, expected grey with 8 bits as the first picture: convert it"),
        "{message}"
    );
    fs::remove_file(folder.path().join("a/1.png")).expect("it is there");
    image::RgbaImage::new(2, 2).save(folder.path().join("a/2.png")).expect("written");
    assert!(refused(folder.path()).contains("is Rgba8, expected grey or RGB with 8 bits a channel"));
}

#[test]
fn what_is_no_picture_of_a_class_is_named() {
    let folder = folder();
    assert!(refused(folder.path()).contains("has no folders: put the pictures of each class"));
    grey(folder.path(), "a/1.png", 2, 2, 0);
    fs::create_dir(folder.path().join("b")).expect("made");
    assert!(refused(folder.path()).ends_with("b` has no pictures: add some, or remove the folder"));
    put(folder.path(), "b/notes.txt", "no picture");
    assert!(refused(folder.path()).ends_with("notes.txt`: this is no PNG or JPEG: convert it, or remove it"));
    fs::remove_file(folder.path().join("b/notes.txt")).expect("it is there");
    grey(folder.path(), "b/c/1.png", 2, 2, 0);
    assert!(refused(folder.path()).contains("must lie in the class's folder itself"));
    fs::remove_dir_all(folder.path().join("b")).expect("it is there");
    put(folder.path(), "labels.csv", "x");
    assert!(refused(folder.path()).contains("labels.csv`: only the classes' folders may be there"));
}

#[test]
fn a_picture_that_claims_to_be_huge_is_not_decoded() {
    let folder = folder();
    // The header of a PNG of 60000 x 60000 grey pixels, with its checksum.
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend([60_000u32.to_be_bytes(), 60_000u32.to_be_bytes()].concat());
    bytes.extend([8, 0, 0, 0, 0]);
    let mut checksum = flate2::Crc::new();
    checksum.update(&bytes[12..]);
    bytes.extend(checksum.sum().to_be_bytes());
    bytes.extend(b"\0\0\0\0IDAT");
    put(folder.path(), "a/1.png", &bytes);
    let message = refused(folder.path());
    assert!(
        message.contains("1.png` is no PNG or JPEG that can be read") && message.contains("limit"),
        "{message}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn any_png_comes_back(
        width in 1u32..6,
        height in 1u32..6,
        bytes in prop::collection::vec(any::<u8>(), 75),
        colour: bool,
    ) {
        let folder = folder();
        let path = put(folder.path(), "a/1.png", []);
        let area = (width * height) as usize;
        let planes = if colour {
            let picture = RgbImage::from_fn(width, height, |x, y| {
                let at = (y * width + x) as usize;
                Rgb([bytes[at], bytes[area + at], bytes[2 * area + at]])
            });
            picture.save_with_format(&path, ImageFormat::Png).expect("written");
            3
        } else {
            let picture = GrayImage::from_raw(width, height, bytes[..area].to_vec()).expect("so many");
            picture.save_with_format(&path, ImageFormat::Png).expect("written");
            1
        };
        let loaded = read(folder.path(), &Reading::default()).expect("one picture").train;
        prop_assert_eq!(loaded.shape(), [planes, height as usize, width as usize]);
        prop_assert_eq!(loaded.pixels(), &Pixels::U8(bytes[..planes * area].to_vec()));
    }
}
