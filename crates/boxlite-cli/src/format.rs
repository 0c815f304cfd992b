//! `--format`.

use thiserror::Error;

/// How a list is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// For programs; see `docs/cli-json.md`.
    Json,
}

/// Why a text is no format.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum FormatError {
    #[error("boxlite has no Go templates: use --format json and pick the fields with jq")]
    Template,
    #[error("there is no format {0:?}: use table or json")]
    Unknown(String),
}

/// Parses `--format`.
pub(crate) fn parse(text: &str) -> Result<Format, FormatError> {
    match text {
        "table" => Ok(Format::Table),
        "json" => Ok(Format::Json),
        template if template.contains("{{") => Err(FormatError::Template),
        other => Err(FormatError::Unknown(other.to_owned())),
    }
}

/// The `--format` of commands that print JSON whatever is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JsonOnly;

/// Parses the `--format` of commands that have no table.
pub(crate) fn parse_json_only(text: &str) -> Result<JsonOnly, FormatError> {
    match parse(text) {
        Ok(Format::Json) => Ok(JsonOnly),
        Ok(Format::Table) => Err(FormatError::Unknown("table".to_owned())),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_refused_clearly() {
        assert_eq!(parse("json"), Ok(Format::Json));
        assert_eq!(parse("table"), Ok(Format::Table));
        assert_eq!(parse("{{.ID}}"), Err(FormatError::Template));
        assert_eq!(parse("table {{.ID}}"), Err(FormatError::Template));
        assert_eq!(parse("yaml"), Err(FormatError::Unknown("yaml".into())));
        assert_eq!(parse_json_only("json"), Ok(JsonOnly));
        assert!(parse_json_only("table").is_err());
    }
}
