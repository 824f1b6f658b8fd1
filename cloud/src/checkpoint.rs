//! What a coordinator continues from, as files: `checkpoint/round-000123.ckpt`.
//!
//! ```text
//! magic    8 bytes, "partway\0"
//! version  u32
//! length   u32, of the header
//! header   JSON: rounds, aggregations, optimizer_steps, moments, values, model, spec_sha256
//! values   f32 each: the global model with its optimizer moments, in canonical order
//! digest   32 bytes, SHA-256 of everything before
//! ```
//! Numbers are little-endian. The digest comes first when reading: what does not match it was cut
//! off or damaged, and the checkpoint before it is used; what matches it but is of another model,
//! optimizer or version is refused.

mod read;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use partway_core::coordinator::Checkpoint;
use partway_core::model::ModelSpec;
pub use read::{Latest, read_latest};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::atomic_file;
use crate::model_file::{hex, little_endian};

/// The folder of checkpoints in a run's folder.
pub const FOLDER: &str = "checkpoint";

/// The format that this release writes and reads.
pub const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"partway\0";
const DIGEST_BYTES: usize = 32;
/// Magic, version and the header's length.
const PREFIX_BYTES: usize = 16;
/// Values that are converted at once.
const CHUNK_VALUES: usize = 16 * 1024;

/// Why there is no checkpoint to be written or continued from.
#[derive(Debug, Error)]
pub enum CheckpointError {
    /// The file system refuses.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another release wrote it.
    #[error(
        "{} has checkpoint format {found}, this release reads format {VERSION}: resume with the release \
         that wrote it, or start without --resume",
        path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// It is of another model.
    #[error(
        "{} is of model `{found}`, which is not the configured model `{configured}` with its layers, input \
         and classes: restore [model], or start without --resume",
        path.display()
    )]
    OtherModel {
        /// The file.
        path: PathBuf,
        /// The name of its model.
        found: String,
        /// The name of the model asked for.
        configured: String,
    },
    /// It is of another optimizer.
    #[error(
        "{} has {found} optimizer moments per tensor, the configured optimizer has {configured}: restore \
         training.optimizer, or start without --resume",
        path.display()
    )]
    OtherOptimizer {
        /// The file.
        path: PathBuf,
        /// Its moments.
        found: usize,
        /// Moments of the optimizer asked for.
        configured: usize,
    },
}

/// What stands before the values.
#[derive(Serialize, Deserialize)]
struct Header {
    rounds: u32,
    aggregations: u32,
    optimizer_steps: u64,
    moments: usize,
    values: usize,
    model: String,
    spec_sha256: String,
}

/// Makes a checkpoint durable in the run's folder `dir` and keeps the newest `keep` (at least this one).
///
/// Checkpoints of later rounds belong to a course of training that was given up, and are removed.
///
/// # Errors
/// If it cannot be written; those before it are still there.
pub fn write(
    dir: &Path,
    checkpoint: &Checkpoint,
    keep: usize,
    spec: &ModelSpec,
) -> Result<(), CheckpointError> {
    let folder = dir.join(FOLDER);
    fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
    let path = folder.join(file_name(checkpoint.rounds));
    let state = &checkpoint.state;
    let header = Header {
        rounds: checkpoint.rounds,
        aggregations: checkpoint.aggregations,
        optimizer_steps: checkpoint.optimizer_steps,
        moments: state.moments,
        values: state.values.len(),
        model: spec.name.clone(),
        spec_sha256: spec_sha256(spec),
    };
    let written = atomic_file::replace(&path, |file| {
        let header = serde_json::to_vec(&header)?;
        let length = u32::try_from(header.len()).map_err(io::Error::other)?;
        let mut hasher = Sha256::new();
        let mut put = |bytes: &[u8]| {
            hasher.update(bytes);
            file.write_all(bytes)
        };
        put(&MAGIC)?;
        put(&VERSION.to_le_bytes())?;
        put(&length.to_le_bytes())?;
        put(&header)?;
        for chunk in state.values.chunks(CHUNK_VALUES) {
            put(&little_endian(chunk))?;
        }
        let digest = hasher.finalize();
        file.write_all(&digest)
    });
    written.map_err(io_error("write", &path))?;
    let all = list(&folder)?;
    let later = all.iter().filter(|(rounds, _)| *rounds > checkpoint.rounds);
    let earlier = all.iter().filter(|(rounds, _)| *rounds < checkpoint.rounds);
    for (_, path) in later.chain(earlier.skip(keep.saturating_sub(1))) {
        fs::remove_file(path).map_err(io_error("remove", path))?;
    }
    Ok(())
}

/// Removes the checkpoints of an earlier run from the run's folder `dir`: for a run that starts anew.
///
/// # Errors
/// If one cannot be removed.
pub fn clear(dir: &Path) -> Result<(), CheckpointError> {
    for (_, path) in list(&dir.join(FOLDER))? {
        fs::remove_file(&path).map_err(io_error("remove", &path))?;
    }
    Ok(())
}

/// Whether the run's folder `dir` has a checkpoint, as far as it can be read. A file that is not whole is none.
pub fn exists(dir: &Path) -> bool {
    list(&dir.join(FOLDER)).is_ok_and(|all| !all.is_empty())
}

/// The checkpoints in a folder with their rounds, newest first; none if there is no such folder.
fn list(folder: &Path) -> Result<Vec<(u32, PathBuf)>, CheckpointError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("read", folder)(error)),
    };
    let mut all = Vec::new();
    for entry in entries {
        let path = entry.map_err(io_error("read", folder))?.path();
        if let Some(rounds) = path.file_name().and_then(|name| rounds_in_name(name.to_str()?)) {
            all.push((rounds, path));
        }
    }
    all.sort_unstable_by(|a, b| b.cmp(a));
    Ok(all)
}

fn file_name(rounds: u32) -> String {
    format!("round-{rounds:06}.ckpt")
}

fn rounds_in_name(name: &str) -> Option<u32> {
    let rounds = name.strip_prefix("round-")?.strip_suffix(".ckpt")?.parse().ok()?;
    (file_name(rounds) == name).then_some(rounds)
}

/// Tells models apart: SHA-256 of the spec as JSON.
fn spec_sha256(spec: &ModelSpec) -> String {
    let json = serde_json::to_vec(spec).expect("a spec is plain data with text keys");
    hex(&Sha256::digest(json))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CheckpointError {
    move |source| CheckpointError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
