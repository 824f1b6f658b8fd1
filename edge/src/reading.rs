//! How a device's own files are read, on a command line.

use clap::Args;
use partway_core::config::{ClassNames, Column, ImageSize, SampleShape};
use partway_datasets::own::Reading;

/// What files of one's own leave open; a shard leaves nothing.
#[derive(Clone, Debug, Default, Args)]
pub struct ReadingArgs {
    /// The label column of a table, by its name or its number from 0 [default: `label`, `class` or `target`, or
    /// else the last]
    #[arg(long, value_name = "COLUMN")]
    label: Option<Column>,
    /// The names of all classes in the order of their numbers, if labels are names; the same for every edge and
    /// as in the coordinator's `data.class_names`
    #[arg(long, value_name = "NAME,NAME,...")]
    class_names: Option<ClassNames>,
    /// The size that pictures are resized to
    #[arg(long, value_name = "HEIGHTxWIDTH", value_parser = image_size)]
    resize: Option<ImageSize>,
    /// The shape that a table's rows or arrays are taken for, such as 1x28x28, if they have as many values
    #[arg(long, value_name = "CHANNELSxHEIGHTxWIDTH", value_parser = sample_shape)]
    shape: Option<SampleShape>,
    /// Zero pixels added on each side, from 0 to 256
    #[arg(long, value_name = "PIXELS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=256))]
    pad: u16,
}

impl ReadingArgs {
    /// As the readers take it.
    pub fn reading(&self) -> Reading {
        Reading {
            label: self.label.clone(),
            class_names: self.class_names.as_ref().map(|names| names.get().to_vec()),
            resize: self.resize.map(ImageSize::get),
            shape: self.shape.map(SampleShape::get),
            pad: self.pad.into(),
        }
    }
}

fn image_size(text: &str) -> Result<ImageSize, String> {
    sides(text)
        .and_then(ImageSize::new)
        .ok_or_else(|| "expected HEIGHTxWIDTH, such as 32x32, each from 1 to 4096".into())
}

fn sample_shape(text: &str) -> Result<SampleShape, String> {
    sides(text)
        .and_then(SampleShape::new)
        .ok_or_else(|| "expected CHANNELSxHEIGHTxWIDTH, such as 3x32x32, each from 1 to 4096".into())
}

/// `3x32x32`.
fn sides<const SIDES: usize>(text: &str) -> Option<[usize; SIDES]> {
    let sides: Option<Vec<usize>> = text.split('x').map(|side| side.parse().ok()).collect();
    sides?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: ReadingArgs,
    }

    fn read(line: &[&str]) -> Result<Reading, String> {
        let parsed = Line::try_parse_from(["join"].iter().chain(line));
        parsed.map(|line| line.args.reading()).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_can_be_said_on_the_command_line() {
        let line = ["--label=kind", "--class-names=cat,dog", "--resize=4x5", "--shape=3x4x5", "--pad=2"];
        let expected = Reading {
            label: Some(Column::Name("kind".into())),
            class_names: Some(vec!["cat".into(), "dog".into()]),
            resize: Some([4, 5]),
            shape: Some([3, 4, 5]),
            pad: 2,
        };
        assert_eq!(read(&line), Ok(expected));
        assert_eq!(read(&[]), Ok(Reading::default()));
    }

    #[test]
    fn what_cannot_be_is_refused_with_an_example() {
        for (line, part) in [
            ("--resize=4", "such as 32x32"),
            ("--resize=0x4", "such as 32x32"),
            ("--shape=28x28", "such as 3x32x32"),
            ("--class-names=cat", "2 to 65536 different names"),
            ("--pad=257", "257"),
        ] {
            let error = read(&[line]).expect_err(line);
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
