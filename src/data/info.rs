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
    found.doubts().iter().for_each(|doubt| output::note(&format!("warning: {doubt}")));
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

    /// What can be meant so, but seldom is.
    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        let counts = self.train.label_counts();
        let names = self.train.class_names();
        let stray: Vec<String> = (0..counts.len())
            .filter(|class| counts[*class] == 1)
            .map(|class| names.get(class).map_or_else(|| class.to_string(), |name| format!("`{name}`")))
            .collect();
        if let Some(doubt) = doubt_of_labels(&self.train) {
            doubts.push(format!("{doubt} (--label)"));
        } else if !stray.is_empty() && stray.len() < counts.len() {
            let classes = if stray.len() == 1 { "class" } else { "classes" };
            doubts.push(format!(
                "{} {classes} with a single sample: {}; a label may be misspelt, or the label column another one \
                 (--label)",
                stray.len(),
                some(&stray)
            ));
        }
        let numbers = self.columns.iter().flat_map(|columns| &columns.features);
        let numbers: Vec<String> = numbers.filter(|name| name.parse::<f64>().is_ok()).cloned().collect();
        if !numbers.is_empty() && !is_numbering(&numbers) {
            doubts.push(format!(
                "the first line calls columns {}: if it is a sample, put a line above it that names the columns",
                some(&numbers.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>())
            ));
        }
        doubts
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

/// Says that the labels are more likely something else, if every sample has one of its own.
pub(crate) fn doubt_of_labels(samples: &Samples) -> Option<String> {
    /// A handful may be a test of one sample per class.
    const FEW: usize = 16;
    let is_unique = samples.len() > FEW && samples.label_counts().iter().all(|count| *count <= 1);
    is_unique.then(|| {
        format!(
            "every one of the {} training samples has a label of its own, as if it were a number of the sample: \
             nothing can be learnt from that; the label column may be another one",
            samples.len()
        )
    })
}

/// A list for a message, cut off if it is long.
fn some(items: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = items.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if items.len() > SHOWN { format!("{shown}, ...") } else { shown }
}

/// Whether columns are called by their numbers, one after the other.
fn is_numbering(names: &[String]) -> bool {
    let numbers: Option<Vec<u64>> = names.iter().map(|name| name.parse().ok()).collect();
    numbers.is_some_and(|numbers| numbers.windows(2).all(|pair| pair[1] == pair[0] + 1))
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

    fn labelled(labels: Vec<u32>, classes: usize, features: &[&str]) -> Found {
        let train = Samples::new([1, 1, 1], Pixels::F32(vec![0.5; labels.len()]), labels, classes);
        let features = features.iter().map(|name| (*name).to_owned()).collect();
        let columns = Some(Columns { label: "kind".into(), features });
        Found { what: String::new(), train: train.expect("samples"), test: None, columns }
    }

    #[test]
    fn a_class_of_one_is_doubted_unless_all_are() {
        let mut found = labelled(vec![0, 0, 1, 2, 2], 3, &["a"]);
        let stray = |class: &str| {
            format!(
                "1 class with a single sample: {class}; a label may be misspelt, or the label column another one \
                 (--label)"
            )
        };
        assert_eq!(found.doubts(), [stray("1")]);
        found.train = found.train.named(vec!["cat".into(), "dgo".into(), "dog".into()]);
        assert_eq!(found.doubts(), [stray("`dgo`")]);
        assert_eq!(labelled(vec![0, 1, 2], 3, &["a"]).doubts(), Vec::<String>::new());
        // Every second number, as held-out samples have some.
        let numbers = labelled((0..20).map(|number| 2 * number).collect(), 40, &["a"]).doubts();
        let [doubt] = &numbers[..] else { panic!("one doubt: {numbers:?}") };
        assert!(doubt.starts_with("every one of the 20 training samples has a label of its own"), "{doubt}");
    }

    #[test]
    fn a_header_of_numbers_is_doubted_unless_they_number_the_columns() {
        let doubts = |features: &[&str]| labelled(vec![0, 1], 2, features).doubts();
        let [doubt] = &doubts(&["5.1", "3.5", "x"])[..] else { panic!("one doubt") };
        assert!(doubt.starts_with("the first line calls columns `5.1`, `3.5`: if it is a sample"), "{doubt}");
        assert_eq!(doubts(&["5", "7", "5.0", "1", "2", "3"]).len(), 1);
        assert!(doubts(&["0", "1", "2"]).is_empty() && doubts(&["a", "b1"]).is_empty());
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
