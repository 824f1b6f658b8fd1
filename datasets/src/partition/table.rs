//! A partition, written down.

use std::fmt::Write;

use crate::samples::label_counts;

/// With more classes than this the table counts the labels that an edge holds instead of their samples.
const MAX_COLUMNS: usize = 20;

/// Who got what: a line for each edge with its name, its samples and how many of each label (or, with more
/// than 20 classes, of how many labels). `names`, `parts` as [`partition`](super::partition) returns them.
///
/// # Panics
/// If `parts` were not made from these `labels`, or a label is not below `classes`.
pub fn table(names: &[String], parts: &[Vec<usize>], labels: &[u32], classes: usize) -> String {
    let mut rows = vec![vec!["edge".to_owned(), "samples".to_owned()]];
    if classes <= MAX_COLUMNS {
        rows[0].extend((0..classes).map(|class| class.to_string()));
    } else {
        rows[0].push("labels".to_owned());
    }
    for (name, part) in names.iter().zip(parts) {
        let counts = label_counts(part.iter().map(|index| labels[*index]), classes);
        let mut row = vec![name.clone(), part.len().to_string()];
        if classes <= MAX_COLUMNS {
            row.extend(counts.iter().map(ToString::to_string));
        } else {
            row.push(counts.iter().filter(|count| **count > 0).count().to_string());
        }
        rows.push(row);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..rows[0].len()).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let mut cells = row.iter().zip(&widths);
        if let Some((name, width)) = cells.next() {
            let _ = write!(text, "{name:<width$}");
        }
        for (cell, width) in cells {
            let _ = write!(text, "  {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let names = ["camera-0".to_owned(), "b".to_owned()];
        let table = table(&names, &[vec![0, 1, 2], vec![3]], &[0, 0, 2, 1], 3);
        assert_eq!(
            table,
            "edge      samples  0  1  2\n\
             camera-0        3  2  0  1\n\
             b               1  0  1  0\n"
        );
    }

    #[test]
    fn many_classes_are_counted_instead() {
        let table = table(&["a".to_owned()], &[vec![0, 1, 2]], &[0, 99, 99], 100);
        assert_eq!(table, "edge  samples  labels\na           3       2\n");
    }
}
