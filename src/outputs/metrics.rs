//! `metrics.csv`: how far training was at each evaluated aggregation.

/// One row, without what is not shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Progress {
    /// The round after which, from 1.
    pub(crate) round: u32,
    /// Since training began.
    pub(crate) seconds: f64,
    /// Share of correct predictions.
    pub(crate) accuracy: f64,
    /// Spread loss of the global model.
    pub(crate) loss: f64,
    /// Bytes from edges to cloud so far.
    pub(crate) bytes_up: f64,
    /// Bytes from cloud to edges so far.
    pub(crate) bytes_down: f64,
}

/// What is wrong with the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// From 1.
    pub(super) line: usize,
    pub(super) reason: String,
}

/// The rows. Columns are found by their names, so that there may be others. A last row that is cut off
/// does not count.
pub(super) fn parse(text: &str) -> Result<Vec<Progress>, Wrong> {
    let mut lines = text.lines().enumerate();
    let Some((_, header)) = lines.next() else { return Ok(Vec::new()) };
    let columns: Vec<&str> = header.split(',').collect();
    let column = |name: &str| {
        let found = columns.iter().position(|column| *column == name);
        found.ok_or_else(|| Wrong { line: 1, reason: format!("there is no column `{name}`") })
    };
    let (round, seconds, accuracy) = (column("round")?, column("seconds")?, column("accuracy")?);
    let (loss, up, down) = (column("loss")?, column("bytes_up")?, column("bytes_down")?);
    let whole = if text.ends_with('\n') { usize::MAX } else { text.lines().count() };
    let mut rows = Vec::new();
    for (index, line) in lines.take_while(|(index, _)| index + 1 < whole) {
        let cells: Vec<&str> = line.split(',').collect();
        let number = |at: usize| {
            let cell = cells.get(at).copied().unwrap_or_default();
            cell.parse::<f64>().map_err(|_| Wrong {
                line: index + 1,
                reason: format!("`{cell}` is no number for `{}`", columns[at]),
            })
        };
        rows.push(Progress {
            round: number(round)? as u32,
            seconds: number(seconds)?,
            accuracy: number(accuracy)?,
            loss: number(loss)?,
            bytes_up: number(up)?,
            bytes_down: number(down)?,
        });
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use partway_cloud::record::metrics::{HEADER, MetricsRow};

    use super::*;

    fn row() -> MetricsRow {
        MetricsRow {
            round: 5,
            aggregation: 1,
            seconds: 1.5,
            accuracy: 0.9,
            loss: 0.25,
            training_loss: None,
            bytes_up: 10,
            bytes_down: 20,
            deadline_hit_rate: None,
            samples_trained: 64,
        }
    }

    #[test]
    fn what_a_run_writes_is_read() {
        let progress =
            Progress { round: 5, seconds: 1.5, accuracy: 0.9, loss: 0.25, bytes_up: 10.0, bytes_down: 20.0 };
        assert_eq!(parse(&format!("{HEADER}\n{}\n", row())), Ok(vec![progress]));
        assert_eq!(parse(&format!("{HEADER}\n{}\n5,1,1.5,0.", row())), Ok(vec![progress]), "cut off");
        assert_eq!(parse(&format!("{HEADER}\n")), Ok(vec![]));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let wrong = |text: &str| parse(text).expect_err("it is wrong");
        assert_eq!(wrong("round,accuracy\n1,0.5\n").reason, "there is no column `seconds`");
        let error = wrong(&format!("{HEADER}\n{}\nx,1,1,1,1,,1,1,,1\n", row()));
        assert_eq!(error, Wrong { line: 3, reason: "`x` is no number for `round`".into() });
    }
}
