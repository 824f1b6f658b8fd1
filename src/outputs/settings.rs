//! The few settings of a run that are shown beside its results.

use partway_core::config::Algorithm;
use partway_core::coordinator::Topology;
use serde::Deserialize;

/// What of a resolved configuration is shown. One that this version would refuse, such as another
/// version's, still says what it can.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Settings {
    pub(crate) name: Option<String>,
    pub(crate) algorithm: Option<String>,
    pub(crate) dataset: Option<String>,
    pub(crate) target_accuracy: Option<f64>,
}

impl Settings {
    /// Of a configuration as text.
    pub(crate) fn read(config: &str) -> Self {
        let table = config.parse::<toml::Table>().unwrap_or_default();
        let of = |section: &str, key: &str| table.get(section)?.get(key);
        let text = |value: &toml::Value| value.as_str().map(str::to_owned);
        Self {
            name: table.get("name").and_then(text),
            algorithm: of("training", "algorithm").and_then(text),
            dataset: of("data", "dataset").and_then(text),
            target_accuracy: of("training", "target_accuracy").and_then(toml::Value::as_float),
        }
    }

    /// Which server-side models there were; those of the default algorithm if it is not known.
    pub(crate) fn topology(&self) -> Topology {
        let name = toml::Value::from(self.algorithm.as_deref().unwrap_or_default());
        Algorithm::deserialize(name).unwrap_or(Algorithm::SplitFedV1).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_read_and_the_rest_is_unknown() {
        let config = "name = \"x\"\n[training]\ntarget_accuracy = 0.9\nalgorithm = \"of tomorrow\"\n";
        let read = Settings::read(config);
        assert_eq!((read.name.as_deref(), read.algorithm.as_deref()), (Some("x"), Some("of tomorrow")));
        assert_eq!((&read.dataset, read.target_accuracy), (&None, Some(0.9)));
        assert_eq!(read.topology(), Topology::ReplicaPerEdge);
        let shared = Settings::read("[training]\nalgorithm = \"splitfed-v2\"\n");
        assert_eq!(shared.topology(), Topology::Shared);
        assert_eq!(Settings::read("no toml ["), Settings::default());
    }
}
