//! What a configuration means once the data is known: the model.

use super::error::Fault;
use super::model::{ModelSource, SampleShape};
use super::number::Whole;
use super::setting::{Setting, shown};
use super::{Config, ConfigError};
use crate::model::{ModelSpec, builtin};

impl Config {
    /// The model for samples of `shape` in `classes` classes: `[model] arch`, `input` and `classes`.
    ///
    /// # Errors
    /// If there is no such model, if it does not fit together, or if its input or classes are not the
    /// data's.
    pub fn model_spec(&self, shape: [usize; 3], classes: usize) -> Result<ModelSpec, ConfigError> {
        let fault = |key: &str, value: Option<String>, allowed: String| {
            let value = value.unwrap_or_default();
            self.origin.error(vec![(key.into(), Fault::NotAllowed { value, allowed })])
        };
        let input = self.model.input.map_or(shape, SampleShape::get);
        if input != shape {
            let value = self.model.input.write().as_ref().map(shown);
            let allowed = format!(
                "{shape:?}, which the samples have{}; `data.pad` adds pixels on each side",
                if self.data.pad.get() > 0 { " with `data.pad`" } else { "" }
            );
            return Err(fault("model.input", value, allowed));
        }
        let wanted = self.model.classes.map_or(classes, Whole::get);
        if wanted < classes {
            let value = self.model.classes.write().as_ref().map(shown);
            return Err(fault("model.classes", value, format!("at least the {classes} classes of the data")));
        }
        match &self.model.source {
            ModelSource::Arch(name) => builtin::builtin(name.as_str(), input, wanted).map_err(|error| {
                let value = format!("\"{}\"", name.as_str());
                let fault = Fault::Unusable { value, reason: error.to_string() };
                self.origin.error(vec![("model.arch".into(), fault)])
            }),
            ModelSource::File(path) => {
                let value = Some(format!("\"{}\"", path.display()));
                Err(fault("model.file", value, "`model.arch` in this version".into()))
            }
        }
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
        let (key, value) = match &self.plan.fixed_cut {
            Some(fixed) => ("plan.fixed_cut", fixed.write()),
            None => ("plan.max_depth", self.plan.max_depth.write()),
        };
        let allowed = format!(
            "a cut behind the first layer with parameters: the first {cut} layers of `{}` have none, so that cut would send raw data, which needs `data.allow_raw_data = true`",
            spec.name
        );
        let value = value.as_ref().map(shown).unwrap_or_default();
        self.origin.error(vec![(key.into(), Fault::NotAllowed { value, allowed })])
    }
}
