//! Experiments on `partway run`: configurations, their processes, what they leave behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use partway_core::event::{Event, EventKind, Recovery};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// A run that says nothing for so long hangs. It bounds a broken run and measures nothing.
const PATIENCE: Duration = Duration::from_mins(2);

/// `LeNet-5` on some of MNIST, spread unevenly over three edges without emulation: 7 rounds, so that the
/// second aggregation follows a short interval.
pub(crate) const SMALL: &str = r#"
    name = "small"
    seed = 3
    [model]
    arch = "lenet5"
    [data]
    dataset = "mnist"
    train_limit = 600
    test_limit = 200
    partition = { kind = "dirichlet", alpha = 0.5 }
    min_samples = 32
    [training]
    batch_size = 16
    steps_per_round = 3
    aggregate_every = 5
    max_rounds = 7
    optimizer = { kind = "sgd", lr = 0.05, momentum = 0.9 }
    [[edge]]
    name = "camera"
    count = 2
    [[edge]]
    name = "gateway"
"#;

/// A folder with a configuration and the outputs of its run.
pub(crate) struct Experiment {
    folder: TempDir,
}

impl Experiment {
    pub(crate) fn new(config: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("experiment.toml"), config).expect("the configuration is written");
        Self { folder }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("experiment.toml")
    }

    pub(crate) fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    /// `partway run` with these overrides.
    fn command(&self, sets: &[&str]) -> Command {
        let mut command = partway();
        command.arg("run").arg(self.config()).arg("--out").arg(self.out());
        command.args(sets.iter().flat_map(|set| ["--set", set]));
        command
    }

    pub(crate) fn start(&self, sets: &[&str]) -> Running {
        Running::start(self.command(sets), self.out())
    }

    pub(crate) fn resume(&self, sets: &[&str]) -> Running {
        let mut command = self.command(sets);
        command.arg("--resume");
        Running::start(command, self.out())
    }

    /// Runs it to its end, which must be a good one.
    pub(crate) fn run(&self, sets: &[&str]) -> Record {
        self.start(sets).finish()
    }

    /// How many processes are at work for it.
    pub(crate) fn processes(&self) -> usize {
        processes(&self.out(), "").len()
    }

    /// Runs what is refused before anything starts; returns its one error.
    pub(crate) fn refused(&self, sets: &[&str]) -> String {
        let output = self.command(sets).output().expect("partway runs");
        the_error(&output, 2)
    }
}

/// The program under test, from the repository's root: relative paths are relative to that.
pub(crate) fn partway() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_partway"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

/// The one error of a command that failed with `code` and printed nothing else.
pub(crate) fn the_error(output: &Output, code: i32) -> String {
    let error = String::from_utf8(output.stderr.clone()).expect("messages are text");
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(error.matches("error: ").count(), 1, "one error: {error}");
    assert!(error.starts_with("error: "), "nothing before it: {error}");
    assert!(output.stdout.is_empty(), "no output beside the error");
    error.trim_end().to_owned()
}

/// A run at work. Dropping it kills it, and its processes end with it.
pub(crate) struct Running {
    child: Child,
    out: PathBuf,
    lines: Receiver<String>,
    said: Vec<String>,
}

/// How a run ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    /// Everything that it wrote to standard error.
    pub(crate) said: String,
}

impl Running {
    /// Starts a command whose processes work in the folder `out`.
    pub(crate) fn start(mut command: Command, out: PathBuf) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("partway starts");
        let stderr = child.stderr.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, out, lines, said: Vec::new() }
    }

    fn next_line(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.said.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the run hangs:\n{}", self.said.join("\n")),
        }
    }

    /// Waits until the run says a line with this in it.
    pub(crate) fn wait_for(&mut self, part: &str) -> String {
        loop {
            match self.next_line() {
                Some(line) if line.contains(part) => return line,
                Some(_) => {}
                None => panic!("the run ended without `{part}`:\n{}", self.said.join("\n")),
            }
        }
    }

    /// Waits until so many processes are at work for the run, the coordinator and the edges.
    pub(crate) fn wait_for_processes(&self, count: usize) {
        let begun = std::time::Instant::now();
        while processes(&self.out, "").len() < count {
            assert!(begun.elapsed() < PATIENCE, "the run hangs:\n{}", self.said.join("\n"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// `kill -9` of the one process with this in its command line.
    pub(crate) fn kill(&self, part: &str) {
        self.signal_to(part, Signal::KILL);
    }

    /// `kill -9` of an edge.
    pub(crate) fn kill_edge(&self, name: &str) {
        self.signal_edge(name, Signal::KILL);
    }

    /// Signals an edge.
    pub(crate) fn signal_edge(&self, name: &str, signal: Signal) {
        self.signal_to(&format!("--name={name}\0"), signal);
    }

    fn signal_to(&self, part: &str, signal: Signal) {
        let [pid] = processes(&self.out, part)[..] else { panic!("not one process with `{part}`") };
        kill_process(pid, signal).expect("it is at work");
    }

    /// Signals the runner itself.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("process ids are small");
        kill_process(pid, signal).expect("it is at work");
    }

    /// Waits for its end.
    pub(crate) fn end(mut self) -> Ended {
        while self.next_line().is_some() {}
        let status = self.child.wait().expect("it ends");
        Ended { code: status.code(), said: self.said.join("\n") }
    }

    /// Waits for its end, which must be a good one.
    pub(crate) fn finish(self) -> Record {
        let out = self.out.clone();
        let Ended { code, said } = self.end();
        assert_eq!(code, Some(0), "{said}");
        Record::read(&out)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes at work for the run in this folder, by what is in their command lines.
fn processes(out: &Path, part: &str) -> Vec<Pid> {
    let out = format!("--out={}", out.display());
    let is_ours = |line: &str| line.split('\0').any(|argument| argument == out) && line.contains(part);
    let folders = fs::read_dir("/proc").expect("this is Linux").filter_map(Result::ok);
    let pids = folders.filter_map(|folder| {
        let pid = folder.file_name().to_str()?.parse().ok()?;
        let line = fs::read(folder.path().join("cmdline")).ok()?;
        is_ours(&String::from_utf8_lossy(&line)).then(|| Pid::from_raw(pid))?
    });
    pids.collect()
}

/// What a run left in its folder.
pub(crate) struct Record {
    pub(crate) summary: Value,
    pub(crate) events: Vec<Event>,
}

impl Record {
    pub(crate) fn read(out: &Path) -> Self {
        let summary = fs::read_to_string(out.join("summary.json")).expect("there is a summary");
        let events = fs::read_to_string(out.join("events.jsonl")).expect("there are events");
        let event = |line| serde_json::from_str(line).expect("every line is an event");
        Self {
            summary: serde_json::from_str(&summary).expect("the summary is JSON"),
            events: events.lines().map(event).collect(),
        }
    }

    pub(crate) fn weights(&self) -> String {
        self.summary["weights_sha256"].as_str().expect("a finished run has weights").to_owned()
    }

    pub(crate) fn accuracy(&self) -> f64 {
        self.share("final_accuracy")
    }

    pub(crate) fn best_accuracy(&self) -> f64 {
        self.share("best_accuracy")
    }

    fn share(&self, key: &str) -> f64 {
        self.summary[key].as_f64().unwrap_or_else(|| panic!("{key} is a number"))
    }

    pub(crate) fn number(&self, key: &str) -> u64 {
        self.summary[key].as_u64().unwrap_or_else(|| panic!("{key} is a whole number"))
    }

    /// How an edge came back, each time.
    pub(crate) fn recoveries(&self, name: &str) -> Vec<Recovery> {
        let how = |event: &Event| match &event.kind {
            EventKind::EdgeResumed { edge, how, .. } if edge == name => Some(*how),
            _ => None,
        };
        self.events.iter().filter_map(how).collect()
    }

    /// The rounds after which there was an aggregation.
    pub(crate) fn aggregated(&self) -> Vec<u32> {
        let round = |event: &Event| match event.kind {
            EventKind::Aggregated { round, .. } => Some(round),
            _ => None,
        };
        self.events.iter().filter_map(round).collect()
    }

    /// The cuts that an edge had, round by round.
    pub(crate) fn cuts(&self, name: &str) -> Vec<u32> {
        let cut = |event: &Event| match &event.kind {
            EventKind::Planned { edges, .. } => Some(edges.iter().find(|planned| planned.edge == name)?.cut),
            _ => None,
        };
        self.events.iter().filter_map(cut).collect()
    }
}
