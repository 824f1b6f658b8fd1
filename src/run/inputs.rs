//! What a run is made from beside its configuration: known by its SHA-256, so that a run that goes on later is made
//! from the same.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;

use partway_cloud::model_file::hex;
use partway_core::config::ModelSource;
use partway_datasets::{Pixels, Samples};
use sha2::{Digest, Sha256};

use crate::experiment::Experiment;

/// Values that are hashed at once.
const BLOCK: usize = 1 << 14;

/// The sum of each input, by what it is called in messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Inputs(BTreeMap<String, String>);

impl Inputs {
    /// Of an experiment: its samples as they are trained and tested on, and the files that it names.
    ///
    /// # Errors
    /// A file that cannot be read any more.
    pub(crate) fn of(experiment: &Experiment) -> Result<Self, (PathBuf, io::Error)> {
        let Experiment { config, dataset, devices, traces, .. } = experiment;
        let mut sums = BTreeMap::new();
        let place =
            config.data.path.as_ref().map_or(String::new(), |path| format!(" of `{}`", path.display()));
        sums.insert(format!("the training samples{place}"), sum_of_samples(&dataset.train));
        if let Some(test) = &dataset.test {
            let path = config.data.test_path.as_ref().or(config.data.path.as_ref());
            let place = path.map_or(String::new(), |path| format!(" of `{}`", path.display()));
            sums.insert(format!("the test samples{place}"), sum_of_samples(test));
        }
        let model = match &config.model.source {
            ModelSource::File(path) => Some(path),
            ModelSource::Arch(_) => None,
        };
        for path in model.into_iter().chain(devices.keys()).chain(traces.keys()) {
            let bytes = fs::read(path).map_err(|error| (path.clone(), error))?;
            sums.insert(format!("`{}`", path.display()), hex(&Sha256::digest(bytes)));
        }
        Ok(Self(sums))
    }

    /// What `self` says and `text`, which [`Inputs::to_toml`] wrote, does not.
    ///
    /// # Errors
    /// If the text is something else.
    pub(crate) fn first_difference(&self, text: &str) -> Result<Option<&str>, toml::de::Error> {
        let before: BTreeMap<String, String> = toml::from_str(text)?;
        Ok(self.0.iter().find(|(what, sum)| before.get(*what) != Some(sum)).map(|(what, _)| what.as_str()))
    }

    /// As a file.
    pub(crate) fn to_toml(&self) -> String {
        let table: toml::Table =
            self.0.iter().map(|(what, sum)| (what.clone(), toml::Value::from(sum.as_str()))).collect();
        table.to_string()
    }
}

fn sum_of_samples(samples: &Samples) -> String {
    let mut hash = Sha256::new();
    hash.update(format!("{:?} {:?}\n", samples.shape(), samples.class_names()));
    match samples.pixels() {
        Pixels::U8(values) => hash.update(values),
        Pixels::F32(values) => {
            for block in values.chunks(BLOCK) {
                hash.update(block.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
            }
        }
    }
    for block in samples.labels().chunks(BLOCK) {
        hash.update(block.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<u8>>());
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::tests::{SMALL, load};

    #[test]
    fn what_has_changed_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (table, trace) = (folder.path().join("a.csv"), folder.path().join("t.csv"));
        let rows = |last: &str| format!("x,y,label\n{}{last}\n", "1,2,0\n3,4,1\n".repeat(20));
        fs::write(&trace, "0,8\n").expect("written");
        let data = format!("dataset = \"csv\"\npath = {table:?}\nmin_samples = 1\n");
        let synthetic =
            SMALL.lines().filter(|line| line.contains("synthetic")).collect::<Vec<_>>().join("\n");
        let text = SMALL.replace(&synthetic, &data);
        let inputs = |last: &str| {
            fs::write(&table, rows(last)).expect("written");
            let sets = [format!("edge.camera.trace={}", trace.display())];
            let experiment = load(&text, &sets.each_ref().map(String::as_str)).expect("it is right");
            Inputs::of(&experiment).expect("all files are there")
        };
        let before = inputs("5,6,0").to_toml();
        let difference = |now: &Inputs| now.first_difference(&before).expect("it is TOML").map(str::to_owned);
        assert_eq!(difference(&inputs("5,6,0")), None);
        let changed = difference(&inputs("5,6,1")).expect("a label has changed");
        assert!(
            changed.starts_with("the t") && changed.ends_with(&format!(" of `{}`", table.display())),
            "{changed}"
        );
        fs::write(&trace, "0,9\n").expect("written");
        assert_eq!(difference(&inputs("5,6,0")), Some(format!("`{}`", trace.display())));
        assert!(inputs("5,6,0").first_difference("what = ").is_err());
    }
}
