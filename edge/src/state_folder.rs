//! The state folder: what an edge must still have after a crash.
//!
//! `session` names the training session. `round-0` and `round-1` hold the edge's layers at the end of
//! the last two completed rounds, the even and the odd one: where edges share a server-side model a round
//! may start again for an edge that has ended it. All are replaced as a whole, by renaming, so that a
//! crash leaves the old or the new one. `edge` holds the edge's name, and is locked while a worker uses the folder.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use partway_core::model::LayerState;
use partway_core::participant::{Completed, Restored};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::client_model::ClientModel;

const MAGIC: &[u8; 8] = b"PWROUND2";
const OWNER: &str = "edge";
const ROUNDS: [&str; 2] = ["round-0", "round-1"];
const HEADER_WORDS: usize = 11;
const DIGEST_BYTES: usize = 32;

/// The state folder cannot be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// A file or the folder cannot be read or written.
    #[error("state folder: cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another worker uses it.
    #[error("state folder {}: another worker is using it: end that one, or give this one a folder of its own with --state", path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// It is another edge's.
    #[error("state folder {}: it is of the edge `{owner}`, not of `{name}`: every edge needs a folder of its own", path.display())]
    Owned {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// Who wants it.
        name: String,
    },
    /// It holds something else.
    #[error("state folder {}: it is not empty, and no edge's state: give a new or empty folder with --state", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// The model of a completed round is asked for, and there is none.
    #[error("state folder {}: the model of round {} is missing or damaged; empty the folder and join again", path.display(), round + 1)]
    Lost {
        /// The folder.
        path: PathBuf,
        /// The round, from 0.
        round: u32,
    },
}

/// One edge's state folder.
#[derive(Clone, Debug)]
pub(crate) struct StateFolder {
    path: PathBuf,
    /// Locked until it is closed.
    _owner: Arc<File>,
}

impl StateFolder {
    /// Opens the folder of the edge `name`, making it if it does not exist.
    pub(crate) fn open(path: &Path, name: &str) -> Result<Self, FolderError> {
        fs::create_dir_all(path).map_err(|source| Self::io("make", path, source))?;
        let marker = path.join(OWNER);
        if !marker.exists() && path.read_dir().is_ok_and(|mut files| files.next().is_some()) {
            return Err(FolderError::Foreign { path: path.to_owned() });
        }
        let io = |what, source| Self::io(what, &marker, source);
        let mut open = OpenOptions::new();
        let opened = open.read(true).write(true).create(true).truncate(false).open(&marker);
        let mut owner = opened.map_err(|source| io("open", source))?;
        match owner.try_lock() {
            Err(TryLockError::WouldBlock) => return Err(FolderError::Busy { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(io("lock", source)),
            Ok(()) => {}
        }
        let mut found = String::new();
        owner.read_to_string(&mut found).map_err(|source| io("read", source))?;
        if found.is_empty() {
            owner.write_all(name.as_bytes()).map_err(|source| io("write", source))?;
        } else if found != name {
            let (path, name) = (path.to_owned(), name.to_owned());
            return Err(FolderError::Owned { path, owner: found, name });
        }
        Ok(Self { path: path.to_owned(), _owner: Arc::new(owner) })
    }

    fn io(what: &'static str, path: &Path, source: io::Error) -> FolderError {
        FolderError::Io { what, path: path.to_owned(), source }
    }

    /// What is there from an earlier process. A damaged file counts as none: the coordinator then
    /// starts the edge from the global model.
    pub(crate) fn restore(&self) -> Option<Restored> {
        let session = fs::read_to_string(self.path.join("session")).ok()?.trim().parse().ok()?;
        let rounds = ROUNDS.iter().filter_map(|name| self.read_round(session, name));
        let completed = rounds.map(|(completed, _)| completed).max_by_key(|completed| completed.round);
        Some(Restored { session, completed })
    }

    /// Begins a session: the rounds of another one are removed.
    pub(crate) fn begin_session(&self, session: u64) -> Result<(), FolderError> {
        if self.restore().is_some_and(|restored| restored.session == session) {
            return Ok(());
        }
        for name in ROUNDS {
            let round = self.path.join(name);
            match fs::remove_file(&round) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Self::io("remove", &round, error));
                }
                _ => {}
            }
        }
        self.replace("session", &[session.to_string().as_bytes()])
    }

    /// Makes the end of a round durable.
    pub(crate) fn save_round(
        &self,
        session: u64,
        completed: Completed,
        model: &ClientModel,
    ) -> Result<(), FolderError> {
        let Completed { round, attempt, cut, aggregate, steps } = completed;
        let ClientModel { head, tail } = model;
        let (low, high) = (session as u32, (session >> 32) as u32);
        // Without a tail, one of no layers: no model has one.
        let last = tail.as_ref().map_or(0..0, |tail| tail.layers.start as u32..tail.layers.end as u32);
        let words = [
            low,
            high,
            round,
            attempt,
            cut,
            u32::from(aggregate),
            steps,
            head.moments as u32,
            head.values.len() as u32,
            last.start,
            last.end,
        ];
        let header: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let head: &[u8] = bytemuck::cast_slice(&head.values);
        let tail: &[u8] = tail.as_ref().map_or(&[], |tail| bytemuck::cast_slice(&tail.values));
        let mut digest = Sha256::new();
        for part in [&header, head, tail] {
            digest.update(part);
        }
        self.replace(Self::name_of(round), &[MAGIC, &header, &digest.finalize(), head, tail])
    }

    /// The model that one of the last two completed rounds ended with.
    pub(crate) fn load_round(
        &self,
        session: u64,
        round: u32,
        moments: usize,
    ) -> Result<ClientModel, FolderError> {
        match self.read_round(session, Self::name_of(round)) {
            Some((found, model)) if found.round == round && model.head.moments == moments => Ok(model),
            _ => Err(FolderError::Lost { path: self.path.clone(), round }),
        }
    }

    fn name_of(round: u32) -> &'static str {
        ROUNDS[(round % 2) as usize]
    }

    fn read_round(&self, session: u64, name: &str) -> Option<(Completed, ClientModel)> {
        let bytes = fs::read(self.path.join(name)).ok()?;
        let rest = bytes.strip_prefix(MAGIC)?;
        let (header, rest) = rest.split_at_checked(4 * HEADER_WORDS)?;
        let (digest, values) = rest.split_at_checked(DIGEST_BYTES)?;
        let mut hash = Sha256::new();
        hash.update(header);
        hash.update(values);
        if hash.finalize().as_slice() != digest {
            return None;
        }
        let words: Vec<u32> = header
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        let [low, high, round, attempt, cut, aggregate, steps, moments, head, first, last] =
            words.try_into().ok()?;
        if u64::from(low) | (u64::from(high) << 32) != session || values.len() % 4 != 0 {
            return None;
        }
        let (head, tail) = values.split_at_checked(4 * head as usize)?;
        let state = |layers: Range<u32>, bytes: &[u8]| {
            let mut values = vec![0.0; bytes.len() / 4];
            bytemuck::cast_slice_mut(&mut values).copy_from_slice(bytes);
            let layers = layers.start as usize..layers.end as usize;
            LayerState { layers, moments: moments as usize, values }
        };
        let tail = (last > first).then(|| state(first..last, tail));
        let model = ClientModel { head: state(0..cut, head), tail };
        Some((Completed { round, attempt, cut, aggregate: aggregate != 0, steps }, model))
    }

    /// Writes a file beside the one that it replaces, then renames it.
    fn replace(&self, name: &str, parts: &[&[u8]]) -> Result<(), FolderError> {
        let (path, fresh) = (self.path.join(name), self.path.join(format!("{name}.new")));
        let write = || -> io::Result<()> {
            let mut file = File::create(&fresh)?;
            for part in parts {
                file.write_all(part)?;
            }
            file.sync_data()?;
            fs::rename(&fresh, &path)?;
            // The new name is durable only once the folder is.
            File::open(&self.path)?.sync_all()
        };
        write().map_err(|source| Self::io("write", &path, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETED: Completed = Completed { round: 6, attempt: 1, cut: 3, aggregate: true, steps: 10 };

    fn model() -> ClientModel {
        let values = vec![1.5, -0.0, f32::MIN_POSITIVE, 3.0];
        ClientModel { head: LayerState { layers: 0..3, moments: 1, values }, tail: None }
    }

    #[test]
    fn a_round_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = StateFolder::open(folder.path(), "camera").expect("it can be opened");
        opened.begin_session(u64::MAX - 7).expect("it can be written");
        opened.save_round(u64::MAX - 7, COMPLETED, &model()).expect("it can be written");
        drop(opened);
        let again = StateFolder::open(folder.path(), "camera").expect("it can be opened");
        assert_eq!(again.restore(), Some(Restored { session: u64::MAX - 7, completed: Some(COMPLETED) }));
        assert_eq!(again.load_round(u64::MAX - 7, 6, 1).expect("it is there"), model());
    }

    #[test]
    fn a_folder_is_one_workers_and_one_edges() {
        let folder = tempfile::tempdir().expect("a folder");
        let open = |name| StateFolder::open(folder.path(), name).map_err(|error| error.to_string());
        let first = open("camera").expect("it is empty");
        assert!(open("camera").expect_err("it is in use").contains("another worker is using it"));
        drop(first);
        let error = open("gateway").expect_err("it is another edge's");
        assert!(error.contains("it is of the edge `camera`, not of `gateway`"), "{error}");
        drop(open("camera").expect("it is free again"));
        let foreign = tempfile::tempdir().expect("a folder");
        fs::write(foreign.path().join("thesis.tex"), "").expect("it can be written");
        let error = StateFolder::open(foreign.path(), "camera").expect_err("somebody's work").to_string();
        assert!(error.contains("it is not empty, and no edge's state"), "{error}");
    }

    #[test]
    fn the_last_layers_come_back_with_the_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = StateFolder::open(folder.path(), "camera").expect("it can be opened");
        opened.begin_session(1).expect("it can be written");
        let tail = Some(LayerState { layers: 9..11, moments: 1, values: vec![-7.0, 8.5] });
        for head in [model().head, LayerState { layers: 0..0, moments: 1, values: Vec::new() }] {
            let completed = Completed { cut: head.layers.end as u32, ..COMPLETED };
            let saved = ClientModel { head, tail: tail.clone() };
            opened.save_round(1, completed, &saved).expect("it can be written");
            assert_eq!(opened.load_round(1, completed.round, 1).expect("it is there"), saved);
        }
    }

    #[test]
    fn the_round_before_is_still_there_however_often_a_round_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = StateFolder::open(folder.path(), "camera").expect("it can be opened");
        opened.begin_session(1).expect("it can be written");
        let of = |round: u32, attempt: u32| {
            let values = vec![round as f32, attempt as f32];
            (
                Completed { round, attempt, ..COMPLETED },
                ClientModel { head: LayerState { values, ..model().head }, tail: None },
            )
        };
        for (round, attempt) in [(4, 0), (5, 0), (6, 0), (6, 1), (6, 2)] {
            let (completed, model) = of(round, attempt);
            opened.save_round(1, completed, &model).expect("it can be written");
        }
        assert_eq!(opened.restore(), Some(Restored { session: 1, completed: Some(of(6, 2).0) }));
        assert_eq!(opened.load_round(1, 5, 1).expect("it is there"), of(5, 0).1);
        assert_eq!(opened.load_round(1, 6, 1).expect("it is there"), of(6, 2).1);
        assert!(matches!(opened.load_round(1, 4, 1), Err(FolderError::Lost { round: 4, .. })));
    }

    #[test]
    fn another_session_removes_the_rounds_of_this_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = StateFolder::open(folder.path(), "camera").expect("it can be opened");
        opened.begin_session(1).expect("it can be written");
        opened.save_round(1, COMPLETED, &model()).expect("it can be written");
        opened.begin_session(2).expect("it can be written");
        assert_eq!(opened.restore(), Some(Restored { session: 2, completed: None }));
        assert!(matches!(opened.load_round(2, 6, 1), Err(FolderError::Lost { .. })));
    }

    #[test]
    fn a_damaged_round_counts_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = StateFolder::open(folder.path(), "camera").expect("it can be opened");
        opened.begin_session(1).expect("it can be written");
        opened.save_round(1, COMPLETED, &model()).expect("it can be written");
        let path = folder.path().join("round-0");
        let mut bytes = fs::read(&path).expect("it is there");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).expect("it can be written");
        assert_eq!(opened.restore(), Some(Restored { session: 1, completed: None }));
    }
}
