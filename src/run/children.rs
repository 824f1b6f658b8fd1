//! The processes of a run: started, watched, started again, ended.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

/// How often an edge's process is started again.
const MAX_RESTARTS: u32 = 5;
/// The allocator's patience before it gives unused memory back to the system, and what it is set to: never. An emulated
/// device mostly sleeps. Each second of it would cost the next step's page faults, which emulation multiplies.
const KEEP_MEMORY: (&str, &str) = ("MIMALLOC_PURGE_DELAY", "-1");
/// What is shown of a log.
const TAIL_BYTES: u64 = 4096;
const TAIL_LINES: usize = 10;

/// What is asked of the processes; each asks for more than the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// Nothing.
    No,
    /// To come to their own end; nobody is started again.
    Ending,
    /// To end soon: SIGTERM.
    Terminate,
    /// To end now: SIGKILL.
    Kill,
}

/// How to start a process of this program.
#[derive(Clone, Debug)]
pub(crate) struct Start {
    /// This program.
    pub(crate) program: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<OsString>,
    /// Where its standard error goes.
    pub(crate) log: PathBuf,
}

impl Start {
    /// Starts it, away from the terminal's Ctrl-C, which is the runner's to handle, and from variables
    /// that would change how it computes.
    pub(crate) fn spawn(&self, stdout: Stdio) -> io::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).stdin(Stdio::null()).stdout(stdout).stderr(log);
        command.process_group(0).kill_on_drop(true);
        if std::env::var_os(KEEP_MEMORY.0).is_none() {
            command.env(KEEP_MEMORY.0, KEEP_MEMORY.1);
        }
        for (key, _) in std::env::vars_os().filter(|(key, _)| changes_computing(key)) {
            command.env_remove(key);
        }
        command.spawn()
    }

    /// What the log holds so far, in bytes.
    pub(crate) fn log_len(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |log| log.len())
    }
}

fn changes_computing(variable: &std::ffi::OsStr) -> bool {
    let name = variable.to_string_lossy();
    name.starts_with("RAYON_") || name.starts_with("BURN_")
}

/// What became of an edge's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// In words.
    pub(crate) text: String,
    /// Whether it is not started again.
    pub(crate) is_gone: bool,
}

/// Waits for the end of a process and passes on what is asked of it.
pub(crate) async fn attend(child: &mut Child, stop: &mut watch::Receiver<Stop>) -> io::Result<ExitStatus> {
    ask(child, *stop.borrow_and_update());
    loop {
        tokio::select! {
            status = child.wait() => return status,
            changed = stop.changed() => {
                if changed.is_err() {
                    // Nobody is left to ask for anything.
                    ask(child, Stop::Kill);
                    return child.wait().await;
                }
                ask(child, *stop.borrow_and_update());
            }
        }
    }
}

/// Signals a process that was not waited for yet, so that its id is still its own.
fn ask(child: &Child, stop: Stop) {
    let signal = match stop {
        Stop::No | Stop::Ending => return,
        Stop::Terminate => Signal::TERM,
        Stop::Kill => Signal::KILL,
    };
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended by now.
        let _ = kill_process(pid, signal);
    }
}

/// Runs an edge's process, and again when a signal kills it; says in `reports` what became of it.
pub(crate) async fn keep_running(
    name: String,
    start: Start,
    mut stop: watch::Receiver<Stop>,
    reports: mpsc::Sender<Report>,
) {
    let mut restarts = 0;
    loop {
        let log_start = start.log_len();
        let ended = match start.spawn(Stdio::null()) {
            Ok(mut child) => attend(&mut child, &mut stop).await,
            Err(error) => Err(error),
        };
        if *stop.borrow() != Stop::No {
            return;
        }
        let verdict = match ended {
            Ok(status) => verdict(&name, status, restarts, || tail(&start.log, log_start)),
            Err(error) => Verdict::GiveUp(format!("edge {name}: cannot run its process: {error}")),
        };
        // Nobody listens once the run is over.
        match verdict {
            Verdict::Done => return,
            Verdict::Again(text) => {
                restarts += 1;
                let _ = reports.send(Report { text, is_gone: false }).await;
            }
            Verdict::GiveUp(text) => {
                let _ = reports.send(Report { text, is_gone: true }).await;
                return;
            }
        }
    }
}

/// What follows from the end of an edge's process.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// It had nothing more to do.
    Done,
    /// It is started again.
    Again(String),
    /// It is not.
    GiveUp(String),
}

fn verdict(name: &str, status: ExitStatus, restarts: u32, tail: impl FnOnce() -> String) -> Verdict {
    if status.success() {
        return Verdict::Done;
    }
    let how = in_words(status);
    if status.signal().is_none() {
        return Verdict::GiveUp(format!("edge {name}: its process {how}: {}", tail()));
    }
    if restarts < MAX_RESTARTS {
        Verdict::Again(format!("edge {name}: its process {how}; starting it again from its state"))
    } else {
        Verdict::GiveUp(format!(
            "edge {name}: its process {how}, after {restarts} restarts; it is not started again: {}",
            tail()
        ))
    }
}

/// How a process ended.
pub(crate) fn in_words(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("was killed by signal {signal}"),
        (None, Some(code)) => format!("ended with exit code {code}"),
        (None, None) => "ended".to_owned(),
    }
}

/// A few lines of what was logged since `start` bytes: the last error or panic, else the last lines.
pub(crate) fn tail(log: &Path, start: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let start = start.max(file.metadata()?.len().saturating_sub(TAIL_BYTES));
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let text = read().map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let is_reason = |line: &&str| line.starts_with("error: ") || line.contains("panicked at ");
    let first = lines.iter().rposition(is_reason).unwrap_or(lines.len().saturating_sub(TAIL_LINES));
    let shown: Vec<&str> = lines[first..].iter().take(TAIL_LINES).copied().collect();
    match shown[..] {
        [] => format!("it left nothing in `{}`", log.display()),
        _ => shown.join("\n").trim_start_matches("error: ").to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    fn killed(signal: i32) -> ExitStatus {
        ExitStatus::from_raw(signal)
    }

    #[test]
    fn killed_edges_come_back_a_few_times_and_failed_ones_do_not() {
        let verdict = |status, restarts| verdict("a", status, restarts, || "no space left".to_owned());
        assert_eq!(verdict(exited(0), 0), Verdict::Done);
        assert_eq!(
            verdict(exited(1), 0),
            Verdict::GiveUp("edge a: its process ended with exit code 1: no space left".into())
        );
        for restarts in 0..5 {
            let again = "edge a: its process was killed by signal 9; starting it again from its state";
            assert_eq!(verdict(killed(9), restarts), Verdict::Again(again.into()));
        }
        assert!(matches!(verdict(killed(9), 5), Verdict::GiveUp(report) if report.contains("5 restarts")));
    }

    #[test]
    fn the_tail_is_the_last_error_of_this_start() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = folder.path().join("a.log");
        assert!(tail(&log, 0).contains("left nothing"));
        fs::write(&log, "error: old\n").expect("written");
        assert_eq!(tail(&log, 0), "old");
        assert!(tail(&log, 11).contains("left nothing"));
        fs::write(&log, "error: old\nwarning: x\n\nerror: new\n       second line\n").expect("written");
        assert_eq!(tail(&log, 11), "new\n       second line");
        fs::write(&log, "thread 'main' (7) panicked at x.rs:1:\nboom\nstack backtrace:\n").expect("written");
        assert!(tail(&log, 0).starts_with("thread 'main' (7) panicked at x.rs:1:\nboom"));
        let lines: Vec<String> = (0..500).map(|n| format!("line {n} of a long log")).collect();
        fs::write(&log, lines.join("\n")).expect("written");
        assert_eq!(tail(&log, 0).lines().count(), TAIL_LINES);
        assert!(tail(&log, 0).ends_with("line 499 of a long log"));
    }

    #[test]
    fn variables_that_change_computing_are_known() {
        assert!(changes_computing("RAYON_NUM_THREADS".as_ref()) && changes_computing("BURN_DEVICE".as_ref()));
        assert!(!changes_computing("PATH".as_ref()));
    }

    fn shell(script: &str, log: &Path) -> Start {
        Start { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()], log: log.to_owned() }
    }

    #[test]
    fn an_edge_that_is_always_killed_is_given_up() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let start = shell("echo started >&2; kill -9 $$", &folder.path().join("a.log"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let reports = runtime.block_on(async {
            let (_stop, stopped) = watch::channel(Stop::No);
            let (sender, mut receiver) = mpsc::channel(64);
            keep_running("a".into(), start.clone(), stopped, sender).await;
            let mut reports = Vec::new();
            while let Some(report) = receiver.recv().await {
                reports.push(report);
            }
            reports
        });
        assert_eq!(reports.len(), 6, "five restarts and the end: {reports:?}");
        assert!(reports.iter().all(|report| report.is_gone == report.text.contains("not started again")));
        assert_eq!(fs::read_to_string(&start.log).expect("a log"), "started\n".repeat(6));
    }

    #[test]
    fn a_process_ends_when_it_is_asked_to() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let start =
            shell("trap '' TERM; echo ready; while :; do sleep 0.02; done", &folder.path().join("a.log"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let status = runtime.block_on(async {
            use tokio::io::AsyncReadExt as _;
            let (stop, mut stopped) = watch::channel(Stop::No);
            let mut child = start.spawn(Stdio::piped()).expect("a shell");
            let mut ready = [0; 6];
            child.stdout.take().expect("piped").read_exact(&mut ready).await.expect("it is ready");
            let attended = tokio::spawn(async move { attend(&mut child, &mut stopped).await });
            stop.send_replace(Stop::Terminate);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            assert!(!attended.is_finished(), "it ignores SIGTERM");
            stop.send_replace(Stop::Kill);
            attended.await.expect("no panic").expect("waited for")
        });
        assert_eq!(status.signal(), Some(9));
    }
}
