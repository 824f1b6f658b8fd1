//! Everything about an experiment that is known, and can be wrong, before anything is started.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use partway_cloud::model_file;
use partway_core::config::{Config, ConfigError, DeviceFile, EvaluateAt, LinkTrace, SampleShape, Whole};
use partway_core::coordinator::Settings;
use partway_core::model::{LayerState, ModelCost, ModelSpec};
use partway_core::profile::DeviceProfile;
use partway_datasets::{Dataset, DatasetError, PartitionError};
use thiserror::Error;

/// No configuration or model file is longer than this.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// No trace is longer than this.
const MAX_TRACE_BYTES: u64 = 64 << 20;

/// Which experiment, on the command line.
#[derive(Clone, Debug, Args)]
pub(crate) struct ExperimentArgs {
    /// The experiment: a TOML file
    pub(crate) config: PathBuf,
    /// Set a key of it, such as `training.batch_size=32` (may be given several times)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(crate) sets: Vec<String>,
}

/// An experiment that can be started: its parts fit together.
#[derive(Debug)]
pub(crate) struct Experiment {
    /// The configuration, overrides applied.
    pub(crate) config: Config,
    /// The model, for the data's shape and classes.
    pub(crate) spec: ModelSpec,
    /// What its layers cost.
    pub(crate) cost: ModelCost,
    /// The samples, limited and padded.
    pub(crate) dataset: Dataset,
    /// Which training samples each edge gets, in name order.
    pub(crate) parts: Vec<(String, Vec<usize>)>,
    /// The devices of the virtual clock, by the paths of their files.
    pub(crate) devices: BTreeMap<PathBuf, Arc<DeviceFile>>,
    /// The rates over time of links, by the paths of their files.
    pub(crate) traces: BTreeMap<PathBuf, Arc<LinkTrace>>,
}

/// Why an experiment cannot be started.
#[derive(Debug, Error)]
pub(crate) enum ExperimentError {
    /// The file cannot be read.
    #[error("cannot read the configuration `{}`: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no configuration.
    #[error("`{}` is longer than {MAX_CONFIG_BYTES} bytes: give a TOML file that describes an experiment", file.display())]
    TooLong {
        /// The file.
        file: PathBuf,
    },
    /// Keys or values are wrong, or do not fit the model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data cannot be used.
    #[error("{}: cannot load the data set `{dataset}`: {source}", file.display())]
    Data {
        /// The configuration.
        file: PathBuf,
        /// `data.dataset`.
        dataset: String,
        /// Why.
        source: Box<DatasetError>,
    },
    /// There is nobody to run it with.
    #[error(
        "{}: it describes no edges, so that it is for `partway-cloud serve`, which waits for edges that join by \
         themselves: to run or plan it on this machine, describe them in `[[edge]]` tables",
        file.display()
    )]
    NoEdges {
        /// The configuration.
        file: PathBuf,
    },
    /// The samples cannot be spread over the edges.
    #[error("{}: cannot spread the samples over the edges: {source}", file.display())]
    Partition {
        /// The configuration.
        file: PathBuf,
        /// Why.
        source: PartitionError,
    },
}

impl Experiment {
    /// Reads the configuration and the data, and checks that model, cuts, data and edges go together.
    pub(crate) fn load(args: &ExperimentArgs) -> Result<Self, ExperimentError> {
        let file = &args.config;
        let mut config = read_config(file, &args.sets)?;
        if config.edge.is_empty() {
            return Err(ExperimentError::NoEdges { file: file.clone() });
        }
        config.apply_links(read_text)?;
        let (devices, traces) = (config.apply_devices(read_text)?, config.traces(read_trace)?);
        let dataset = partway_datasets::from_config(&config).map_err(|source| {
            let dataset = config.data.dataset.to_string();
            ExperimentError::Data { file: file.clone(), dataset, source: Box::new(source) }
        })?;
        let spec = config.model_spec(dataset.train.shape(), dataset.train.classes(), read_model)?;
        if config.data.evaluate == EvaluateAt::Edges {
            // The coordinator gets no samples that could tell.
            config.model.input = SampleShape::new(spec.input);
            config.model.classes = Whole::new(spec.classes);
        }
        let parts = partway_datasets::partition_for(&config, &dataset.train)
            .map_err(|source| ExperimentError::Partition { file: file.clone(), source })?;
        let experiment = Self { cost: ModelCost::of(&spec), config, spec, dataset, parts, devices, traces };
        // Depths are checked there; no profile changes that.
        experiment.settings(DeviceProfile::default())?;
        Ok(experiment)
    }

    /// The weights of `model.init`, if training starts from given ones.
    pub(crate) fn initial_weights(&self) -> Result<Option<LayerState>, ConfigError> {
        let Some(path) = &self.config.model.init else { return Ok(None) };
        let weights = model_file::load(path, &self.spec);
        weights.map(Some).map_err(|error| self.config.refuse_path("model.init", path, error.to_string()))
    }

    /// What a coordinator on a machine with this profile would be told.
    pub(crate) fn settings(&self, cloud_profile: DeviceProfile) -> Result<Settings, ConfigError> {
        Settings::from_config(&self.config, self.spec.clone(), 0, cloud_profile)
    }

    /// Refuses edges whose memory holds no part of the model, unless the others are a quorum. A plan says of each what
    /// it lacks; a run would find out when it has begun.
    pub(crate) fn check_memory(&self) -> Result<(), ConfigError> {
        let settings = self.settings(DeviceProfile::default())?;
        let (least, batch) = (*settings.depth.start(), u64::from(settings.batch_size));
        let needed = self.cost.edge_memory_bytes(least, settings.tail, batch, settings.moments() as u64);
        self.config.check_edge_memory(&self.spec, needed)
    }

    /// Samples per step.
    pub(crate) fn batch(&self) -> usize {
        self.config.training.batch_size.get()
    }
}

/// Reads a configuration; its path stands in messages as it was given.
pub(crate) fn read_config(file: &Path, sets: &[String]) -> Result<Config, ExperimentError> {
    let failed = |source| ExperimentError::Read { file: file.to_owned(), source };
    let Some(text) = read_limited(file, MAX_CONFIG_BYTES).map_err(failed)? else {
        return Err(ExperimentError::TooLong { file: file.to_owned() });
    };
    Ok(Config::parse(&text, &file.display().to_string(), sets)?)
}

/// Reads a model file.
pub(crate) fn read_model(file: &Path) -> io::Result<String> {
    read_limited(file, MAX_CONFIG_BYTES)?.ok_or_else(|| {
        io::Error::other(format!("it is longer than {MAX_CONFIG_BYTES} bytes: give a TOML file of layers"))
    })
}

/// Reads a link's or a device's file.
fn read_text(file: &Path) -> io::Result<String> {
    let too_long =
        || io::Error::other(format!("it is longer than {MAX_CONFIG_BYTES} bytes: give a TOML file"));
    read_limited(file, MAX_CONFIG_BYTES)?.ok_or_else(too_long)
}

/// Reads a trace.
pub(crate) fn read_trace(file: &Path) -> io::Result<String> {
    let too_long = || io::Error::other(format!("it is longer than {MAX_TRACE_BYTES} bytes: give a CSV file"));
    read_limited(file, MAX_TRACE_BYTES)?.ok_or_else(too_long)
}

/// The file's text, unless it is longer than `most` bytes.
fn read_limited(file: &Path, most: u64) -> io::Result<Option<String>> {
    let mut text = String::new();
    File::open(file)?.take(most + 1).read_to_string(&mut text)?;
    Ok(Some(text).filter(|text| text.len() as u64 <= most))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Two edges and a perceptron on generated samples.
    pub(crate) const SMALL: &str = r#"
        name = "small"
        [model]
        arch = "mlp"
        [data]
        dataset = "synthetic"
        synthetic = { shape = [1, 8, 8], classes = 4, train_samples = 200, test_samples = 20 }
        [[edge]]
        name = "camera"
        count = 2
    "#;

    /// The experiment that `text` describes.
    pub(crate) fn load(text: &str, sets: &[&str]) -> Result<Experiment, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("x.toml");
        std::fs::write(&config, text).expect("written");
        let sets = sets.iter().map(|set| (*set).to_owned()).collect();
        Experiment::load(&ExperimentArgs { config, sets }).map_err(|error| error.to_string())
    }

    #[test]
    fn the_parts_of_a_small_experiment_fit() {
        let experiment = load(SMALL, &[]).expect("it is right");
        assert_eq!(experiment.spec.input, [1, 8, 8]);
        assert_eq!(
            experiment.parts.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            ["camera-0", "camera-1"]
        );
        assert_eq!(experiment.parts.iter().map(|(_, part)| part.len()).sum::<usize>(), 200);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let wrong = |sets: &[&str]| load(SMALL, sets).expect_err("it is wrong");
        assert!(wrong(&["edge.camera.speed=0"]).starts_with("--set edge.camera.speed=0: "));
        assert!(wrong(&["data.min_samples=500"]).contains("x.toml: cannot spread the samples"));
        assert!(wrong(&["plan.max_depth=99"]).contains("plan.max_depth"));
        let edgeless = &SMALL[..SMALL.find("[[edge]]").expect("it has edges")];
        let error = load(edgeless, &["fleet.min_edges=2"]).expect_err("nobody to run it with");
        assert!(
            error.contains("x.toml: it describes no edges, so that it is for `partway-cloud serve`"),
            "{error}"
        );
        assert!(load(&SMALL.replace("synthetic\"", "mnist\"\n path = \"no/such\""), &[]).is_err());
        let absent = ExperimentArgs { config: "no/such.toml".into(), sets: vec![] };
        let error = Experiment::load(&absent).expect_err("there is no file").to_string();
        assert!(error.starts_with("cannot read the configuration `no/such.toml`"), "{error}");
    }

    #[test]
    fn a_model_file_is_read_and_its_mistakes_are_said() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("perceptron.toml");
        let layers = |last: &str| {
            let hidden = "[[layer]]\nkind = \"linear\"\nout = 6\n";
            format!("[[layer]]\nkind = \"flatten\"\n{hidden}[[layer]]\nkind = \"linear\"\nout = {last}\n")
        };
        std::fs::write(&file, layers("\"classes\"")).expect("written");
        let text = SMALL.replace("arch = \"mlp\"", &format!("file = \"{}\"", file.display()));
        let experiment = load(&text, &["model.freeze=1"]).expect("it is right");
        assert_eq!((experiment.spec.name.as_str(), experiment.spec.classes), ("perceptron", 4));
        assert_eq!((experiment.spec.len(), experiment.spec.frozen), (3, 1));

        let error = load(&text, &["model.freeze=3"]).expect_err("nothing is left to train");
        assert!(error.contains("`model.freeze = 3` is not allowed; allowed: at most 2: layer 2"), "{error}");
        std::fs::write(&file, layers("5")).expect("written");
        let error = load(&text, &[]).expect_err("five logits for four classes");
        assert!(error.starts_with(&format!("{}:7: `layer[2].kind", file.display())), "{error}");
        let error = load(&text, &["model.file=no/such.toml"]).expect_err("there is no file");
        assert!(error.starts_with("--set model.file=no/such.toml: `model.file = "), "{error}");
        let error = load(&text, &["model.file=/dev/zero"]).expect_err("not a model");
        assert!(error.contains("is longer than"), "{error}");
    }

    #[test]
    fn initial_weights_must_be_the_models() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let set = format!("model.init={}/model.safetensors", folder.path().display());
        let experiment = load(SMALL, &[&set]).expect("the weights are not read yet");
        assert!(experiment.initial_weights().is_err_and(|error| error.to_string().contains("cannot read")));

        let weights = LayerState::initial(&experiment.spec, 0..6, 0, 3);
        model_file::write(folder.path(), &experiment.spec, &weights, 1).expect("written");
        assert_eq!(experiment.initial_weights(), Ok(Some(weights)));
        let wider = "data.synthetic={ shape = [1, 8, 9], classes = 4, train_samples = 200 }";
        let error =
            load(SMALL, &[&set, wider]).expect("a model").initial_weights().expect_err("another shape");
        assert!(error.to_string().contains("tensor `layers.1.weight` is F32 of shape [128, 64]"), "{error}");
        assert_eq!(load(SMALL, &[]).expect("it is right").initial_weights(), Ok(None));
    }

    #[test]
    fn an_endless_configuration_is_not_read() {
        let args = ExperimentArgs { config: "/dev/zero".into(), sets: vec![] };
        let error = Experiment::load(&args).expect_err("not a configuration").to_string();
        assert!(error.contains("is longer than"), "{error}");
    }
}
