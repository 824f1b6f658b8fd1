//! Tables.

use partway_core::config::Column;
use partway_datasets::{
    DatasetError, Halves, Pixels, from_config,
    own::{Format, Loaded, Reading, load},
};
use proptest::prelude::*;

use crate::{config, folder, put};

/// The table `text`.
fn read(text: &str, reading: &Reading) -> Result<Loaded, DatasetError> {
    let folder = folder();
    load(Format::Csv, &put(folder.path(), "t.csv", text), None, Halves::Both, reading)
}

fn plain(text: &str) -> Loaded {
    read(text, &Reading::default()).expect("a table")
}

/// Why `text` is refused, without the file.
fn refused(text: &str) -> String {
    let message = read(text, &Reading::default()).expect_err("no table").to_string();
    let (file, reason) = message.split_once("t.csv`").expect("the file is named");
    assert!(file.starts_with('`') || file.starts_with("cannot read `"), "{message}");
    reason.trim_start_matches([',', ':', ' ']).to_owned()
}

#[test]
fn rows_are_samples_of_one_channel_per_feature() {
    let table = plain("width,height,species\n1.5,-2,b\n3e2,.25,a\n");
    assert_eq!((table.train.shape(), table.train.classes()), ([2, 1, 1], 2));
    assert_eq!(table.train.pixels(), &Pixels::F32(vec![1.5, -2.0, 300.0, 0.25]));
    assert_eq!((table.train.labels(), table.train.class_names().join("")), (&[1, 0][..], "ab".to_owned()));
    let columns = table.columns.expect("a table has columns");
    assert_eq!(
        (columns.label.as_str(), columns.features),
        ("species", vec!["width".into(), "height".into()])
    );
}

#[test]
fn separators_quotes_and_line_ends_are_found_out() {
    let comma = plain("a,label\n1,0\n2,1\n");
    for text in [
        "a;label\n1;0\n2;1\n",
        "a\tlabel\n1\t0\n2\t1\n",
        "a,label\r\n1,0\r\n2,1",
        "\u{feff}a,label\n1,0\n2,1\n",
        "\"a\",\"label\"\n\"1\",0\n 2 ,\" 1\"\n",
        "a,label\n\n1,0\n\n2,1\n\n",
    ] {
        assert_eq!(plain(text), comma, "{text:?}");
    }
}

#[test]
fn the_label_is_the_column_called_so_or_the_last() {
    let label = |header: &str| plain(&format!("{header}\n1,2,3\n")).columns.expect("columns").label;
    assert_eq!(label("a,Class,b"), "Class");
    assert_eq!(label("target,label,b"), "label");
    assert_eq!(label("a,b,c"), "c");
    for column in [Column::Name("a".into()), Column::Index(0)] {
        let reading = Reading { label: Some(column), ..Reading::default() };
        assert_eq!(read("a,label\n1,2\n", &reading).expect("there is one").train.classes(), 2);
    }
    let reading = Reading { label: Some(Column::Name("c".into())), ..Reading::default() };
    let error = read("a,label\n1,2\n", &reading).expect_err("no c").to_string();
    assert!(error.ends_with("has no column `c` for the labels; it has a, label"), "{error}");
    let reading = Reading { label: Some(Column::Index(2)), ..Reading::default() };
    assert!(read("a,label\n1,2\n", &reading).expect_err("two").to_string().contains("no column number 2"));
}

#[test]
fn what_is_wrong_is_named_with_line_and_column() {
    assert_eq!(refused("a,b,label\n1,2,0\n1,0\n"), "line 3: 2 cells, but the header has 3");
    assert_eq!(refused("a,label\n1,0\n1,0,9\n"), "line 3: 3 cells, but the header has 2");
    for cell in ["n/a", "", "inf", "NaN", "1e99", "1,5"] {
        let message = refused(&format!("a,b,label\n1,2,0\n1,{cell:?},0\n"));
        assert!(message.starts_with("line 3, column `b`: "), "{cell}: {message}");
        assert!(message.contains(&format!("{cell:?} is no number")), "{cell}: {message}");
    }
    assert!(refused("a,label\n1,0\n2,0.5\n").starts_with("line 3: label `0.5` is not a whole number"));
    assert_eq!(refused("a,label\n1,\n"), "line 2: the label is empty");
}

#[test]
fn a_label_in_another_encoding_is_said_to_be_one() {
    let folder = folder();
    let path = folder.path().join("latin1.csv");
    std::fs::write(&path, b"a,label\n1,caf\xe9\n").expect("written");
    let read = load(Format::Csv, &path, None, Halves::Both, &Reading::default());
    let message = read.expect_err("it is Latin-1").to_string();
    assert!(message.contains("line 2, column `label`: the label"), "{message}");
    assert!(message.ends_with("is not UTF-8: save the table as UTF-8"), "{message}");
}

#[test]
fn a_header_names_every_column_once() {
    assert!(refused("1,2\n3,4\n").starts_with("the first line is all numbers"));
    assert!(refused(",a,label\n0,1,2\n").starts_with("column 0 has no name"));
    assert!(refused("a,a,label\n0,1,2\n").starts_with("two columns are called `a`"));
    assert!(refused("label\n0\n").starts_with("a table needs at least a label and one more column"));
    assert!(refused("").starts_with("a table needs"));
    assert!(refused("PK\0\u{3}").starts_with("this is no table of text"));
    assert_eq!(refused("a,label\n"), "has no line after the header");
    let absent = load(Format::Csv, "no/such.csv".as_ref(), None, Halves::Both, &Reading::default())
        .expect_err("absent");
    assert!(absent.to_string().starts_with("cannot read `no/such.csv`: No such file"), "{absent}");
}

#[test]
fn model_input_reshapes_rows_and_a_test_table_is_one_of_the_same_columns() {
    let folder = folder();
    let train = put(folder.path(), "a.csv", "a,b,c,d,label\n1,2,3,4,x\n5,6,7,8,z\n");
    let test = put(folder.path(), "b.csv", "a,b,c,d,label\n9,9,9,9,y\n");
    let config = config(&format!(
        "dataset = \"csv\"\npath = {train:?}\ntest_path = {test:?}\n[model]\narch = \"mlp\"\ninput = [1, 2, 2]"
    ));
    let dataset = from_config(&config).expect("tables");
    assert_eq!((dataset.train.shape(), dataset.train.len()), ([1, 2, 2], 2));
    let test_set = dataset.test.expect("it is named");
    assert_eq!((test_set.labels(), dataset.train.class_names().join("")), (&[1][..], "xyz".to_owned()));

    put(folder.path(), "b.csv", "a,c,b,d,label\n9,9,9,9,y\n");
    let error =
        load(Format::Csv, &train, Some(&test), Halves::Both, &Reading::default()).expect_err("other columns");
    assert!(error.to_string().contains("b.csv`: its columns are not those of"), "{error}");
}

#[test]
fn a_single_label_is_nothing_to_learn() {
    let folder = folder();
    let path = put(folder.path(), "a.csv", "a,label\n1,x\n2,x\n");
    let error = from_config(&config(&format!("dataset = \"csv\"\npath = {path:?}"))).expect_err("one class");
    assert!(
        error.to_string().ends_with("every label is the same, so that there is nothing to learn"),
        "{error}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_is_written_is_read(
        rows in prop::collection::vec((prop::array::uniform3(-1e30f32..1e30), 0u32..5), 1..20),
        separator in prop::sample::select(vec![",", ";", "\t"]),
        quoted: bool,
    ) {
        let quote = |text: String| if quoted { format!("\"{text}\"") } else { text };
        let mut text = ["a", "b", "label", "c"].join(separator);
        for ([a, b, c], label) in &rows {
            let cells = [a.to_string(), b.to_string(), label.to_string(), c.to_string()];
            text = format!("{text}\n{}", cells.map(quote).join(separator));
        }
        let read = plain(&text).train;
        let values: Vec<f32> = rows.iter().flat_map(|(values, _)| *values).collect();
        let labels: Vec<u32> = rows.iter().map(|(_, label)| *label).collect();
        prop_assert_eq!((read.pixels(), read.labels()), (&Pixels::F32(values), &labels[..]));
    }
}
