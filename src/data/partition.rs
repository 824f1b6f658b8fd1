//! `partway data partition`: each edge's shard in a folder of its own.

use std::fs;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::Args;
use partway_core::config::Config;
use partway_datasets::{ShardError, shard};
use thiserror::Error;

use crate::experiment::{ExperimentArgs, ExperimentError, read_config};
use crate::failure::Failure;
use crate::output;

/// The file of the classes' names.
const CLASS_NAMES: &str = "classes.txt";

/// What to deal out, and where to.
#[derive(Clone, Debug, Args)]
pub(crate) struct PartitionArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// The folder that gets a folder for each edge; new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// How many edges, where the experiment describes none [default: `fleet.min_edges`]
    #[arg(long, value_name = "N")]
    edges: Option<NonZeroUsize>,
}

/// Why nothing was dealt out.
#[derive(Debug, Error)]
enum DealError {
    /// The configuration is wrong.
    #[error(transparent)]
    Experiment(#[from] ExperimentError),
    /// Two answers to how many edges there are.
    #[error(
        "--edges {asked}: `{}` describes its edges, {described} of them: leave --edges out, or the `[[edge]]` tables",
        file.display()
    )]
    Edges {
        /// The configuration.
        file: PathBuf,
        /// `--edges`.
        asked: NonZeroUsize,
        /// Edges described.
        described: usize,
    },
    /// The folder holds something.
    #[error("`{}` is not empty: choose a new folder with --out, or remove it", folder.display())]
    NotEmpty {
        /// The folder.
        folder: PathBuf,
    },
    /// A file or folder cannot be used.
    #[error("cannot {action} `{}`: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A shard cannot be written.
    #[error(transparent)]
    Shard(#[from] ShardError),
}

/// Deals the samples out and prints who got what.
pub(crate) fn partition(args: &PartitionArgs) -> Result<(), Failure> {
    let told = deal(args).map_err(|error| match error {
        DealError::Io { .. } | DealError::Shard(_) => Failure::failed(error),
        _ => Failure::wrong(error),
    })?;
    output::print(&told);
    Ok(())
}

fn deal(args: &PartitionArgs) -> Result<String, DealError> {
    let file = &args.experiment.config;
    let config = read_config(file, &args.experiment.sets)?;
    let names = edge_names(&config, args.edges).map_err(|(asked, described)| DealError::Edges {
        file: file.clone(),
        asked,
        described,
    })?;
    check_empty(&args.out)?;
    let dataset = partway_datasets::from_config(&config).map_err(|source| ExperimentError::Data {
        file: file.clone(),
        dataset: config.data.dataset.to_string(),
        source: Box::new(source),
    })?;
    let train = &dataset.train;
    let parts = partway_datasets::partition_among(&config, &names, train)
        .map_err(|source| ExperimentError::Partition { file: file.clone(), source })?;
    for (name, part) in &parts {
        shard::write(&args.out.join(name), &train.take(part))?;
    }
    if !dataset.train.class_names().is_empty() {
        let path = args.out.join(CLASS_NAMES);
        let text = dataset.train.class_names().join("\n") + "\n";
        fs::write(&path, text).map_err(io_error("write", &path))?;
    }
    let indices: Vec<Vec<usize>> = parts.into_iter().map(|(_, part)| part).collect();
    let who_got_what = partway_datasets::partition::table(&names, &indices, train.labels(), train.classes());
    let first = args.out.join(&names[0]);
    Ok(format!(
        "{who_got_what}\n{} shards in {}; start an edge with\n  partway-edge join HOST:PORT --ca CA.PEM --data {} --state STATE",
        names.len(),
        args.out.display(),
        first.display()
    ))
}

/// The edges' names: those described, or `edge-0` and so on. Else how many were asked for and are described.
fn edge_names(config: &Config, asked: Option<NonZeroUsize>) -> Result<Vec<String>, (NonZeroUsize, usize)> {
    let described = config.edges();
    match asked {
        Some(asked) if !described.is_empty() => Err((asked, described.len())),
        None if !described.is_empty() => {
            Ok(described.iter().map(|edge| edge.name.as_str().to_owned()).collect())
        }
        _ => {
            let count = asked.map_or(config.fleet.min_edges.get(), NonZeroUsize::get);
            Ok((0..count).map(|edge| format!("edge-{edge}")).collect())
        }
    }
}

/// Nobody's files are written over, and no edge of an earlier partition is left among the new ones.
fn check_empty(folder: &Path) -> Result<(), DealError> {
    match fs::read_dir(folder).map(|mut entries| entries.next().is_some()) {
        Ok(true) => Err(DealError::NotEmpty { folder: folder.to_owned() }),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("read", folder)(error)),
        _ => Ok(()),
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DealError {
    move |source| DealError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "a,kind\n0,x\n1,y\n2,x\n3,y\n4,x\n5,y\n6,x\n7,y\n8,x\n9,y\n";

    /// Deals the table out to the edges of `edges`, a piece of TOML.
    fn dealt(folder: &Path, edges: &str, count: Option<usize>) -> Result<String, String> {
        let (table, config) = (folder.join("t.csv"), folder.join("x.toml"));
        fs::write(&table, TABLE).expect("written");
        let text = format!(
            "name = \"x\"\n[model]\narch = \"mlp\"\n[data]\ndataset = \"csv\"\npath = {table:?}\nmin_samples = 1\n\
             partition = \"iid\"\n{edges}"
        );
        fs::write(&config, text).expect("written");
        let experiment = ExperimentArgs { config, sets: vec![] };
        let edges = count.and_then(NonZeroUsize::new);
        deal(&PartitionArgs { experiment, out: folder.join("out"), edges }).map_err(|error| error.to_string())
    }

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    #[test]
    fn every_described_edge_gets_a_shard_with_its_part() {
        let folder = folder();
        let told =
            dealt(folder.path(), "[[edge]]\nname = \"b\"\n[[edge]]\nname = \"a\"", None).expect("dealt");
        assert!(told.starts_with("edge  samples  0  1\na           4"), "{told}");
        let read = |name: &str| shard::read(&folder.path().join("out").join(name)).expect("a shard");
        let mut values = Vec::new();
        for name in ["a", "b"] {
            let shard = read(name);
            assert_eq!(
                (shard.shape(), shard.classes(), shard.len()),
                ([1, 1, 1], 2, 4),
                "a fifth is held out"
            );
            (0..shard.len()).for_each(|index| shard.values(index, &mut values));
        }
        values.sort_by(f32::total_cmp);
        values.dedup();
        assert_eq!(values.len(), 8, "no sample is on two edges");
        let names =
            fs::read_to_string(folder.path().join("out/classes.txt")).expect("the classes have names");
        assert_eq!(names, "x\ny\n");
    }

    #[test]
    fn edges_that_are_not_described_are_counted() {
        for (count, expected) in [(None, 3), (Some(2), 2)] {
            let folder = folder();
            dealt(folder.path(), "[fleet]\nmin_edges = 3", count).expect("dealt");
            let names = (0..4).filter(|n| folder.path().join(format!("out/edge-{n}/shard.toml")).exists());
            assert_eq!(names.count(), expected);
        }
        let error = dealt(folder().path(), "[[edge]]\nname = \"a\"", Some(2)).expect_err("two answers");
        assert!(error.contains("describes its edges, 1 of them"), "{error}");
    }

    #[test]
    fn nothing_is_written_over() {
        let folder = folder();
        fs::create_dir(folder.path().join("out")).expect("made");
        fs::write(folder.path().join("out/thesis.txt"), "years of work").expect("written");
        let error = dealt(folder.path(), "[[edge]]\nname = \"a\"", None).expect_err("not empty");
        assert!(error.contains("out` is not empty"), "{error}");
    }
}
