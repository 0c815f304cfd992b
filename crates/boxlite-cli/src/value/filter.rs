//! Filters of lists: `KEY=VALUE`.

use thiserror::Error;

/// Why a text is no filter.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum FilterError {
    #[error("the form is KEY=VALUE; keys are {0}")]
    Form(String),
    #[error("there is no filter {key:?}; keys are {known}")]
    UnknownKey { key: String, known: String },
}

/// Splits a filter and checks its key.
pub(crate) fn parse<'a>(text: &'a str, keys: &[&str]) -> Result<(&'a str, &'a str), FilterError> {
    let known = || keys.join(", ");
    let (key, value) = text
        .split_once('=')
        .filter(|(_, value)| !value.is_empty())
        .ok_or_else(|| FilterError::Form(known()))?;
    if !keys.contains(&key) {
        return Err(FilterError::UnknownKey {
            key: key.to_owned(),
            known: known(),
        });
    }
    Ok((key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked() {
        let keys = ["name", "label"];
        assert_eq!(parse("name=web", &keys), Ok(("name", "web")));
        assert_eq!(parse("label=a=b", &keys), Ok(("label", "a=b")));
        assert_eq!(parse("name", &keys), Err(FilterError::Form("name, label".into())));
        assert_eq!(parse("name=", &keys), Err(FilterError::Form("name, label".into())));
        assert_eq!(
            parse("nme=x", &keys),
            Err(FilterError::UnknownKey {
                key: "nme".into(),
                known: "name, label".into()
            })
        );
    }
}
