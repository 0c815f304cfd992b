//! The header and the crate say the same.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use boxlite_ffi::code::Code;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn header() -> String {
    std::fs::read_to_string(root().join("sdks/c/include/boxlite.h")).unwrap()
}

/// C without its comments.
fn without_comments(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("/*") {
        code.push_str(before);
        code.push(' ');
        rest = after.split_once("*/").unwrap().1;
    }
    code + rest
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Name and Rust's type of `const char *name`.
fn parameter(c: &str) -> (String, String) {
    let c = spaced(c);
    let start = c.rfind(|c| !is_word(c)).unwrap() + 1;
    (c[start..].to_owned(), rust_type(c[..start].trim()))
}

fn rust_type(c: &str) -> String {
    let (base, stars) = c.split_at(c.find('*').unwrap_or(c.len()));
    let base = base.trim();
    let (base, pointer) = match base.strip_prefix("const ") {
        Some(base) => (base.trim(), "*const "),
        None => (base, "*mut "),
    };
    let base = match base {
        "char" => "c_char",
        "int" => "c_int",
        "int32_t" => "i32",
        "int64_t" => "i64",
        "uint16_t" => "u16",
        "uint32_t" => "u32",
        "uint64_t" => "u64",
        "void" => "()",
        own if own.starts_with("boxlite_") => own,
        unknown => panic!("no Rust type is known for {unknown:?}"),
    };
    format!("{}{base}", pointer.repeat(stars.matches('*').count()))
}

#[derive(Debug, PartialEq, Eq)]
struct Signature {
    parameters: Vec<(String, String)>,
    result: String,
}

fn declared() -> BTreeMap<String, Signature> {
    let code = without_comments(&header());
    let lines: Vec<&str> = code
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .collect();
    let mut found = BTreeMap::new();
    for statement in lines.join("\n").split(';') {
        let Some((before, parameters)) = statement.split_once('(') else {
            continue;
        };
        let before = spaced(before.rsplit(['{', '}']).next().unwrap());
        let start = before.rfind(|c| !is_word(c)).unwrap() + 1;
        let parameters = parameters.trim().strip_suffix(')').unwrap();
        let signature = Signature {
            parameters: match parameters {
                "void" => Vec::new(),
                some => some.split(',').map(parameter).collect(),
            },
            result: rust_type(before[..start].trim()),
        };
        assert!(found.insert(before[start..].to_owned(), signature).is_none());
    }
    found
}

fn defined() -> BTreeMap<String, Signature> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root().join("crates/boxlite-ffi/src")).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        for export in text.split("#[unsafe(no_mangle)]").skip(1) {
            let (_, function) = export.split_once("extern \"C\" fn ").unwrap();
            let (name, rest) = function.split_once('(').unwrap();
            let (parameters, rest) = rest.split_once(')').unwrap();
            let result = rest.split_once('{').unwrap().0.trim();
            let parameters = parameters.split(',').map(str::trim).filter(|text| !text.is_empty());
            let signature = Signature {
                parameters: parameters
                    .map(|parameter| {
                        let (name, kind) = parameter.split_once(": ").unwrap();
                        (name.trim_start_matches("r#").to_owned(), kind.to_owned())
                    })
                    .collect(),
                result: result.strip_prefix("-> ").unwrap_or("()").to_owned(),
            };
            assert!(found.insert(name.to_owned(), signature).is_none());
        }
    }
    found
}

#[test]
fn the_header_declares_what_the_crate_defines() {
    let (declared, defined) = (declared(), defined());
    assert!(declared.len() > 60, "the header was not understood: {declared:?}");
    for (name, signature) in &declared {
        assert_eq!(
            Some(signature),
            defined.get(name),
            "{name} is defined in another way than declared"
        );
    }
    for name in defined.keys() {
        assert!(declared.contains_key(name), "{name} is not in the header");
    }
}

#[test]
fn the_codes_are_those_of_the_header() {
    let code = without_comments(&header());
    let mut declared = BTreeMap::new();
    for word in code.split([',', '{', '}']) {
        if let Some((name, number)) = word.split_once('=')
            && let Some(name) = name.trim().strip_prefix("BOXLITE_")
        {
            declared.insert(name.to_lowercase(), number.trim().parse::<i32>().unwrap());
        }
    }
    let defined: BTreeMap<String, i32> = Code::ALL
        .iter()
        .map(|code| (code.c_name().to_str().unwrap().to_owned(), code.number()))
        .collect();
    assert_eq!(declared, defined);
    let version = header();
    let version = version.split("BOXLITE_ABI_VERSION ").nth(1).unwrap();
    assert!(version.starts_with(&format!("{}u", boxlite_ffi::version::ABI_VERSION)));
}

#[test]
fn every_code_of_the_library_has_its_own() {
    let source = std::fs::read_to_string(root().join("crates/boxlite/src/error/mod.rs")).unwrap();
    let names: Vec<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Self::")?.split_once(" => \""))
        .map(|(_, name)| name.trim_end_matches("\","))
        .collect();
    assert!(names.len() >= 12, "the codes of the library were not found");
    for name in names {
        let code: boxlite::ErrorCode = serde_json::from_str(&format!("\"{name}\"")).unwrap();
        assert_eq!(Code::from(code).c_name().to_str().unwrap(), name);
    }
}
