//! Numbers as people read them: thousands apart, bytes and shares with their unit.

/// Beyond this, digits are no help.
const TOO_LONG: f64 = 1e15;

/// `value` to `decimals` places, its thousands separated by commas.
pub(crate) fn grouped(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value.abs() >= TOO_LONG {
        return format!("{value:.3e}");
    }
    let text = format!("{value:.decimals$}");
    let (whole, fraction) = text.split_once('.').map_or((text.as_str(), None), |(w, f)| (w, Some(f)));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let is_zero = |part: &str| part.bytes().all(|digit| digit == b'0');
    let sign = if is_zero(digits) && fraction.is_none_or(is_zero) { "" } else { sign };
    let mut out = sign.to_owned();
    for (index, digit) in digits.char_indices() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push('.');
        out += fraction;
    }
    out
}

/// A count, its thousands separated.
pub(crate) fn count(value: u64) -> String {
    grouped(value as f64, 0)
}

/// Bytes in the unit that fits: `1.23 MB` is 1,230,000.
pub(crate) fn bytes(value: f64) -> String {
    let (unit, name) = byte_unit(value);
    let decimals = if unit > 1.0 { significant_decimals(value / unit) } else { 0 };
    format!("{} {name}", grouped(value / unit, decimals))
}

/// As many as a value needs for three digits.
pub(crate) fn significant_decimals(value: f64) -> usize {
    match value.abs() {
        small if small < 10.0 => 2,
        middle if middle < 100.0 => 1,
        _ => 0,
    }
}

/// The largest unit that is not above `value`, and its name.
pub(crate) fn byte_unit(value: f64) -> (f64, &'static str) {
    const UNITS: [(f64, &str); 4] = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    UNITS.into_iter().find(|(unit, _)| value.abs() >= *unit).unwrap_or((1.0, "bytes"))
}

/// A share as percent.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", grouped(100.0 * share, 1))
}

/// Milliseconds with their unit.
pub(crate) fn milliseconds(ms: f64) -> String {
    format!("{} ms", grouped(ms, usize::from(ms.abs() < 100.0)))
}

/// Seconds with their unit.
pub(crate) fn seconds(seconds: f64) -> String {
    format!("{} s", grouped(seconds, usize::from(seconds.abs() < 100.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(1_234_567.891, 2), "1,234,567.89");
        assert_eq!(grouped(-1234.0, 0), "-1,234");
        assert_eq!(grouped(999.4, 0), "999");
        assert_eq!(grouped(-0.04, 1), "0.0");
        assert_eq!(grouped(f64::NAN, 1), "-");
        assert_eq!(grouped(1e300, 0), "1.000e300");
        assert_eq!(count(61_706), "61,706");
    }

    #[test]
    fn quantities_have_units() {
        assert_eq!(bytes(999.0), "999 bytes");
        assert_eq!(bytes(1_234_567.0), "1.23 MB");
        assert_eq!(bytes(123_456_789.0), "123 MB");
        assert_eq!(percent(0.9718), "97.2 %");
        assert_eq!(milliseconds(181.4), "181 ms");
        assert_eq!(seconds(38.61), "38.6 s");
    }
}
