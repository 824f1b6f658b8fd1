//! `partway data info`: what a file or folder of data is.

use std::path::PathBuf;

use clap::Args;
use partway_datasets::csv::Columns;
use partway_datasets::own::{Format, load};
use partway_datasets::{Halves, Pixels, Samples};
use partway_edge::ReadingArgs;

use crate::experiment::{ExperimentArgs, read_config};
use crate::failure::Failure;
use crate::output;
use crate::table::{Align, table};

/// With more classes than this only their number and sizes are told.
const LISTED_CLASSES: usize = 100;

/// Feature columns that are named.
const NAMED_FEATURES: usize = 20;

/// What to look at.
#[derive(Clone, Debug, Args)]
pub(crate) struct InfoArgs {
    /// A file or folder of data, or an experiment (a .toml file)
    path: PathBuf,
    /// With an experiment: set a key of it (may be given several times)
    #[arg(long = "set", value_name = "KEY=VALUE")]
    sets: Vec<String>,
    #[command(flatten)]
    reading: ReadingArgs,
}

/// What there is to tell.
#[derive(Debug)]
struct Found {
    what: String,
    train: Samples,
    test: Option<Samples>,
    columns: Option<Columns>,
}

/// Prints what the data is.
pub(crate) fn info(args: &InfoArgs) -> Result<(), Failure> {
    let found = if args.path.extension().is_some_and(|extension| extension == "toml") {
        of_experiment(args)?
    } else {
        let format = Format::detect(&args.path).map_err(Failure::wrong)?;
        let loaded = load(format, &args.path, None, Halves::Available, &args.reading.reading())
            .map_err(Failure::wrong)?;
        Found {
            what: format!("{}: {format}", args.path.display()),
            train: loaded.train,
            test: loaded.test,
            columns: loaded.columns,
        }
    };
    output::print(found.text().trim_end());
    Ok(())
}

/// The data of an experiment, limited, shaped and split as a run of it would have it.
fn of_experiment(args: &InfoArgs) -> Result<Found, Failure> {
    let experiment = ExperimentArgs { config: args.path.clone(), sets: args.sets.clone() };
    let config = read_config(&experiment.config, &experiment.sets).map_err(Failure::wrong)?;
    let dataset = partway_datasets::from_config(&config)
        .map_err(|error| Failure::wrong(format!("{}: {error}", args.path.display())))?;
    let place = config.data.path.as_ref().map(|path| format!(", {}", path.display())).unwrap_or_default();
    Ok(Found {
        what: format!("{}: {}{place}", args.path.display(), config.data.dataset),
        train: dataset.train,
        test: dataset.test,
        columns: None,
    })
}

impl Found {
    fn text(&self) -> String {
        let Self { what, train, test, columns, .. } = self;
        let samples = match test {
            Some(test) => format!("{} to train on, {} to test on", train.len(), test.len()),
            None => format!("{}, none of them set apart to test on", train.len()),
        };
        let mut rows = vec![
            ("samples", samples),
            ("shape", format!("{:?} (channels, height, width)", train.shape())),
            ("values", range(train)),
            ("classes", train.classes().to_string()),
        ];
        if let Some(Columns { label, features }) = columns {
            let named = features.iter().take(NAMED_FEATURES).cloned().collect::<Vec<_>>().join(", ");
            let more = if features.len() > NAMED_FEATURES { ", ..." } else { "" };
            rows.push(("label", format!("column `{label}`")));
            rows.push(("features", format!("{}: {named}{more}", features.len())));
        }
        let rows: Vec<Vec<String>> =
            rows.into_iter().map(|(key, value)| vec![key.to_owned(), value]).collect();
        format!(
            "{what}\n{}\n{}",
            table(&[("", Align::Left), ("", Align::Left)], &rows).trim_start(),
            self.classes()
        )
    }

    /// How many samples each class has.
    fn classes(&self) -> String {
        let train = self.train.label_counts();
        let test = self.test.as_ref().map(Samples::label_counts);
        if train.len() > LISTED_CLASSES {
            let (least, most) = (train.iter().min().unwrap_or(&0), train.iter().max().unwrap_or(&0));
            return format!("each class has {least} to {most} samples to train on\n");
        }
        let mut columns = vec![("class", Align::Right), ("name", Align::Left), ("samples", Align::Right)];
        columns.extend(test.is_some().then_some(("to test on", Align::Right)));
        let rows = train.iter().enumerate().map(|(class, count)| {
            let name = self.train.class_names().get(class).cloned().unwrap_or_default();
            let mut row = vec![class.to_string(), name, count.to_string()];
            row.extend(test.as_ref().map(|counts| counts[class].to_string()));
            row
        });
        table(&columns, &rows.collect::<Vec<_>>())
    }
}

/// The least and the largest value, as the files have them.
fn range(samples: &Samples) -> String {
    match samples.pixels() {
        Pixels::U8(values) => match (values.iter().min(), values.iter().max()) {
            (Some(least), Some(most)) => format!("{least} to {most} (bytes; 255 stands for 1.0)"),
            _ => "none".to_owned(),
        },
        Pixels::F32(values) => {
            let least = values.iter().copied().reduce(f32::min);
            let most = values.iter().copied().reduce(f32::max);
            match (least, most) {
                (Some(least), Some(most)) => format!("{least} to {most} (floats)"),
                _ => "none".to_owned(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_a_config_needs_to_know_is_told() {
        let train = Samples::new([2, 1, 1], Pixels::F32(vec![-1.5, 2.0, 0.0, 0.25]), vec![1, 1], 2);
        let found = Found {
            what: "a.csv: a table (CSV)".into(),
            train: train.expect("two samples").named(vec!["cat".into(), "dog".into()]),
            test: None,
            columns: Some(Columns { label: "species".into(), features: vec!["a".into(), "b".into()] }),
        };
        assert_eq!(
            found.text(),
            "a.csv: a table (CSV)\n\
             samples   2, none of them set apart to test on\n\
             shape     [2, 1, 1] (channels, height, width)\n\
             values    -1.5 to 2 (floats)\n\
             classes   2\n\
             label     column `species`\n\
             features  2: a, b\n\
             \n\
             class  name  samples\n    0  cat         0\n    1  dog         2\n"
        );
    }

    #[test]
    fn many_classes_are_summed_up() {
        let train =
            Samples::new([1, 1, 1], Pixels::U8(vec![3, 9]), vec![300, 300], 301).expect("two samples");
        let found = Found { what: String::new(), test: Some(train.clone()), train, columns: None };
        let text = found.text();
        assert!(text.contains("2 to train on, 2 to test on") && text.contains("3 to 9 (bytes"), "{text}");
        assert!(text.ends_with("each class has 0 to 2 samples to train on\n"), "{text}");
    }
}
