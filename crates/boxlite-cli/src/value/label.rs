//! Labels: `KEY=VALUE` or `KEY`.

use thiserror::Error;

/// Why a text is no label.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{0:?} has no name: the form is KEY=VALUE or KEY")]
pub(crate) struct LabelError(String);

/// Parses one `--label`.
pub(crate) fn parse(text: &str) -> Result<(String, String), LabelError> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() {
        return Err(LabelError(text.to_owned()));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_and_without_a_value() {
        let pair = |name: &str, value: &str| Ok((name.to_owned(), value.to_owned()));
        assert_eq!(parse("a=b=c"), pair("a", "b=c"));
        assert_eq!(parse("a="), pair("a", ""));
        assert_eq!(parse("a"), pair("a", ""));
        assert_eq!(parse("=b"), Err(LabelError("=b".into())));
        assert_eq!(parse(""), Err(LabelError(String::new())));
    }
}
