//! Tables of text whose columns line up.

/// On which side a column's cells line up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// `rows` under their column names, two spaces between columns, each line ended. A row may have fewer
/// cells than there are columns.
pub(crate) fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let names = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
    let lines: Vec<&Vec<String>> = std::iter::once(&names).chain(rows).collect();
    let width = |column| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell: &String| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns.len()).map(width).collect();
    let mut text = String::new();
    for line in lines {
        let cells = line.iter().zip(columns).zip(&widths).map(|((cell, (_, align)), &width)| match align {
            Align::Left => format!("{cell:<width$}"),
            Align::Right => format!("{cell:>width$}"),
        });
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_line_up_on_the_left_and_numbers_on_the_right() {
        let columns = [("edge", Align::Left), ("cut", Align::Right), ("why", Align::Left)];
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["camera-0", "3", "fits"]), row(["b", "10", ""]), vec!["total".to_owned()]];
        assert_eq!(
            table(&columns, &rows),
            "edge      cut  why\n\
             camera-0    3  fits\n\
             b          10\n\
             total\n"
        );
    }
}
