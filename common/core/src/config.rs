//! The configuration: one TOML file, with overrides from the command line, is one reproducible
//! experiment.
//!
//! ```
//! use partway_core::config::Config;
//! let text = r#"
//!     name = "quickstart"
//!     [model]
//!     arch = "lenet5"
//!     [data]
//!     dataset = "mnist"
//!     [[edge]]
//!     name = "camera"
//!     count = 2
//! "#;
//! let config = Config::parse(text, "quickstart.toml", &["training.batch_size=32".into()])?;
//! assert_eq!(config.training.batch_size.get(), 32);
//! assert_eq!(config.edges()[1].name.as_str(), "camera-1");
//!
//! let wrong = Config::parse(text, "quickstart.toml", &["edge.camera.speed=0".into()]);
//! assert_eq!(
//!     wrong.unwrap_err().to_string(),
//!     "--set edge.camera.speed=0: `edge[0].speed = 0` (edge `camera`) is not allowed; \
//!      allowed: a number above 0 and at most 64",
//! );
//! # Ok::<(), partway_core::config::ConfigError>(())
//! ```

mod check;
mod cloud;
mod codec;
mod cpus;
mod data;
mod device_file;
mod difference;
mod document;
mod edge;
mod error;
mod evaluation;
mod files;
mod fleet;
mod label;
mod link_file;
mod link_trace;
mod memory;
mod micro_batches;
mod model;
mod model_file;
mod number;
mod optimizer;
mod partition;
mod plan;
mod reader;
mod resolve;
mod setting;
mod support;
#[cfg(test)]
mod tests;
mod text;
mod training;
mod units;
mod wire;

use std::path::PathBuf;

use toml::Table;

pub use self::{
    cloud::{CloudConfig, DeviceKind},
    cpus::CpuList,
    data::{DataConfig, Dataset, EvaluateAt, StandardizeMethod, SyntheticConfig},
    device_file::DeviceFile,
    difference::first_difference,
    edge::{Delay, EdgeConfig, Outage, Slowdown},
    error::{ConfigError, Fault, Place, Problem},
    fleet::{FleetConfig, is_quorum},
    label::{ClassNames, Column},
    link_file::LinkFile,
    link_trace::{LinkTrace, TraceError, TraceStep},
    model::{ImageSize, ModelConfig, ModelSource, SampleShape},
    model_file::ModelFit,
    number::{
        AtLeastOne, Factor, Fraction, Margin, Mbps, NonNegativeF32, NonNegativeF64, PositiveF32, PositiveF64,
        Probability, Share, Speed, Whole,
    },
    partition::Partition,
    plan::{Deadline, Depth, FixedCut, Objective, OnStraggler, PlanConfig, Replan},
    setting::Name,
    text::Text,
    training::{AggregateMoments, Algorithm, LabelsAt, TrainingConfig},
    units::{ByteSize, Time},
    wire::{Congestion, WireConfig},
};
use self::{
    document::Origin,
    reader::{Reader, put},
    setting::{Faults, Setting, named},
};

/// What is held out of data without a test set, if nothing is said.
const DEFAULT_TEST_SHARE: f64 = 0.2;

/// What every edge holds out to evaluate on, if nothing is said.
const DEFAULT_HOLDOUT: f64 = 0.1;

/// One experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What it is called, which is also the name of its folder of results. Required. Example:
    /// `name = "quickstart"`.
    pub name: Name,
    /// Where all randomness comes from, from 0 to 2^63 - 1. Default 42. Example: `seed = 7`.
    pub seed: u64,
    /// What passes the time. Default `"wall"`. Example: `clock = "virtual"`.
    pub clock: Clock,
    /// `[model]`: what is trained.
    pub model: ModelConfig,
    /// `[data]`: what it is trained on.
    pub data: DataConfig,
    /// `[training]`: the algorithm and its numbers.
    pub training: TrainingConfig,
    /// `[fleet]`: who must be there, and what is kept for a restart.
    pub fleet: FleetConfig,
    /// `[plan]`: where the cuts may be and what they are chosen for.
    pub plan: PlanConfig,
    /// `[wire]`: how a step's tensors travel.
    pub wire: WireConfig,
    /// `[cloud]`: the machine of the server-side models.
    pub cloud: CloudConfig,
    /// `[[edge]]`: the devices as described; [`Config::edges`] has one entry for each.
    pub edge: Vec<EdgeConfig>,
    origin: Origin,
}

named! {
    /// What passes the time.
    pub enum Clock {
        /// Real processes on real clocks.
        Wall = "wall",
        /// One process on a virtual clock; durations come from device profiles and modelled links.
        Virtual = "virtual",
    }
}

impl Config {
    /// The experiment that `text` describes, with `sets` applied to it; `file` is its name in messages.
    ///
    /// Each of `sets` is `KEY=VALUE` with a dotted key, such as `training.algorithm=fedavg`; an edge is
    /// named by its number or its name, such as `edge.camera.speed=0.5`. A value that is not TOML is
    /// taken as text.
    ///
    /// # Errors
    /// All keys that are unknown, have the wrong type or are out of range; if there are none, all
    /// contradictions; if there are none, everything that this version cannot do yet.
    pub fn parse(text: &str, file: &str, sets: &[String]) -> Result<Self, ConfigError> {
        let config = Self::read(text, file, sets)?;
        config.origin.check(support::refusals(&config))?;
        Ok(config)
    }

    /// As [`Config::parse`], with what this version cannot do yet.
    fn read(text: &str, file: &str, sets: &[String]) -> Result<Self, ConfigError> {
        let (mut table, origin) = document::load(text, file, sets)?;
        model::keep_the_source_that_is_set(&mut table, &origin);
        let mut faults = Faults::new();
        let mut config = match Self::read_table(&table, origin.clone(), &mut faults) {
            Some(config) if faults.is_empty() => config,
            _ => return Err(origin.error(faults)),
        };
        config.resolve_defaults(&table, &mut faults);
        faults.extend(check::contradictions(&config));
        origin.check(faults)?;
        Ok(config)
    }

    fn read_table(table: &Table, origin: Origin, faults: &mut Faults) -> Option<Self> {
        let mut reader = Reader::new(table, "", faults);
        // All fields are read before any is missed, so that every problem is found.
        let name = reader.field("name", None);
        let seed = reader.field("seed", Some(42));
        let clock = reader.field("clock", Some(Clock::Wall));
        let model = reader.field("model", None);
        let data = reader.field("data", None);
        let training = reader.field("training", None);
        let fleet = reader.field("fleet", None);
        let plan = reader.field("plan", None);
        let wire = reader.field("wire", None);
        let cloud = reader.field("cloud", None);
        let edge = reader.field("edge", None);
        reader.finish();
        Some(Self {
            name: name?,
            seed: seed?,
            clock: clock?,
            model: model?,
            data: data?,
            training: training?,
            fleet: fleet?,
            plan: plan?,
            wire: wire?,
            cloud: cloud?,
            edge: edge?,
            origin,
        })
    }

    /// Sets the defaults that depend on other keys.
    fn resolve_defaults(&mut self, table: &Table, faults: &mut Faults) {
        let given = |section: &str, key: &str| table.get(section).is_some_and(|it| it.get(key).is_some());
        let own = self.data.dataset.is_own();
        if !given("data", "path") && !own && self.data.dataset != Dataset::Synthetic {
            self.data.path = Some(PathBuf::from(format!("datasets/{}", self.data.dataset)));
        }
        if own
            && self.data.evaluate == EvaluateAt::Cloud
            && self.data.test_path.is_none()
            && self.data.test_share.is_none()
        {
            self.data.test_share = Fraction::new(DEFAULT_TEST_SHARE);
        }
        if !given("data", "synthetic") && self.data.dataset == Dataset::Synthetic {
            self.data.synthetic = SyntheticConfig::absent("data.synthetic", faults);
        }
        if !given("data", "holdout") && self.data.evaluate == EvaluateAt::Edges {
            self.data.holdout = Fraction::new(DEFAULT_HOLDOUT);
        }
        if !given("fleet", "checkpoint_every") {
            self.fleet.checkpoint_every = self.training.aggregate_every;
        }
        if !given("fleet", "min_edges") {
            if let Some(all) = AtLeastOne::new(self.edge_count()) {
                self.fleet.min_edges = all;
            } else {
                let allowed = "the number of edges to wait for, as no `[[edge]]` is described".into();
                faults.push(("fleet.min_edges".into(), Fault::Missing { allowed }));
            }
        }
        if !given("plan", "min_depth") && self.plan.fixed_cut == Some(FixedCut::At(0)) {
            self.plan.min_depth = number::literal(Depth::new(0));
        }
    }

    /// The least and the largest cut that a plan may choose for a model of `layers` layers, of which those
    /// from `tail` on stay on the edge with the labels: L for `fedavg`, 0 for `centralized`, the fixed cut
    /// if there is one.
    ///
    /// # Errors
    /// A depth or a fixed cut beyond the model or the tail, or one that leaves the cloud no layer without
    /// `plan.allow_local`.
    pub fn check_depth(&self, layers: usize, tail: Option<usize>) -> Result<(usize, usize), ConfigError> {
        check::depths(self, layers, tail).map_err(|fault| self.origin.error(vec![fault]))
    }

    /// Every edge with its full name and a count of 1, in the order of the names.
    pub fn edges(&self) -> Vec<EdgeConfig> {
        let mut edges: Vec<_> = self.edge.iter().flat_map(EdgeConfig::expanded).collect();
        edges.sort_by(|a, b| a.name.cmp(&b.name));
        edges
    }

    /// How many edges there are.
    pub fn edge_count(&self) -> usize {
        self.edge.iter().map(|edge| edge.count.get()).sum()
    }

    /// The configuration with every default written out; it parses to the same.
    pub fn to_toml(&self) -> String {
        self.to_table().to_string()
    }

    fn to_table(&self) -> Table {
        let mut table = Table::new();
        put(&mut table, "name", &self.name);
        put(&mut table, "seed", &self.seed);
        put(&mut table, "clock", &self.clock);
        put(&mut table, "model", &self.model);
        put(&mut table, "data", &self.data);
        put(&mut table, "training", &self.training);
        put(&mut table, "fleet", &self.fleet);
        put(&mut table, "plan", &self.plan);
        put(&mut table, "wire", &self.wire);
        put(&mut table, "cloud", &self.cloud);
        put(&mut table, "edge", &self.edge);
        table
    }
}
