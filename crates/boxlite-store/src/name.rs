//! Names of boxes.

use std::io;

use crate::BoxId;
use crate::box_id::is_lower_hex;

/// The most characters that a name may have.
const LONGEST_NAME: usize = 128;

/// A text that no box may be named.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidName {
    /// Nothing at all.
    #[error("a name needs at least one character")]
    Empty,
    /// More than 128 characters.
    #[error("a name has at most {LONGEST_NAME} characters, this one has {length}")]
    TooLong {
        /// How many it has.
        length: usize,
    },
    /// A character that isn't allowed.
    #[error("{name:?} can't be a name: letters, digits, and after the first also _ . - are allowed")]
    Character {
        /// What was given.
        name: String,
    },
    /// It would be taken for an identity.
    #[error("{name:?} can't be a name: it looks like the ID of a box")]
    LooksLikeId {
        /// What was given.
        name: String,
    },
}

/// Whether a box may have this name: ASCII letters, digits, `_`, `.` and `-`, beginning with a
/// letter or digit, at most 128 of them, and not what an ID looks like.
///
/// # Errors
/// [`InvalidName`] says what is wrong.
pub fn validate_name(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() {
        return Err(InvalidName::Empty);
    }
    if name.len() > LONGEST_NAME {
        return Err(InvalidName::TooLong {
            length: name.chars().count(),
        });
    }
    let is_allowed = |(position, byte): (usize, u8)| {
        byte.is_ascii_alphanumeric() || (position > 0 && matches!(byte, b'_' | b'.' | b'-'))
    };
    if !name.bytes().enumerate().all(is_allowed) {
        return Err(InvalidName::Character { name: name.to_owned() });
    }
    if name.len() == BoxId::LENGTH && is_lower_hex(name) {
        return Err(InvalidName::LooksLikeId { name: name.to_owned() });
    }
    Ok(())
}

/// A random name, `adjective_noun`, that may well be taken: the caller looks.
///
/// # Errors
/// If the system has no random numbers to give.
pub fn generate_name() -> io::Result<String> {
    let mut random = [0; 4];
    getrandom::fill(&mut random).map_err(io::Error::from)?;
    let pick =
        |words: &[&'static str], high: u8, low: u8| words[usize::from(u16::from_be_bytes([high, low])) % words.len()];
    Ok(format!(
        "{}_{}",
        pick(ADJECTIVES, random[0], random[1]),
        pick(NOUNS, random[2], random[3])
    ))
}

/// Friendly words, short to type, without a second meaning that anybody would mind.
const ADJECTIVES: &[&str] = &[
    "able", "airy", "alert", "amber", "ample", "apt", "azure", "balmy", "bold", "brave", "brief", "bright", "brisk",
    "bubbly", "calm", "candid", "cheery", "chilly", "civil", "clean", "clever", "cosmic", "cosy", "crisp", "curious",
    "dapper", "daring", "deft", "dewy", "eager", "early", "earnest", "easy", "elegant", "epic", "fabled", "fair",
    "fancy", "fearless", "festive", "fluent", "fond", "frank", "fresh", "frosty", "gentle", "giddy", "gleaming",
    "glossy", "golden", "grand", "handy", "happy", "hardy", "hearty", "honest", "humble", "ideal", "indigo", "ivory",
    "jaunty", "jolly", "jovial", "keen", "kind", "lilac", "lively", "loyal", "lucid", "lucky", "lunar", "magic",
    "mellow", "merry", "mighty", "mild", "minty", "misty", "modest", "mossy", "neat", "nimble", "noble", "novel",
    "olive", "patient", "peachy", "placid", "playful", "plucky", "polite", "prime", "proud", "quaint", "quick",
    "quiet", "rapid", "regal", "ripe", "robust", "rosy", "rustic", "sage", "scenic", "serene", "silver", "sleek",
    "smooth", "snug", "solar", "solid", "spry", "stable", "steady", "stellar", "sturdy", "subtle", "sunny", "swift",
    "tidy", "tranquil", "true", "upbeat", "valiant", "velvet", "vivid", "warm", "wise", "witty", "woven", "zesty",
];

const NOUNS: &[&str] = &[
    "acorn", "alcove", "almond", "anchor", "anvil", "apple", "arbor", "aspen", "atlas", "badger", "banjo", "barge",
    "basil", "basin", "beacon", "beaver", "bell", "birch", "bison", "bloom", "bobcat", "boulder", "breeze", "bridge",
    "brook", "cabin", "cactus", "canoe", "canyon", "cedar", "cello", "cherry", "cliff", "clover", "comet", "compass",
    "coral", "cove", "crane", "creek", "cricket", "dahlia", "dolphin", "dove", "dune", "eagle", "ember", "falcon",
    "fern", "ferry", "finch", "fjord", "flute", "forest", "fountain", "fox", "galaxy", "garden", "gecko", "geyser",
    "glacier", "grove", "gull", "hamlet", "harbor", "harp", "hazel", "heron", "hill", "ibis", "inlet", "iris",
    "island", "jasmine", "juniper", "kayak", "kestrel", "kettle", "kiwi", "koala", "lagoon", "lantern", "larch",
    "lemon", "lemur", "lichen", "lily", "linden", "lotus", "lynx", "mango", "maple", "marble", "marmot", "meadow",
    "mesa", "meteor", "moose", "mountain", "nebula", "nectar", "oak", "oasis", "orchard", "orchid", "oriole", "osprey",
    "otter", "owl", "panda", "pebble", "pelican", "pepper", "piano", "pine", "planet", "plum", "pond", "poppy",
    "prairie", "puffin", "quartz", "quill", "rabbit", "raven", "reef", "ridge", "river", "robin", "saddle", "saffron",
    "sail", "seal", "shore", "sparrow", "spruce", "star", "stream", "summit", "swan", "teapot", "thistle", "thyme",
    "tiger", "trail", "tulip", "tundra", "turtle", "valley", "violin", "walnut", "walrus", "willow", "wren", "yarrow",
    "zebra", "zephyr",
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn generated_names_are_valid_and_vary() {
        let names: HashSet<String> = (0..200).map(|_| generate_name().unwrap()).collect();
        assert!(names.len() > 150);
        for name in &names {
            validate_name(name).unwrap();
            assert_eq!(name.split('_').count(), 2);
        }
    }

    #[test]
    fn no_word_is_there_twice() {
        for words in [ADJECTIVES, NOUNS] {
            assert_eq!(words.iter().collect::<HashSet<_>>().len(), words.len());
        }
    }

    #[test]
    fn names_that_could_hurt_are_refused() {
        for name in [
            "",
            "-f",
            ".hidden",
            "a/b",
            "a b",
            "ä",
            "..",
            "a\n",
            &"x".repeat(129),
            &"ab".repeat(16),
        ] {
            assert!(validate_name(name).is_err(), "{name:?}");
        }
        for name in ["a", "web-1", "A.b_c", &"x".repeat(128), "abcdef"] {
            validate_name(name).unwrap();
        }
    }
}
