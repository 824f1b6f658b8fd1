//! `partway run` under the virtual clock: the whole fleet in this process.
//!
//! The coordinator and the edges are the state machines that run over QUIC, too, and the tensors are computed
//! for real. Time is not: work takes what the device profiles say ([`device`]), and what is sent crosses
//! modelled links ([`link`]). [`world`] lets one thing happen after the other; while virtual time stands
//! still, threads compute ([`crew`]). Times depend on the configuration alone, so that the course of a run is
//! the same on every machine, as far as no accuracy decides it.

mod agenda;
mod cloud;
mod crew;
mod device;
mod edge;
mod link;
mod rates;
mod setup;
#[cfg(test)]
mod tests;
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use partway_cloud::outputs::{Begun, Ended, Outputs, OutputsError};
use partway_core::coordinator::Checkpoint;
use partway_core::event::{Event, EventKind};
use partway_core::model::LayerState;

use self::setup::Setup;
use self::world::{Observer, WorldError};
use crate::experiment::Experiment;
use crate::failure::Failure;
use crate::interrupts::Interrupts;
use crate::run::layout::Layout;
use crate::run::progress::Display;
use crate::run::supervise::End;
use crate::run::tracker::Tracker;

/// Keeps the record and shows how the run is getting on.
struct Recorder {
    outputs: Outputs,
    tracker: Tracker,
    display: Display,
}

impl Observer for Recorder {
    type Error = OutputsError;

    fn event(&mut self, event: &Event) -> Result<(), OutputsError> {
        self.outputs.write(event)?;
        let said = self.tracker.observe(event);
        self.display.update(&self.tracker, said.as_ref());
        Ok(())
    }

    fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), OutputsError> {
        self.outputs.checkpoint(checkpoint)
    }

    fn edge_failed(&mut self, name: &str, reason: &str) {
        if !self.tracker.is_over {
            self.display.say(&format!("edge {name}: {reason}"));
        }
    }
}

/// Runs the experiment on `threads` threads, with its outputs in the folder of `layout`, until it ends or
/// `interrupted` says so.
pub(crate) fn run(
    experiment: Experiment,
    init: Option<LayerState>,
    layout: &Layout,
    resume: bool,
    threads: usize,
    interrupted: &AtomicBool,
) -> Result<End, Failure> {
    let setup = Setup::new(experiment, threads).map_err(Failure::failed)?;
    let begun = Outputs::begin(layout.root(), &setup.config, &setup.settings, resume);
    let Begun { outputs, checkpoint, warnings } = begun.map_err(Failure::failed)?;
    let names: Vec<String> = setup.parts.iter().map(|(name, _)| name.clone()).collect();
    let mut recorder = Recorder { outputs, tracker: Tracker::default(), display: Display::new(&names) };
    for warning in &warnings {
        recorder.display.say(&format!("warning: {warning}"));
    }
    let listening =
        Event { at: 0.0, kind: EventKind::Listening { address: "virtual".into(), data_address: None } };
    recorder.event(&listening).map_err(Failure::failed)?;
    let (settings, given) = (setup.settings.clone(), init);
    let given = given.map(|weights| {
        Checkpoint::before_training(weights.with_zero_moments(&settings.spec, settings.moments()))
    });
    let world = setup.world(checkpoint.or(given)).map_err(Failure::failed)?;
    let outcome = world.run(&mut recorder, interrupted);
    let Recorder { outputs, display, .. } = recorder;
    display.finish();
    let (outcome, stuck) = match outcome {
        Ok(outcome) => (outcome, None),
        Err(WorldError::Observer(error)) => return Err(Failure::failed(error)),
        Err(error) => (None, Some(error.to_string())),
    };
    let ended = outputs.end(outcome).map_err(Failure::failed)?;
    match (ended, stuck) {
        (_, Some(reason)) | (Ended::Aborted { reason }, None) => Err(Failure::Failed(reason)),
        (Ended::Finished(_), None) => Ok(End::Finished),
        (Ended::Interrupted, None) => Ok(End::Interrupted),
    }
}

/// Says when Ctrl-C or SIGTERM comes; the second one ends the program at once.
pub(crate) fn watch_for_interrupts() -> Result<Arc<AtomicBool>, Failure> {
    let failed = |error: std::io::Error| Failure::Failed(format!("cannot wait for signals: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let interrupts = runtime.block_on(async { Interrupts::new() });
    let mut interrupts = interrupts.map_err(failed)?;
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let watch = move || {
        runtime.block_on(async {
            interrupts.next().await;
            flag.store(true, Ordering::Relaxed);
            crate::output::note("stopping; interrupt again to stop at once");
            interrupts.next().await;
            std::process::exit(i32::from(Failure::Interrupted(String::new()).code()));
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(watch).map_err(failed)?;
    Ok(interrupted)
}
