//! How many virtual processors a box gets.

use thiserror::Error;

/// Why a text is no number of processors.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum CpusError {
    #[error("a box has at least one vCPU")]
    Zero,
    #[error("a box is a virtual machine and has whole vCPUs: use {0}")]
    Fraction(u32),
    #[error("the number of vCPUs is a whole number, such as 2")]
    NotANumber,
}

/// Parses `--cpus`. Docker takes fractions there; a machine can't have half a processor.
pub(crate) fn parse(text: &str) -> Result<u32, CpusError> {
    match text.parse::<u32>() {
        Ok(0) => Err(CpusError::Zero),
        Ok(count) => Ok(count),
        Err(_) => match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() && fraction.bytes().all(|digit| digit.is_ascii_digit()) => {
                let whole = if whole.is_empty() { "0" } else { whole };
                let whole: u32 = whole.parse().map_err(|_| CpusError::NotANumber)?;
                if fraction.bytes().all(|digit| digit == b'0') {
                    return if whole == 0 { Err(CpusError::Zero) } else { Ok(whole) };
                }
                Err(CpusError::Fraction(whole.saturating_add(1)))
            }
            _ => Err(CpusError::NotANumber),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_processors() {
        assert_eq!(parse("2"), Ok(2));
        assert_eq!(parse("2.0"), Ok(2));
        assert_eq!(parse("0"), Err(CpusError::Zero));
        assert_eq!(parse("0.0"), Err(CpusError::Zero));
        assert_eq!(parse("1.5"), Err(CpusError::Fraction(2)));
        assert_eq!(parse(".5"), Err(CpusError::Fraction(1)));
        assert_eq!(parse("-1"), Err(CpusError::NotANumber));
        assert_eq!(parse("two"), Err(CpusError::NotANumber));
        assert_eq!(parse("1.x"), Err(CpusError::NotANumber));
    }
}
