/// One way in which a server lets itself be convinced: a `WWW-Authenticate` challenge
/// (RFC 9110, section 11).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Lowercase.
    pub(super) scheme: String,
    parameters: Vec<(String, String)>,
}

const MAX_BYTES: usize = 16 << 10;

impl Challenge {
    /// The value of a parameter, whose name is lowercase.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Reads every challenge of a header's value. What can't be understood is passed over:
    /// servers are creative here.
    pub(super) fn parse_all(header: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        let mut rest = header.get(..MAX_BYTES).unwrap_or(header);
        if header.len() > MAX_BYTES {
            return challenges;
        }
        loop {
            rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
            let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
            if end == 0 {
                // Neither a scheme nor a parameter: go on after it.
                let Some(skipped) = rest.chars().next() else {
                    return challenges;
                };
                rest = &rest[skipped.len_utf8()..];
                continue;
            }
            let word = rest[..end].to_ascii_lowercase();
            let after = rest[end..].trim_start();
            match (after.strip_prefix('='), challenges.last_mut()) {
                (Some(value), Some(challenge)) => {
                    let (value, remainder) = take_value(value.trim_start());
                    challenge.parameters.push((word, value));
                    rest = remainder;
                }
                (Some(value), None) => rest = take_value(value.trim_start()).1,
                (None, _) => {
                    challenges.push(Self {
                        scheme: word,
                        parameters: Vec::new(),
                    });
                    rest = &rest[end..];
                }
            }
        }
    }
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// A parameter's value, quoted or not, and what follows it.
fn take_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text
            .find(|c: char| c == ',' || c.is_ascii_whitespace())
            .unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((position, c)) = chars.next() {
        match c {
            '"' => return (value, &quoted[position + 1..]),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn real_challenges() {
        let all = Challenge::parse_all(
            r#"Bearer realm="https://auth.example/token",service="registry.example",scope="repository:a/b:pull,push""#,
        );
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].scheme, "bearer");
        assert_eq!(all[0].parameter("realm"), Some("https://auth.example/token"));
        assert_eq!(all[0].parameter("service"), Some("registry.example"));
        assert_eq!(all[0].parameter("scope"), Some("repository:a/b:pull,push"));
        let all = Challenge::parse_all(r#"Negotiate, Basic realm="a \"b\", c" , Bearer REALM=x, y"#);
        let schemes: Vec<_> = all.iter().map(|c| c.scheme.as_str()).collect();
        assert_eq!(schemes, ["negotiate", "basic", "bearer", "y"]);
        assert_eq!(all[1].parameter("realm"), Some("a \"b\", c"));
        assert_eq!(all[2].parameter("realm"), Some("x"));
        assert_eq!(
            Challenge::parse_all(r#"Basic realm="unterminated"#)[0].parameter("realm"),
            Some("unterminated")
        );
        assert!(Challenge::parse_all("").is_empty());
        assert!(Challenge::parse_all(&"a".repeat(MAX_BYTES + 1)).is_empty());
    }

    proptest! {
        #[test]
        fn any_text_parses_and_ends(text in ".{0,300}") {
            let _ = Challenge::parse_all(&text);
        }

        #[test]
        fn quoted_values_come_back(value in "[ -~]{0,40}") {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            let all = Challenge::parse_all(&format!("Bearer realm=\"{quoted}\", service=s"));
            prop_assert_eq!(all.len(), 1);
            prop_assert_eq!(all[0].parameter("realm"), Some(value.as_str()));
            prop_assert_eq!(all[0].parameter("service"), Some("s"));
        }
    }
}
