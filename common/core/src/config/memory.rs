//! Whether the edges' memory holds what the least cut leaves to them.

use super::error::Fault;
use super::setting::{Setting, shown};
use super::{Config, ConfigError, is_quorum};
use crate::model::ModelSpec;

impl Config {
    /// Checks that as many of the described edges as a round needs have `needed` bytes, the least with which one
    /// trains a part of the model.
    ///
    /// # Errors
    /// Every edge that has less, if the others are no quorum.
    pub fn check_edge_memory(&self, spec: &ModelSpec, needed: u64) -> Result<(), ConfigError> {
        let has_less = |memory: &super::ByteSize| memory.bytes() < needed;
        let mut faults = Vec::new();
        let mut able = self.edge_count();
        for (index, edge) in self.edge.iter().enumerate() {
            if edge.memory.as_ref().is_some_and(has_less) {
                able -= edge.count.get();
                let value = edge.memory.write().as_ref().map(shown).unwrap_or_default();
                let batch = self.training.batch_size;
                let allowed = format!(
                    "at least {needed} B, which the least part of `{}` that an edge may have needs with batches of {batch}",
                    spec.name
                );
                faults.push((format!("edge[{index}].memory"), Fault::NotAllowed { value, allowed }));
            }
        }
        if is_quorum(self.fleet.quorum.get(), able, self.edge_count()) {
            Ok(())
        } else {
            self.origin.check(faults)
        }
    }
}
