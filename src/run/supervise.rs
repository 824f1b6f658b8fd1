//! One run at work: starts the coordinator, then the edges, follows the events, and ends them all.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use partway_core::config::{Config, is_quorum};
use partway_core::event::{Event, EventKind};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::children::{self, Report, Start, Stop, attend, keep_running};
use super::layout::Layout;
use super::processes::{CloudArgs, EdgeArgs, unix_ms};
use super::progress::Display;
use super::tracker::Tracker;
use crate::failure::Failure;
use crate::interrupts::Interrupts;

/// How long the coordinator may take to write its last files when it is asked to stop.
const CLOUD_GRACE: Duration = Duration::from_secs(5);
/// How long edges may take to end by themselves after the coordinator.
const EDGE_GRACE: Duration = Duration::from_secs(5);
/// How long they may take after a SIGTERM.
const TERMINATE_GRACE: Duration = Duration::from_secs(1);
/// Reports of edges' processes that wait to be shown.
const REPORTS: usize = 64;

/// How a run ended that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Training is over.
    Finished,
    /// Somebody asked to stop.
    Interrupted,
}

/// The processes of one run and what is shown of them.
#[derive(Debug)]
pub(crate) struct Supervisor {
    layout: Layout,
    edges: Vec<String>,
    resume: bool,
    program: PathBuf,
    started_ms: u64,
    tracker: Tracker,
    display: Display,
    /// Whether a line was no event; that is said once.
    is_unreadable: bool,
    edge_stop: watch::Sender<Stop>,
    edge_tasks: JoinSet<()>,
    report: mpsc::Sender<Report>,
    quorum: Quorum,
    /// Why the run cannot begin any more.
    hopeless: Option<String>,
}

/// How many edges must come before a run begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quorum {
    /// Edges that there are, but for those that are gone for good.
    pub(crate) left: usize,
    /// `fleet.min_edges`.
    pub(crate) min_edges: usize,
    /// `fleet.quorum`.
    pub(crate) share: f64,
}

impl Quorum {
    /// That of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            left: config.edge_count(),
            min_edges: config.fleet.min_edges.get(),
            share: config.fleet.quorum.get(),
        }
    }

    /// Why so few will not do, as the coordinator counts them when `fleet.gather_timeout` is over.
    fn lack(self) -> Option<String> {
        let Self { left, min_edges, share } = self;
        (!is_quorum(share, left, min_edges)).then(|| {
            format!(
                "{left} {} left to begin with: fleet.min_edges = {min_edges} and fleet.quorum = {share} need more",
                if left == 1 { "edge is" } else { "edges are" }
            )
        })
    }
}

/// Runs the experiment in the folder of `layout` with these edges, until it ends. Must be called on the
/// program's first thread: the processes end with the thread that started them.
pub(crate) fn supervise(
    layout: &Layout,
    edges: Vec<String>,
    quorum: Quorum,
    resume: bool,
) -> Result<End, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("start the runner", &error))?;
    runtime.block_on(async {
        let (report, reports) = mpsc::channel(REPORTS);
        let supervisor = Supervisor {
            layout: layout.clone(),
            display: Display::new(&edges),
            edges,
            resume,
            program: std::env::current_exe().map_err(|error| failed("find this program", &error))?,
            started_ms: unix_ms(),
            tracker: Tracker::default(),
            is_unreadable: false,
            edge_stop: watch::Sender::new(Stop::No),
            edge_tasks: JoinSet::new(),
            report,
            quorum,
            hopeless: None,
        };
        supervisor.run(reports).await
    })
}

impl Supervisor {
    async fn run(mut self, mut reports: mpsc::Receiver<Report>) -> Result<End, Failure> {
        let mut interrupts = Interrupts::new().map_err(|error| failed("wait for signals", &error))?;
        let start = self.start_of_cloud();
        let log_start = start.log_len();
        let mut cloud =
            start.spawn(Stdio::piped()).map_err(|error| failed("start the coordinator", &error))?;
        let stdout = cloud.stdout.take().ok_or_else(|| failed("read from the coordinator", &"no pipe"))?;
        let mut lines = BufReader::new(stdout).lines();
        let (cloud_stop, mut cloud_stopped) = watch::channel(Stop::No);
        let cloud = tokio::spawn(async move { attend(&mut cloud, &mut cloud_stopped).await });

        let mut interrupted = false;
        let mut patience_ends = None;
        loop {
            tokio::select! {
                line = lines.next_line() => match line {
                    Ok(Some(line)) => self.handle_line(&line),
                    Ok(None) | Err(_) => break,
                },
                Some(report) = reports.recv() => {
                    self.handle_report(&report);
                    if self.hopeless.is_some() && patience_ends.is_none() {
                        cloud_stop.send_replace(Stop::Terminate);
                        patience_ends = Some(Instant::now() + CLOUD_GRACE);
                    }
                }
                () = interrupts.next() => {
                    if interrupted {
                        cloud_stop.send_replace(Stop::Kill);
                        self.edge_stop.send_replace(Stop::Kill);
                    } else {
                        interrupted = true;
                        self.display.say("stopping; interrupt again to stop at once");
                        cloud_stop.send_replace(Stop::Terminate);
                        self.edge_stop.send_replace(Stop::Ending);
                        patience_ends = Some(Instant::now() + CLOUD_GRACE);
                    }
                }
                () = sleep_until(patience_ends.unwrap_or_else(Instant::now)), if patience_ends.is_some() => {
                    patience_ends = None;
                    cloud_stop.send_replace(Stop::Kill);
                }
            }
        }
        // Its standard output is closed: it has ended, or is about to.
        let mut cloud = cloud;
        let status = if let Ok(ended) = timeout(CLOUD_GRACE, &mut cloud).await {
            ended
        } else {
            cloud_stop.send_replace(Stop::Kill);
            cloud.await
        };
        let status = status
            .map_err(|error| failed("watch the coordinator", &error))?
            .map_err(|error| failed("wait for the coordinator", &error))?;
        while let Ok(report) = reports.try_recv() {
            self.handle_report(&report);
        }
        drop(reports);
        self.end_edges(if status.success() { EDGE_GRACE } else { TERMINATE_GRACE }).await;
        self.display.finish();
        let failed = self.tracker.aborted.or(self.hopeless.filter(|_| !interrupted));
        conclude(status, interrupted, failed, || children::tail(&start.log, log_start))
    }

    fn handle_line(&mut self, line: &str) {
        let event: Event = match serde_json::from_str(line) {
            Ok(event) => event,
            Err(error) => {
                if !self.is_unreadable {
                    self.is_unreadable = true;
                    self.display.say(&format!("the coordinator wrote what is no event ({error}): {line}"));
                }
                return;
            }
        };
        if let EventKind::Listening { address, data_address } = &event.kind {
            let data = data_address.as_ref().map(|data| data.parse()).transpose();
            if let (Ok(address), Ok(data)) = (address.parse(), data) {
                self.start_edges(address, data);
            } else {
                let addresses = format!("{address} {}", data_address.as_deref().unwrap_or_default());
                self.display.say(&format!("the coordinator listens at {addresses}, which is no address"));
            }
        }
        let said = self.tracker.observe(&event);
        self.display.update(&self.tracker, said.as_ref());
    }

    /// Once the run is over, edges that fail only follow the coordinator. Before the first round it would wait for
    /// those that are gone; later they may be back as far as it knows, and it says itself when it has waited enough.
    fn handle_report(&mut self, report: &Report) {
        if self.tracker.is_over {
            return;
        }
        self.display.say(&report.text);
        if report.is_gone {
            self.quorum.left = self.quorum.left.saturating_sub(1);
            if self.tracker.round == 0 {
                self.hopeless = self.quorum.lack();
            }
        }
    }

    fn start_of_cloud(&self) -> Start {
        let arguments =
            CloudArgs { out: self.layout.root().to_owned(), parent: own_pid(), resume: self.resume };
        Start {
            program: self.program.clone(),
            arguments: arguments.to_command_line(),
            log: self.layout.log("coordinator"),
        }
    }

    fn start_edges(&mut self, address: SocketAddr, data_address: Option<SocketAddr>) {
        for name in std::mem::take(&mut self.edges) {
            let arguments = EdgeArgs {
                out: self.layout.root().to_owned(),
                parent: own_pid(),
                name: name.clone(),
                address,
                data_address,
                started_ms: self.started_ms,
            };
            let start = Start {
                program: self.program.clone(),
                arguments: arguments.to_command_line(),
                log: self.layout.log(&name),
            };
            self.edge_tasks.spawn(keep_running(name, start, self.edge_stop.subscribe(), self.report.clone()));
        }
    }

    /// Waits for the edges, asks those that are left after `grace` to end, and then makes them.
    async fn end_edges(&mut self, grace: Duration) {
        for (stop, patience) in [(Stop::Ending, grace), (Stop::Terminate, TERMINATE_GRACE)] {
            self.edge_stop.send_if_modified(|asked| {
                let more = *asked < stop;
                *asked = (*asked).max(stop);
                more
            });
            let all_ended = async { while self.edge_tasks.join_next().await.is_some() {} };
            if timeout(patience, all_ended).await.is_ok() {
                return;
            }
        }
        self.edge_stop.send_replace(Stop::Kill);
        while self.edge_tasks.join_next().await.is_some() {}
    }
}

/// What the end of the coordinator's process means.
fn conclude(
    status: ExitStatus,
    interrupted: bool,
    aborted: Option<String>,
    tail: impl FnOnce() -> String,
) -> Result<End, Failure> {
    if status.success() {
        return Ok(End::Finished);
    }
    if let Some(reason) = aborted {
        return Err(Failure::Failed(reason));
    }
    if interrupted || status.code() == Some(130) {
        return Ok(End::Interrupted);
    }
    Err(Failure::Failed(format!("the coordinator {}: {}", children::in_words(status), tail())))
}

fn own_pid() -> i32 {
    rustix::process::getpid().as_raw_pid()
}

fn failed(action: &str, reason: &dyn std::fmt::Display) -> Failure {
    Failure::Failed(format!("cannot {action}: {reason}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn edges_that_are_gone_are_missed_below_the_quorum() {
        let lack = |left, min_edges, share| Quorum { left, min_edges, share }.lack();
        assert_eq!((lack(4, 4, 1.0), lack(2, 4, 0.5), lack(2, 2, 1.0)), (None, None, None));
        assert_eq!(lack(55, 100, 0.55), None);
        let words = "3 edges are left to begin with: fleet.min_edges = 4 and fleet.quorum = 1 need more";
        assert_eq!(lack(3, 4, 1.0).as_deref(), Some(words));
        assert!(lack(0, 1, 0.1).is_some() && lack(1, 4, 0.5).is_some());
    }

    #[test]
    fn the_coordinators_end_is_the_runs() {
        let exited = |code: i32| ExitStatus::from_raw(code << 8);
        let killed = ExitStatus::from_raw(9);
        let conclude = |status, interrupted, aborted: Option<&str>| {
            conclude(status, interrupted, aborted.map(str::to_owned), || "the tail".to_owned())
        };
        assert_eq!(conclude(exited(0), false, None), Ok(End::Finished));
        assert_eq!(conclude(exited(0), true, None), Ok(End::Finished), "it was quicker");
        assert_eq!(conclude(exited(130), true, None), Ok(End::Interrupted));
        assert_eq!(conclude(killed, true, None), Ok(End::Interrupted), "it took too long");
        assert_eq!(conclude(exited(130), false, None), Ok(End::Interrupted), "somebody else asked it");
        let failed = |reason: &str| Err(Failure::Failed(reason.to_owned()));
        assert_eq!(conclude(exited(1), false, Some("no quorum")), failed("no quorum"));
        assert_eq!(conclude(killed, false, None), failed("the coordinator was killed by signal 9: the tail"));
    }
}
