//! What a coordinator is started with, and why it could not start.

use std::net::SocketAddr;
use std::path::PathBuf;

use partway_core::config::{Config, ConfigError};
use partway_core::model::{LayerState, ModelSpec};
use partway_core::profile::DeviceProfile;
use partway_datasets::Samples;
use partway_model::ComputeError;
use partway_net::{BindError, ServerIdentity};
use thiserror::Error;

use crate::outputs::OutputsError;

/// What a coordinator needs.
#[derive(Debug)]
pub struct ServeOptions {
    /// The experiment.
    pub config: Config,
    /// The model.
    pub spec: ModelSpec,
    /// The weights to start from, if not random ones. A checkpoint takes their place.
    pub init: Option<LayerState>,
    /// What accuracy is measured on; none if the edges measure it, on what they hold out.
    pub test: Option<Samples>,
    /// Seconds per layer kind of one worker.
    pub profile: DeviceProfile,
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// Where to listen for data connections, if edges may have some; port 0 lets the system choose.
    pub listen_data: Option<SocketAddr>,
    /// Certificate and key.
    pub identity: ServerIdentity,
    /// The folder for everything that the run leaves behind.
    pub out: PathBuf,
    /// Whether to continue from the newest checkpoint in `out`.
    pub resume: bool,
}

/// The coordinator could not start, or lost its own disk or threads.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The configuration does not fit the model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// It cannot listen.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The workers cannot be started.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// The run's outputs cannot be read or written.
    #[error(transparent)]
    Outputs(#[from] OutputsError),
}
