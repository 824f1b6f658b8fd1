//! What `wire.in_flight` asks of a model.

use super::error::Fault;
use super::setting::{Setting, shown};
use super::{Algorithm, Config, ConfigError};
use crate::model::ModelSpec;

impl Config {
    /// Checks that batches may be split into micro-batches, if they are to be: batch norm would normalize over
    /// each of them, which is another model. Federated learning sends nothing in a step, and splits nothing.
    pub(crate) fn check_micro_batches(&self, spec: &ModelSpec) -> Result<(), ConfigError> {
        let splits = self.wire.in_flight.get() > 1 && self.training.algorithm != Algorithm::FedAvg;
        let normalizes =
            |layer: &usize| !spec.is_frozen(*layer) && spec.layers[*layer].op.normalizes_over_batch();
        let Some(layer) = (0..spec.len()).find(normalizes).filter(|_| splits) else { return Ok(()) };
        let value = self.wire.in_flight.write().as_ref().map(shown).unwrap_or_default();
        let allowed = format!(
            "1 for `{}`, whose layer {layer} (`{}`) normalizes over the batch, which micro-batches would change; or a model with group norm instead",
            spec.name, spec.layers[layer].name
        );
        Err(self.origin.error(vec![("wire.in_flight".into(), Fault::NotAllowed { value, allowed })]))
    }
}
