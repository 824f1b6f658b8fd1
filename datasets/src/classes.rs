//! From labels as they stand in a user's files to classes.
//!
//! Labels that are all whole numbers are the classes' numbers themselves. Any others are names: numbered as
//! the caller's list says, or in sorted order.

use std::collections::BTreeMap;

use thiserror::Error;

/// Most classes that a model can have.
const MOST_CLASSES: usize = 65_536;

/// Names that an error lists before it is cut short.
const SHOWN_NAMES: usize = 12;

/// Labels that make no classes. Places are as the reader gave them, such as `line 17`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LabelError {
    /// A name that is not in the list.
    #[error("{place}: label `{label}` is none of the class names: {}", shown(names))]
    Unknown {
        /// Where it is first.
        place: String,
        /// The label.
        label: String,
        /// The list.
        names: Vec<String>,
    },
    /// Labels that are numbers, but not all whole ones.
    #[error(
        "{place}: label `{label}` is not a whole number, but every label is a number: is that column the label? \
         Classes are what can be learnt, not quantities"
    )]
    Fraction {
        /// Where it is first.
        place: String,
        /// The label.
        label: String,
    },
    /// A whole number that no class has.
    #[error(
        "{place}: label {label} is taken for the number of a class, which must be below {MOST_CLASSES}: is that \
         column the label?"
    )]
    TooLarge {
        /// Where it is first.
        place: String,
        /// The label.
        label: String,
    },
    /// More names than a model can have classes.
    #[error("{place}: more than {MOST_CLASSES} different labels: is that column the label?")]
    TooMany {
        /// Where the first one too many is.
        place: String,
    },
    /// A sample without a label.
    #[error("{place}: the label is empty")]
    Empty {
        /// Where.
        place: String,
    },
}

/// The first names of a list.
pub(crate) fn shown(names: &[String]) -> String {
    let first = names.iter().take(SHOWN_NAMES).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN_NAMES { format!("{first}, ... ({} in all)", names.len()) } else { first }
}

/// The label of every sample, each distinct text kept once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    numbers: BTreeMap<String, u32>,
    /// Where each distinct text is first.
    places: Vec<String>,
    of: Vec<u32>,
}

impl Labels {
    /// Adds the next sample's label; `place` says where it stands.
    pub(crate) fn push(&mut self, text: &str, place: impl FnOnce() -> String) -> Result<(), LabelError> {
        let text = text.trim();
        let number = match self.numbers.get(text) {
            Some(number) => *number,
            None if text.is_empty() => return Err(LabelError::Empty { place: place() }),
            None if self.places.len() == MOST_CLASSES => return Err(LabelError::TooMany { place: place() }),
            None => {
                let number = self.places.len() as u32;
                self.numbers.insert(text.to_owned(), number);
                self.places.push(place());
                number
            }
        };
        self.of.push(number);
        Ok(())
    }

    /// How many samples.
    pub(crate) fn len(&self) -> usize {
        self.of.len()
    }

    /// Each distinct text and where it is first.
    fn distinct(&self) -> impl Iterator<Item = (&str, &str)> {
        self.numbers.iter().map(|(text, number)| (text.as_str(), self.places[*number as usize].as_str()))
    }
}

/// The classes of some labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Classes {
    /// The names in the order of their numbers; none if the labels are numbers.
    pub(crate) names: Vec<String>,
    /// How many.
    pub(crate) count: usize,
    ids: BTreeMap<String, u32>,
}

impl Classes {
    /// The classes of all these labels together, with the names that the caller wants, if any.
    pub(crate) fn of(all: &[&Labels], names: Option<&[String]>) -> Result<Self, LabelError> {
        let distinct = || all.iter().flat_map(|labels| labels.distinct());
        let whole: Option<BTreeMap<String, u64>> =
            distinct().map(|(text, _)| Some((text.to_owned(), whole_number(text)?))).collect();
        if let Some(names) = names {
            return Self::listed(distinct, whole, names);
        }
        if let Some(whole) = whole {
            if let Some((label, place)) = distinct().find(|(text, _)| whole[*text] >= MOST_CLASSES as u64) {
                return Err(LabelError::TooLarge { place: place.to_owned(), label: label.to_owned() });
            }
            let ids: BTreeMap<String, u32> =
                whole.into_iter().map(|(text, number)| (text, number as u32)).collect();
            let count = ids.values().max().map_or(0, |largest| *largest as usize + 1);
            return Ok(Self { names: Vec::new(), count, ids });
        }
        let is_number = |text: &str| text.parse::<f64>().is_ok_and(f64::is_finite);
        let fraction = distinct().find(|(text, _)| text.parse::<f64>().is_ok_and(|x| x.fract() != 0.0));
        if let Some((label, place)) = fraction
            && distinct().all(|(text, _)| is_number(text))
        {
            return Err(LabelError::Fraction { place: place.to_owned(), label: label.to_owned() });
        }
        let places: BTreeMap<&str, &str> = distinct().collect();
        if let Some(place) = places.values().nth(MOST_CLASSES) {
            return Err(LabelError::TooMany { place: (*place).to_owned() });
        }
        Ok(Self::named(places.into_keys().map(str::to_owned).collect()))
    }

    /// The classes of the list: labels are its names, or else its numbers.
    fn listed<'a, I: Iterator<Item = (&'a str, &'a str)>>(
        distinct: impl Fn() -> I,
        whole: Option<BTreeMap<String, u64>>,
        names: &[String],
    ) -> Result<Self, LabelError> {
        let classes = Self::named(names.to_vec());
        let Some((label, place)) = distinct().find(|(text, _)| !classes.ids.contains_key(*text)) else {
            return Ok(classes);
        };
        match whole {
            Some(whole) if whole.values().all(|number| *number < names.len() as u64) => {
                let ids = whole.into_iter().map(|(text, number)| (text, number as u32)).collect();
                Ok(Self { ids, ..classes })
            }
            _ => Err(LabelError::Unknown {
                place: place.to_owned(),
                label: label.to_owned(),
                names: names.to_vec(),
            }),
        }
    }

    fn named(names: Vec<String>) -> Self {
        let ids = names.iter().enumerate().map(|(id, name)| (name.clone(), id as u32)).collect();
        Self { count: names.len(), ids, names }
    }

    /// The class of each sample; `labels` were among those that [`Classes::of`] was made of.
    pub(crate) fn ids(&self, labels: &Labels) -> Vec<u32> {
        let mut ids = vec![0; labels.places.len()];
        for (text, number) in &labels.numbers {
            ids[*number as usize] = self.ids.get(text).copied().unwrap_or_default();
        }
        labels.of.iter().map(|number| ids[*number as usize]).collect()
    }
}

/// `7`, `007` and `7.0` are 7.
fn whole_number(text: &str) -> Option<u64> {
    let digits = text
        .split_once('.')
        .map_or(text, |(digits, zeros)| if zeros.bytes().all(|byte| byte == b'0') { digits } else { text });
    let only_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    // A number of too many digits is a number all the same.
    only_digits.then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(texts: &[&str]) -> Labels {
        let mut labels = Labels::default();
        for (index, text) in texts.iter().enumerate() {
            labels.push(text, || format!("line {}", index + 2)).expect("it has a label");
        }
        labels
    }

    /// Class names, number of classes and the labels' classes.
    fn classes(texts: &[&str], names: Option<&[&str]>) -> Result<(Vec<String>, usize, Vec<u32>), LabelError> {
        let labels = labels(texts);
        let names: Option<Vec<String>> = names.map(|names| names.iter().map(ToString::to_string).collect());
        let classes = Classes::of(&[&labels], names.as_deref())?;
        let ids = classes.ids(&labels);
        Ok((classes.names, classes.count, ids))
    }

    #[test]
    fn whole_numbers_are_classes_themselves() {
        assert_eq!(classes(&["3", "0", "3.0", " 1 "], None), Ok((vec![], 4, vec![3, 0, 3, 1])));
    }

    #[test]
    fn names_are_numbered_in_sorted_order_or_as_listed() {
        let sorted = (vec!["cat".to_owned(), "dog".to_owned()], 2, vec![1, 0, 1]);
        assert_eq!(classes(&["dog", "cat", "dog"], None), Ok(sorted));
        let (_, count, ids) = classes(&["dog", "cat"], Some(&["dog", "bird", "cat"])).expect("listed");
        assert_eq!((count, ids), (3, vec![0, 2]));
        // Negative numbers are names, too: two classes, not two quantities.
        assert_eq!(classes(&["1", "-1"], None).expect("names").2, [1, 0]);
    }

    #[test]
    fn a_list_names_numbers_unless_it_lists_them() {
        assert_eq!(classes(&["1", "0"], Some(&["cat", "dog"])).expect("numbers").2, [1, 0]);
        assert_eq!(classes(&["1", "3"], Some(&["3", "2", "1"])).expect("names").2, [2, 0]);
    }

    #[test]
    fn both_halves_have_the_same_classes() {
        let (train, test) = (labels(&["dog", "cat"]), labels(&["ant"]));
        let both = Classes::of(&[&train, &test], None).expect("names");
        assert_eq!((both.ids(&train), both.ids(&test)), (vec![2, 1], vec![0]));
    }

    #[test]
    fn what_is_no_class_is_named_with_its_place() {
        let refused = |texts: &[&str], names| classes(texts, names).expect_err("no class").to_string();
        assert!(refused(&["1.5", "2"], None).starts_with("line 2: label `1.5` is not a whole number"));
        assert!(refused(&["1", "90210"], None).starts_with("line 3: label 90210 is taken for the number"));
        assert!(refused(&["1", "99999999999999999999999"], None).starts_with("line 3: label 999"));
        let listed = refused(&["cat", "cow"], Some(&["cat", "dog"]));
        assert_eq!(listed, "line 3: label `cow` is none of the class names: cat, dog");
        assert!(refused(&["0", "2"], Some(&["cat", "dog"])).contains("label `0` is none"));
        let empty = Labels::default().push("  ", || "line 9".into()).expect_err("no label");
        assert_eq!(empty.to_string(), "line 9: the label is empty");
    }

    #[test]
    fn there_are_not_more_names_than_classes_can_be() {
        let mut labels = Labels::default();
        let pushed = (0..=MOST_CLASSES).map(|n| labels.push(&format!("n{n}"), || format!("line {n}")));
        let error = pushed.collect::<Result<Vec<_>, _>>().expect_err("one too many");
        assert_eq!(error, LabelError::TooMany { place: format!("line {MOST_CLASSES}") });
    }
}
