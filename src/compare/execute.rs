//! Runs what is not finished, one after the other, each as a process of this program.

use std::fs;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use partway_cloud::checkpoint;
use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::process::{Child, Command};

use super::selection::{Entry, Source, is_finished};
use crate::experiment::ExperimentArgs;
use crate::failure::Failure;
use crate::interrupts::Interrupts;
use crate::output;
use crate::outputs::Outputs;
use crate::run::RunArgs;
use crate::run::layout::Layout;
use crate::run::processes::RunProcessArgs;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// Its outputs are whole.
    Finished,
    /// It failed; why, in words.
    Failed(String),
    /// Somebody asked to stop, before or while it ran.
    Interrupted,
}

/// What a folder holds of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// All of it.
    Done,
    /// A checkpoint to go on from.
    Begun,
    /// Nothing that it could go on from.
    New,
}

/// Runs every entry that is not finished. An experiment that fails does not keep the others from running;
/// an interruption ends them all.
pub(super) fn run_all(entries: &[Entry]) -> Result<Vec<Ran>, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("cannot start the runner: {error}")))?;
    runtime.block_on(async {
        let mut interrupts = Interrupts::new()
            .map_err(|error| Failure::Failed(format!("cannot wait for signals: {error}")))?;
        let mut ran = Vec::with_capacity(entries.len());
        for (index, entry) in entries.iter().enumerate() {
            let place = format!("{} of {}", index + 1, entries.len());
            let ended = match &entry.source {
                Source::Finished => Ran::Finished,
                Source::Experiment { args, config } => {
                    run_one(&entry.folder, args, config, &place, &mut interrupts).await?
                }
            };
            let is_over = ended == Ran::Interrupted;
            ran.push(ended);
            if is_over {
                break;
            }
        }
        Ok(ran)
    })
}

async fn run_one(
    folder: &Path,
    args: &ExperimentArgs,
    config: &str,
    place: &str,
    interrupts: &mut Interrupts,
) -> Result<Ran, Failure> {
    let standing = standing(folder, config);
    let name = folder.display();
    match standing {
        Standing::Done => {
            output::note(&format!("\n{place}: {name} is finished, and taken as it is"));
            return Ok(Ran::Finished);
        }
        Standing::Begun => output::note(&format!("\n{place}: {name} goes on from its checkpoint")),
        Standing::New => output::note(&format!("\n{place}: {name}")),
    }
    let run = RunArgs {
        experiment: args.clone(),
        out: Some(folder.to_owned()),
        resume: standing == Standing::Begun,
        threads: None,
    };
    let arguments = RunProcessArgs { parent: getpid().as_raw_pid(), run }.to_command_line();
    let program = std::env::current_exe()
        .map_err(|error| Failure::Failed(format!("cannot find this program: {error}")))?;
    // In a group of its own, so that a terminal's Ctrl-C reaches it once, from here.
    let child = Command::new(program).args(arguments).stdin(Stdio::null()).process_group(0).spawn();
    let mut child = child.map_err(|error| Failure::Failed(format!("cannot start a run: {error}")))?;
    let status = attend(&mut child, interrupts)
        .await
        .map_err(|error| Failure::Failed(format!("cannot wait for a run: {error}")))?;
    Ok(meaning(status))
}

/// Waits for the run's end; hands every interruption on to it.
async fn attend(child: &mut Child, interrupts: &mut Interrupts) -> std::io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            () = interrupts.next() => {
                let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
                if let Some(pid) = pid {
                    // It may have ended just now.
                    let _ = kill_process(pid, Signal::INT);
                }
            }
        }
    }
}

fn meaning(status: ExitStatus) -> Ran {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(0), _) => Ran::Finished,
        // Before its own handling of signals begins, it is ended by them.
        (Some(130), _) | (None, Some(2 | 15)) => Ran::Interrupted,
        (Some(code), _) => Ran::Failed(format!("ended with exit code {code}, its error is above")),
        (None, signal) => Ran::Failed(format!("was killed by signal {}", signal.unwrap_or(0))),
    }
}

/// What there is of the run of this resolved configuration.
fn standing(folder: &Path, config: &str) -> Standing {
    let layout = Layout::new(folder);
    if fs::read_to_string(layout.config()).ok().as_deref() != Some(config) {
        return Standing::New;
    }
    let summary = Outputs::open(folder).ok().and_then(|outputs| outputs.summary().ok().flatten());
    if summary.is_some_and(|summary| is_finished(&summary)) {
        return Standing::Done;
    }
    if checkpoint::exists(folder) { Standing::Begun } else { Standing::New }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn exit_codes_say_how_a_run_ended() {
        let exited = |code: i32| meaning(ExitStatus::from_raw(code << 8));
        assert_eq!((exited(0), exited(130)), (Ran::Finished, Ran::Interrupted));
        assert!(matches!(exited(1), Ran::Failed(reason) if reason.contains("exit code 1")));
        assert_eq!(meaning(ExitStatus::from_raw(2)), Ran::Interrupted, "before it handles signals");
        assert!(
            matches!(meaning(ExitStatus::from_raw(9)), Ran::Failed(reason) if reason.contains("signal 9"))
        );
    }

    #[test]
    fn a_run_goes_on_only_from_its_own_checkpoint() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path();
        assert_eq!(standing(path, "name = \"x\""), Standing::New);
        fs::write(path.join("config.toml"), "name = \"x\"").expect("written");
        fs::create_dir(path.join("checkpoint")).expect("made");
        assert_eq!(standing(path, "name = \"x\""), Standing::New, "no checkpoint yet");
        fs::write(path.join("checkpoint/round-000005.ckpt"), "").expect("written");
        assert_eq!(standing(path, "name = \"x\""), Standing::Begun);
        assert_eq!(standing(path, "name = \"y\""), Standing::New, "another experiment");
    }
}
