//! `data.partition`: how the training samples are spread over the edges.

use toml::{Table, Value};

use super::{
    error::Fault,
    number::{PositiveF64, Whole, literal},
    reader::{Reader, put},
    setting::{Faults, Setting, not_allowed},
};

/// How the training samples are spread over the edges. `"iid"` and `{ kind = "iid" }` are the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Partition {
    /// Shuffled, then in equal parts: `"iid"`.
    Iid,
    /// Per class, the edges' shares are drawn from a Dirichlet distribution (Hsu, Qi & Brown 2019,
    /// arXiv 1909.06335): `{ kind = "dirichlet", alpha = 0.5 }`.
    Dirichlet {
        /// Concentration, above 0: large is even, small leaves each edge few classes. Default 0.5.
        alpha: PositiveF64,
    },
    /// Sorted by label, cut into equal shards, each edge dealt the same number (`McMahan` et al. 2017,
    /// arXiv 1602.05629): `{ kind = "shards", per_edge = 2 }`.
    Shards {
        /// Shards that each edge gets, from 1 to 10000. Default 2.
        per_edge: Whole<1, 10_000>,
    },
    /// Every class on one edge: `"by-label"`.
    ByLabel,
}

/// The kinds' names.
const KINDS: [&str; 4] = ["iid", "dirichlet", "shards", "by-label"];

const ALLOWED: &str =
    "\"iid\", \"by-label\", { kind = \"dirichlet\", alpha = 0.5 }, { kind = \"shards\", per_edge = 2 }";

impl Default for Partition {
    fn default() -> Self {
        Self::Dirichlet { alpha: literal(PositiveF64::new(0.5)) }
    }
}

impl Partition {
    /// The kind's name in TOML.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iid => "iid",
            Self::Dirichlet { .. } => "dirichlet",
            Self::Shards { .. } => "shards",
            Self::ByLabel => "by-label",
        }
    }

    fn read_table(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let mut reader = Reader::of(value, at, faults)?;
        let partition = match value.get("kind").and_then(Value::as_str) {
            Some("iid") => Some(Self::Iid),
            Some("by-label") => Some(Self::ByLabel),
            Some("dirichlet") => reader
                .field("alpha", Some(literal(PositiveF64::new(0.5))))
                .map(|alpha| Self::Dirichlet { alpha }),
            Some("shards") => {
                reader.field("per_edge", Whole::new(2)).map(|per_edge| Self::Shards { per_edge })
            }
            _ => {
                reader.kind_fault("\"iid\", \"dirichlet\", \"shards\", \"by-label\"");
                return None;
            }
        };
        reader.finish_kind();
        partition
    }
}

impl Setting for Partition {
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        match value {
            Value::Table(_) => Self::read_table(value, at, faults),
            Value::String(name) if KINDS.contains(&name.as_str()) => {
                // A name alone is the kind with the defaults of its numbers.
                Self::read_table(
                    &Value::Table([("kind".into(), value.clone())].into_iter().collect()),
                    at,
                    faults,
                )
            }
            _ => {
                faults.push((at.to_owned(), not_allowed(value, ALLOWED)));
                None
            }
        }
    }

    fn absent(at: &str, faults: &mut Faults) -> Option<Self> {
        faults.push((at.to_owned(), Fault::Missing { allowed: ALLOWED.into() }));
        None
    }

    fn write(&self) -> Option<Value> {
        let mut table = Table::new();
        table.insert("kind".into(), self.name().into());
        match self {
            Self::Iid | Self::ByLabel => {}
            Self::Dirichlet { alpha } => put(&mut table, "alpha", alpha),
            Self::Shards { per_edge } => put(&mut table, "per_edge", per_edge),
        }
        Some(Value::Table(table))
    }
}
