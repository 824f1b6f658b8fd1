//! An experiment into everything that a run under the virtual clock consists of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use partway_cloud::global_model::Evaluator;
use partway_cloud::replica::Blueprint;
use partway_core::config::{ByteSize, Config, ConfigError, DeviceFile, LabelsAt, LinkTrace};
use partway_core::coordinator::{Checkpoint, Coordinator, Settings};
use partway_core::model::ModelSpec;
use partway_core::participant::Participant;
use partway_core::profile::{DeviceProfile, ProfileError};
use partway_core::random::{self, Stream};
use partway_datasets::Samples;
use partway_edge::{TapeBudget, Worker, training_request};
use partway_model::{Compute, ComputeError};
use thiserror::Error;

use super::cloud::Cloud;
use super::crew::Crew;
use super::device::Device;
use super::edge::{Computing, Edge};
use super::link::Link;
use super::world::World;
use crate::calibration::batch_sizes;
use crate::experiment::Experiment;

/// What forward passes that wait for their gradients may hold, over all edges.
const TAPES: u64 = 256 << 20;

/// A fleet that cannot be set up.
#[derive(Debug, Error)]
pub(super) enum SetupError {
    /// The configuration does not fit the model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A profile's times make no calibration.
    #[error("the device of {of} cannot be calibrated: {source}")]
    Calibration {
        /// The cloud, or the edge.
        of: String,
        /// Why.
        source: ProfileError,
    },
    /// No thread can be had.
    #[error(transparent)]
    Compute(#[from] ComputeError),
}

/// The parts of a fleet.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) settings: Settings,
    /// Each edge's samples, in name order.
    pub(super) parts: Vec<(String, Arc<Samples>)>,
    test: Option<Arc<Samples>>,
    cloud: Device,
    /// By the path of the profile.
    devices: BTreeMap<PathBuf, Arc<Device>>,
    traces: BTreeMap<PathBuf, Arc<LinkTrace>>,
    crew: Crew,
}

impl Setup {
    pub(super) fn new(experiment: Experiment, threads: usize) -> Result<Self, SetupError> {
        let uncalibrated = experiment.settings(DeviceProfile::default())?;
        let batch = uncalibrated.batch_size;
        let moments = uncalibrated.moments();
        let Experiment { config, spec, dataset, parts, devices, traces, .. } = experiment;
        let in_flight = uncalibrated.in_flight;
        let device = |file: &DeviceFile| Device::new(file, &spec, batch, in_flight, moments);
        let devices: BTreeMap<PathBuf, Arc<Device>> =
            devices.iter().map(|(path, file)| (path.clone(), Arc::new(device(file)))).collect();
        let cloud = of(config.cloud.profile.as_ref(), &devices, "cloud")?;
        let random = &mut random::stream(config.seed, &["virtual calibration", "cloud"]);
        let profile = calibrated(&cloud, &spec, batch as usize, moments, random)
            .map_err(|source| SetupError::Calibration { of: "the cloud".into(), source })?;
        let session = random::below(&mut random::stream(config.seed, &["virtual session"]), u64::MAX);
        let settings = Settings { session, cloud_profile: profile, ..uncalibrated };
        // Together the shards are one copy of the data, and the original goes.
        let parts = parts
            .iter()
            .map(|(name, indices)| (name.clone(), Arc::new(dataset.train.take(indices))))
            .collect();
        let test = dataset.test.map(Arc::new);
        let cloud = Device::clone(&cloud);
        Ok(Self { settings, parts, test, cloud, devices, traces, crew: Crew::start(threads)?, config })
    }

    /// Everything, ready to run from a checkpoint or from the seed's random model.
    pub(super) fn world(self, checkpoint: Option<Checkpoint>) -> Result<World, SetupError> {
        let Self { config, settings, parts, test, cloud, devices, traces, crew } = self;
        let spec = Arc::new(settings.spec.clone());
        let edges = config.edges();
        // They compute on the threads that they are moved to.
        let compute = Compute::cpu(1)?;
        let tapes = TapeBudget::new(TAPES);
        let mut fleet = Vec::with_capacity(parts.len());
        for (name, shard) in parts {
            let Some(described) = edges.iter().find(|edge| edge.name.as_str() == name) else { continue };
            let device = of(described.profile.as_ref(), &devices, &name)?;
            let device = Device::at_speed(device, described.speed.get());
            let random = &mut random::stream(config.seed, &["virtual calibration", &name]);
            let profile =
                calibrated(&device, &spec, settings.batch_size as usize, settings.moments(), random)
                    .map_err(|source| SetupError::Calibration { of: format!("edge `{name}`"), source })?;
            // It says nothing of its emulated link.
            let request =
                training_request(&name, &shard, profile, described.memory.map(ByteSize::bytes), None);
            let patience = config.fleet.rejoin_window.max(config.fleet.gather_timeout);
            let participant = Participant::new(std::time::Duration::ZERO, request, None, patience)
                .with_raw_data(config.data.allow_raw_data)
                .with_labels_kept(config.training.labels == LabelsAt::Edge);
            let trace = described.trace.as_ref().and_then(|path| traces.get(path));
            let most = config.cloud.capacity_mbps.get();
            let silence = config.fleet.idle_timeout.get();
            let link = Link::new(described, trace.map(Arc::as_ref), most, silence, config.seed);
            let computing = Computing {
                device,
                slow: described.slow.clone(),
                random: random::stream(config.seed, &["virtual computing", &name]),
                spec: spec.clone(),
                tail: settings.tail,
                held_out: settings.held_out(shard.len() as u64) as usize,
                batch: settings.batch_size as usize,
            };
            let worker = Worker::in_memory(name.clone(), shard, compute.clone(), tapes.clone());
            fleet.push(Edge::new(name, participant, worker, link, described.rtt.get(), computing));
        }
        let blueprint = Blueprint {
            spec: spec.clone(),
            optimizer: settings.optimizer,
            seed: settings.seed,
            batch_size: settings.batch_size as usize,
        };
        let optimizer = settings.optimizer;
        let evaluator = test.map(|test| Evaluator { spec, optimizer, test, compute });
        let (workers, random) =
            (settings.workers, random::stream(config.seed, &["virtual computing", "cloud"]));
        let coordinator = Coordinator::new(std::time::Duration::ZERO, settings, checkpoint);
        let cloud = Cloud::new(coordinator, blueprint, cloud, random, workers, evaluator);
        Ok(World::new(cloud, fleet, config.fleet.idle_timeout.get(), crew))
    }
}

/// What a calibration of the device with the experiment's model finds.
fn calibrated(
    device: &Device,
    spec: &ModelSpec,
    batch: usize,
    moments: usize,
    random: &mut Stream,
) -> Result<DeviceProfile, ProfileError> {
    device.calibrate(spec, &batch_sizes(batch), moments, random)
}

/// The device of a profile that the configuration has made sure of.
fn of(
    path: Option<&PathBuf>,
    devices: &BTreeMap<PathBuf, Arc<Device>>,
    of: &str,
) -> Result<Arc<Device>, SetupError> {
    path.and_then(|path| devices.get(path))
        .cloned()
        .ok_or_else(|| SetupError::Calibration { of: of.to_owned(), source: ProfileError::Empty })
}
