//! `[model]`: what is trained.

use std::path::PathBuf;

use toml::{Table, Value};

use super::{
    document::Origin,
    error::Fault,
    number::Whole,
    reader::{Reader, put},
    setting::{Faults, Name, Plain, Setting, not_allowed},
};

/// The `[model]` table.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// Where the layers come from: exactly one of `arch` and `file`.
    pub source: ModelSource,
    /// Shape of one sample, `[channels, height, width]`, each from 1 to 4096. Default: the data set's,
    /// padding included. Rows of a `csv` and arrays of an `npz` take any shape of as many values. Example:
    /// `input = [1, 32, 32]`.
    pub input: Option<SampleShape>,
    /// Number of classes, from 2 to 65536. Default: the model file's, or else the data set's. Example:
    /// `classes = 10`.
    pub classes: Option<Whole<2, 65_536>>,
    /// A safetensors file with the weights and buffers to start from, such as an earlier run's global
    /// model; moments start at zero. Default: random by the seed. Example:
    /// `init = "runs/quickstart/model.safetensors"`.
    pub init: Option<PathBuf>,
    /// How many of the first layers keep their weights and run in inference mode, from 0 to 4096.
    /// Default 0. Example: `freeze = 2`.
    pub freeze: Whole<0, 4096>,
}

/// Where the model's layers come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelSource {
    /// A built-in model. Example: `arch = "lenet5"`.
    Arch(Name),
    /// A TOML file of layers. Example: `file = "configs/models/small-cnn.toml"`.
    File(PathBuf),
}

/// Shape of one sample, `[channels, height, width]`, no side 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleShape([usize; 3]);

impl SampleShape {
    /// The shape, if each side is from 1 to 4096.
    pub const fn new(sides: [usize; 3]) -> Option<Self> {
        let [channels, height, width] = sides;
        let fits = channels >= 1 && height >= 1 && width >= 1;
        if fits && channels <= 4096 && height <= 4096 && width <= 4096 { Some(Self(sides)) } else { None }
    }

    /// `[channels, height, width]`.
    pub fn get(self) -> [usize; 3] {
        self.0
    }
}

impl Plain for SampleShape {
    fn allowed() -> String {
        "[channels, height, width], each an integer from 1 to 4096".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        Self::new(sides(value)?)
    }

    fn to_value(&self) -> Value {
        Value::Array(self.0.map(|side| (side as u64).to_value()).to_vec())
    }
}

/// An array of `N` integers that are not negative.
fn sides<const N: usize>(value: &Value) -> Option<[usize; N]> {
    let sides = value.as_array()?.iter().map(|side| usize::try_from(side.as_integer()?).ok());
    sides.collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// Size of a picture, `[height, width]`, each from 1 to 4096.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageSize([usize; 2]);

impl ImageSize {
    /// The size, if each side is from 1 to 4096.
    pub const fn new([height, width]: [usize; 2]) -> Option<Self> {
        if SampleShape::new([1, height, width]).is_some() { Some(Self([height, width])) } else { None }
    }

    /// `[height, width]`.
    pub fn get(self) -> [usize; 2] {
        self.0
    }
}

impl Plain for ImageSize {
    fn allowed() -> String {
        "[height, width], each an integer from 1 to 4096".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        Self::new(sides(value)?)
    }

    fn to_value(&self) -> Value {
        Value::Array(self.0.map(|side| (side as u64).to_value()).to_vec())
    }
}

/// An override of `arch` takes the place of the file's `file`, and the other way round.
pub(super) fn keep_the_source_that_is_set(table: &mut Table, origin: &Origin) {
    let Some(Value::Table(model)) = table.get_mut("model") else { return };
    for (set, other) in [("arch", "file"), ("file", "arch")] {
        let is_set = |key: &str| origin.is_set(&format!("model.{key}"));
        if is_set(set) && !is_set(other) {
            model.remove(other);
        }
    }
}

impl ModelConfig {
    fn read_from(mut reader: Reader<'_>) -> Option<Self> {
        let arch = reader.field::<Option<Name>>("arch", None);
        let file = reader.field::<Option<PathBuf>>("file", None);
        let input = reader.field("input", None);
        let classes = reader.field("classes", None);
        let init = reader.field("init", None);
        let freeze = reader.field("freeze", Whole::new(0));
        let source = match (arch?, file?) {
            (Some(arch), None) => Some(ModelSource::Arch(arch)),
            (None, Some(file)) => Some(ModelSource::File(file)),
            (Some(_), Some(file)) => {
                let allowed = "exactly one of `model.arch` and `model.file`";
                reader.fault("file", not_allowed(&file.to_value(), allowed));
                None
            }
            (None, None) => {
                let allowed = format!("the name of a built-in model: {}; or `model.file`", Name::allowed());
                reader.fault("arch", Fault::Missing { allowed });
                None
            }
        };
        reader.finish();
        Some(Self { source: source?, input: input?, classes: classes?, init: init?, freeze: freeze? })
    }
}

impl Setting for ModelConfig {
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        Self::read_from(Reader::of(value, at, faults)?)
    }

    fn absent(at: &str, faults: &mut Faults) -> Option<Self> {
        Self::read_from(Reader::new(&Table::new(), at, faults))
    }

    fn write(&self) -> Option<Value> {
        let mut table = Table::new();
        match &self.source {
            ModelSource::Arch(arch) => put(&mut table, "arch", arch),
            ModelSource::File(file) => put(&mut table, "file", file),
        }
        put(&mut table, "input", &self.input);
        put(&mut table, "classes", &self.classes);
        put(&mut table, "init", &self.init);
        put(&mut table, "freeze", &self.freeze);
        Some(Value::Table(table))
    }
}
