//! `partway plan`: what the layers cost and how the edges would be cut, without training.

mod json;
mod tables;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use partway_core::config::{
    Clock, Config, ConfigError, DeviceFile, DeviceKind, EdgeConfig, LinkTrace, Mbps, TraceStep,
};
use partway_core::coordinator::{Cuts, Outlook, Settings, forecast_edges};
use partway_core::link::ASSUMED_BYTES_PER_S;
use partway_core::plan::{Plan, PlanError};
use partway_core::profile::{DeviceProfile, StepCorrections};
use thiserror::Error;

use crate::calibration::{self, CalibrationError, DeviceError, Measured, calibrate};
use crate::experiment::{Experiment, ExperimentArgs};
use crate::failure::Failure;
use crate::output;
use crate::run::emulation;

/// What to plan.
#[derive(Clone, Debug, Args)]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// Print one JSON object instead of tables
    #[arg(long)]
    json: bool,
}

/// Why there is no plan.
#[derive(Debug, Error)]
enum PlanningError {
    /// A profile's file cannot be read.
    #[error("{key}: cannot read the device profile `{}`: {source}", path.display())]
    Read {
        /// The key that names it.
        key: String,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A profile's file holds something else.
    #[error("{key}: `{}` is no device profile: {reason}", path.display())]
    Profile {
        /// The key that names it.
        key: String,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A device is not there.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// This machine cannot be calibrated.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// The cuts do not fit the model.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A number cannot be planned with.
    #[error("cannot plan: {0}")]
    Plan(#[from] PlanError),
}

/// A plan with what it was made from.
#[derive(Debug)]
struct Planned {
    settings: Settings,
    plan: Plan,
    /// Where the seconds of the edges and of the cloud come from.
    sources: Vec<String>,
}

/// Plans the experiment and prints the plan.
pub(crate) fn plan(args: &PlanArgs) -> Result<(), Failure> {
    let experiment = Experiment::load(&args.experiment).map_err(Failure::wrong)?;
    experiment.initial_weights().map_err(Failure::wrong)?;
    let planned = make(&experiment).map_err(|error| match error {
        PlanningError::Calibration(_) => Failure::failed(error),
        _ => Failure::wrong(error),
    })?;
    if args.json {
        output::print(&json::object(&experiment, &planned.plan).to_string());
    } else {
        output::print(&tables::layers(&experiment));
        output::print(&tables::edges(&experiment, &planned));
    }
    Ok(())
}

fn make(experiment: &Experiment) -> Result<Planned, PlanningError> {
    let edges = experiment.config.edges();
    let mut machine = Machine { experiment, measured: Vec::new() };
    let settings = experiment.settings(machine.cloud_profile()?)?;
    let mut outlooks = Vec::with_capacity(edges.len());
    for edge in &edges {
        let trace = edge.trace.as_ref().and_then(|path| experiment.traces.get(path));
        outlooks.push(outlook(edge, trace.map(Arc::as_ref), machine.edge_profile(edge)?, &settings));
    }
    let plan = forecast_edges(&settings, &outlooks)?;
    Ok(Planned { sources: sources(experiment, &edges), settings, plan })
}

/// What everybody computes with: a profile of their own under the virtual clock, else a device of this
/// machine, which is measured when it is first asked for.
struct Machine<'a> {
    experiment: &'a Experiment,
    measured: Vec<(Measured, DeviceProfile)>,
}

impl Machine<'_> {
    fn cloud_profile(&mut self) -> Result<DeviceProfile, PlanningError> {
        let Config { clock, cloud, .. } = &self.experiment.config;
        match &cloud.profile {
            Some(path) if *clock == Clock::Virtual => read_profile("cloud.profile", path),
            _ => self.measured(calibration::CLOUD_KEY.to_owned(), Measured::of_cloud(cloud)),
        }
    }

    /// An edge is its profile, or without one this machine, `edge.speed` times as fast.
    fn edge_profile(&mut self, edge: &EdgeConfig) -> Result<DeviceProfile, PlanningError> {
        let profile = match &edge.profile {
            Some(path) if self.experiment.config.clock == Clock::Virtual => {
                read_profile(&format!("profile of edge `{}`", edge.name), path)?
            }
            _ => self.measured(calibration::edge_key(edge), Measured::of_edge(edge))?,
        };
        Ok(profile.scaled(1.0 / speed(edge, self.experiment.config.clock)))
    }

    fn measured(&mut self, key: String, device: Measured) -> Result<DeviceProfile, PlanningError> {
        if let Some((_, profile)) = self.measured.iter().find(|(measured, _)| *measured == device) {
            return Ok(profile.clone());
        }
        let profile = calibrate(self.experiment, &device.open(key)?)?;
        self.measured.push((device, profile.clone()));
        Ok(profile)
    }
}

/// How fast an edge is, as a share of its profile or of this machine.
fn speed(edge: &EdgeConfig, clock: Clock) -> f64 {
    match clock {
        Clock::Wall => emulation::speed(edge),
        Clock::Virtual => edge.speed.get(),
    }
}

/// Bytes per second at the start of a run: the trace's, where it begins then; else what is configured, or else the
/// trace's first. One that begins out of reach has its first rate thereafter.
fn rate(configured: Option<Mbps>, trace: Option<&LinkTrace>, of: impl Fn(&TraceStep) -> Option<f64>) -> f64 {
    let steps = || trace.into_iter().flat_map(LinkTrace::steps).filter_map(|step| Some((step.at, of(step)?)));
    let at_once = steps().find(|(at, _)| at.is_zero()).map(|(_, mbps)| mbps);
    let before_it = at_once.or(configured.map(Mbps::get));
    let mbps = before_it.into_iter().chain(steps().map(|(_, mbps)| mbps)).find(|mbps| *mbps > 0.0);
    mbps.map_or(ASSUMED_BYTES_PER_S, |mbps| mbps * 1e6 / 8.0)
}

/// What is known of an edge with this profile from the configuration alone.
fn outlook(
    edge: &EdgeConfig,
    trace: Option<&LinkTrace>,
    profile: DeviceProfile,
    settings: &Settings,
) -> Outlook {
    Outlook {
        name: edge.name.as_str().to_owned(),
        profile,
        corrections: StepCorrections::default(),
        up: rate(edge.uplink_mbps, trace, |step| Some(step.up_mbps)),
        down: rate(edge.downlink_mbps, trace, |step| step.down_mbps),
        rtt_s: edge.rtt.get().as_secs_f64(),
        margin: settings.margin,
        memory_limit: edge.memory.map(partway_core::config::ByteSize::bytes),
        current_cut: None,
        fixed_cut: match settings.cuts {
            Cuts::Fixed(cut) => Some(cut),
            Cuts::Planned | Cuts::Random => None,
        },
    }
}

/// Where the seconds come from, a line each.
fn sources(experiment: &Experiment, edges: &[EdgeConfig]) -> Vec<String> {
    let calibrated = |device| match device {
        DeviceKind::Cpu => "a calibration of this machine".to_owned(),
        DeviceKind::Wgpu => "a calibration of this machine's graphics processor".to_owned(),
    };
    let virtual_clock = experiment.config.clock == Clock::Virtual;
    let cloud = match &experiment.config.cloud.profile {
        Some(path) if virtual_clock => path.display().to_string(),
        _ => calibrated(experiment.config.cloud.device),
    };
    let mut lines = vec![format!("cloud: {cloud}")];
    lines.extend(edges.iter().map(|edge| match &edge.profile {
        Some(path) if virtual_clock && edge.speed.get().to_bits() == 1f64.to_bits() => {
            format!("{}: {}", edge.name, path.display())
        }
        Some(path) if virtual_clock => {
            format!("{}: {}, at {} of its speed", edge.name, path.display(), edge.speed)
        }
        _ => {
            let speed = speed(edge, experiment.config.clock);
            format!("{}: {}, at {speed} of its speed", edge.name, calibrated(edge.device))
        }
    }));
    lines
}

fn read_profile(key: &str, path: &Path) -> Result<DeviceProfile, PlanningError> {
    let (key, path) = (key.to_owned(), path.to_owned());
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(source) => return Err(PlanningError::Read { key, path, source }),
    };
    match DeviceFile::parse(&text, &path.display().to_string()) {
        Ok(device) => Ok(device.profile),
        Err(error) => Err(PlanningError::Profile { key, path, reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use partway_core::config::Speed;

    use super::*;
    use crate::experiment::tests::{SMALL, load};

    const PROFILE: &str = "source = \"made up\"\n[kinds.linear]\n\
                           forward = { per_flop = 1e-8 }\nbackward = { per_flop = 1e-8 }\n";

    /// Edges and cloud with profiles of their own, so that nothing is measured.
    fn planned(sets: &[&str]) -> Result<Planned, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let profile = folder.path().join("device.toml");
        fs::write(&profile, PROFILE).expect("written");
        let path = profile.display();
        let (cloud, edge) = (format!("cloud.profile={path}"), format!("edge.camera.profile={path}"));
        let sets: Vec<&str> =
            [cloud.as_str(), edge.as_str()].into_iter().chain(sets.iter().copied()).collect();
        let mut experiment = load(SMALL, &sets)?;
        experiment.config.clock = Clock::Virtual;
        make(&experiment).map_err(|error| error.to_string())
    }

    #[test]
    fn every_edge_is_planned_from_profiles_and_configured_links() {
        let sets = ["edge.camera.uplink_mbps=8", "edge.camera.rtt=20ms", "plan.fixed_cut=2"];
        let planned = planned(&sets).expect("it can be planned");
        let [first, second] = &planned.plan.edges[..] else { panic!("two edges") };
        assert_eq!((first.name.as_str(), first.cut, second.cut), ("camera-0", 2, 2));
        assert!(first.terms.uplink >= 0.01, "half of the round trip: {:?}", first.terms);
        assert!(
            planned.sources.iter().all(|source| source.ends_with("device.toml")),
            "{:?}",
            planned.sources
        );
    }

    #[test]
    fn a_trace_says_what_a_run_starts_with() {
        let of = |text: &str, configured: f64| {
            let trace = LinkTrace::parse(text, "x.csv").expect("it is right");
            let kbps = |rate: f64| (rate * 8.0 / 1e3).round() as u64;
            let configured = Mbps::new(configured);
            [
                kbps(rate(configured, Some(&trace), |step| Some(step.up_mbps))),
                kbps(rate(configured, Some(&trace), |step| step.down_mbps)),
            ]
        };
        assert_eq!(of("0,0.5,8\n9,4,4", 20.0), [500, 8000]);
        assert_eq!(of("0,0.5", 20.0), [500, 20_000], "it says nothing of the other direction");
        assert_eq!(of("5,0.5,8", 20.0), [20_000, 20_000], "it begins later");
        assert_eq!(of("5,0.5,8", 0.0), [500, 8000], "nothing is configured");
        assert_eq!(of("0,0,0\n5,4,2", 20.0), [4000, 2000], "it begins out of reach");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("slow.csv");
        fs::write(&path, "0,0.5\n").expect("written");
        let sets = ["edge.camera.uplink_mbps=20".to_owned(), format!("edge.camera.trace={}", path.display())];
        let uplink = |sets: &[String]| {
            let sets: Vec<&str> = sets.iter().map(String::as_str).chain(["plan.fixed_cut=2"]).collect();
            planned(&sets).expect("it can be planned").plan.edges[0].terms.uplink
        };
        assert!(uplink(&sets) > 10.0 * uplink(&sets[..1]), "a fortieth of the rate: {}", uplink(&sets));
    }

    #[test]
    fn what_cannot_be_met_is_reported_with_what_could() {
        let plan = |sets: &[&str]| planned(sets).expect("it can be planned").plan;
        let late = plan(&["plan.deadline=1us"]);
        let could = late.common_deadline_s.expect("computed");
        assert!(late.edges.iter().all(|edge| !edge.feasible && edge.fixes.is_some()), "{late:?}");
        let met = format!("plan.deadline={}us", (1e6 * could).ceil());
        assert!(plan(&[met.as_str()]).edges.iter().all(|edge| edge.feasible));
        let missed = format!("plan.deadline={}us", (1e6 * could * 0.99).floor());
        assert!(plan(&[missed.as_str()]).edges.iter().any(|edge| !edge.feasible));

        let small = plan(&["edge.camera.memory=1KiB"]);
        let bytes = small.edges[0].fixes.and_then(|fixes| fixes.memory_bytes).expect("computed");
        assert!(!small.edges[0].feasible && bytes > 1024, "{small:?}");
        let memory = format!("edge.camera.memory={bytes}B");
        assert!(plan(&[memory.as_str()]).edges[0].feasible);

        let error = planned(&["cloud.capacity_mbps=0"]).expect_err("nothing can be sent");
        assert!(error.contains("cloud.capacity_mbps"), "{error}");
    }

    #[test]
    fn what_the_edges_share_is_planned_and_said() {
        let plan = |sets: &[&str]| planned(sets).expect("it can be planned").plan;
        let common = plan(&["training.algorithm=splitfed-v2"]);
        assert!(common.edges.iter().all(|edge| edge.cut == common.edges[0].cut));
        assert!(common.edges.iter().all(|edge| edge.reason.contains("all edges have one cut")), "{common:?}");
        // Of two equal edges with one worker, each has it to itself.
        let turns = plan(&["training.algorithm=sequential", "cloud.workers=1", "plan.fixed_cut=2"]);
        let side_by_side = plan(&["cloud.workers=1", "plan.fixed_cut=2"]);
        for (alone, sharing) in turns.edges.iter().zip(&side_by_side.edges) {
            assert!((2.0 * alone.terms.cloud - sharing.terms.cloud).abs() < 1e-9, "{alone:?} {sharing:?}");
        }
    }

    #[test]
    fn an_edge_without_a_profile_is_this_machine_at_its_speed() {
        let machine: DeviceProfile = toml::from_str(PROFILE).expect("a profile");
        let experiment = load(SMALL, &["edge.camera.speed=0.25"]).expect("it is right");
        let edge = &experiment.config.edges()[0];
        let mut this = Machine {
            experiment: &experiment,
            measured: vec![(Measured::of(DeviceKind::Cpu, 1), machine.clone())],
        };
        let profile = this.edge_profile(edge).expect("it is measured");
        assert_eq!(profile, machine.scaled(4.0));
        let faster = EdgeConfig { speed: Speed::new(2.0).expect("it is in the range"), ..edge.clone() };
        assert_eq!(
            this.edge_profile(&faster).expect("it is measured"),
            machine,
            "no edge is faster than this"
        );
        let settings = experiment.settings(machine.clone()).expect("it is right");
        let outlook = outlook(edge, None, profile, &settings);
        assert_eq!((outlook.up.to_bits(), outlook.fixed_cut), (ASSUMED_BYTES_PER_S.to_bits(), None));
    }

    #[test]
    fn a_profile_that_cannot_be_used_is_named_with_its_edge() {
        let error = planned(&["edge.camera.profile=no/such.toml"]).expect_err("there is no file");
        let expected = "profile of edge `camera-0`: cannot read the device profile `no/such.toml`";
        assert!(error.starts_with(expected), "{error}");
        let error = planned(&["cloud.profile=Cargo.toml"]).expect_err("something else");
        assert!(error.starts_with("cloud.profile: `Cargo.toml` is no device profile"), "{error}");
    }
}
