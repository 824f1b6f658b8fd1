//! A model as a TOML file: a list of layers, each with its own sizes only. What reaches a layer, and
//! with it the sizes of its inputs, follows from the layers before it.
//!
//! `configs/models/small-cnn.toml` shows every kind and key.

mod layer;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use toml::{Table, Value};

use super::{
    document,
    error::{ConfigError, Fault},
    model::SampleShape,
    number::Whole,
    reader::Reader,
    setting::{Faults, Name, Plain, Setting, not_allowed, shown},
};
use crate::model::{LayerKind, LayerOp, LayerSpec, ModelSpec, shape};

/// As many layers as `model.freeze` can name, and as fit a message.
const MAX_LAYERS: usize = 4096;

/// The data that a model file is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelFit {
    /// Shape of one sample, `[channels, height, width]`.
    pub input: [usize; 3],
    /// Classes of the data: the model has at least these.
    pub least_classes: usize,
    /// Classes that the model must have, if that is known.
    pub classes: Option<usize>,
}

/// How many classes a model may tell apart.
type Classes = Whole<1, 65_536>;

/// The layers' tables, at least one.
struct Layers(Vec<Value>);

impl Layers {
    fn allowed() -> String {
        format!("1 to {MAX_LAYERS} tables `[[layer]]`, in the order in which they run")
    }
}

impl Setting for Layers {
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        match value {
            Value::Array(layers) if (1..=MAX_LAYERS).contains(&layers.len()) => Some(Self(layers.clone())),
            _ => {
                faults.push((at.to_owned(), not_allowed(value, Self::allowed())));
                None
            }
        }
    }

    fn absent(at: &str, faults: &mut Faults) -> Option<Self> {
        faults.push((at.to_owned(), Fault::Missing { allowed: Self::allowed() }));
        None
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Array(self.0.clone()))
    }
}

impl ModelSpec {
    /// The model that the text of a model file describes, for the data `fit`; without that the file must
    /// have `input` and `classes` itself. `file` is its name in messages.
    ///
    /// ```
    /// use partway_core::model::ModelSpec;
    /// let text = r#"
    ///     input = [1, 8, 8]
    ///     classes = 3
    ///     layer = [
    ///         { kind = "conv2d", out = 4, kernel = 3, padding = 1 },
    ///         { kind = "relu" },
    ///         { kind = "flatten" },
    ///         { kind = "linear", out = "classes" },
    ///     ]
    /// "#;
    /// let model = ModelSpec::from_toml(text, "tiny.toml", None)?;
    /// assert_eq!(model.layers[0].name, "conv1");
    /// assert_eq!(model.shapes().expect("they fit")[3], [4 * 8 * 8]);
    ///
    /// let wrong = ModelSpec::from_toml(&text.replace("kernel = 3", "kernel = 0"), "tiny.toml", None);
    /// assert_eq!(
    ///     wrong.unwrap_err().to_string(),
    ///     "tiny.toml:5: `layer[0].kernel = 0` (layer `conv1`) is not allowed; \
    ///      allowed: an integer from 1 to 1024",
    /// );
    /// # Ok::<(), partway_core::config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// All keys that are unknown, have the wrong type or are out of range, each with its layer; and the
    /// first layer that does not fit what reaches it.
    pub fn from_toml(text: &str, file: &str, fit: Option<ModelFit>) -> Result<Self, ConfigError> {
        let (table, mut origin) = document::load(text, file, &[])?;
        let names = match table.get("layer") {
            Some(Value::Array(layers)) => layer_names(layers),
            _ => Vec::new(),
        };
        origin.name_items("layer", names.iter().cloned());
        let mut faults = Faults::new();
        match read(&table, names, file, fit, &mut faults) {
            Some(spec) if faults.is_empty() => Ok(spec),
            _ => Err(origin.error(faults)),
        }
    }

    /// The model as [`ModelSpec::from_toml`] reads it, with every key written out. How many layers are
    /// frozen is no part of it.
    pub fn to_toml(&self) -> String {
        let number = |value: usize| (value as u64).to_value();
        let mut table = Table::new();
        table.insert("name".into(), self.name.clone().into());
        table.insert("input".into(), Value::Array(self.input.map(number).to_vec()));
        table.insert("classes".into(), number(self.classes));
        let layers = self.layers.iter().map(|layer| Value::Table(layer::write(layer)));
        table.insert("layer".into(), Value::Array(layers.collect()));
        table.to_string()
    }
}

/// The names of the layers: their own, or the kind's short name with a number that is free.
fn layer_names(layers: &[Value]) -> Vec<String> {
    let own = |layer: &Value| layer.get("name").and_then(Value::as_str).map(str::to_owned);
    let mut taken: BTreeSet<String> = layers.iter().filter_map(own).collect();
    let mut numbers = BTreeMap::new();
    let mut next = |layer: &Value| {
        let prefix = layer.get("kind").and_then(LayerKind::parse).map_or("layer", short_name);
        let number = numbers.entry(prefix).or_insert(0usize);
        loop {
            *number += 1;
            let name = format!("{prefix}{number}");
            if taken.insert(name.clone()) {
                break name;
            }
        }
    };
    layers.iter().map(|layer| own(layer).unwrap_or_else(|| next(layer))).collect()
}

fn short_name(kind: LayerKind) -> &'static str {
    match kind {
        LayerKind::Conv2d => "conv",
        LayerKind::BatchNorm2d => "bn",
        LayerKind::GroupNorm => "gn",
        LayerKind::LocalResponseNorm => "norm",
        LayerKind::Linear => "fc",
        LayerKind::Relu | LayerKind::Relu6 => "relu",
        LayerKind::Gelu => "gelu",
        LayerKind::MaxPool2d | LayerKind::AvgPool2d | LayerKind::GlobalAvgPool => "pool",
        LayerKind::Flatten => "flatten",
        LayerKind::Dropout => "dropout",
        LayerKind::Residual | LayerKind::InvertedResidual => "block",
    }
}

fn read(
    table: &Table,
    names: Vec<String>,
    file: &str,
    fit: Option<ModelFit>,
    faults: &mut Faults,
) -> Option<ModelSpec> {
    let mut reader = Reader::new(table, "", faults);
    // All fields are read before any is missed, so that every problem is found.
    let name = reader.field::<Option<Name>>("name", None);
    let input = reader.field::<Option<SampleShape>>("input", None);
    let classes = reader.field::<Option<Classes>>("classes", None);
    let layers = reader.field::<Layers>("layer", None);
    let input = input.and_then(|own| fitting_input(&mut reader, own, fit));
    let classes = classes.and_then(|own| fitting_classes(&mut reader, own, fit));
    reader.finish();

    let stem = || Name::new(Path::new(file).file_stem()?.to_str()?);
    let mut spec = ModelSpec {
        name: name?.or_else(stem).map_or("model".into(), |name| name.as_str().to_owned()),
        input: input?,
        classes: classes?,
        frozen: 0,
        layers: Vec::new(),
    };
    let layers = layers?.0;
    // What reaches the next layer; unknown behind one that is wrong.
    let mut reaching = Some(spec.input.to_vec());
    let mut seen = BTreeSet::new();
    for (index, (layer, name)) in layers.iter().zip(names).enumerate() {
        let at = format!("layer[{index}]");
        if !seen.insert(name.clone()) {
            let fault = not_allowed(&name.clone().into(), "a name that no other layer has");
            faults.push((format!("{at}.name"), fault));
        }
        let so_far = faults.len();
        let op = layer::read(layer, &at, reaching.as_deref(), spec.classes, faults);
        reaching = match (&op, reaching) {
            (Some(op), Some(reaching)) if faults.len() == so_far => match shape::after(op, &reaching) {
                Ok(output) => Some(output),
                Err(problem) => {
                    faults.push((format!("{at}.kind"), unusable(op, problem.words(&reaching))));
                    None
                }
            },
            _ => None,
        };
        spec.layers.extend(op.map(|op| LayerSpec { name, op }));
    }
    if let (Some(output), Some(last)) = (reaching, spec.layers.last())
        && output != [spec.classes]
    {
        let classes = spec.classes;
        let reason = format!(
            "as the last layer it must make one value per class, [{classes}], not {output:?}; \
             `linear` with `out = \"classes\"` does"
        );
        faults.push((format!("layer[{}].kind", spec.len() - 1), unusable(&last.op, reason)));
    }
    Some(spec)
}

fn unusable(op: &LayerOp, reason: String) -> Fault {
    Fault::Unusable { value: shown(&op.kind().to_value()), reason }
}

/// The data's shape, which the file's must be.
fn fitting_input(
    reader: &mut Reader<'_>,
    own: Option<SampleShape>,
    fit: Option<ModelFit>,
) -> Option<[usize; 3]> {
    match (own, fit) {
        (Some(own), Some(fit)) if own.get() != fit.input => {
            let allowed = format!("{:?}, the shape of the samples; without `input` it fits any", fit.input);
            reader.fault("input", not_allowed(&own.to_value(), allowed));
            None
        }
        (_, Some(fit)) => Some(fit.input),
        (Some(own), None) => Some(own.get()),
        (None, None) => {
            reader.fault("input", Fault::Missing { allowed: SampleShape::allowed() });
            None
        }
    }
}

/// The classes that were asked for; else the file's, if they are enough for the data; else the data's.
fn fitting_classes(reader: &mut Reader<'_>, own: Option<Classes>, fit: Option<ModelFit>) -> Option<usize> {
    let given = own.map(|own| own.to_value());
    let own = own.map(Whole::get);
    let asked = fit.and_then(|fit| fit.classes);
    let least = fit.map(|fit| fit.least_classes);
    let allowed = match (own, asked, least) {
        (Some(own), Some(asked), _) if own != asked => format!("`model.classes = {asked}`"),
        (Some(own), None, Some(least)) if own < least => format!("at least the {least} classes of the data"),
        (None, None, None) => {
            reader.fault("classes", Fault::Missing { allowed: Classes::allowed() });
            return None;
        }
        _ => return asked.or(own).or(least),
    };
    reader.fault("classes", not_allowed(&given?, allowed));
    None
}
