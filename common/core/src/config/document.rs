//! The TOML document with the command line's overrides in it, and where each value came from.

use std::collections::BTreeMap;

use toml::{
    Spanned, Table, Value,
    de::{DeTable, DeValue},
};

use super::{
    error::{ConfigError, Fault, Place, Problem},
    setting::Faults,
};

/// The deepest key of the configuration has 4 parts; more would only cost stack.
const DEEPEST_OVERRIDE: usize = 8;

/// Where each value came from.
#[derive(Clone, Debug)]
pub(super) struct Origin {
    /// The file's name.
    file: String,
    /// The line of each dotted key of the file, from 1.
    lines: BTreeMap<String, usize>,
    /// The dotted key of each override and its text, in the order in which they were applied.
    sets: Vec<(String, String)>,
    /// The list whose items have names, `edge` or `layer`, and the name of each.
    named: (&'static str, Vec<Option<String>>),
}

/// Parses `text` and applies `sets` to it.
pub(super) fn load(text: &str, file: &str, sets: &[String]) -> Result<(Table, Origin), ConfigError> {
    let mut origin = Origin {
        file: file.to_owned(),
        lines: BTreeMap::new(),
        sets: Vec::new(),
        named: ("edge", Vec::new()),
    };
    let syntax = |error: toml::de::Error| {
        let line = error.span().map(|span| line_of(text, span.start));
        let place = Place::File { name: file.to_owned(), line };
        let fault = Fault::Syntax(error.message().to_owned());
        ConfigError { problems: vec![Problem { place, key: String::new(), item: None, fault }] }
    };
    let spanned = DeTable::parse(text).map_err(syntax)?;
    note_lines(spanned.get_ref(), "", &LineStarts::new(text), &mut origin.lines);
    let mut root = Value::Table(text.parse::<Table>().map_err(syntax)?);

    let mut problems = Vec::new();
    for set in sets {
        match apply(&mut root, set) {
            Ok(key) => origin.sets.push((key, set.clone())),
            Err((key, fault)) => {
                problems.push(Problem { place: Place::Set(set.clone()), key, item: None, fault });
            }
        }
    }
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let Value::Table(table) = root else {
        return Ok((Table::new(), origin));
    };
    if let Some(Value::Array(edges)) = table.get("edge") {
        let name = |edge: &Value| edge.get("name").and_then(Value::as_str).map(str::to_owned);
        origin.named.1 = edges.iter().map(name).collect();
    }
    Ok((table, origin))
}

/// Where a value came from is no part of what is configured: all origins are alike.
impl PartialEq for Origin {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Origin {
    /// Whether an override gave this key its value.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.sets.iter().any(|(path, _)| path == key)
    }

    /// Whether the file or an override gave this key a value.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.lines.contains_key(key) || self.is_set(key)
    }

    /// Says what the items of `list` are called, in place of the edges.
    pub(super) fn name_items(&mut self, list: &'static str, names: impl Iterator<Item = String>) {
        self.named = (list, names.map(Some).collect());
    }

    /// The faults with their places.
    pub(super) fn error(&self, faults: Faults) -> ConfigError {
        let problems = faults.into_iter().map(|(key, fault)| Problem {
            place: self.place(&key),
            item: self.item(&key),
            key,
            fault,
        });
        ConfigError { problems: problems.collect() }
    }

    /// An error if there are any faults.
    pub(super) fn check(&self, faults: Faults) -> Result<(), ConfigError> {
        if faults.is_empty() { Ok(()) } else { Err(self.error(faults)) }
    }

    /// The last override of the key or of what it is in; else its line; else an override inside it.
    fn place(&self, key: &str) -> Place {
        let set = |holds: &dyn Fn(&str) -> bool| {
            self.sets.iter().rev().find(|(path, _)| holds(path)).map(|(_, text)| Place::Set(text.clone()))
        };
        let line = self.lines.get(key).copied();
        let within = if line.is_none() {
            set(&|path| is_within(path, key)).or_else(|| self.set_around(key))
        } else {
            None
        };
        let file = || Place::File { name: self.file.clone(), line: line.or_else(|| self.line_around(key)) };
        set(&|path| is_within(key, path)).or(within).unwrap_or_else(file)
    }

    /// The last override in the value that the key is missing in, if there is none but by overrides: a whole
    /// section may also be absent, and what is set there has nothing to do with it.
    fn set_around(&self, key: &str) -> Option<Place> {
        let (around, _) = key.rsplit_once('.').filter(|(around, _)| around.contains('.'))?;
        if self.lines.contains_key(around) {
            return None;
        }
        let set = self.sets.iter().rev().find(|(path, _)| is_within(path, around))?;
        Some(Place::Set(set.1.clone()))
    }

    /// The line of the nearest table around a key that is not in the file itself.
    fn line_around(&self, key: &str) -> Option<usize> {
        let end = key.rfind(['.', '['])?;
        let around = &key[..end];
        self.lines.get(around).copied().or_else(|| self.line_around(around))
    }

    /// What `edge[1].speed` belongs to, such as "edge `camera`".
    fn item(&self, key: &str) -> Option<String> {
        let (list, names) = &self.named;
        let (index, _) = key.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?;
        let name = names.get(index.parse::<usize>().ok()?)?.as_ref()?;
        Some(format!("{list} `{name}`"))
    }
}

/// Whether `key` is `around` or a part of it.
fn is_within(key: &str, around: &str) -> bool {
    key.strip_prefix(around).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// Where the lines of a text start, in bytes.
struct LineStarts(Vec<usize>);

impl LineStarts {
    fn new(text: &str) -> Self {
        Self(std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect())
    }

    /// The line, from 1, that holds a byte.
    fn line(&self, byte: usize) -> usize {
        self.0.partition_point(|start| *start <= byte)
    }
}

fn line_of(text: &str, byte: usize) -> usize {
    LineStarts::new(text).line(byte)
}

/// Notes the line of every key under the dotted key `at`.
fn note_lines(table: &DeTable<'_>, at: &str, starts: &LineStarts, lines: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if at.is_empty() { name.to_string() } else { format!("{at}.{name}") };
        lines.insert(path.clone(), starts.line(key.span().start));
        note_value(value, &path, starts, lines);
    }
}

fn note_value(
    value: &Spanned<DeValue<'_>>,
    path: &str,
    starts: &LineStarts,
    lines: &mut BTreeMap<String, usize>,
) {
    match value.get_ref() {
        DeValue::Table(table) => note_lines(table, path, starts, lines),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                let path = format!("{path}[{index}]");
                lines.insert(path.clone(), starts.line(item.span().start));
                note_value(item, &path, starts, lines);
            }
        }
        _ => {}
    }
}

/// Puts `KEY=VALUE` into the document and returns the dotted key, or what is wrong with which key.
fn apply(root: &mut Value, set: &str) -> Result<String, (String, Fault)> {
    let wrong = |key: &str, problem: String| (key.to_owned(), Fault::Override(problem));
    let (path, value) = set
        .split_once('=')
        .ok_or_else(|| wrong("", "expected KEY=VALUE, such as training.batch_size=32".into()))?;
    let steps: Vec<&str> = path.split('.').map(str::trim).collect();
    if steps.iter().any(|step| step.is_empty()) || steps.len() > DEEPEST_OVERRIDE {
        let expected =
            format!("a dotted key of at most {DEEPEST_OVERRIDE} parts, such as training.batch_size");
        return Err(wrong(path, format!("`{}` is not {expected}", path.trim())));
    }
    let mut here = root;
    let mut key = String::new();
    for step in steps {
        let parent = std::mem::take(&mut key);
        match here {
            Value::Table(table) => {
                key = if parent.is_empty() { step.to_owned() } else { format!("{parent}.{step}") };
                // A plain value is put in its place below, after the last step.
                here = table.entry(step).or_insert_with(|| Value::Table(Table::new()));
            }
            Value::Array(items) => {
                let index = position(items, step).ok_or_else(|| {
                    wrong(&parent, format!("`{parent}` has no `{step}`; it has {}", listed(items)))
                })?;
                key = format!("{parent}[{index}]");
                here = &mut items[index];
            }
            _ => return Err(wrong(&parent, format!("`{parent}` is a plain value, so it has no `{step}`"))),
        }
    }
    *here = parse_value(value);
    Ok(key)
}

/// TOML if it is that, and else the bare text: `fedavg`, `250ms`.
fn parse_value(text: &str) -> Value {
    text.trim().parse().unwrap_or_else(|_| Value::String(text.trim().to_owned()))
}

/// The item of that number, or the table of that name.
fn position(items: &[Value], step: &str) -> Option<usize> {
    match step.parse::<usize>() {
        Ok(index) => Some(index).filter(|index| *index < items.len()),
        Err(_) => items.iter().position(|item| item.get("name").and_then(Value::as_str) == Some(step)),
    }
}

/// The items that an override can name.
fn listed(items: &[Value]) -> String {
    let name = |(index, item): (usize, &Value)| match item.get("name").and_then(Value::as_str) {
        Some(name) => format!("{index} ({name})"),
        None => index.to_string(),
    };
    if items.is_empty() {
        return "no items".into();
    }
    items.iter().enumerate().map(name).collect::<Vec<_>>().join(", ")
}
