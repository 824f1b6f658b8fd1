//! A list of processors, as `taskset` writes it.

use std::collections::BTreeSet;
use std::fmt;

use toml::Value;

use super::setting::Plain;

/// The highest processor number: more than any machine has.
const LAST: usize = 4095;

/// At least one processor: `"0-1"`, `"0,2,4-7"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuList(BTreeSet<usize>);

impl CpuList {
    /// The list that `text` writes.
    pub fn new(text: &str) -> Option<Self> {
        let mut all = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |digits: &str| digits.trim().parse::<usize>().ok().filter(|cpu| *cpu <= LAST);
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return None;
            }
            all.extend(first..=last);
        }
        Some(Self(all))
    }

    /// The list of these processors; none if there are none, or one's number is too high.
    pub fn of(cpus: impl IntoIterator<Item = usize>) -> Option<Self> {
        let all: BTreeSet<usize> = cpus.into_iter().collect();
        (!all.is_empty() && all.last() <= Some(&LAST)).then_some(Self(all))
    }

    /// The processors' numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
    }
}

impl Plain for CpuList {
    fn allowed() -> String {
        format!("processor numbers from 0 to {LAST} in quotes, such as \"0-1\" or \"0,2,4-7\"")
    }

    fn parse(value: &Value) -> Option<Self> {
        Self::new(value.as_str()?)
    }

    fn to_value(&self) -> Value {
        self.to_string().into()
    }
}
