//! What `data.evaluate = "edges"` asks of a configuration: a model without data to look at, and edges
//! that can hold it.

use std::io;
use std::path::Path;

use super::error::Fault;
use super::setting::{Setting, shown};
use super::{Config, ConfigError, EvaluateAt};
use crate::model::{ModelCost, ModelSpec};

impl Config {
    /// The model of a coordinator that has no samples: `model.input` and `model.classes` say what the
    /// edges' samples are. `read` is that of [`Config::model_spec`].
    ///
    /// # Errors
    /// If one of these keys is missing, or as [`Config::model_spec`].
    pub fn model_spec_without_data(
        &self,
        read: impl FnOnce(&Path) -> io::Result<String>,
    ) -> Result<ModelSpec, ConfigError> {
        let missing = |key: &str, what: &str| {
            let allowed = format!(
                "{what}, as with `data.evaluate = \"edges\"` the cloud has no samples that could tell"
            );
            (key.to_owned(), Fault::Missing { allowed })
        };
        match (self.model.input, self.model.classes) {
            (Some(input), Some(classes)) => self.model_spec(input.get(), classes.get(), read),
            (input, classes) => {
                let mut faults = Vec::new();
                if input.is_none() {
                    faults
                        .push(missing("model.input", "the shape of the edges' samples, such as [1, 28, 28]"));
                }
                if classes.is_none() {
                    faults.push(missing("model.classes", "the number of classes of the edges' samples"));
                }
                Err(self.origin.error(faults))
            }
        }
    }

    /// Checks that at least one of the described edges can evaluate the model, if edges are to.
    pub(crate) fn check_edge_evaluation(&self, spec: &ModelSpec) -> Result<(), ConfigError> {
        let edges = self.edges();
        if self.data.evaluate == EvaluateAt::Cloud || edges.is_empty() {
            return Ok(());
        }
        let batch = self.training.batch_size;
        let needed = ModelCost::of(spec).inference_memory_bytes(batch.get() as u64);
        if edges.iter().any(|edge| edge.memory.is_none_or(|memory| memory.bytes() >= needed)) {
            return Ok(());
        }
        let value = self.data.evaluate.write().as_ref().map(shown).unwrap_or_default();
        let allowed = format!(
            "\"cloud\", as no edge has the {needed} bytes of memory in which all of `{}` evaluates batches of {batch}; or more memory, a smaller model or smaller batches",
            spec.name
        );
        Err(self.origin.error(vec![("data.evaluate".into(), Fault::NotAllowed { value, allowed })]))
    }
}
