//! Values with a unit: durations such as `"250ms"` and sizes such as `"256MiB"`.

use std::str::FromStr;
use std::time::Duration;

use toml::Value;

use super::setting::Plain;

/// Units of time and their nanoseconds, longest first.
const TIMES: [(&str, u64); 6] = [
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

/// Units of size and their bytes, largest first within each kind.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// `1.5s` as a whole number of the smallest unit, if it is one and fits.
fn parse_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let split = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = text.split_at(split);
    let scale = units.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, scale)| *scale)?;
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if (1..=9).contains(&fraction.len()) => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    let whole = whole.parse::<u64>().ok()?.checked_mul(scale)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let parts = u128::from(fraction.parse::<u64>().ok()?) * u128::from(scale);
    let denominator = 10u128.pow(fraction.len() as u32);
    if parts % denominator != 0 {
        return None;
    }
    whole.checked_add(u64::try_from(parts / denominator).ok()?)
}

/// The amount in the largest unit that divides it.
fn write_with_unit(amount: u64, zero: &str, units: &[(&str, u64)]) -> String {
    match units.iter().find(|(_, scale)| amount != 0 && amount.is_multiple_of(*scale)) {
        Some((name, scale)) => format!("{}{name}", amount / scale),
        None => zero.into(),
    }
}

/// A duration from `"250ms"`, `"1.5s"`, `"2m"`; units ns, us, ms, s, m, h.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    parse_with_unit(text, &TIMES).map(Duration::from_nanos)
}

/// The duration as [`parse_duration`] reads it.
pub(super) fn duration_text(duration: Duration) -> String {
    // 584 years: nothing that was parsed is longer.
    write_with_unit(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX), "0s", &TIMES)
}

impl Plain for Duration {
    fn allowed() -> String {
        "a time with its unit in quotes, such as \"250ms\", \"1.5s\", \"2m\"".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        parse_duration(value.as_str()?)
    }

    fn to_value(&self) -> Value {
        duration_text(*self).into()
    }
}

/// A duration from `LEAST` to `MOST` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time<const LEAST: u64, const MOST: u64>(Duration);

impl<const LEAST: u64, const MOST: u64> Time<LEAST, MOST> {
    /// The duration, if it is in the range.
    pub const fn new(time: Duration) -> Option<Self> {
        let nanos = time.as_nanos();
        let fits = LEAST as u128 * 1_000_000 <= nanos && nanos <= MOST as u128 * 1_000_000;
        if fits { Some(Self(time)) } else { None }
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl<const LEAST: u64, const MOST: u64> Plain for Time<LEAST, MOST> {
    fn allowed() -> String {
        let [least, most] = [LEAST, MOST].map(|millis| duration_text(Duration::from_millis(millis)));
        format!("a time from {least} to {most} with its unit in quotes, such as \"1.5s\"")
    }

    fn parse(value: &Value) -> Option<Self> {
        Self::new(Duration::parse(value)?)
    }

    fn to_value(&self) -> Value {
        self.0.to_value()
    }
}

/// A number of bytes, at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// The size, if it is not 0.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes == 0 { None } else { Some(Self(bytes)) }
    }

    /// The bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words = "write a size above 0 with its unit, such as 256MiB, 2GB or 1.5KiB";
        parse_with_unit(text, &SIZES).and_then(Self::new).ok_or_else(|| words.to_owned())
    }
}

impl Plain for ByteSize {
    fn allowed() -> String {
        "a size above 0 with its unit in quotes, such as \"256MiB\", \"2GB\", \"1.5KiB\"".into()
    }

    fn parse(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn to_value(&self) -> Value {
        write_with_unit(self.0, "0B", &SIZES).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        for (text, nanos) in [
            ("250ms", 250_000_000),
            ("60s", 60_000_000_000),
            ("2m", 120_000_000_000),
            ("1.5s", 1_500_000_000),
            ("0.25us", 250),
            ("0s", 0),
            ("7 ns", 7),
        ] {
            assert_eq!(parse_duration(text), Some(Duration::from_nanos(nanos)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1.s", ".5s", "1.5ns", "1e3s", "5 sec", "99999999h", "1.5.5s"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn durations_are_written_in_the_largest_unit_that_divides_them() {
        for text in ["0s", "1ns", "1500us", "90s", "2m", "1h"] {
            assert_eq!(parse_duration(text).map(duration_text).as_deref(), Some(text));
        }
    }

    #[test]
    fn sizes_are_binary_or_decimal() {
        let bytes = |text: &str| ByteSize::parse(&text.into()).map(ByteSize::bytes);
        assert_eq!(bytes("256MiB"), Some(256 << 20));
        assert_eq!(bytes("2GB"), Some(2_000_000_000));
        assert_eq!(bytes("1.5KiB"), Some(1536));
        for text in ["0B", "1", "0.3B", "MiB", "99999999999999GiB"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
