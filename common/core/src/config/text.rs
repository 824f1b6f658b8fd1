//! Text for readers: descriptions and sources.

use toml::Value;

use super::setting::Plain;

/// Text that says something: not empty, at most 4000 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(String);

impl Text {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Plain for Text {
    fn allowed() -> String {
        "a text in quotes, of 1 to 4000 bytes".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        let text = value.as_str()?;
        (!text.trim().is_empty() && text.len() <= 4000).then(|| Self(text.to_owned()))
    }

    fn to_value(&self) -> Value {
        self.0.clone().into()
    }
}
