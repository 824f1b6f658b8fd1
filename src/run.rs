//! `partway run`: the whole experiment on this machine.

mod children;
pub(crate) mod emulation;
mod folder;
mod inputs;
pub(crate) mod layout;
pub(crate) mod processes;
pub(crate) mod progress;
mod summary;
pub(crate) mod supervise;
pub(crate) mod tracker;

use std::path::{Path, PathBuf};

use clap::Args;
use partway_core::config::{Clock, Config, ConfigError, Fraction, ModelSource, Share};
use partway_core::holdout::held_out;
use partway_model::check_processors;

use self::folder::RunFolder;
use self::inputs::Inputs;
use self::layout::Layout;
use self::supervise::{End, Quorum, supervise};
use crate::calibration::{calibrate, devices};
use crate::data::info::doubt_of_labels;
use crate::experiment::{Experiment, ExperimentArgs};
use crate::failure::Failure;
use crate::outputs::Outputs;
use crate::{output, report, virtual_fleet};

/// With more classes than this their names are only in the outputs.
const NAMED_CLASSES: usize = 20;

/// What to run, and where to.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) experiment: ExperimentArgs,
    /// The folder of outputs [default: runs/NAME]
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Continue the run in that folder from its last checkpoint
    #[arg(long)]
    pub(crate) resume: bool,
    /// Virtual clock: threads that compute tensors; results are the same for any number [default: all that
    /// this machine has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// Runs the experiment.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let experiment = Experiment::load(&args.experiment).map_err(Failure::wrong)?;
    let clock = experiment.config.clock;
    if clock == Clock::Wall && args.threads.is_some() {
        let reason =
            "--threads is for `clock = \"virtual\"` only; set `cloud.threads` and `edge.threads` instead";
        return Err(Failure::Wrong(reason.into()));
    }
    let devices = match clock {
        Clock::Wall => devices(&experiment.config).map_err(Failure::wrong)?,
        Clock::Virtual => Vec::new(),
    };
    check_cpus(&experiment.config).map_err(Failure::wrong)?;
    experiment.check_memory().map_err(Failure::wrong)?;
    let name = experiment.config.name.as_str();
    let root = args.out.clone().unwrap_or_else(|| Path::new("runs").join(name));
    let config = experiment.config.to_toml();
    // Before the folder is cleared: a run may go on from the model that the last one left there.
    let init = if args.resume { None } else { experiment.initial_weights().map_err(Failure::wrong)? };
    if !args.resume {
        keep_inputs(&experiment.config, &Layout::new(&root)).map_err(Failure::wrong)?;
    }
    let folder = RunFolder::claim(&root, &config, args.resume).map_err(Failure::wrong)?;
    if folder.replaced_unfinished {
        output::note(&format!(
            "warning: the unfinished run in `{}` is replaced; with --resume it would have gone on",
            root.display()
        ));
    }
    let inputs = Inputs::of(&experiment)
        .map_err(|(path, error)| Failure::Failed(format!("cannot read `{}`: {error}", path.display())))?;
    if args.resume {
        folder.check_inputs(&inputs).map_err(Failure::wrong)?;
    } else {
        folder.describe(&experiment, &inputs).map_err(Failure::failed)?;
    }
    introduce(&experiment);
    let profiles = devices.iter().map(|(measured, device)| {
        let profile = if args.resume {
            folder::read_calibration(&folder.layout, *measured).map_err(Failure::wrong)?
        } else {
            output::note(&format!("calibrating this machine, alone: {}", device.name()));
            calibrate(&experiment, device).map_err(Failure::failed)?
        };
        Ok((*measured, profile))
    });
    let profiles = profiles.collect::<Result<Vec<_>, _>>()?;
    let target = experiment.config.training.target_accuracy.map(Share::get);
    let ended = match clock {
        Clock::Wall => {
            folder.fill(&experiment, init.as_ref(), &profiles).map_err(Failure::failed)?;
            let edges = experiment.parts.iter().map(|(name, _)| name.clone()).collect();
            let quorum = Quorum::of(&experiment.config);
            // The processes have read their own parts; this one needs no samples and weights any more.
            drop((experiment, init));
            supervise(&folder.layout, edges, quorum, args.resume)
        }
        Clock::Virtual => {
            let threads = args.threads.map_or_else(processors, usize::from);
            let interrupted = virtual_fleet::watch_for_interrupts()?;
            virtual_fleet::run(experiment, init, &folder.layout, args.resume, threads, &interrupted)
        }
    };
    write_report(&folder.layout);
    let ended = ended.map_err(|failure| match failure {
        Failure::Failed(reason) if folder.is_resumable() => Failure::Failed(format!(
            "{reason}\nto go on from the last checkpoint: `{}`",
            resume_command(args)
        )),
        other => other,
    })?;
    match ended {
        End::Finished => {
            let summary =
                Outputs::open(&root).and_then(|outputs| outputs.summary()).map_err(Failure::failed)?;
            let summary = summary.ok_or_else(|| {
                Failure::Failed(format!("the run in `{}` left no summary.json", root.display()))
            })?;
            output::print(&summary::edges(&summary));
            output::print(&summary::sentence(&summary, target, &root));
            Ok(())
        }
        End::Interrupted if folder.is_resumable() => {
            Err(Failure::Interrupted(format!("continue with `{}`", resume_command(args))))
        }
        End::Interrupted => {
            Err(Failure::Interrupted("there was no checkpoint yet, so that the next run starts anew".into()))
        }
    }
}

/// Refuses processors that the run's processes could not be pinned to.
fn check_cpus(config: &Config) -> Result<(), ConfigError> {
    let edges = config.edge.iter().enumerate();
    let edges = edges.map(|(index, edge)| (format!("edge[{index}].cpus"), edge.cpus.as_ref()));
    let all = std::iter::once(("cloud.cpus".to_owned(), config.cloud.cpus.as_ref())).chain(edges);
    for (key, cpus) in all {
        if let Some(cpus) = cpus {
            check_processors(cpus).map_err(|error| config.refuse_cpus(&key, cpus, error.to_string()))?;
        }
    }
    Ok(())
}

/// Refuses a run that would remove what it is made from, and so could not be resumed or repeated. Weights to start
/// from are kept in the run's own folder, and may be those of the run before.
fn keep_inputs(config: &Config, layout: &Layout) -> Result<(), ConfigError> {
    let model = match &config.model.source {
        ModelSource::File(file) => Some(file),
        ModelSource::Arch(_) => None,
    };
    let data = &config.data;
    let mut inputs = vec![
        ("model.file".to_owned(), model),
        ("data.path".to_owned(), data.path.as_ref()),
        ("data.test_path".to_owned(), data.test_path.as_ref()),
        ("cloud.profile".to_owned(), config.cloud.profile.as_ref()),
    ];
    for (index, edge) in config.edge.iter().enumerate() {
        let files = [("profile", &edge.profile), ("link", &edge.link), ("trace", &edge.trace)];
        inputs.extend(files.map(|(key, path)| (format!("edge[{index}].{key}"), path.as_ref())));
    }
    for (key, path) in inputs {
        if let Some(path) = path.filter(|path| layout.replaces(path)) {
            let reason = format!(
                "it is an output of the run before in `{}`, which this one would replace: copy it to another place, \
                 or choose another folder with --out",
                layout.root().display()
            );
            return Err(config.refuse_path(&key, path, reason));
        }
    }
    Ok(())
}

/// However the run ended: that there is no report is no failure of it.
fn write_report(layout: &Layout) {
    match report::write(layout.root()) {
        Ok(written) => {
            written.warnings.iter().for_each(|warning| output::note(&format!("warning: {warning}")));
        }
        Err(error) => output::note(&format!("warning: there is no report: {error}")),
    }
}

/// Says what is about to run, and what this machine cannot do for it.
fn introduce(experiment: &Experiment) {
    let Experiment { config, spec, cost, dataset, parts, .. } = experiment;
    let training = &config.training;
    let model = match &config.model.source {
        ModelSource::Arch(arch) => arch.to_string(),
        ModelSource::File(file) => file.display().to_string(),
    };
    let evaluated_on = match &dataset.test {
        Some(test) => format!("{} test samples", test.len()),
        None => format!("{} of them held out by the edges", held_out_by_all(config, parts)),
    };
    output::print(&format!(
        "{}: {model} on {}, {} training samples, {evaluated_on}\n\
         model: {} layers, {} parameters, {} multiply-adds per sample forward\n\
         training: {}, {} edges, batches of {}, {} steps a round, an aggregation every {} rounds, at most {} rounds",
        config.name,
        config.data.dataset,
        dataset.train.len(),
        spec.len(),
        cost.total_params(),
        cost.total_macs(),
        training.algorithm,
        parts.len(),
        training.batch_size,
        training.steps_per_round,
        training.aggregate_every,
        training.max_rounds,
    ));
    let (names, indices): (Vec<_>, Vec<_>) = parts.iter().cloned().unzip();
    let (labels, classes) = (dataset.train.labels(), dataset.train.classes());
    if !dataset.train.class_names().is_empty() && classes <= NAMED_CLASSES {
        let numbered =
            dataset.train.class_names().iter().enumerate().map(|(class, name)| format!("{class} {name}"));
        output::print(&format!("classes: {}", numbered.collect::<Vec<_>>().join(", ")));
    }
    if let Some(doubt) = doubt_of_labels(&dataset.train) {
        output::note(&format!("warning: {doubt} (data.label)"));
    }
    output::print(&partway_datasets::partition::table(&names, &indices, labels, classes));
    if config.clock == Clock::Wall {
        for warning in emulation::warnings(config, processors()) {
            output::note(&format!("warning: {warning}"));
        }
    }
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// How many samples the edges evaluate on, all together.
fn held_out_by_all(config: &Config, parts: &[(String, Vec<usize>)]) -> u64 {
    let share = config.data.holdout.map_or(0.0, Fraction::get);
    parts.iter().map(|(_, part)| held_out(part.len() as u64, share)).sum()
}

/// The command that continues this run, for a shell.
fn resume_command(args: &RunArgs) -> String {
    let mut words = vec!["partway".to_owned(), "run".to_owned()];
    words.push(quoted(&args.experiment.config.display().to_string()));
    words.extend(args.experiment.sets.iter().flat_map(|set| ["--set".to_owned(), quoted(set)]));
    words.extend(args.out.iter().flat_map(|out| ["--out".to_owned(), quoted(&out.display().to_string())]));
    words.push("--resume".to_owned());
    words.join(" ")
}

/// As a shell takes it for one word.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_to_resume_repeats_the_overrides() {
        let args = RunArgs {
            experiment: ExperimentArgs {
                config: "configs/it's.toml".into(),
                sets: vec!["training.batch_size=32".into(), "data.partition={ kind = \"iid\" }".into()],
            },
            out: Some("runs/a b".into()),
            resume: false,
            threads: None,
        };
        assert_eq!(
            resume_command(&args),
            r#"partway run 'configs/it'\''s.toml' --set training.batch_size=32 --set 'data.partition={ kind = "iid" }' --out 'runs/a b' --resume"#
        );
    }
}
