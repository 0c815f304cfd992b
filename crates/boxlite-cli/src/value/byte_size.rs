//! Sizes such as `512m` and `1.5g`.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// A number of bytes; units are powers of 1024, as docker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(pub(crate) u64);

const MIB: u64 = 1 << 20;

/// Why a text is no size.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ByteSizeError {
    #[error("a size is a number with a unit, such as 512m or 1.5g")]
    NotANumber,
    #[error("unknown unit {0:?}: use b, k, m, g or t")]
    UnknownUnit(String),
    #[error("the size does not fit in 64 bits")]
    TooBig,
    #[error("a size must be more than nothing")]
    Zero,
}

/// A size of at least one MiB, for things that are counted in MiB (memory, disks).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MebiBytes(pub(crate) u64);

/// Why a text is no size in MiB.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum MebiBytesError {
    #[error(transparent)]
    Size(#[from] ByteSizeError),
    #[error("{0} bytes is less than a MiB; a number without a unit counts bytes, did you mean {0}m?")]
    TooSmall(u64),
}

impl FromStr for ByteSize {
    type Err = ByteSizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = shift_of(unit.trim())?;
        let bytes = scaled(number, shift)?;
        if bytes == 0 {
            return Err(ByteSizeError::Zero);
        }
        Ok(Self(bytes))
    }
}

fn shift_of(unit: &str) -> Result<u32, ByteSizeError> {
    let lower = unit.to_ascii_lowercase();
    let letter = match lower.as_str() {
        "" | "b" => return Ok(0),
        other => other
            .strip_suffix("ib")
            .or_else(|| other.strip_suffix('b'))
            .unwrap_or(other),
    };
    match letter {
        "k" => Ok(10),
        "m" => Ok(20),
        "g" => Ok(30),
        "t" => Ok(40),
        _ => Err(ByteSizeError::UnknownUnit(unit.to_owned())),
    }
}

/// `number * 2^shift` in integers, so that `1.5g` is exact.
fn scaled(number: &str, shift: u32) -> Result<u64, ByteSizeError> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || fraction.contains('.') || (number.contains('.') && fraction.is_empty()) {
        return Err(ByteSizeError::NotANumber);
    }
    let whole: u64 = whole.parse().map_err(|_| ByteSizeError::TooBig)?;
    let mut bytes = whole.checked_mul(1 << shift).ok_or(ByteSizeError::TooBig)?;
    if !fraction.is_empty() {
        // Nine digits are finer than a byte of any size that a person writes.
        let digits = &fraction[..fraction.len().min(9)];
        let part: u128 = digits.parse().map_err(|_| ByteSizeError::NotANumber)?;
        let scale = 10_u128.pow(u32::try_from(digits.len()).unwrap_or(9));
        let extra = (part << shift) / scale;
        let extra = u64::try_from(extra).map_err(|_| ByteSizeError::TooBig)?;
        bytes = bytes.checked_add(extra).ok_or(ByteSizeError::TooBig)?;
    }
    Ok(bytes)
}

impl FromStr for MebiBytes {
    type Err = MebiBytesError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ByteSize(bytes) = text.parse()?;
        if bytes < MIB {
            return Err(MebiBytesError::TooSmall(bytes));
        }
        Ok(Self(bytes.div_ceil(MIB)))
    }
}

/// Writes a size for people, as docker does: three significant digits, powers of 1000.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        significant(f, self.0, 1000, &["B", "kB", "MB", "GB", "TB", "PB", "EB"])
    }
}

/// A size for people in powers of 1024, for memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BinarySize(pub(crate) u64);

impl fmt::Display for BinarySize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        significant(f, self.0, 1024, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"])
    }
}

fn significant(f: &mut fmt::Formatter<'_>, bytes: u64, base: u64, units: &[&str]) -> fmt::Result {
    let mut divisor = 1_u64;
    let mut unit = 0;
    while bytes / divisor >= base && unit + 1 < units.len() {
        divisor *= base;
        unit += 1;
    }
    let name = units[unit];
    if unit == 0 {
        return write!(f, "{bytes}{name}");
    }
    let (bytes, divisor) = (u128::from(bytes), u128::from(divisor));
    let rounded = |places: u32| {
        let scale = 10_u128.pow(places);
        (bytes * scale + divisor / 2) / divisor
    };
    let whole = bytes / divisor;
    if whole >= 100 {
        write!(f, "{}{name}", rounded(0))
    } else if whole >= 10 {
        let tenths = rounded(1);
        write!(f, "{}.{}{name}", tenths / 10, tenths % 10)
    } else {
        let hundredths = rounded(2);
        write!(f, "{}.{:02}{name}", hundredths / 100, hundredths % 100)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(text: &str) -> Result<u64, ByteSizeError> {
        text.parse::<ByteSize>().map(|size| size.0)
    }

    #[test]
    fn units_are_powers_of_1024() {
        for (text, expected) in [
            ("1", 1),
            ("1b", 1),
            ("2k", 2 << 10),
            ("512m", 512 << 20),
            ("512M", 512 << 20),
            ("512MB", 512 << 20),
            ("512MiB", 512 << 20),
            ("1.5g", 3 << 29),
            ("10 g", 10 << 30),
            ("1t", 1 << 40),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn nonsense_is_named() {
        assert_eq!(bytes(""), Err(ByteSizeError::NotANumber));
        assert_eq!(bytes("m"), Err(ByteSizeError::NotANumber));
        assert_eq!(bytes("1."), Err(ByteSizeError::NotANumber));
        assert_eq!(bytes("1.2.3m"), Err(ByteSizeError::NotANumber));
        assert_eq!(bytes("5x"), Err(ByteSizeError::UnknownUnit("x".into())));
        assert_eq!(bytes("-5m"), Err(ByteSizeError::UnknownUnit("-5m".into())));
        assert_eq!(bytes("0"), Err(ByteSizeError::Zero));
        assert_eq!(bytes("99999999999999t"), Err(ByteSizeError::TooBig));
    }

    #[test]
    fn a_number_without_a_unit_is_no_memory_size() {
        assert_eq!("512".parse::<MebiBytes>(), Err(MebiBytesError::TooSmall(512)));
        assert_eq!("1g".parse::<MebiBytes>(), Ok(MebiBytes(1024)));
        assert_eq!("1025k".parse::<MebiBytes>(), Ok(MebiBytes(2)));
    }

    #[test]
    fn sizes_for_people() {
        for (bytes, decimal, binary) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1_000, "1.00kB", "1000B"),
            (4_430_000, "4.43MB", "4.22MiB"),
            (77_900_000, "77.9MB", "74.3MiB"),
            (512 << 20, "537MB", "512MiB"),
        ] {
            assert_eq!(ByteSize(bytes).to_string(), decimal);
            assert_eq!(BinarySize(bytes).to_string(), binary);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_an_error(text in ".{0,24}") {
            let _ = bytes(&text);
        }

        #[test]
        fn whole_mebibytes_come_back(count in 1_u64..1 << 40) {
            prop_assert_eq!(format!("{count}m").parse::<MebiBytes>(), Ok(MebiBytes(count)));
        }

        #[test]
        fn every_number_can_be_shown(bytes: u64) {
            prop_assert!(ByteSize(bytes).to_string().len() <= 8);
            prop_assert!(BinarySize(bytes).to_string().len() <= 8);
        }
    }
}
