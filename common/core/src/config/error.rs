//! What can be wrong with a configuration, and where.

use std::fmt;

use thiserror::Error;

/// Everything that is wrong with a configuration, as far as it could be found at once.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", .problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError {
    /// At least one problem, in the order of the configuration's keys.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file and line, or the `--set` that the value came from.
    pub place: Place,
    /// The full dotted key, such as `edge[1].speed`; empty where there is none (not TOML at all).
    pub key: String,
    /// What the key belongs to, such as "edge `camera`".
    pub item: Option<String>,
    /// What is wrong.
    pub fault: Fault,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A configuration or model file.
    File {
        /// Its name, as the caller gave it.
        name: String,
        /// The line, from 1; none for a key that is not in the file.
        line: Option<usize>,
    },
    /// An override from the command line, as it was given: `training.batch_size=0`.
    Set(String),
}

/// What is wrong with one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The text is not TOML.
    Syntax(String),
    /// A `--set` that cannot be applied.
    Override(String),
    /// No such key.
    Unknown {
        /// The known key that is spelled most alike, if any is close.
        nearest: Option<&'static str>,
        /// All keys that may stand there.
        known: Vec<&'static str>,
    },
    /// A key without a default is absent.
    Missing {
        /// What is allowed.
        allowed: String,
    },
    /// A value of the wrong type, out of its range, or in contradiction to another.
    NotAllowed {
        /// The value, as TOML.
        value: String,
        /// What is allowed.
        allowed: String,
    },
    /// A value that may stand there and does not go with the model or the data.
    Unusable {
        /// The value, as TOML.
        value: String,
        /// Why.
        reason: String,
    },
    /// A value that the design knows and this version does not.
    Unsupported {
        /// The value, as TOML.
        value: String,
        /// What can be used now.
        now: String,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { name, line: Some(line) } => write!(f, "{name}:{line}"),
            Self::File { name, line: None } => f.write_str(name),
            Self::Set(set) => write!(f, "--set {set}"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, key, item, fault } = self;
        let item = item.as_ref().map(|item| format!(" ({item})")).unwrap_or_default();
        write!(f, "{place}: ")?;
        match fault {
            Fault::Syntax(problem) => write!(f, "this is not TOML: {problem}"),
            Fault::Override(problem) => f.write_str(problem),
            Fault::Unknown { nearest: Some(nearest), .. } => {
                write!(f, "unknown key `{key}`{item}; did you mean `{nearest}`?")
            }
            Fault::Unknown { nearest: None, known } => {
                write!(f, "unknown key `{key}`{item}; allowed there: {}", known.join(", "))
            }
            Fault::Missing { allowed } => write!(f, "`{key}`{item} is missing; allowed: {allowed}"),
            Fault::NotAllowed { value, allowed } => {
                write!(f, "`{key} = {value}`{item} is not allowed; allowed: {allowed}")
            }
            Fault::Unusable { value, reason } => {
                write!(f, "`{key} = {value}`{item} cannot be used: {reason}")
            }
            Fault::Unsupported { value, now } => {
                write!(f, "`{key} = {value}`{item} is not available in this version; allowed now: {now}")
            }
        }
    }
}
