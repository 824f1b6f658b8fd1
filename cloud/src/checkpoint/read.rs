//! Finding and reading the newest whole checkpoint.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use partway_core::model::state::state_len;
use partway_core::model::{LayerState, ModelSpec};
use sha2::{Digest, Sha256};

use super::{
    CHUNK_VALUES, Checkpoint, CheckpointError, DIGEST_BYTES, FOLDER, Header, MAGIC, PREFIX_BYTES, VERSION,
    io_error, list, spec_sha256,
};

/// A header is a few hundred bytes and the model's name.
const MAX_HEADER_BYTES: usize = 1 << 20;

/// What a run can continue from.
#[derive(Debug, Default)]
pub struct Latest {
    /// The newest whole checkpoint; `None` if there is none.
    pub checkpoint: Option<Checkpoint>,
    /// A warning for each newer file that is damaged.
    pub skipped: Vec<String>,
}

/// Why one file is of no use.
enum Fault {
    /// It is not what was written; the one before may be.
    Damaged(String),
    /// It is whole, but not for this run.
    Refused(CheckpointError),
}

/// Reads the newest whole checkpoint of a model from the run's folder `dir`, where each trained tensor
/// has `moments` optimizer moments.
///
/// # Errors
/// If a file cannot be read, or the newest whole one is of another model, optimizer or format.
pub fn read_latest(dir: &Path, spec: &ModelSpec, moments: usize) -> Result<Latest, CheckpointError> {
    let mut latest = Latest::default();
    for (_, path) in list(&dir.join(FOLDER))? {
        match read(&path, spec, moments) {
            Ok(checkpoint) => {
                latest.checkpoint = Some(checkpoint);
                break;
            }
            Err(Fault::Damaged(reason)) => {
                latest.skipped.push(format!("{} is skipped: {reason}", path.display()));
            }
            Err(Fault::Refused(error)) => return Err(error),
        }
    }
    Ok(latest)
}

fn read(path: &Path, spec: &ModelSpec, moments: usize) -> Result<Checkpoint, Fault> {
    let io = |error: io::Error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Fault::Damaged("it is cut off".into())
        } else {
            Fault::Refused(io_error("read", path)(error))
        }
    };
    let damaged = |reason: String| Err(Fault::Damaged(reason));
    let file = File::open(path).map_err(io)?;
    let bytes = file.metadata().map_err(io)?.len();
    let mut file = BufReader::new(file);
    let Some(signed) = bytes.checked_sub(DIGEST_BYTES as u64).filter(|left| *left >= PREFIX_BYTES as u64)
    else {
        return damaged(format!("it is cut off after {bytes} bytes"));
    };
    if !digest_matches(&mut file, signed).map_err(io)? {
        return damaged("its SHA-256 does not match its contents".into());
    }
    file.rewind().map_err(io)?;
    let mut prefix = [0; PREFIX_BYTES];
    file.read_exact(&mut prefix).map_err(io)?;
    let [magic @ .., v0, v1, v2, v3, l0, l1, l2, l3] = prefix;
    if magic != MAGIC {
        return damaged("it does not start as a checkpoint does".into());
    }
    let found = u32::from_le_bytes([v0, v1, v2, v3]);
    if found != VERSION {
        return Err(Fault::Refused(CheckpointError::Version { path: path.to_owned(), found }));
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > MAX_HEADER_BYTES {
        return damaged(format!("its header has {length} bytes"));
    }
    let mut header = vec![0; length];
    file.read_exact(&mut header).map_err(io)?;
    let header: Header = match serde_json::from_slice(&header) {
        Ok(header) => header,
        Err(error) => return damaged(format!("its header cannot be understood: {error}")),
    };
    if header.spec_sha256 != spec_sha256(spec) {
        return Err(Fault::Refused(CheckpointError::OtherModel {
            path: path.to_owned(),
            found: header.model,
            configured: spec.name.clone(),
        }));
    }
    if header.moments != moments {
        return Err(Fault::Refused(CheckpointError::OtherOptimizer {
            path: path.to_owned(),
            found: header.moments,
            configured: moments,
        }));
    }
    let expected = state_len(spec, 0..spec.len(), moments);
    let held = signed.saturating_sub((PREFIX_BYTES + length) as u64);
    if header.values != expected || held != 4 * expected as u64 {
        return damaged(format!(
            "it says {} values and holds {held} bytes of them, the model has {expected} values",
            header.values
        ));
    }
    let values = read_values(&mut file, expected).map_err(io)?;
    Ok(Checkpoint {
        rounds: header.rounds,
        aggregations: header.aggregations,
        optimizer_steps: header.optimizer_steps,
        state: Arc::new(LayerState { layers: 0..spec.len(), moments, values }),
    })
}

/// Whether the digest after the first `signed` bytes is theirs.
fn digest_matches(file: &mut impl Read, signed: u64) -> io::Result<bool> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 4 * CHUNK_VALUES];
    let mut left = signed;
    while left > 0 {
        let chunk = &mut buffer[..left.min(4 * CHUNK_VALUES as u64) as usize];
        file.read_exact(chunk)?;
        hasher.update(&*chunk);
        left -= chunk.len() as u64;
    }
    let mut digest = [0; DIGEST_BYTES];
    file.read_exact(&mut digest)?;
    Ok(hasher.finalize()[..] == digest)
}

/// Reads `n` values, which the caller knows the file to hold.
fn read_values(file: &mut impl Read, n: usize) -> io::Result<Vec<f32>> {
    let mut values = Vec::with_capacity(n);
    let mut buffer = vec![0; 4 * CHUNK_VALUES];
    while values.len() < n {
        let chunk = &mut buffer[..4 * (n - values.len()).min(CHUNK_VALUES)];
        file.read_exact(chunk)?;
        values.extend(chunk.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)));
    }
    Ok(values)
}
