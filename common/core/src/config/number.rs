//! Checked numbers: each holds its range by its type.

use toml::Value;

use super::setting::Plain;

/// A checked number that stands in the source, as a default does.
pub(super) const fn literal<T: Copy>(checked: Option<T>) -> T {
    match checked {
        Some(number) => number,
        None => panic!("a default of the configuration is out of its own range"),
    }
}

/// An integer from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Whole<const MIN: usize, const MAX: usize>(usize);

/// At least 1, and few enough that sums and products of two do not overflow.
pub type AtLeastOne = Whole<1, 4_294_967_295>;

impl<const MIN: usize, const MAX: usize> Whole<MIN, MAX> {
    /// The number, if it is in the range.
    pub const fn new(number: usize) -> Option<Self> {
        if MIN <= number && number <= MAX { Some(Self(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> usize {
        self.0
    }
}

impl<const MIN: usize, const MAX: usize> std::fmt::Display for Whole<MIN, MAX> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl<const MIN: usize, const MAX: usize> Plain for Whole<MIN, MAX> {
    fn allowed() -> String {
        format!("an integer from {MIN} to {MAX}")
    }

    fn parse(value: &Value) -> Option<Self> {
        Self::new(usize::try_from(value.as_integer()?).ok()?)
    }

    fn to_value(&self) -> Value {
        // Every MAX in use is far below the end of TOML's integers.
        i64::try_from(self.0).unwrap_or(i64::MAX).into()
    }
}

/// A floating-point number with a range; TOML may write it as an integer.
macro_rules! checked_f64 {
    ($($(#[$meta:meta])* $name:ident: $allowed:literal, |$x:ident| $fits:expr;)*) => {
        $(
            $(#[$meta])*
            #[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
            pub struct $name(f64);

            impl $name {
                /// The number, if it is in the range (never NaN).
                pub const fn new($x: f64) -> Option<Self> {
                    if $fits { Some(Self($x)) } else { None }
                }

                /// The number.
                pub const fn get(self) -> f64 {
                    self.0
                }
            }

            impl std::fmt::Display for $name {
                fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    self.0.fmt(f)
                }
            }

            impl Plain for $name {
                fn allowed() -> String {
                    $allowed.into()
                }

                fn parse(value: &Value) -> Option<Self> {
                    Self::new(match *value {
                        Value::Float(number) => number,
                        Value::Integer(number) => number as f64,
                        _ => return None,
                    })
                }

                fn to_value(&self) -> Value {
                    self.0.into()
                }
            }
        )*
    };
}

checked_f64! {
    /// From 0 up to, not including, 1: a share of packets that is lost, a share that is kept.
    Probability: "a number of at least 0 and below 1", |x| 0.0 <= x && x < 1.0;
    /// Above 0, up to 1: a share of the edges, an accuracy to reach.
    Share: "a number above 0 and at most 1", |x| 0.0 < x && x <= 1.0;
    /// Above 0, below 1: a part of something that leaves a rest.
    Fraction: "a number above 0 and below 1", |x| 0.0 < x && x < 1.0;
    /// Above 0, finite.
    PositiveF64: "a number above 0", |x| 0.0 < x && x < f64::INFINITY;
    /// Above 0, with a single-precision number that is neither 0 nor infinite.
    PositiveF32: "a number from 1.2e-38 to 3.4e38, as kernels compute in single precision",
        |x| 1.2e-38 <= x && x <= 3.4e38;
    /// At least 0, with a single-precision number that is not infinite.
    NonNegativeF32: "a number of at least 0 and at most 3.4e38, as kernels compute in single precision",
        |x| 0.0 <= x && x <= 3.4e38;
    /// From 0 to 100: a share added to a time.
    Margin: "a number of at least 0 and at most 100", |x| 0.0 <= x && x <= 100.0;
    /// At least 0, finite.
    NonNegativeF64: "a number of at least 0", |x| 0.0 <= x && x < f64::INFINITY;
    /// At least 1, finite.
    Factor: "a number of at least 1", |x| 1.0 <= x && x < f64::INFINITY;
    /// A device's speed as a share of one thread of the machine that emulates it.
    Speed: "a number above 0 and at most 64", |x| 0.0 < x && x <= 64.0;
    /// A link's rate in Mbit/s (10^6 bits per second).
    Mbps: "Mbit/s: a number of at least 0.001 and at most 1000000", |x| 0.001 <= x && x <= 1e6;
}
