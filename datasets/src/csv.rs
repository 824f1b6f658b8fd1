//! Tables of numbers with a label column, as comma-separated values.
//!
//! The first line names the columns. Cells are separated by commas, semicolons or tabs, whichever the first
//! line has most of, and may be quoted (RFC 4180). Every cell but the label is a finite number with a point.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use ::csv::{ByteRecord, ErrorKind, Reader, ReaderBuilder, Trim};
use partway_core::config::Column;
use thiserror::Error;

use crate::{
    classes::{LabelError, Labels},
    samples::MAX_VALUES,
};

/// Names that a label column goes by.
const LABEL_NAMES: [&str; 3] = ["label", "class", "target"];

/// No header is longer than this.
const MAX_HEADER_BYTES: u64 = 1 << 22;

/// A table that cannot be read. Lines are counted from 1, the header included.
#[derive(Debug, Error)]
pub enum CsvError {
    /// The file cannot be opened or read.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The first line does not name every column.
    #[error("`{}`: {reason}", path.display())]
    Header {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        reason: String,
    },
    /// There is no such column.
    #[error("`{}` has no column {column} for the labels; it has {}", path.display(), crate::classes::shown(columns))]
    NoColumn {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        column: Column,
        /// The columns there are.
        columns: Vec<String>,
    },
    /// A line of another length than the header.
    #[error("`{}`, line {line}: {found} cells, but the header has {expected}", path.display())]
    Ragged {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// Cells of the header.
        expected: u64,
        /// Cells of the line.
        found: u64,
    },
    /// A cell that is not a finite number.
    #[error(
        "`{}`, line {line}, column `{column}`: {cell:?} is no number to train on: give a finite one, or leave out \
         the line or the column",
        path.display()
    )]
    Cell {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The column's name.
        column: String,
        /// The cell's text, shortened if it is long.
        cell: String,
    },
    /// A label that is no text.
    #[error(
        "`{}`, line {line}, column `{column}`: the label {cell:?} is not UTF-8: save the table as UTF-8",
        path.display()
    )]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
        /// The column's name.
        column: String,
        /// The label, as far as it can be shown.
        cell: String,
    },
    /// A label that is none.
    #[error("`{}`, {source}", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and the line.
        source: LabelError,
    },
    /// Nothing but a header.
    #[error("`{}` has no line after the header", path.display())]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// More than fits in memory.
    #[error("`{}` has more than {MAX_VALUES} numbers: use fewer lines or columns", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// What the columns of a table are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Columns {
    /// The label column's name.
    pub label: String,
    /// The names of the others, in order.
    pub features: Vec<String>,
}

/// A table's rows.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) columns: Columns,
    /// Row after row, the features in order.
    pub(crate) values: Vec<f32>,
    pub(crate) labels: Labels,
}

/// Reads the table at `path` with the labels in column `label`; by default in the one called `label`,
/// `class` or `target`, or else in the last.
pub(crate) fn read(path: &Path, label: Option<&Column>) -> Result<Rows, CsvError> {
    let mut reader = open(path)?;
    let header = header(&mut reader, path)?;
    let label_at = label_column(path, &header, label)?;
    let (mut values, mut labels) = (Vec::new(), Labels::default());
    let mut record = ByteRecord::new();
    while reader.read_byte_record(&mut record).map_err(|error| row_error(path, error))? {
        let line = record.position().map_or(0, ::csv::Position::line);
        for (column, cell) in record.iter().enumerate() {
            let text = std::str::from_utf8(cell).ok();
            let wrong = || CsvError::Cell {
                path: path.to_owned(),
                line,
                column: header[column].clone(),
                cell: shortened(cell),
            };
            if column == label_at {
                let text = text.ok_or_else(|| CsvError::Encoding {
                    path: path.to_owned(),
                    line,
                    column: header[column].clone(),
                    cell: shortened(cell),
                })?;
                let pushed = labels.push(text, || format!("line {line}"));
                pushed.map_err(|source| CsvError::Label { path: path.to_owned(), source })?;
            } else {
                let number = text.and_then(|text| text.parse::<f32>().ok()).filter(|x| x.is_finite());
                values.push(number.ok_or_else(wrong)?);
            }
        }
        if values.len() as u64 > MAX_VALUES {
            return Err(CsvError::TooLarge { path: path.to_owned() });
        }
    }
    if labels.len() == 0 {
        return Err(CsvError::NoRows { path: path.to_owned() });
    }
    let mut features = header;
    let label = features.remove(label_at);
    Ok(Rows { columns: Columns { label, features }, values, labels })
}

/// The file from its first line on, with the separator that this line has most of.
fn open(path: &Path) -> Result<Reader<BufReader<File>>, CsvError> {
    let io_error = |source| CsvError::Io { path: path.to_owned(), source };
    let mut file = BufReader::with_capacity(1 << 16, File::open(path).map_err(io_error)?);
    let mut first = Vec::new();
    let mut begin = io::Read::take(&mut file, MAX_HEADER_BYTES);
    begin.read_until(b'\n', &mut first).map_err(io_error)?;
    if first.len() as u64 == MAX_HEADER_BYTES || first.contains(&0) {
        let reason = "this is no table of text: the first line is not one of column names".into();
        return Err(CsvError::Header { path: path.to_owned(), reason });
    }
    let count = |separator: u8| first.split(|byte| *byte == separator).count();
    let mut separator = b',';
    for other in [b';', b'\t'] {
        if count(other) > count(separator) {
            separator = other;
        }
    }
    io::Seek::rewind(&mut file).map_err(io_error)?;
    Ok(ReaderBuilder::new().delimiter(separator).trim(Trim::All).from_reader(file))
}

fn header(reader: &mut Reader<BufReader<File>>, path: &Path) -> Result<Vec<String>, CsvError> {
    let wrong = |reason: String| CsvError::Header { path: path.to_owned(), reason };
    let names = reader.byte_headers().map_err(|error| row_error(path, error))?;
    let names: Vec<String> = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    if names.len() < 2 {
        return Err(wrong(
            "a table needs at least a label and one more column, with commas, semicolons or tabs between"
                .into(),
        ));
    }
    if names.iter().all(|name| name.parse::<f64>().is_ok()) {
        return Err(wrong(
            "the first line is all numbers, but it must name the columns: add one above".into(),
        ));
    }
    let mut seen = BTreeSet::new();
    for (index, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(wrong(format!(
                "column {index} has no name: leave it out if it only numbers the lines, or else name it"
            )));
        }
        if !seen.insert(name) {
            return Err(wrong(format!("two columns are called `{name}`: give each a name of its own")));
        }
    }
    Ok(names)
}

fn label_column(path: &Path, names: &[String], label: Option<&Column>) -> Result<usize, CsvError> {
    let found = match label {
        Some(Column::Name(wanted)) => names.iter().position(|name| name == wanted),
        Some(Column::Index(index)) => (*index < names.len()).then_some(*index),
        None => LABEL_NAMES
            .iter()
            .find_map(|usual| names.iter().position(|name| name.eq_ignore_ascii_case(usual)))
            .or(Some(names.len() - 1)),
    };
    found.ok_or_else(|| CsvError::NoColumn {
        path: path.to_owned(),
        column: label.cloned().unwrap_or(Column::Index(0)),
        columns: names.to_vec(),
    })
}

fn row_error(path: &Path, error: ::csv::Error) -> CsvError {
    let path = path.to_owned();
    match error.into_kind() {
        ErrorKind::Io(source) => CsvError::Io { path, source },
        ErrorKind::UnequalLengths { pos, expected_len, len } => {
            let line = pos.map_or(0, |pos| pos.line());
            CsvError::Ragged { path, line, expected: expected_len, found: len }
        }
        other => CsvError::Io { path, source: io::Error::other(format!("{other:?}")) },
    }
}

/// A cell for a message.
fn shortened(cell: &[u8]) -> String {
    const LONGEST: usize = 40;
    let text = String::from_utf8_lossy(cell);
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.into_owned(),
    }
}
