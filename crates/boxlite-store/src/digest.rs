//! The digest of a blob, as the store writes it into rows and file names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::box_id::is_lower_hex;

/// A content digest of the OCI image specification: `sha256:` and 64, or `sha512:` and 128
/// lower-case hexadecimal digits. Nothing else, so that it is safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

/// A text that is no [`Digest`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no digest: sha256: and 64 lower-case hexadecimal digits are")]
pub struct InvalidDigest {
    /// What was given.
    pub text: String,
}

impl Digest {
    /// The whole text, algorithm first.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha256` or `sha512`.
    #[must_use]
    pub fn algorithm(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The hexadecimal digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        self.0.split(':').nth(1).unwrap_or_default()
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Digest, InvalidDigest> {
        let is_valid = text.split_once(':').is_some_and(|(algorithm, hex)| {
            let digits = match algorithm {
                "sha256" => 64,
                "sha512" => 128,
                _ => return false,
            };
            hex.len() == digits && is_lower_hex(hex)
        });
        if is_valid {
            Ok(Digest(text.to_owned()))
        } else {
            Err(InvalidDigest { text: text.to_owned() })
        }
    }
}

impl TryFrom<String> for Digest {
    type Error = InvalidDigest;

    fn try_from(text: String) -> Result<Digest, InvalidDigest> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_has_a_known_algorithm_and_all_its_digits() {
        let text = format!("sha256:{}", "0a".repeat(32));
        let digest: Digest = text.parse().unwrap();
        assert_eq!((digest.algorithm(), digest.hex().len()), ("sha256", 64));
        for wrong in [
            "",
            "sha256:",
            "sha256:../../..",
            "md5:00",
            &text[7..],
            &format!("{text}0"),
        ] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
        assert!(format!("sha256:{}", "0A".repeat(32)).parse::<Digest>().is_err());
    }
}
