//! The state folder: what an edge must still have after a crash.
//!
//! `session` names the training session. `round-0` and `round-1` hold the client-side model at the end of
//! the last two completed rounds, the even and the odd one: where edges share a server-side model a round
//! may start again for an edge that has ended it. All are replaced as a whole, by renaming, so that a
//! crash leaves the old or the new one.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use partway_core::model::LayerState;
use partway_core::participant::{Completed, Restored};
use sha2::{Digest, Sha256};
use thiserror::Error;

const MAGIC: &[u8; 8] = b"PWROUND1";
const ROUNDS: [&str; 2] = ["round-0", "round-1"];
const HEADER_WORDS: usize = 8;
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
}

impl StateFolder {
    /// Opens the folder, making it if it does not exist.
    pub(crate) fn open(path: &Path) -> Result<Self, FolderError> {
        fs::create_dir_all(path).map_err(|source| Self::io("make", path, source))?;
        Ok(Self { path: path.to_owned() })
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
        state: &LayerState,
    ) -> Result<(), FolderError> {
        let Completed { round, attempt, cut, aggregate, steps } = completed;
        let (low, high) = (session as u32, (session >> 32) as u32);
        let words = [low, high, round, attempt, cut, u32::from(aggregate), steps, state.moments as u32];
        let header: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let values: &[u8] = bytemuck::cast_slice(&state.values);
        let mut digest = Sha256::new();
        digest.update(&header);
        digest.update(values);
        self.replace(Self::name_of(round), &[MAGIC, &header, &digest.finalize(), values])
    }

    /// The model that one of the last two completed rounds ended with.
    pub(crate) fn load_round(
        &self,
        session: u64,
        round: u32,
        moments: usize,
    ) -> Result<LayerState, FolderError> {
        match self.read_round(session, Self::name_of(round)) {
            Some((found, state)) if found.round == round && state.moments == moments => Ok(state),
            _ => Err(FolderError::Lost { path: self.path.clone(), round }),
        }
    }

    fn name_of(round: u32) -> &'static str {
        ROUNDS[(round % 2) as usize]
    }

    fn read_round(&self, session: u64, name: &str) -> Option<(Completed, LayerState)> {
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
        let [low, high, round, attempt, cut, aggregate, steps, moments] = words.try_into().ok()?;
        if u64::from(low) | (u64::from(high) << 32) != session || values.len() % 4 != 0 {
            return None;
        }
        let mut state = LayerState {
            layers: 0..cut as usize,
            moments: moments as usize,
            values: vec![0.0; values.len() / 4],
        };
        bytemuck::cast_slice_mut(&mut state.values).copy_from_slice(values);
        Some((Completed { round, attempt, cut, aggregate: aggregate != 0, steps }, state))
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

    fn state() -> LayerState {
        LayerState { layers: 0..3, moments: 1, values: vec![1.5, -0.0, f32::MIN_POSITIVE, 3.0] }
    }

    #[test]
    fn a_round_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = StateFolder::open(folder.path()).expect("it can be opened");
        opened.begin_session(u64::MAX - 7).expect("it can be written");
        opened.save_round(u64::MAX - 7, COMPLETED, &state()).expect("it can be written");
        let again = StateFolder::open(folder.path()).expect("it can be opened");
        assert_eq!(again.restore(), Some(Restored { session: u64::MAX - 7, completed: Some(COMPLETED) }));
        assert_eq!(again.load_round(u64::MAX - 7, 6, 1).expect("it is there"), state());
    }

    #[test]
    fn the_round_before_is_still_there_however_often_a_round_ends() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = StateFolder::open(folder.path()).expect("it can be opened");
        opened.begin_session(1).expect("it can be written");
        let of = |round: u32, attempt: u32| {
            let values = vec![round as f32, attempt as f32];
            (Completed { round, attempt, ..COMPLETED }, LayerState { values, ..state() })
        };
        for (round, attempt) in [(4, 0), (5, 0), (6, 0), (6, 1), (6, 2)] {
            let (completed, state) = of(round, attempt);
            opened.save_round(1, completed, &state).expect("it can be written");
        }
        assert_eq!(opened.restore(), Some(Restored { session: 1, completed: Some(of(6, 2).0) }));
        assert_eq!(opened.load_round(1, 5, 1).expect("it is there"), of(5, 0).1);
        assert_eq!(opened.load_round(1, 6, 1).expect("it is there"), of(6, 2).1);
        assert!(matches!(opened.load_round(1, 4, 1), Err(FolderError::Lost { round: 4, .. })));
    }

    #[test]
    fn another_session_removes_the_rounds_of_this_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = StateFolder::open(folder.path()).expect("it can be opened");
        opened.begin_session(1).expect("it can be written");
        opened.save_round(1, COMPLETED, &state()).expect("it can be written");
        opened.begin_session(2).expect("it can be written");
        assert_eq!(opened.restore(), Some(Restored { session: 2, completed: None }));
        assert!(matches!(opened.load_round(2, 6, 1), Err(FolderError::Lost { .. })));
    }

    #[test]
    fn a_damaged_round_counts_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = StateFolder::open(folder.path()).expect("it can be opened");
        opened.begin_session(1).expect("it can be written");
        opened.save_round(1, COMPLETED, &state()).expect("it can be written");
        let path = folder.path().join("round-0");
        let mut bytes = fs::read(&path).expect("it is there");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).expect("it can be written");
        assert_eq!(opened.restore(), Some(Restored { session: 1, completed: None }));
    }
}
