//! `wire.activations` and `wire.gradients`: the TOML forms of [`ActivationCodec`] and [`Codec`], whose
//! derived forms are the wire's.

use toml::{Table, Value};

use super::{
    error::Fault,
    number::{Probability, Share, literal},
    reader::{Reader, put},
    setting::{Faults, Plain, Setting, not_allowed},
};
use crate::codec::{ActivationCodec, Codec, Scale, TopK};

/// The kinds of values; activations can be `topk` as well.
const KINDS: [&str; 5] = ["f32", "f16", "bf16", "int8", "int4"];
const TOP_K: &str = "topk";

/// One pick in ten is not one of the largest.
const DEFAULT_ALPHA: f64 = 0.1;

/// What is allowed as a kind, in words.
fn allowed_kinds(top_k: bool) -> String {
    let kinds = KINDS.into_iter().chain(top_k.then_some(TOP_K));
    kinds.map(|kind| format!("{kind:?}")).collect::<Vec<_>>().join(", ")
}

/// What is allowed under the key, in words.
fn allowed(top_k: bool) -> String {
    let also = if top_k { ", { kind = \"topk\", fraction = 0.1 }" } else { "" };
    format!("{}, {{ kind = \"int8\", scale = \"tensor\" }}{also}", allowed_kinds(false))
}

/// The kind that a name, or a table's `kind`, says.
fn kind(value: &Value) -> Option<&str> {
    value.get("kind").unwrap_or(value).as_str()
}

/// A name alone is the kind with the defaults of its other keys.
fn as_table(value: &Value) -> Value {
    match value {
        Value::String(_) => Value::Table([("kind".into(), value.clone())].into_iter().collect()),
        other => other.clone(),
    }
}

impl Plain for Scale {
    fn allowed() -> String {
        "\"channel\", \"tensor\"".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "channel" => Some(Self::Channel),
            "tensor" => Some(Self::Tensor),
            _ => None,
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Channel => "channel".into(),
            Self::Tensor => "tensor".into(),
        }
    }
}

impl Setting for Codec {
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        if kind(value) == Some(TOP_K) {
            let why = "top-k is for activations, and their gradients follow by themselves";
            let allowed = format!("{}; {why}", allowed_kinds(false));
            faults.push((at.to_owned(), not_allowed(value, allowed)));
            return None;
        }
        read_values(value, at, faults, false)
    }

    fn absent(at: &str, faults: &mut Faults) -> Option<Self> {
        faults.push((at.to_owned(), Fault::Missing { allowed: allowed(false) }));
        None
    }

    fn write(&self) -> Option<Value> {
        let (kind, scale) = match self {
            Self::F32 => ("f32", None),
            Self::F16 => ("f16", None),
            Self::Bf16 => ("bf16", None),
            Self::Int8(scale) => ("int8", Some(scale)),
            Self::Int4(scale) => ("int4", Some(scale)),
        };
        let Some(scale) = scale else { return Some(kind.into()) };
        let mut table = Table::new();
        table.insert("kind".into(), kind.into());
        put(&mut table, "scale", scale);
        Some(Value::Table(table))
    }
}

/// A representation of values; `top_k` says whether messages name `topk` as allowed beside it.
fn read_values(value: &Value, at: &str, faults: &mut Faults, top_k: bool) -> Option<Codec> {
    let is_known = value.as_str().map_or(value.is_table(), |name| KINDS.contains(&name));
    if !is_known {
        faults.push((at.to_owned(), not_allowed(value, allowed(top_k))));
        return None;
    }
    let table = as_table(value);
    let mut reader = Reader::of(&table, at, faults)?;
    let codec = match kind(value) {
        Some("f32") => Some(Codec::F32),
        Some("f16") => Some(Codec::F16),
        Some("bf16") => Some(Codec::Bf16),
        Some("int8") => reader.field("scale", Some(Scale::Channel)).map(Codec::Int8),
        Some("int4") => reader.field("scale", Some(Scale::Channel)).map(Codec::Int4),
        _ => {
            reader.kind_fault(&allowed_kinds(top_k));
            return None;
        }
    };
    reader.finish_kind();
    codec
}

impl Setting for ActivationCodec {
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        if kind(value) != Some(TOP_K) {
            return read_values(value, at, faults, true).map(Self::from);
        }
        let table = as_table(value);
        let mut reader = Reader::of(&table, at, faults)?;
        let fraction = reader.field::<Share>("fraction", None);
        let alpha = reader.field("alpha", Some(literal(Probability::new(DEFAULT_ALPHA))));
        let values = reader.field("values", Some(Codec::F32));
        reader.finish_kind();
        let top_k = TopK { fraction: fraction?.get(), alpha: alpha?.get() };
        Some(Self { values: values?, top_k: Some(top_k) })
    }

    fn absent(at: &str, faults: &mut Faults) -> Option<Self> {
        faults.push((at.to_owned(), Fault::Missing { allowed: allowed(true) }));
        None
    }

    fn write(&self) -> Option<Value> {
        let Some(TopK { fraction, alpha }) = self.top_k else { return self.values.write() };
        let mut table = Table::new();
        table.insert("kind".into(), TOP_K.into());
        table.insert("fraction".into(), fraction.into());
        table.insert("alpha".into(), alpha.into());
        put(&mut table, "values", &self.values);
        Some(Value::Table(table))
    }
}
