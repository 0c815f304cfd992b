use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest as _, Sha256, Sha512};

/// A hash function that the OCI image specification registers for digests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `sha256`, what everyone uses.
    Sha256,
    /// `sha512`, allowed and rare.
    Sha512,
}

impl Algorithm {
    /// The name before the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// How many hexadecimal digits a digest of this algorithm has.
    pub fn hex_digits(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }

    /// Every algorithm there is.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];
}

/// The name of some content: `sha256:` and the hash in lowercase hexadecimal.
///
/// Only well-formed digests of known algorithms can be made, so a `Digest` from a hostile
/// document is always safe as a file name or in a URL.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` before the hash.
    #[error("digest {text:?} has no algorithm: expected e.g. sha256:… with 64 hexadecimal digits")]
    NoAlgorithm {
        /// What was given, shortened.
        text: String,
    },
    /// The algorithm is none that is known here.
    #[error("digest algorithm {algorithm:?} is not supported: sha256 and sha512 are")]
    UnknownAlgorithm {
        /// The text before the colon, shortened.
        algorithm: String,
    },
    /// The hash has the wrong length or something other than lowercase hexadecimal digits.
    #[error(
        "{algorithm} digest {hex:?} is malformed: expected {expected} lowercase hexadecimal digits",
        algorithm = .algorithm.as_str(),
        expected = .algorithm.hex_digits()
    )]
    Malformed {
        /// The text before the colon.
        algorithm: Algorithm,
        /// The text after the colon, shortened.
        hex: String,
    },
}

impl Digest {
    /// The SHA-256 digest of some bytes.
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// Whether this is the digest of these bytes.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        let mut hasher = Hasher::new(self.algorithm);
        hasher.update(bytes);
        hasher.finish() == *self
    }

    /// Reads `algorithm:hex`.
    ///
    /// # Errors
    /// When the algorithm is unknown or the hash malformed.
    pub fn parse(text: &str) -> Result<Self, DigestError> {
        let Some((name, hex)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm { text: shorten(text) });
        };
        let Some(algorithm) = Algorithm::ALL.into_iter().find(|a| a.as_str() == name) else {
            return Err(DigestError::UnknownAlgorithm {
                algorithm: shorten(name),
            });
        };
        Self::from_hex(algorithm, hex)
    }

    /// Makes a digest from its two parts.
    ///
    /// # Errors
    /// When the hash is malformed.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Result<Self, DigestError> {
        let well_formed =
            hex.len() == algorithm.hex_digits() && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !well_formed {
            return Err(DigestError::Malformed {
                algorithm,
                hex: shorten(hex),
            });
        }
        Ok(Self {
            algorithm,
            hex: hex.into(),
        })
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hash in lowercase hexadecimal, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve digits of the hash, as people read them.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm.as_str(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        Self::parse(text)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

/// Computes a [`Digest`] over bytes that come in pieces.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(Sha256),
    Sha512(Sha512),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        Self(match algorithm {
            Algorithm::Sha256 => State::Sha256(Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Sha512::new()),
        })
    }

    /// Takes in the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(state) => state.update(bytes),
            State::Sha512(state) => state.update(bytes),
        }
    }

    /// The digest of everything taken in.
    pub fn finish(self) -> Digest {
        match self.0 {
            State::Sha256(state) => digest_of(Algorithm::Sha256, &state.finalize()),
            State::Sha512(state) => digest_of(Algorithm::Sha512, &state.finalize()),
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            State::Sha256(_) => "Hasher(sha256)",
            State::Sha512(_) => "Hasher(sha512)",
        })
    }
}

fn digest_of(algorithm: Algorithm, hash: &[u8]) -> Digest {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = String::with_capacity(hash.len() * 2);
    for byte in hash {
        hex.push(char::from(DIGITS[usize::from(byte >> 4)]));
        hex.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    Digest {
        algorithm,
        hex: hex.into(),
    }
}

fn shorten(text: &str) -> String {
    text.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn known_hashes() {
        assert_eq!(Digest::sha256(b"").to_string(), EMPTY);
        let abc = Hasher::new(Algorithm::Sha512);
        let mut abc = abc.clone();
        abc.update(b"a");
        abc.update(b"bc");
        let abc = abc.finish();
        assert!(abc.hex().starts_with("ddaf35a193617abacc417349ae204131"));
        assert!(abc.matches(b"abc"));
        assert!(!abc.matches(b"abd"));
        assert_eq!(Digest::parse(EMPTY).unwrap().short(), "e3b0c44298fc");
    }

    #[test]
    fn malformed_texts_say_why() {
        assert!(matches!(Digest::parse("abc"), Err(DigestError::NoAlgorithm { .. })));
        assert!(matches!(
            Digest::parse("md5:00"),
            Err(DigestError::UnknownAlgorithm { .. })
        ));
        for hex in [
            "",
            "abc",
            &"A".repeat(64),
            &"g".repeat(64),
            &"0".repeat(65),
            &"../".repeat(22),
        ] {
            let text = format!("sha256:{hex}");
            assert!(
                matches!(Digest::parse(&text), Err(DigestError::Malformed { .. })),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(bytes: Vec<u8>) {
            let digest = Digest::sha256(&bytes);
            prop_assert_eq!(&Digest::parse(&digest.to_string()).unwrap(), &digest);
            let json = serde_json::to_string(&digest).unwrap();
            prop_assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), digest);
        }

        #[test]
        fn any_text_parses_or_fails_cleanly(text in ".{0,200}") {
            if let Ok(digest) = Digest::parse(&text) {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
