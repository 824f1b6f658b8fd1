//! Reads one table key by key, and knows afterwards which keys nobody asked for.

use toml::{Table, Value};

use super::{
    error::Fault,
    setting::{Faults, Setting, not_allowed},
};

/// One table that is being read.
pub(super) struct Reader<'a> {
    table: &'a Table,
    at: String,
    known: Vec<&'static str>,
    faults: &'a mut Faults,
}

impl<'a> Reader<'a> {
    /// Starts on the table at the dotted key `at`; empty for the document itself.
    pub(super) fn new(table: &'a Table, at: &str, faults: &'a mut Faults) -> Self {
        Self { table, at: at.to_owned(), known: Vec::new(), faults }
    }

    /// Starts on `value` if it is a table, and else says that only a table is allowed.
    pub(super) fn of(value: &'a Value, at: &str, faults: &'a mut Faults) -> Option<Self> {
        let Value::Table(table) = value else {
            faults.push((at.to_owned(), not_allowed(value, "a table")));
            return None;
        };
        Some(Self::new(table, at, faults))
    }

    /// The dotted key of `key` in this table.
    pub(super) fn path(&self, key: &str) -> String {
        if self.at.is_empty() { key.to_owned() } else { format!("{}.{key}", self.at) }
    }

    /// The value of `key`; if it is absent the default, or else what its type says to an absent key.
    /// `None` if that added a fault.
    pub(super) fn field<T: Setting>(&mut self, key: &'static str, default: Option<T>) -> Option<T> {
        self.known.push(key);
        let at = self.path(key);
        match (self.table.get(key), default) {
            (Some(value), _) => T::read(value, &at, self.faults),
            (None, Some(default)) => Some(default),
            (None, None) => T::absent(&at, self.faults),
        }
    }

    /// Adds what is wrong with `key` of this table.
    pub(super) fn fault(&mut self, key: &str, fault: Fault) {
        let at = self.path(key);
        self.faults.push((at, fault));
    }

    /// Adds that `kind` is absent or none of `allowed`; the other keys depend on it, so nothing is said
    /// of them.
    pub(super) fn kind_fault(mut self, allowed: &str) {
        let fault = match self.table.get("kind") {
            Some(kind) => not_allowed(kind, allowed),
            None => Fault::Missing { allowed: allowed.to_owned() },
        };
        self.fault("kind", fault);
    }

    /// As [`Reader::finish`], for a table whose `kind` said which keys to ask for.
    pub(super) fn finish_kind(mut self) {
        self.known.insert(0, "kind");
        self.finish();
    }

    /// Every key of the table that was not asked for is an unknown one.
    pub(super) fn finish(self) {
        for key in self.table.keys().filter(|key| !self.known.contains(&key.as_str())) {
            let fault = Fault::Unknown { nearest: nearest(key, &self.known), known: self.known.clone() };
            self.faults.push((self.path(key), fault));
        }
    }
}

/// The known key that is spelled most like `key`, if it is close enough to be meant.
fn nearest(key: &str, known: &[&'static str]) -> Option<&'static str> {
    const LONGEST: usize = 64;
    if key.len() > LONGEST {
        return None;
    }
    let (distance, nearest) =
        known.iter().map(|candidate| (edit_distance(key, candidate), *candidate)).min()?;
    (distance <= 1 + nearest.len() / 4).then_some(nearest)
}

/// Levenshtein distance: insertions, deletions and replacements from `a` to `b`.
fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Writes `value` under `key`, unless it is one that is left out.
pub(super) fn put<T: Setting>(table: &mut Table, key: &str, value: &T) {
    if let Some(value) = value.write() {
        table.insert(key.to_owned(), value);
    }
}

/// A struct that is a table in TOML: `field: Type = default`. A field without a default is required,
/// unless its type (a section, a list) has something to say to an absent key.
macro_rules! section {
    (
        $(#[$meta:meta])*
        pub struct $name:ident {
            $($(#[$field_meta:meta])* pub $field:ident: $type:ty $(= $default:expr)?,)*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$field_meta])* pub $field: $type,)*
        }

        impl $name {
            fn read_from(mut reader: $crate::config::reader::Reader<'_>) -> Option<Self> {
                // All fields are read before any is missed, so that every problem is found.
                $(let $field = reader.field::<$type>(
                    stringify!($field),
                    $crate::config::reader::section!(@default $($default)?),
                );)*
                reader.finish();
                Some(Self { $($field: $field?,)* })
            }
        }

        impl $crate::config::setting::Setting for $name {
            fn read(
                value: &toml::Value,
                at: &str,
                faults: &mut $crate::config::setting::Faults,
            ) -> Option<Self> {
                Self::read_from($crate::config::reader::Reader::of(value, at, faults)?)
            }

            fn absent(at: &str, faults: &mut $crate::config::setting::Faults) -> Option<Self> {
                Self::read_from($crate::config::reader::Reader::new(&toml::Table::new(), at, faults))
            }

            fn write(&self) -> Option<toml::Value> {
                let mut table = toml::Table::new();
                $($crate::config::reader::put(&mut table, stringify!($field), &self.$field);)*
                Some(toml::Value::Table(table))
            }
        }
    };
    (@default) => { None };
    (@default $default:expr) => { Some($default) };
}
pub(super) use section;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_single_letters() {
        assert_eq!(edit_distance("batch_size", "batch_size"), 0);
        assert_eq!(edit_distance("batchsize", "batch_size"), 1);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
    }

    #[test]
    fn only_close_keys_are_suggested() {
        let known = ["batch_size", "max_rounds", "lr"];
        assert_eq!(nearest("batchsize", &known), Some("batch_size"));
        assert_eq!(nearest("lrr", &known), Some("lr"));
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest(&"x".repeat(1 << 20), &known), None);
    }
}
