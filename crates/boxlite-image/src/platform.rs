use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// What an image runs on: `linux/amd64`, `linux/arm64/v8`, …
///
/// Names are those of the Go toolchain, which the OCI image specification uses. Common
/// spellings of other systems (`x86_64`, `aarch64`, `armhf`) are understood and normalised;
/// a variant that is its architecture's default is left out, so that equal platforms
/// compare equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

/// A text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// The text has too few or too many parts, or parts with impossible characters.
    #[error("platform {text:?} is malformed: expected OS/ARCHITECTURE[/VARIANT], e.g. linux/arm64")]
    Malformed {
        /// What was given, shortened.
        text: String,
    },
    /// A single word that is neither an operating system nor an architecture.
    #[error("{text:?} is neither an operating system nor an architecture; write e.g. linux/amd64")]
    Unknown {
        /// What was given.
        text: String,
    },
}

const ARCHITECTURES: [&str; 14] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64", "ppc64le", "riscv64",
    "s390x", "wasm",
];
const SYSTEMS: [&str; 7] = ["linux", "darwin", "freebsd", "netbsd", "openbsd", "windows", "wasip1"];

impl Platform {
    /// The platform of the machine that this runs on. Boxes run Linux, whatever the host does.
    pub fn host() -> Self {
        Self::new("linux", std::env::consts::ARCH, None)
    }

    /// Makes a platform from its parts, normalised.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|v| !v.is_empty());
        let (architecture, variant) = normalise(&architecture.to_ascii_lowercase(), variant.as_deref());
        Self {
            os,
            architecture,
            variant,
        }
    }

    /// Reads `OS/ARCHITECTURE[/VARIANT]`, or one word: an architecture (of Linux) or an
    /// operating system (on the host's architecture).
    ///
    /// # Errors
    /// When the text is malformed.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        let malformed = || PlatformError::Malformed {
            text: text.chars().take(80).collect(),
        };
        let parts: Vec<&str> = text.split('/').collect();
        let well_formed = |part: &&str| {
            !part.is_empty()
                && part.len() <= 64
                && part
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        };
        if !parts.iter().all(well_formed) {
            return Err(malformed());
        }
        match parts[..] {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            [word] => {
                let as_architecture = Self::new("linux", word, None);
                let as_system = Self::new(word, std::env::consts::ARCH, None);
                if ARCHITECTURES.contains(&as_architecture.architecture.as_str()) {
                    Ok(as_architecture)
                } else if SYSTEMS.contains(&as_system.os.as_str()) {
                    Ok(as_system)
                } else {
                    Err(PlatformError::Unknown { text: word.to_owned() })
                }
            }
            _ => Err(malformed()),
        }
    }

    /// The operating system, e.g. `linux`.
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture, e.g. `amd64`.
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant of the architecture, e.g. `v7`, where it is not the default.
    pub fn variant(&self) -> Option<&str> {
        self.variant.as_deref()
    }

    /// How well something made for `offered` suits a machine of this platform: `None` not at
    /// all, otherwise the higher the better.
    ///
    /// A processor runs what was made for the same and for lower variants of its
    /// architecture, and the highest of these is best.
    pub fn suits(&self, offered: &Self) -> Option<u32> {
        if self.os != offered.os || self.architecture != offered.architecture {
            return None;
        }
        if self.variant == offered.variant {
            return Some(u32::MAX);
        }
        let wanted = variant_level(&self.architecture, self.variant.as_deref())?;
        let offered = variant_level(&offered.architecture, offered.variant.as_deref())?;
        (offered <= wanted).then_some(offered)
    }

    /// Whether this is the placeholder that build tools give to attestations.
    pub(crate) fn is_unknown(&self) -> bool {
        self.os == "unknown" && self.architecture == "unknown"
    }
}

/// Orders the variants of one architecture; `None` for a variant of another kind.
fn variant_level(architecture: &str, variant: Option<&str>) -> Option<u32> {
    let default = match architecture {
        "arm" => "v7",
        "arm64" => "v8",
        _ => "v1",
    };
    let digits = variant.unwrap_or(default).strip_prefix('v')?;
    let (major, minor) = digits.split_once('.').unwrap_or((digits, "0"));
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    (major < 1000 && minor < 1000).then_some(major * 1000 + minor)
}

fn normalise(architecture: &str, variant: Option<&str>) -> (String, Option<String>) {
    let numbered = variant.map(|v| {
        if v.starts_with(|c: char| c.is_ascii_digit()) {
            format!("v{v}")
        } else {
            v.to_owned()
        }
    });
    let (architecture, variant) = match architecture {
        "x86_64" | "x86-64" => ("amd64", numbered),
        "i386" | "i486" | "i586" | "i686" | "x86" => ("386", numbered),
        "aarch64" => ("arm64", numbered),
        "armhf" => ("arm", numbered.or(Some("v7".to_owned()))),
        "armel" => ("arm", numbered.or(Some("v6".to_owned()))),
        "powerpc64le" => ("ppc64le", numbered),
        "powerpc64" => (
            if cfg!(target_endian = "little") {
                "ppc64le"
            } else {
                "ppc64"
            },
            numbered,
        ),
        "loongarch64" => ("loong64", numbered),
        other => (other, numbered),
    };
    let default = match (architecture, variant.as_deref()) {
        ("amd64", Some("v1")) | ("arm64", Some("v8" | "v8.0")) | ("arm", Some("v7")) => true,
        (_, variant) => variant.is_none(),
    };
    (architecture.to_owned(), variant.filter(|_| !default))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if let Some(variant) = &self.variant {
            write!(f, "/{variant}")?;
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        Self::parse(text)
    }
}

impl Serialize for Platform {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Platform {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn platform(text: &str) -> Platform {
        Platform::parse(text).unwrap()
    }

    #[test]
    fn spellings_are_normalised() {
        for (text, normal) in [
            ("linux/amd64", "linux/amd64"),
            ("Linux/x86_64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/arm64/v8", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("linux/arm/7", "linux/arm"),
            ("linux/armhf", "linux/arm"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("riscv64", "linux/riscv64"),
        ] {
            assert_eq!(platform(text).to_string(), normal, "{text}");
        }
        assert_eq!(platform("linux"), Platform::host());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "/", "linux/", "linux//v7", "a/b/c/d", "linux/am d64", "linux/é"] {
            assert!(
                matches!(Platform::parse(text), Err(PlatformError::Malformed { .. })),
                "{text}"
            );
        }
        assert!(matches!(Platform::parse("beos9"), Err(PlatformError::Unknown { .. })));
    }

    #[test]
    fn lower_variants_suit_higher_machines() {
        let v7 = platform("linux/arm/v7");
        assert_eq!(v7.suits(&platform("linux/arm/v7")), Some(u32::MAX));
        assert!(v7.suits(&platform("linux/arm/v6")) > v7.suits(&platform("linux/arm/v5")));
        assert_eq!(v7.suits(&platform("linux/arm/v8")), None);
        assert_eq!(v7.suits(&platform("linux/arm64")), None);
        assert_eq!(platform("linux/amd64").suits(&platform("linux/amd64/v3")), None);
        assert!(platform("linux/amd64/v3").suits(&platform("linux/amd64")).is_some());
        assert!(platform("linux/arm64/v8.2").suits(&platform("linux/arm64")).is_some());
        assert_eq!(platform("linux/amd64").suits(&platform("windows/amd64")), None);
    }

    proptest! {
        #[test]
        fn display_and_parse_are_inverse(text in "[a-z0-9_]{1,8}/[a-z0-9_]{1,8}(/v?[0-9.a-z]{1,4})?") {
            let once = platform(&text);
            prop_assert_eq!(platform(&once.to_string()), once);
        }

        #[test]
        fn any_text_parses_or_fails_cleanly(text in ".{0,100}", other in ".{0,20}") {
            if let (Ok(a), Ok(b)) = (Platform::parse(&text), Platform::parse(&other)) {
                let _ = a.suits(&b);
            }
        }
    }
}
