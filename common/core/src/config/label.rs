//! `data.label` and `data.class_names`: where labels stand, and what they are called.

use std::{collections::BTreeSet, fmt, str::FromStr};

use toml::Value;

use super::setting::Plain;

/// A column of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Column {
    /// By its name in the header.
    Name(String),
    /// By its number, from 0.
    Index(usize),
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => write!(f, "`{name}`"),
            Self::Index(index) => write!(f, "number {index}"),
        }
    }
}

impl FromStr for Column {
    type Err = String;

    /// A number is a column's number, anything else its name.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(index) => Ok(Self::Index(index)),
            Err(_) if text.is_empty() => Err(Self::allowed()),
            Err(_) => Ok(Self::Name(text.to_owned())),
        }
    }
}

impl Plain for Column {
    fn allowed() -> String {
        "a column's name in quotes, or its number from 0".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        match value {
            Value::String(name) if !name.is_empty() => Some(Self::Name(name.clone())),
            Value::Integer(index) => Some(Self::Index(u32::try_from(*index).ok()? as usize)),
            _ => None,
        }
    }

    fn to_value(&self) -> Value {
        match self {
            Self::Name(name) => name.clone().into(),
            // Nothing that was parsed is larger.
            Self::Index(index) => i64::try_from(*index).unwrap_or(i64::MAX).into(),
        }
    }
}

/// The names of all classes, in the order of their numbers: at least two, no two alike, none empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassNames(Vec<String>);

impl ClassNames {
    /// As many classes as a model can have.
    const MOST: usize = 65_536;

    /// The names, if there are from 2 to 65536 and they can be told apart.
    pub fn new(names: Vec<String>) -> Option<Self> {
        let distinct: BTreeSet<&String> = names.iter().collect();
        let apart = distinct.len() == names.len() && !names.iter().any(|name| name.trim() != name);
        let fits = (2..=Self::MOST).contains(&names.len()) && !distinct.contains(&String::new());
        (apart && fits).then_some(Self(names))
    }

    /// The names.
    pub fn get(&self) -> &[String] {
        &self.0
    }
}

impl FromStr for ClassNames {
    type Err = String;

    /// Names with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        Self::new(text.split(',').map(|name| name.trim().to_owned()).collect()).ok_or_else(Self::allowed)
    }
}

impl Plain for ClassNames {
    fn allowed() -> String {
        "a list of 2 to 65536 different names, without spaces around them".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        let names: Option<Vec<String>> =
            value.as_array()?.iter().map(|name| Some(name.as_str()?.to_owned())).collect();
        Self::new(names?)
    }

    fn to_value(&self) -> Value {
        Value::Array(self.0.iter().map(|name| name.clone().into()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_names_or_numbers() {
        assert_eq!(Column::parse(&"species".into()), Some(Column::Name("species".into())));
        assert_eq!(Column::parse(&4.into()), Some(Column::Index(4)));
        assert_eq!("4".parse(), Ok(Column::Index(4)));
        assert_eq!("x4".parse(), Ok(Column::Name("x4".into())));
        assert!("".parse::<Column>().is_err() && Column::parse(&(-1).into()).is_none());
    }

    #[test]
    fn classes_must_be_told_apart() {
        let names = |text: &str| text.parse::<ClassNames>().ok().map(|names| names.get().join("|"));
        assert_eq!(names("cat, dog").as_deref(), Some("cat|dog"));
        for text in ["", "cat", "cat,cat", "cat,,dog", "cat,"] {
            assert_eq!(names(text), None, "{text}");
        }
        assert_eq!(ClassNames::new(vec!["a".into(), " b".into()]), None);
    }
}
