//! A device as a TOML file: seconds per layer kind, memory, and where the numbers come from.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::document;
use super::error::{ConfigError, Fault};
use super::number::NonNegativeF64;
use super::reader::{Reader, put};
use super::setting::{Faults, Plain, Setting, not_allowed, shown};
use super::text::Text;
use super::units::ByteSize;
use crate::model::LayerKind;
use crate::profile::{DeviceProfile, KindModel};

/// A device file, such as `configs/devices/pi4.toml`. What `partway-edge profile` prints is one, too.
///
/// ```toml
/// description = "Raspberry Pi 4"
/// source = "measured with `partway-edge profile`"
/// memory = "3GiB"                # for training; optional
/// noise = 0.05                   # relative standard deviation of a time; default 0
/// [other]                        # kinds without an entry; default: the mean FLOP rate of the others
/// forward = { per_flop = 1e-9 }
/// backward = { per_flop = 1e-9 }
/// [kinds.conv2d]                 # seconds = per_flop * FLOPs + per_byte * bytes + fixed
/// forward = { per_flop = 8e-11, per_byte = 1e-10, fixed = 2e-4 }
/// backward = { per_flop = 9e-11, per_byte = 1e-10, fixed = 3e-4 }
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct DeviceFile {
    /// What it is, for people.
    pub description: Option<Text>,
    /// Memory that training may use.
    pub memory: Option<ByteSize>,
    /// Relative standard deviation of the time that work takes.
    pub noise: f64,
    /// Seconds per layer kind, and their source.
    pub profile: DeviceProfile,
}

/// The lines of one kind.
struct Kind(KindModel);

/// Those of every kind that was measured.
struct Kinds(BTreeMap<LayerKind, KindModel>);

impl Setting for Kind {
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        match value.clone().try_into() {
            Ok(kind) => Some(Self(kind)),
            Err(error) => {
                let allowed = format!(
                    "forward and backward, each with some of per_flop, per_byte and fixed, in seconds of at least 0 ({})",
                    error.message()
                );
                faults.push((at.to_owned(), Fault::NotAllowed { value: shown(value), allowed }));
                None
            }
        }
    }

    fn absent(at: &str, faults: &mut Faults) -> Option<Self> {
        faults.push((at.to_owned(), Fault::Missing { allowed: "forward and backward".into() }));
        None
    }

    fn write(&self) -> Option<Value> {
        Value::try_from(self.0).ok()
    }
}

impl Setting for Kinds {
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let Value::Table(table) = value else {
            faults.push((at.to_owned(), not_allowed(value, "a table of layer kinds")));
            return None;
        };
        let mut kinds = BTreeMap::new();
        for (name, value) in table {
            let at = format!("{at}.{name}");
            match <LayerKind as Plain>::parse(&Value::from(name.as_str())) {
                Some(kind) => kinds.extend(Kind::read(value, &at, faults).map(|Kind(model)| (kind, model))),
                None => {
                    let known = LayerKind::ALL.iter().map(|kind| kind.name()).collect();
                    faults.push((at, Fault::Unknown { nearest: None, known }));
                }
            }
        }
        Some(Self(kinds))
    }

    fn absent(at: &str, faults: &mut Faults) -> Option<Self> {
        let allowed = "a table of layer kinds, such as [kinds.conv2d]".into();
        faults.push((at.to_owned(), Fault::Missing { allowed }));
        None
    }

    fn write(&self) -> Option<Value> {
        let mut table = Table::new();
        for (kind, model) in &self.0 {
            put(&mut table, kind.name(), &Kind(*model));
        }
        Some(Value::Table(table))
    }
}

impl DeviceFile {
    /// The device that the text of a file describes; `file` is its name in messages.
    ///
    /// # Errors
    /// All keys that are unknown, missing or out of range; a file whose kinds take no time at all.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigError> {
        let (table, origin) = document::load(text, file, &[])?;
        let mut faults = Faults::new();
        let device = Self::read_table(&table, &mut faults);
        match device {
            Some(device) if faults.is_empty() => Ok(device),
            _ => Err(origin.error(faults)),
        }
    }

    fn read_table(table: &Table, faults: &mut Faults) -> Option<Self> {
        let mut reader = Reader::new(table, "", faults);
        let description = reader.field("description", Some(None));
        let source = reader.field::<Text>("source", None);
        let memory = reader.field("memory", Some(None));
        let noise = reader.field::<Option<NonNegativeF64>>("noise", Some(None));
        let other = reader.field::<Option<Kind>>("other", Some(None));
        let kinds = reader.field::<Kinds>("kinds", None);
        let noise = noise?.map_or(0.0, NonNegativeF64::get);
        // Beyond a half a time drawn uniformly could be negative.
        if noise >= 0.5 {
            let (value, allowed) = (noise.to_string(), "a number of at least 0 and below 0.5".into());
            reader.fault("noise", Fault::NotAllowed { value, allowed });
        }
        reader.finish();
        let profile = DeviceProfile {
            source: source?.as_str().to_owned(),
            other: other?.map(|Kind(model)| model),
            kinds: kinds?.0,
        };
        let takes_time = |model: &KindModel| {
            let lines = [model.forward, model.backward];
            lines.iter().all(|line| line.per_flop + line.per_byte + line.fixed > 0.0)
        };
        if !profile.kinds.values().chain(&profile.other).any(takes_time) {
            let allowed = "at least one kind, or `other`, that takes time forward and backward".into();
            faults.push(("kinds".into(), Fault::Missing { allowed }));
        }
        Some(Self { description: description?, memory: memory?, noise, profile })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PI: &str = "description = \"a Pi\"\nsource = \"made up\"\nmemory = \"1GiB\"\nnoise = 0.1\n\
                      [kinds.linear]\nforward = { per_flop = 1e-9 }\nbackward = { per_flop = 2e-9, fixed = 1e-3 }\n";

    #[test]
    fn a_device_is_read_whole() {
        let device = DeviceFile::parse(PI, "pi.toml").expect("it is right");
        assert_eq!(device.memory, ByteSize::new(1 << 30));
        assert_eq!(device.profile.source, "made up");
        let linear = device.profile.kinds[&LayerKind::Linear];
        assert_eq!(linear.backward.seconds(1e6, 1e6).to_bits(), (2e-9 * 1e6 + 1e-3_f64).to_bits());
        let bare = DeviceFile::parse(&PI.replace("noise = 0.1\n", ""), "pi.toml").expect("it is right");
        assert_eq!(bare.noise.to_bits(), 0.0f64.to_bits());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line_and_what_is_allowed() {
        for (from, to, message) in [
            ("source = \"made up\"\n", "", "pi.toml: `source` is missing; allowed: a text"),
            ("1GiB", "much", "pi.toml:3: `memory = \"much\"` is not allowed; allowed: a size above 0"),
            (
                "0.1",
                "0.7",
                "pi.toml:4: `noise = 0.7` is not allowed; allowed: a number of at least 0 and below 0.5",
            ),
            ("kinds.linear", "kinds.conv", "pi.toml:5: unknown key `kinds.conv`; allowed there: conv2d, "),
            ("1e-9", "-1", "pi.toml:5: `kinds.linear = "),
            ("noise", "noises", "pi.toml:4: unknown key `noises`; did you mean `noise`?"),
            ("per_flop = 1e-9", "", "pi.toml:5: `kinds` is missing; allowed: at least one kind"),
        ] {
            let error = DeviceFile::parse(&PI.replacen(from, to, 1), "pi.toml").expect_err(to).to_string();
            assert!(error.starts_with(message), "{error}");
        }
        let error = DeviceFile::parse(&PI.replace("1e-9", "-1"), "pi.toml").expect_err("it is negative");
        assert!(error.to_string().contains("per_flop is -1; it must be finite and not negative"), "{error}");
    }
}
