//! What a configuration means once the data is known: the model.

use std::io;
use std::path::Path;

use super::cpus::CpuList;
use super::data::Dataset;
use super::error::Fault;
use super::model::{ModelSource, SampleShape};
use super::model_file::ModelFit;
use super::number::Whole;
use super::setting::{Plain, Setting, shown};
use super::{Config, ConfigError};
use crate::model::{ModelCost, ModelSpec, builtin};

/// The most parameters that a model may have: 4 GiB of them.
const MAX_PARAMETERS: u64 = 1 << 30;

impl Config {
    /// The model for samples of `shape` in `classes` classes: all of `[model]` but `init`. `read` gives
    /// the text of `model.file`, and is called only if there is one.
    ///
    /// # Errors
    /// If there is no such model, if it does not fit together, if its input or classes are not the
    /// data's, or if nothing of it is left to be trained.
    pub fn model_spec(
        &self,
        shape: [usize; 3],
        classes: usize,
        read: impl FnOnce(&Path) -> io::Result<String>,
    ) -> Result<ModelSpec, ConfigError> {
        let fault = |key: &str, value: Option<String>, allowed: String| {
            let value = value.unwrap_or_default();
            self.origin.error(vec![(key.into(), Fault::NotAllowed { value, allowed })])
        };
        let input = self.model.input.map_or(shape, SampleShape::get);
        if input != shape {
            let value = self.model.input.write().as_ref().map(shown);
            let values: usize = shape.iter().product();
            let other = match self.data.dataset {
                Dataset::Csv => format!("any other shape of {values} values will do, too"),
                _ => "`data.pad` adds pixels on each side".to_owned(),
            };
            let padded = if self.data.pad.get() > 0 { " with `data.pad`" } else { "" };
            let allowed = format!("{shape:?}, which the samples have{padded}; {other}");
            return Err(fault("model.input", value, allowed));
        }
        let wanted = self.model.classes.map_or(classes, Whole::get);
        if wanted < classes {
            let value = self.model.classes.write().as_ref().map(shown);
            return Err(fault("model.classes", value, format!("at least the {classes} classes of the data")));
        }
        let (key, value, spec) = match &self.model.source {
            ModelSource::Arch(name) => {
                let spec = builtin::builtin(name.as_str(), input, wanted);
                ("model.arch", name.to_value(), spec.map_err(|error| error.to_string()))
            }
            ModelSource::File(path) => {
                let text = read(path).map_err(|error| {
                    let (value, reason) = (shown(&path.to_value()), error.to_string());
                    self.origin.error(vec![("model.file".into(), Fault::Unusable { value, reason })])
                })?;
                let asked = self.model.classes.map(Whole::get);
                let fit = ModelFit { input, least_classes: classes, classes: asked };
                let spec = ModelSpec::from_toml(&text, &path.display().to_string(), Some(fit))?;
                ("model.file", path.to_value(), Ok(spec))
            }
        };
        let parameters = |spec: &ModelSpec| ModelCost::of(spec).total_params();
        let spec = spec.and_then(|spec| match parameters(&spec) {
            0..=MAX_PARAMETERS => Ok(spec),
            params => Err(format!("it has {params} parameters; at most {MAX_PARAMETERS} can be trained")),
        });
        let spec = spec.map_err(|reason| {
            let fault = Fault::Unusable { value: shown(&value), reason };
            self.origin.error(vec![(key.into(), fault)])
        })?;
        self.frozen(spec)
    }

    /// The model with its first `model.freeze` layers frozen.
    fn frozen(&self, spec: ModelSpec) -> Result<ModelSpec, ConfigError> {
        let frozen = self.model.freeze.get();
        let cost = ModelCost::of(&spec);
        let last = cost.layers.iter().rposition(|layer| layer.params > 0).unwrap_or(0);
        if frozen > last {
            let allowed = format!(
                "at most {last}: layer {last} (`{}`) is the last with parameters, and something must be trained",
                spec.layers[last].name
            );
            let fault = Fault::NotAllowed { value: frozen.to_string(), allowed };
            return Err(self.origin.error(vec![("model.freeze".into(), fault)]));
        }
        Ok(ModelSpec { frozen, ..spec })
    }

    /// The error of a file or folder that `key` names and that cannot be used, for this reason.
    pub fn refuse_path(&self, key: &str, path: &Path, reason: String) -> ConfigError {
        let value = shown(&path.to_owned().to_value());
        self.origin.error(vec![(key.into(), Fault::Unusable { value, reason })])
    }

    /// The error of processors that `key` names and that cannot be used on this machine.
    pub fn refuse_cpus(&self, key: &str, cpus: &CpuList, reason: String) -> ConfigError {
        let value = shown(&cpus.to_value());
        self.origin.error(vec![(key.into(), Fault::Unusable { value, reason })])
    }

    /// The error of a model of which nothing is left for the cloud where the labels stay on the edge.
    pub(crate) fn refuse_tail(&self, tail: usize, spec: &ModelSpec) -> ConfigError {
        let value = self.training.labels.write().as_ref().map(shown).unwrap_or_default();
        let allowed = format!(
            "\"cloud\" for `{}`: with the labels on the edge its layers from {tail} on stay there, and so do those up to the first with parameters; or `training.algorithm = \"fedavg\"`",
            spec.name
        );
        self.origin.error(vec![("training.labels".into(), Fault::NotAllowed { value, allowed })])
    }

    /// The error of a cut that would send raw data without permission.
    pub(crate) fn refuse_raw_cut(&self, cut: usize, spec: &ModelSpec) -> ConfigError {
        let (key, value) = match (&self.plan.fixed_cut, &self.plan.max_depth, &self.model.source) {
            (Some(fixed), ..) => ("plan.fixed_cut", fixed.write()),
            (None, Some(depth), _) => ("plan.max_depth", depth.write()),
            (None, None, ModelSource::Arch(name)) => ("model.arch", name.write()),
            (None, None, ModelSource::File(file)) => ("model.file", file.write()),
        };
        let allowed = format!(
            "a cut behind the first layer with parameters: the first {cut} layers of `{}` have none, so cut {cut} would send raw data, which needs `data.allow_raw_data = true`",
            spec.name
        );
        let value = value.as_ref().map(shown).unwrap_or_default();
        self.origin.error(vec![(key.into(), Fault::NotAllowed { value, allowed })])
    }
}
