//! The identity of a box.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A box's identity: 32 lower-case hexadecimal digits, random, never reused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BoxId(String);

/// A text that is no [`BoxId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no box ID: 32 lower-case hexadecimal digits are")]
pub struct InvalidBoxId {
    /// What was given.
    pub text: String,
}

impl BoxId {
    /// How many digits people are shown.
    pub const SHORT_LENGTH: usize = 12;
    pub(crate) const LENGTH: usize = 32;

    /// A new random identity.
    ///
    /// # Errors
    /// If the system has no random numbers to give.
    pub fn random() -> std::io::Result<BoxId> {
        random_hex().map(BoxId)
    }

    /// All 32 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first [`BoxId::SHORT_LENGTH`] digits.
    #[must_use]
    pub fn short(&self) -> &str {
        &self.0[..BoxId::SHORT_LENGTH]
    }
}

/// 128 random bits as 32 hexadecimal digits.
pub(crate) fn random_hex() -> std::io::Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(std::io::Error::from)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl FromStr for BoxId {
    type Err = InvalidBoxId;

    fn from_str(text: &str) -> Result<BoxId, InvalidBoxId> {
        if text.len() == BoxId::LENGTH && is_lower_hex(text) {
            Ok(BoxId(text.to_owned()))
        } else {
            Err(InvalidBoxId { text: text.to_owned() })
        }
    }
}

impl TryFrom<String> for BoxId {
    type Error = InvalidBoxId;

    fn try_from(text: String) -> Result<BoxId, InvalidBoxId> {
        text.parse()
    }
}

impl From<BoxId> for String {
    fn from(id: BoxId) -> String {
        id.0
    }
}

impl fmt::Display for BoxId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_differ_and_parse_back() {
        let (one, other) = (BoxId::random().unwrap(), BoxId::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.to_string().parse(), Ok(one.clone()));
        assert_eq!(one.short().len(), 12);
    }

    #[test]
    fn nothing_but_hexadecimal_digits_is_an_id() {
        for text in [
            "",
            "../../../etc/passwd0000000000000",
            "ABCDEF00000000000000000000000000",
            "abc",
        ] {
            assert!(text.parse::<BoxId>().is_err(), "{text}");
        }
    }
}
