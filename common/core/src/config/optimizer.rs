//! `training.optimizer`: the TOML form of [`Optimizer`], whose derived form is the wire's.

use toml::{Table, Value};

use super::{
    error::Fault,
    number::{NonNegativeF32, PositiveF32, Probability},
    reader::Reader,
    setting::{Faults, Setting},
};
use crate::optimizer::Optimizer;

/// SGD with momentum, as in the design's example.
pub(super) fn default_optimizer() -> Optimizer {
    Optimizer::Sgd { lr: 0.05, momentum: 0.9, weight_decay: 0.0 }
}

/// The optimizer whose keys `reader` holds, all of them read before one is missed.
fn read_kind(reader: &mut Reader<'_>, kind: Kind) -> Option<Optimizer> {
    let decay = reader.field("weight_decay", NonNegativeF32::new(0.0));
    match kind {
        Kind::Sgd => {
            let lr = reader.field::<PositiveF32>("lr", None);
            let momentum = reader.field("momentum", Probability::new(0.0));
            Some(Optimizer::Sgd { lr: lr?.get(), momentum: momentum?.get(), weight_decay: decay?.get() })
        }
        Kind::Adam => {
            let lr = reader.field("lr", PositiveF32::new(0.001));
            let beta1 = reader.field("beta1", Probability::new(0.9));
            let beta2 = reader.field("beta2", Probability::new(0.999));
            let epsilon = reader.field("epsilon", PositiveF32::new(1e-8));
            Some(Optimizer::Adam {
                lr: lr?.get(),
                beta1: beta1?.get(),
                beta2: beta2?.get(),
                epsilon: epsilon?.get(),
                weight_decay: decay?.get(),
            })
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Sgd,
    Adam,
}

impl Setting for Optimizer {
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let mut reader = Reader::of(value, at, faults)?;
        let kind = match value.get("kind").and_then(Value::as_str) {
            Some("sgd") => Kind::Sgd,
            Some("adam") => Kind::Adam,
            _ => {
                reader.kind_fault("\"sgd\", \"adam\"");
                return None;
            }
        };
        let optimizer = read_kind(&mut reader, kind);
        reader.finish_kind();
        optimizer
    }

    fn absent(at: &str, faults: &mut Faults) -> Option<Self> {
        let allowed = "{ kind = \"sgd\", lr = 0.05 }, { kind = \"adam\" }".into();
        faults.push((at.to_owned(), Fault::Missing { allowed }));
        None
    }

    fn write(&self) -> Option<Value> {
        let (kind, numbers): (&str, &[(&str, f64)]) = match *self {
            Self::Sgd { lr, momentum, weight_decay } => {
                ("sgd", &[("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)])
            }
            Self::Adam { lr, beta1, beta2, epsilon, weight_decay } => (
                "adam",
                &[
                    ("lr", lr),
                    ("beta1", beta1),
                    ("beta2", beta2),
                    ("epsilon", epsilon),
                    ("weight_decay", weight_decay),
                ],
            ),
        };
        let mut table = Table::new();
        table.insert("kind".into(), kind.into());
        table.extend(numbers.iter().map(|(key, number)| ((*key).to_owned(), Value::Float(*number))));
        Some(Value::Table(table))
    }
}
