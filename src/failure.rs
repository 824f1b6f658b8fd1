//! How a command fails: one message and an exit code.

use std::fmt::{self, Display};
use std::process::ExitCode;

/// Why a command did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The run failed.
    Failed(String),
    /// The command line, the configuration or the data is wrong; nothing was started.
    Wrong(String),
    /// The run was interrupted.
    Interrupted(String),
}

impl Failure {
    pub(crate) fn failed(reason: impl Display) -> Self {
        Self::Failed(reason.to_string())
    }

    pub(crate) fn wrong(reason: impl Display) -> Self {
        Self::Wrong(reason.to_string())
    }

    /// 1, 2 or 130, which is what a shell reports of a program that Ctrl-C ended.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Wrong(_) => 2,
            Self::Interrupted(_) => 130,
        }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        self.code().into()
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interrupted(message) => write!(f, "interrupted: {message}"),
            Self::Failed(message) | Self::Wrong(message) => {
                write!(f, "error: {}", message.trim_end().replace('\n', "\n       "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_lines_of_a_message_line_up() {
        let failure = Failure::wrong("x.toml:3: a\nx.toml:4: b\n");
        assert_eq!(failure.to_string(), "error: x.toml:3: a\n       x.toml:4: b");
        assert_eq!(failure.code(), 2);
    }
}
