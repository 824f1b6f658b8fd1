//! A run's folder: claimed, emptied of the run before, filled with what the processes read.

mod error;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::Path;

use partway_cloud::{checkpoint, model_file};
use partway_core::config::first_difference;
use partway_core::model::LayerState;
use partway_core::profile::DeviceProfile;
use partway_datasets::shard;
use partway_net::Authority;

pub(crate) use self::error::FolderError;
use super::inputs::Inputs;
use super::layout::Layout;
use crate::calibration::Measured;
use crate::experiment::Experiment;
use crate::outputs::Outputs;

/// Names under which edges reach the coordinator; the first is the one that they check.
pub(crate) const SERVER_NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

const MARKER: &str = "The outputs of an experiment, written by partway; the next run here replaces them.\n";

/// A folder that this run, and no other, writes to.
#[derive(Debug)]
pub(crate) struct RunFolder {
    pub(crate) layout: Layout,
    /// Whether a run was there that could have been resumed, and is gone.
    pub(crate) replaced_unfinished: bool,
    /// Locked until it is closed.
    _marker: File,
}

impl RunFolder {
    /// Claims `root` for a run of the configuration `config`, as TOML: for a fresh one that replaces what
    /// is there, or to resume the one that is there.
    pub(crate) fn claim(root: &Path, config: &str, resume: bool) -> Result<Self, FolderError> {
        let layout = Layout::new(root);
        let is_run = layout.marker().is_file();
        if resume && !is_run {
            return Err(FolderError::NothingToResume { folder: root.to_owned(), missing: "previous run" });
        }
        fs::create_dir_all(root).map_err(io_error("make", root))?;
        if !is_run && !is_empty(root)? {
            return Err(FolderError::Foreign { folder: root.to_owned() });
        }
        let marker = lock(&layout)?;
        let replaced_unfinished = !resume && checkpoint::exists(root) && !is_finished(root);
        if resume {
            check_resumable(&layout, config)?;
        } else {
            for output in Layout::OUTPUTS {
                remove(&root.join(output))?;
            }
        }
        Ok(Self { layout, replaced_unfinished, _marker: marker })
    }

    /// Refuses to go on with other samples or files than the run began with. One that an earlier version began does
    /// not say with which.
    pub(crate) fn check_inputs(&self, inputs: &Inputs) -> Result<(), FolderError> {
        let path = self.layout.inputs();
        let before = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            read => read.map_err(io_error("read", &path))?,
        };
        let differs = inputs.first_difference(&before).map_err(|error| {
            io_error("understand", &path)(io::Error::new(io::ErrorKind::InvalidData, error))
        })?;
        match differs {
            None => Ok(()),
            Some(what) => {
                Err(FolderError::OtherInputs { folder: self.layout.root().to_owned(), what: what.to_owned() })
            }
        }
    }

    /// Writes what the run is: its configuration, the names of its classes, and what it is made from.
    pub(crate) fn describe(&self, experiment: &Experiment, inputs: &Inputs) -> Result<(), FolderError> {
        write(&self.layout.inputs(), &inputs.to_toml())?;
        write(&self.layout.config(), &experiment.config.to_toml())?;
        let names = experiment.dataset.train.class_names();
        if !names.is_empty() {
            write(&self.layout.class_names(), &(names.join("\n") + "\n"))?;
        }
        Ok(())
    }

    /// Writes everything else that the processes read. A run that is resumed keeps the edges' states.
    pub(crate) fn fill(
        &self,
        experiment: &Experiment,
        init: Option<&LayerState>,
        profiles: &[(Measured, DeviceProfile)],
    ) -> Result<(), FolderError> {
        let layout = &self.layout;
        for (measured, profile) in profiles {
            let path = layout.calibration(*measured);
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(io_error("make", folder))?;
            }
            let calibration = toml::to_string(profile).map_err(|error| FolderError::Calibration {
                path: path.clone(),
                reason: error.to_string(),
            })?;
            write(&path, &calibration)?;
        }
        for folder in [layout.tls(), layout.logs(), layout.cloud()] {
            fs::create_dir_all(&folder).map_err(io_error("make", &folder))?;
        }
        let authority = Authority::generate()?;
        authority.save(&layout.authority())?;
        authority.issue(&SERVER_NAMES.map(str::to_owned))?.save(&layout.certificate(), &layout.key())?;
        if let Some(test) = &experiment.dataset.test {
            shard::write(&layout.test_set(), test)?;
        }
        write(&layout.layers(), &experiment.spec.to_toml())?;
        if let Some(init) = init {
            model_file::write_weights(&layout.initial_weights(), &experiment.spec, init, 0)?;
        }
        for (edge, part) in &experiment.parts {
            shard::write(&layout.shard(edge), &experiment.dataset.train.take(part))?;
            let state = layout.state(edge);
            fs::create_dir_all(&state).map_err(io_error("make", &state))?;
        }
        Ok(())
    }

    /// Whether a run could be resumed from what is there now.
    pub(crate) fn is_resumable(&self) -> bool {
        checkpoint::exists(self.layout.root())
    }
}

/// The profile of a device that [`RunFolder::fill`] wrote.
pub(crate) fn read_calibration(layout: &Layout, measured: Measured) -> Result<DeviceProfile, FolderError> {
    let path = layout.calibration(measured);
    let text = fs::read_to_string(&path).map_err(io_error("read", &path))?;
    toml::from_str(&text).map_err(|error| FolderError::Calibration { path, reason: error.to_string() })
}

fn lock(layout: &Layout) -> Result<File, FolderError> {
    let path = layout.marker();
    let mut marker = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(io_error("write", &path))?;
    match marker.try_lock() {
        Err(TryLockError::WouldBlock) => {
            return Err(FolderError::Busy { folder: layout.root().to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
        Ok(()) => {}
    }
    marker.write_all(MARKER.as_bytes()).map_err(io_error("write", &path))?;
    Ok(marker)
}

fn check_resumable(layout: &Layout, config: &str) -> Result<(), FolderError> {
    let folder = || layout.root().to_owned();
    if is_finished(layout.root()) {
        return Err(FolderError::Finished { folder: folder() });
    }
    let path = layout.config();
    let before = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(FolderError::NothingToResume { folder: folder(), missing: "config.toml" });
        }
        read => read.map_err(io_error("read", &path))?,
    };
    if let Some((before, now)) = first_difference(&before, config) {
        return Err(FolderError::OtherExperiment { folder: folder(), before, now });
    }
    if !checkpoint::exists(layout.root()) {
        return Err(FolderError::NothingToResume { folder: folder(), missing: "checkpoint" });
    }
    Ok(())
}

/// Whether the run there came to its end; what cannot be read did not.
fn is_finished(root: &Path) -> bool {
    let summary = Outputs::open(root).and_then(|outputs| outputs.summary());
    summary.ok().flatten().is_some_and(|summary| summary.weights_sha256.is_some())
}

fn is_empty(folder: &Path) -> Result<bool, FolderError> {
    Ok(fs::read_dir(folder).map_err(io_error("read", folder))?.next().is_none())
}

fn remove(path: &Path) -> Result<(), FolderError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(io_error("remove", path))
}

fn write(path: &Path, text: &str) -> Result<(), FolderError> {
    fs::write(path, text).map_err(io_error("write", path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    move |source| FolderError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "name = \"x\"\nseed = 42\n";

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn touch(path: &Path) {
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("made");
        fs::write(path, CONFIG).expect("written");
    }

    #[test]
    fn only_a_previous_runs_folder_is_reused_and_only_its_outputs_replaced() {
        let folder = folder();
        touch(&folder.path().join("config.toml"));
        let error = RunFolder::claim(folder.path(), CONFIG, false).expect_err("somebody's file is there");
        assert!(matches!(error, FolderError::Foreign { .. }), "{error}");
        assert!(folder.path().join("config.toml").exists());

        let run = folder.path().join("new/run");
        drop(RunFolder::claim(&run, CONFIG, false).expect("a new folder"));
        let kept = ["notes.txt", "edges.txt"];
        kept.into_iter().chain(["config.toml", "edges/a/state/x"]).for_each(|file| touch(&run.join(file)));
        drop(RunFolder::claim(&run, CONFIG, false).expect("a previous run's folder"));
        assert!(kept.iter().all(|file| run.join(file).exists()));
        assert!(!run.join("config.toml").exists() && !run.join("edges").exists());
    }

    #[test]
    fn two_runs_cannot_share_a_folder() {
        let folder = folder();
        let first = RunFolder::claim(folder.path(), CONFIG, false).expect("an empty folder");
        let error = RunFolder::claim(folder.path(), CONFIG, false).expect_err("it is taken");
        assert!(matches!(error, FolderError::Busy { .. }), "{error}");
        drop(first);
        drop(RunFolder::claim(folder.path(), CONFIG, false).expect("it is free again"));
    }

    #[test]
    fn a_run_is_resumed_with_its_own_configuration_from_its_checkpoint() {
        let folder = folder();
        let resume = |config| RunFolder::claim(folder.path(), config, true).map_err(|e| e.to_string());
        assert!(resume(CONFIG).expect_err("never run").contains("no previous run"));
        drop(RunFolder::claim(folder.path(), CONFIG, false).expect("an empty folder"));
        assert!(resume(CONFIG).expect_err("stopped at once").contains("no config.toml"));
        touch(&folder.path().join("config.toml"));
        assert!(resume(CONFIG).expect_err("stopped early").contains("no checkpoint"));
        touch(&folder.path().join("checkpoint/round-000005.ckpt"));
        touch(&folder.path().join("edges/a/state/x"));
        let error = resume("name = \"x\"\nseed = 43\n").expect_err("another experiment");
        assert!(error.contains("it has `seed = 42` where this one has `seed = 43`"), "{error}");
        assert!(resume(CONFIG).expect("it can be").is_resumable());
        assert!(folder.path().join("edges/a/state/x").exists());
    }

    #[test]
    fn a_finished_run_is_not_resumed() {
        use partway_cloud::record::{RunFacts, SummaryBuilder};
        let folder = folder();
        drop(RunFolder::claim(folder.path(), CONFIG, false).expect("an empty folder"));
        touch(&folder.path().join("config.toml"));
        touch(&folder.path().join("checkpoint/round-000005.ckpt"));
        let facts = RunFacts {
            name: "x".into(),
            clock: partway_core::config::Clock::Wall,
            seed: 42,
            batch_size: 8,
            topology: partway_core::coordinator::Topology::ReplicaPerEdge,
        };
        let mut summary = SummaryBuilder::new(facts).build();
        let path = folder.path().join("summary.json");
        let mut resume = |weights: Option<&str>| {
            summary.weights_sha256 = weights.map(str::to_owned);
            fs::write(&path, serde_json::to_vec(&summary).expect("it is JSON")).expect("written");
            RunFolder::claim(folder.path(), CONFIG, true).map(drop)
        };
        let error = resume(Some("0")).expect_err("it has its weights");
        assert!(matches!(error, FolderError::Finished { .. }), "{error}");
        resume(None).expect("it has a checkpoint and no weights");
    }

    #[test]
    fn what_is_replaced_is_known_if_it_could_have_been_resumed() {
        let folder = folder();
        let claim = || RunFolder::claim(folder.path(), CONFIG, false).expect("it is free");
        assert!(!claim().replaced_unfinished, "nothing was there");
        touch(&folder.path().join("config.toml"));
        touch(&folder.path().join("checkpoint/round-000005.ckpt.tmp"));
        assert!(!claim().replaced_unfinished, "stopped before the first checkpoint was whole");
        touch(&folder.path().join("checkpoint/round-000005.ckpt"));
        assert!(claim().replaced_unfinished);
        assert!(!claim().replaced_unfinished, "it is gone");
    }
}
