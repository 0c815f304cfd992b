//! Environment variables from `-e` and `--env-file`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A variable and its value.
pub(crate) type Variable = (String, String);

/// Why the environment of a box could not be put together.
#[derive(Debug, Error)]
pub(crate) enum EnvironmentError {
    #[error("{0:?} names no variable: the form is KEY=VALUE, or KEY for the caller's own value")]
    NoName(String),
    #[error("the variable {0:?} is not UTF-8")]
    NotUtf8(String),
    #[error("can't read the environment file {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        path: PathBuf,
        /// From 1.
        line: usize,
        problem: LineProblem,
    },
}

/// What is wrong with a line of an environment file.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum LineProblem {
    #[error("the line is not UTF-8")]
    NotUtf8,
    #[error("the line names no variable before its =")]
    NoName,
    #[error("the variable name {0:?} has white space in it")]
    WhiteSpace(String),
    #[error("the line has a NUL byte")]
    Nul,
}

/// Where `KEY` without a value looks: the caller's own environment.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The environment that `--env-file` and `-e` give: files first, in their order,
/// then the single variables; what comes later wins, and keeps the place of the first.
///
/// A `KEY` without a value that the caller does not have is left out, as docker does.
pub(crate) fn collect(
    files: &[PathBuf],
    singles: &[String],
    lookup: Lookup<'_>,
) -> Result<Vec<Variable>, EnvironmentError> {
    let mut variables = Vec::new();
    for path in files {
        let bytes = fs::read(path).map_err(|source| EnvironmentError::Read {
            path: path.clone(),
            source,
        })?;
        for variable in parse_file(path, &bytes, lookup)? {
            put(&mut variables, variable);
        }
    }
    for text in singles {
        if let Some(variable) = parse_single(text, lookup)? {
            put(&mut variables, variable);
        }
    }
    Ok(variables)
}

fn put(variables: &mut Vec<Variable>, (name, value): Variable) {
    match variables.iter_mut().find(|(known, _)| *known == name) {
        Some((_, old)) => *old = value,
        None => variables.push((name, value)),
    }
}

fn parse_single(text: &str, lookup: Lookup<'_>) -> Result<Option<Variable>, EnvironmentError> {
    match text.split_once('=') {
        Some(("", _)) => Err(EnvironmentError::NoName(text.to_owned())),
        Some((name, value)) => Ok(Some((name.to_owned(), value.to_owned()))),
        None if text.is_empty() => Err(EnvironmentError::NoName(text.to_owned())),
        None => inherited(text, lookup),
    }
}

fn inherited(name: &str, lookup: Lookup<'_>) -> Result<Option<Variable>, EnvironmentError> {
    lookup(name)
        .map(|value: OsString| match OsStr::to_str(&value) {
            Some(value) => Ok((name.to_owned(), value.to_owned())),
            None => Err(EnvironmentError::NotUtf8(name.to_owned())),
        })
        .transpose()
}

/// Reads a file of `KEY=VALUE` lines: blank lines and lines that begin with `#`
/// are skipped, everything after the first `=` is the value as it stands.
fn parse_file(path: &Path, bytes: &[u8], lookup: Lookup<'_>) -> Result<Vec<Variable>, EnvironmentError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut variables = Vec::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let wrong = |problem| EnvironmentError::Line {
            path: path.to_owned(),
            line: index + 1,
            problem,
        };
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = std::str::from_utf8(line).map_err(|_| wrong(LineProblem::NotUtf8))?;
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if line.contains('\0') {
            return Err(wrong(LineProblem::Nul));
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (line.trim_end(), None),
        };
        if name.is_empty() {
            return Err(wrong(LineProblem::NoName));
        }
        if name.contains(char::is_whitespace) {
            return Err(wrong(LineProblem::WhiteSpace(name.to_owned())));
        }
        match value {
            Some(value) => variables.push((name.to_owned(), value.to_owned())),
            None => variables.extend(inherited(name, lookup)?),
        }
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn caller(name: &str) -> Option<OsString> {
        (name == "HOME").then(|| "/home/me".into())
    }

    fn file(text: &[u8]) -> Result<Vec<Variable>, String> {
        parse_file(Path::new("x.env"), text, &caller).map_err(|error| error.to_string())
    }

    fn pair(name: &str, value: &str) -> Variable {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn single_variables() {
        let singles = ["A=1", "B=", "C=x=y z", "HOME", "NOT_SET", "A=2"].map(str::to_owned);
        assert_eq!(
            collect(&[], &singles, &caller).unwrap(),
            [
                pair("A", "2"),
                pair("B", ""),
                pair("C", "x=y z"),
                pair("HOME", "/home/me")
            ]
        );
        for wrong in ["", "=x"] {
            let error = collect(&[], &[wrong.to_owned()], &caller).unwrap_err();
            assert!(matches!(error, EnvironmentError::NoName(_)), "{wrong:?}");
        }
    }

    #[test]
    fn files_come_first_and_options_win() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        fs::write(&path, "A=file\nB=file\n").unwrap();
        assert_eq!(
            collect(&[path], &["A=option".to_owned()], &caller).unwrap(),
            [pair("A", "option"), pair("B", "file")]
        );
    }

    #[test]
    fn lines_of_a_file() {
        assert_eq!(
            file(b"\xef\xbb\xbfA=1\r\n\n  # note\n  B= spaced \nC=\"quoted\" # not a note\nHOME\nNOT_SET\nD="),
            Ok(vec![
                pair("A", "1"),
                pair("B", " spaced "),
                pair("C", "\"quoted\" # not a note"),
                pair("HOME", "/home/me"),
                pair("D", ""),
            ])
        );
    }

    #[test]
    fn wrong_lines_are_found() {
        assert_eq!(
            file(b"A=1\n=2"),
            Err("x.env:2: the line names no variable before its =".into())
        );
        assert_eq!(
            file(b"export A=1"),
            Err("x.env:1: the variable name \"export A\" has white space in it".into())
        );
        assert_eq!(file(b"A=\xff"), Err("x.env:1: the line is not UTF-8".into()));
        assert_eq!(file(b"A=\0"), Err("x.env:1: the line has a NUL byte".into()));
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = collect(&[PathBuf::from("/nowhere/x.env")], &[], &caller).unwrap_err();
        assert!(error.to_string().contains("/nowhere/x.env"), "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_variables_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(variables) = parse_file(Path::new("x"), &bytes, &caller) {
                for (name, value) in variables {
                    prop_assert!(!name.is_empty() && !name.contains('=') && !name.contains('\0'));
                    prop_assert!(!value.contains('\n') && !value.contains('\0'));
                }
            }
        }
    }
}
