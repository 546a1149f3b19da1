//! Durations and sizes as people write them: `10s`, `200ms`, `1MiB`.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::time::Duration;

/// A length of time, written `200ms`, `10s`, `5m`, `1h` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    pub const fn millis(millis: u64) -> Span {
        Span(Duration::from_millis(millis))
    }

    pub const fn secs(secs: u64) -> Span {
        Span(Duration::from_secs(secs))
    }
}

/// A number of bytes, written `512`, `64KiB`, `1MiB` or `2GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

const SPANS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, u64); 4] = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("", 1)];

/// Splits `text` into its whole number and the factor its unit stands for.
fn parse(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = text[digits..].trim_start();
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*factor)
}

/// The number in the largest unit that leaves no remainder.
fn format(number: u64, units: &[(&str, u64)]) -> String {
    let fits = |factor: u64| number != 0 && number.is_multiple_of(factor);
    let largest =
        units.iter().filter(|(_, factor)| fits(*factor)).max_by_key(|(_, factor)| *factor);
    let smallest = units.iter().min_by_key(|(_, factor)| *factor);
    match largest.or(smallest) {
        Some((unit, factor)) => format!("{}{unit}", number / factor),
        None => number.to_string(),
    }
}

impl std::str::FromStr for Span {
    type Err = String;
    fn from_str(text: &str) -> Result<Span, String> {
        let millis = parse(text, &SPANS)
            .ok_or_else(|| format!("{text:?} is not a duration; write 200ms, 10s, 5m, 1h or 7d"))?;
        Ok(Span::millis(millis))
    }
}

impl std::str::FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Size, String> {
        let bytes = parse(text, &SIZES)
            .ok_or_else(|| format!("{text:?} is not a size; write 512, 64KiB, 1MiB or 2GiB"))?;
        Ok(Size(bytes))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format(self.0.as_millis() as u64, &SPANS))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format(self.0, &SIZES))
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Span, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Size, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["0ms", "200ms", "10s", "90s", "5m", "1h", "7d"] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), text);
        }
        for text in ["0", "512", "64KiB", "1MiB", "2GiB", "1000001"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_has_no_unit_or_a_foreign_one_is_refused() {
        for text in ["10", "", "s", "-1s", "1.5s", "10 seconds", "99999999999999999999s"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
        for text in ["1MB", "", "MiB", "-1", "99999999999GiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }
}
