//! A link's rate over time as a CSV file.

use std::time::Duration;

use thiserror::Error;

/// The most entries of a trace: a day, ten a second.
const MOST_STEPS: usize = 864_000;

/// The longest time and the highest rate: those of the configuration, and 31 years.
const MOST_SECONDS: f64 = 1e9;
const MOST_MBPS: f64 = 1e6;

/// From this time on a link has these rates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TraceStep {
    /// Since the start of the run.
    pub at: Duration,
    /// Towards the cloud in Mbit/s; 0: out of reach.
    pub up_mbps: f64,
    /// From the cloud in Mbit/s, if the trace says so.
    pub down_mbps: Option<f64>,
}

/// The rates of a link over time: each holds until the next, the last for good. Before the first the
/// configured rates hold, or else the first.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkTrace {
    steps: Vec<TraceStep>,
}

/// A trace that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{file}{}: {problem}", line.map_or(String::new(), |line| format!(":{line}")))]
pub struct TraceError {
    /// The file's name.
    pub file: String,
    /// The line, from 1.
    pub line: Option<usize>,
    /// What is wrong, and what is allowed.
    pub problem: String,
}

impl LinkTrace {
    /// The trace in the text of a file: lines `seconds,mbps`, where the rate is that towards the cloud, or
    /// `seconds,up_mbps,down_mbps`. A first line of names, empty lines and those that start with `#` are
    /// passed over. `file` is its name in messages.
    ///
    /// ```
    /// use partway_core::config::LinkTrace;
    /// let trace = LinkTrace::parse("seconds,mbps\n0,20\n60,10\n", "lte.csv")?;
    /// assert_eq!(trace.steps()[1].up_mbps, 10.0);
    /// let wrong = LinkTrace::parse("60,20\n30,10\n", "lte.csv").unwrap_err().to_string();
    /// assert_eq!(wrong, "lte.csv:2: 30 s is not after 60 s; allowed: times in ascending order");
    /// # Ok::<(), partway_core::config::TraceError>(())
    /// ```
    ///
    /// # Errors
    /// If there is no entry, or one that is no number, negative, out of range, out of order, or of another
    /// number of columns than the first.
    pub fn parse(text: &str, file: &str) -> Result<Self, TraceError> {
        let error = |line, problem| TraceError { file: file.to_owned(), line, problem };
        let mut steps: Vec<TraceStep> = Vec::new();
        let lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        for (nth, (number, line)) in lines.enumerate() {
            let is_names = line.split(',').all(|cell| cell.trim().parse::<f64>().is_err());
            if nth == 0 && is_names {
                continue;
            }
            let step = read_step(line).map_err(|problem| error(Some(number), problem))?;
            if let Some(last) = steps.last() {
                if step.at <= last.at {
                    let (at, after) = (step.at.as_secs_f64(), last.at.as_secs_f64());
                    let problem = format!("{at} s is not after {after} s; allowed: times in ascending order");
                    return Err(error(Some(number), problem));
                }
                if step.down_mbps.is_some() != last.down_mbps.is_some() {
                    let problem =
                        "it has another number of columns than the line before; allowed: the same in all";
                    return Err(error(Some(number), problem.into()));
                }
            }
            if steps.len() == MOST_STEPS {
                return Err(error(
                    Some(number),
                    format!("more than {MOST_STEPS} entries; allowed: at most so many"),
                ));
            }
            steps.push(step);
        }
        if steps.is_empty() {
            let problem = "the trace is empty; allowed: lines of seconds,mbps or seconds,up_mbps,down_mbps";
            return Err(error(None, problem.into()));
        }
        Ok(Self { steps })
    }

    /// The entries, by time; at least one.
    pub fn steps(&self) -> &[TraceStep] {
        &self.steps
    }
}

fn read_step(line: &str) -> Result<TraceStep, String> {
    let cells: Vec<&str> = line.split(',').map(str::trim).collect();
    let (seconds, up, down) = match cells[..] {
        [seconds, up] => (seconds, up, None),
        [seconds, up, down] => (seconds, up, Some(down)),
        _ => {
            let count = cells.len();
            return Err(format!(
                "it has {count} columns; allowed: seconds,mbps or seconds,up_mbps,down_mbps"
            ));
        }
    };
    let at = number(seconds, MOST_SECONDS, "seconds")?;
    Ok(TraceStep {
        at: Duration::from_secs_f64(at),
        up_mbps: number(up, MOST_MBPS, "Mbit/s")?,
        down_mbps: down.map(|down| number(down, MOST_MBPS, "Mbit/s")).transpose()?,
    })
}

fn number(cell: &str, most: f64, unit: &str) -> Result<f64, String> {
    cell.parse()
        .ok()
        .filter(|number| (0.0..=most).contains(number))
        .ok_or_else(|| format!("`{cell}` is not allowed; allowed: {unit} from 0 to {most}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_one_or_both_directions_are_read() {
        let one =
            LinkTrace::parse("# a drive\nseconds,mbps\n\n0, 20\n1.5,0\n", "x.csv").expect("it is right");
        let up = |at: f64, up_mbps| TraceStep { at: Duration::from_secs_f64(at), up_mbps, down_mbps: None };
        assert_eq!(one.steps(), [up(0.0, 20.0), up(1.5, 0.0)]);
        let both = LinkTrace::parse("0,5,50\r\n10,2.5,25", "x.csv").expect("it is right");
        assert_eq!(both.steps()[1].down_mbps, Some(25.0));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, message) in [
            ("", "x.csv: the trace is empty; allowed: lines of seconds,mbps"),
            ("seconds,mbps\n", "x.csv: the trace is empty"),
            ("0,20\n-1,20", "x.csv:2: `-1` is not allowed; allowed: seconds from 0 to"),
            ("0,-3", "x.csv:1: `-3` is not allowed; allowed: Mbit/s from 0 to 1000000"),
            ("0,20\n0,30", "x.csv:2: 0 s is not after 0 s; allowed: times in ascending order"),
            ("5,20\n1,30", "x.csv:2: 1 s is not after 5 s"),
            ("0,NaN", "x.csv:1: `NaN` is not allowed"),
            ("0,20\n1", "x.csv:2: it has 1 columns; allowed: seconds,mbps"),
            ("0,20\n1,2,3", "x.csv:2: it has another number of columns"),
            ("0,20\nseconds,mbps", "x.csv:2: `seconds` is not allowed"),
            ("0,1e9", "x.csv:1: `1e9` is not allowed"),
        ] {
            let error = LinkTrace::parse(text, "x.csv").expect_err(text).to_string();
            assert!(error.starts_with(message), "{text:?}: {error}");
        }
    }
}
