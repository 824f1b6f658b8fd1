//! The ends of the last two rounds of an edge: what it goes back to when a round starts again.

use partway_core::participant::Completed;
use partway_model::Half;

use crate::client_model::ClientModel;
use crate::state_folder::{FolderError, StateFolder};

/// Where an edge keeps them.
pub(crate) enum Rounds {
    /// In a folder that survives a crash.
    Folder(StateFolder),
    /// In memory, for an edge that lives as long as its process: the tensors are shared with the model that
    /// is trained, until a step changes that.
    Memory(Box<Kept>),
}

/// The ends of an even and an odd round of one session.
#[derive(Default)]
pub(crate) struct Kept {
    session: Option<u64>,
    ends: [Option<End>; 2],
}

struct End {
    completed: Completed,
    head: Half,
    tail: Option<Half>,
}

impl Rounds {
    /// Begins a session: the rounds of another one are removed.
    pub(crate) fn begin_session(&mut self, session: u64) -> Result<(), FolderError> {
        match self {
            Self::Folder(folder) => folder.begin_session(session),
            Self::Memory(kept) => {
                if kept.session != Some(session) {
                    **kept = Kept { session: Some(session), ends: [None, None] };
                }
                Ok(())
            }
        }
    }

    /// A round begins, from the edge's own layers or from others: what no restart of it needs may go.
    pub(crate) fn begin_round(&mut self, round: u32, from_own: bool) {
        if let Self::Memory(kept) = self {
            for end in &mut kept.ends {
                let is_before = |end: &End| end.completed.round.checked_add(1) == Some(round);
                end.take_if(|end| !(from_own && is_before(end)));
            }
        }
    }

    /// Keeps the end of a round; returns the model if that took a copy of it.
    pub(crate) fn save(
        &mut self,
        session: u64,
        completed: Completed,
        head: &Half,
        tail: Option<&Half>,
    ) -> Result<Option<ClientModel>, FolderError> {
        match self {
            Self::Folder(folder) => {
                let model = ClientModel::of(head, tail);
                folder.save_round(session, completed, &model)?;
                Ok(Some(model))
            }
            Self::Memory(kept) => {
                let end = End { completed, head: head.clone(), tail: tail.cloned() };
                kept.ends[(completed.round % 2) as usize] = Some(end);
                Ok(None)
            }
        }
    }

    /// The model that one of the last two completed rounds ended with.
    pub(crate) fn load(&self, session: u64, round: u32, moments: usize) -> Result<ClientModel, String> {
        match self {
            Self::Folder(folder) => {
                folder.load_round(session, round, moments).map_err(|error| error.to_string())
            }
            Self::Memory(kept) => kept.ends[(round % 2) as usize]
                .as_ref()
                .filter(|end| kept.session == Some(session) && end.completed.round == round)
                .map(|end| ClientModel::of(&end.head, end.tail.as_ref()))
                .ok_or_else(|| format!("the model of round {} was not kept", round + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use partway_core::model::{LayerState, builtin::builtin};
    use partway_core::optimizer::Optimizer;
    use partway_model::Compute;

    use super::*;

    const SGD: Optimizer = Optimizer::Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.0 };

    #[test]
    fn memory_keeps_what_a_folder_keeps() {
        let spec = Arc::new(builtin("mlp", [1, 4, 4], 3).expect("it is built in"));
        let compute = Compute::cpu(1).expect("a thread");
        let half = |seed| {
            let state = LayerState::initial(&spec, 0..2, 1, seed);
            Half::from_state(&spec, SGD, state, &compute).expect("the state fits")
        };
        let folder = tempfile::tempdir().expect("a folder");
        let folder = StateFolder::open(folder.path(), "camera").expect("it can be opened");
        for mut rounds in [Rounds::Memory(Box::default()), Rounds::Folder(folder)] {
            rounds.begin_session(7).expect("it begins");
            for round in 4..7 {
                let completed = Completed { round, attempt: 0, cut: 2, aggregate: false, steps: 3 };
                rounds.save(7, completed, &half(u64::from(round)), None).expect("it is kept");
            }
            let model = |seed| ClientModel { head: half(seed).state(), tail: None };
            assert_eq!(rounds.load(7, 6, 1), Ok(model(6)));
            assert_eq!(rounds.load(7, 5, 1), Ok(model(5)));
            assert!(rounds.load(7, 4, 1).is_err(), "only the last two are kept");
            assert!(rounds.load(8, 6, 1).is_err(), "another session's");
            rounds.begin_session(8).expect("it begins");
            assert!(rounds.load(8, 6, 1).is_err(), "nothing of another session is left");
        }
    }

    #[test]
    fn memory_forgets_what_no_restart_needs() {
        let spec = Arc::new(builtin("mlp", [1, 4, 4], 3).expect("it is built in"));
        let compute = Compute::cpu(1).expect("a thread");
        let state = LayerState::initial(&spec, 0..2, 1, 1);
        let half = Half::from_state(&spec, SGD, state, &compute).expect("the state fits");
        let mut rounds = Rounds::Memory(Box::default());
        rounds.begin_session(7).expect("it begins");
        let keep = |rounds: &mut Rounds, round| {
            let completed = Completed { round, attempt: 0, cut: 2, aggregate: false, steps: 3 };
            rounds.save(7, completed, &half, None).expect("it is kept");
        };
        let kept =
            |rounds: &Rounds| (0..9).filter(|round| rounds.load(7, *round, 1).is_ok()).collect::<Vec<_>>();
        keep(&mut rounds, 4);
        rounds.begin_round(5, true);
        assert_eq!(kept(&rounds), [4], "round 5 may start again from the end of round 4");
        keep(&mut rounds, 5);
        assert_eq!(kept(&rounds), [4, 5]);
        rounds.begin_round(6, true);
        assert_eq!(kept(&rounds), [5]);
        rounds.begin_round(6, false);
        assert!(kept(&rounds).is_empty(), "it starts from the cloud's layers");
    }
}
