//! How one value of the configuration is read from TOML and written back.
//!
//! Every type in the configuration is a checked one: it reads or it says what is allowed, so that
//! nothing behind [`super::Config::parse`] meets an impossible value.

use std::path::PathBuf;

use toml::Value;

use super::error::Fault;

/// What was found so far: full dotted keys and what is wrong there.
pub(super) type Faults = Vec<(String, Fault)>;

/// Anything that stands under a key: a plain value, a list, a table.
pub(super) trait Setting: Sized {
    /// Reads `value`, which stands at the dotted key `at`; `None` if that added to `faults`.
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self>;

    /// What an absent key without a default means; `None` if that added to `faults`.
    fn absent(at: &str, faults: &mut Faults) -> Option<Self>;

    /// The value as [`Setting::read`] takes it; `None` leaves the key out.
    fn write(&self) -> Option<Value>;
}

/// A plain value.
pub(super) trait Plain: Sized {
    /// What is allowed, in words, for messages.
    fn allowed() -> String;
    /// The value, if it is allowed.
    fn parse(value: &Value) -> Option<Self>;
    /// The value as TOML.
    fn to_value(&self) -> Value;
}

impl<T: Plain> Setting for T {
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let parsed = Self::parse(value);
        if parsed.is_none() {
            faults.push((at.to_owned(), not_allowed(value, Self::allowed())));
        }
        parsed
    }

    fn absent(at: &str, faults: &mut Faults) -> Option<Self> {
        faults.push((at.to_owned(), Fault::Missing { allowed: Self::allowed() }));
        None
    }

    fn write(&self) -> Option<Value> {
        Some(self.to_value())
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        T::read(value, at, faults).map(Some)
    }

    fn absent(_at: &str, _faults: &mut Faults) -> Option<Self> {
        Some(None)
    }

    fn write(&self) -> Option<Value> {
        self.as_ref().and_then(T::write)
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(value: &Value, at: &str, faults: &mut Faults) -> Option<Self> {
        let Value::Array(items) = value else {
            faults.push((at.to_owned(), not_allowed(value, "a list")));
            return None;
        };
        let read: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(index, item)| T::read(item, &format!("{at}[{index}]"), faults))
            .collect();
        read.into_iter().collect()
    }

    fn absent(_at: &str, _faults: &mut Faults) -> Option<Self> {
        Some(Vec::new())
    }

    fn write(&self) -> Option<Value> {
        Some(Value::Array(self.iter().filter_map(T::write).collect()))
    }
}

/// The fault of a value that is none of what is allowed.
pub(super) fn not_allowed(value: &Value, allowed: impl Into<String>) -> Fault {
    Fault::NotAllowed { value: shown(value), allowed: allowed.into() }
}

/// A value as TOML on one line, shortened if it is long.
pub(super) fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = value.to_string().replace('\n', " ");
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

impl Plain for bool {
    fn allowed() -> String {
        "true or false".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        value.as_bool()
    }

    fn to_value(&self) -> Value {
        (*self).into()
    }
}

impl Plain for u64 {
    fn allowed() -> String {
        format!("an integer from 0 to {}", i64::MAX)
    }

    fn parse(value: &Value) -> Option<Self> {
        Self::try_from(value.as_integer()?).ok()
    }

    fn to_value(&self) -> Value {
        // TOML's integers end there, so nothing that was parsed is larger.
        i64::try_from(*self).unwrap_or(i64::MAX).into()
    }
}

impl Plain for PathBuf {
    fn allowed() -> String {
        "a path in quotes".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        value.as_str().filter(|path| !path.is_empty()).map(Self::from)
    }

    fn to_value(&self) -> Value {
        // Nothing is lost of a path that came from TOML, which is UTF-8.
        self.to_string_lossy().into_owned().into()
    }
}

/// A name that is safe as a folder and in a table: letters, digits, `-`, `_` and `.`, not first `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// What is allowed, in words.
    pub const ALLOWED: &str = "1 to 64 letters, digits, `-`, `_` and `.`, not starting with `.`";
    /// The most characters.
    pub(super) const LONGEST: usize = 64;

    /// The name, if it has at most 64 characters and all of them are allowed.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=Self::LONGEST).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        fits.then(|| Self(name.to_owned()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `NAME-INDEX`: one of several edges of the same description.
    pub(super) fn numbered(&self, index: usize) -> Self {
        Self(format!("{}-{index}", self.0))
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl Plain for Name {
    fn allowed() -> String {
        "1 to 64 letters, digits, `-`, `_` and `.` in quotes, not starting with `.`".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        Self::new(value.as_str()?)
    }

    fn to_value(&self) -> Value {
        self.0.clone().into()
    }
}

/// An enum of names without values; [`named`] writes it.
pub(super) trait Named: Copy + PartialEq + 'static {
    /// Each variant and its name in TOML.
    const NAMES: &'static [(&'static str, Self)];
}

impl<T: Named> Plain for T {
    fn allowed() -> String {
        T::NAMES.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ")
    }

    fn parse(value: &Value) -> Option<Self> {
        let text = value.as_str()?;
        T::NAMES.iter().find(|(name, _)| *name == text).map(|(_, variant)| *variant)
    }

    fn to_value(&self) -> Value {
        let name = T::NAMES.iter().find(|(_, variant)| variant == self).map_or("", |(name, _)| name);
        name.into()
    }
}

/// An enum whose variants are names, in TOML, on the wire (as an index) and in tables alike.
macro_rules! named {
    (
        $(#[$meta:meta])*
        pub enum $enum:ident {
            $($(#[$variant_meta:meta])* $variant:ident = $name:literal,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $enum {
            $($(#[$variant_meta])* #[serde(rename = $name)] $variant,)*
        }

        impl $crate::config::setting::Named for $enum {
            const NAMES: &'static [(&'static str, Self)] = &[$(($name, Self::$variant)),*];
        }

        impl $enum {
            /// The name in TOML.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }

        impl std::fmt::Display for $enum {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}
pub(super) use named;
