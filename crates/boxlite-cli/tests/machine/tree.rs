//! What a box sees of an image, path by path, against what `umoci unpack` made of it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{fixtures, repository, shared};

/// What a box has of its own at these places; the image's are hidden or changed.
const BOXS_OWN: [&str; 9] = [
    "/proc",
    "/sys",
    "/dev",
    "/tests",
    "/etc/hosts",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/machine-id",
    "/var/data",
];
/// Directories in which the box has made a mount point or file of the above.
const TOUCHED: [&str; 3] = ["/", "/etc", "/var"];

fn parse(lines: &str) -> BTreeMap<String, Value> {
    lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .map(|mut entry| {
            let path = entry["path"].as_str().unwrap().to_owned();
            // A parent that no layer names has no time of its own: umoci gives it the time of
            // its unpacking, boxlite none.
            let is_implied = path.ends_with("/a-rather-long-directory-name");
            if TOUCHED.contains(&path.as_str()) || is_implied {
                entry.as_object_mut().unwrap().remove("mtime");
            }
            // Go's tar reader, and so umoci, drops attributes with an empty value.
            if let Some(xattrs) = entry.get_mut("xattrs").and_then(Value::as_object_mut) {
                xattrs.remove("user.empty");
            }
            (path, entry)
        })
        .filter(|(path, _)| {
            !BOXS_OWN
                .iter()
                .any(|own| path == own || path.starts_with(&format!("{own}/")))
        })
        .collect()
}

fn compare(image: &str) {
    let expected = std::fs::read_to_string(fixtures().join(format!("expected/{image}.jsonl"))).unwrap();
    let volume = format!("{}:/tests:ro", repository().join("tests").display());
    let mut args = vec![
        "run",
        "--rm",
        "--memory",
        "512m",
        "-u",
        "0",
        "-e",
        "PYTHONDONTWRITEBYTECODE=1",
        "-w",
        "/",
        "-v",
        &volume,
        "--entrypoint",
        "",
        image,
        "python3",
        "/tests/tree.py",
        "/",
    ];
    args.extend(BOXS_OWN);
    let seen = parse(&shared().ok(args));
    let expected = parse(&expected);

    let mut differences = Vec::new();
    for (path, wanted) in &expected {
        match seen.get(path) {
            None => differences.push(format!("missing: {path}")),
            Some(found) if found != wanted => differences.push(format!("{path}\n  image {wanted}\n  box   {found}")),
            Some(_) => {}
        }
    }
    differences.extend(
        seen.keys()
            .filter(|path| !expected.contains_key(*path))
            .map(|path| format!("too many: {path}")),
    );
    assert!(expected.len() > 5_000, "{} paths", expected.len());
    assert!(
        differences.is_empty(),
        "{} of {} paths differ:\n{}",
        differences.len(),
        expected.len(),
        differences[..differences.len().min(30)].join("\n")
    );
}

#[test]
#[ignore = "starts a machine"]
fn a_debian_root_filesystem_is_seen_as_it_is() {
    compare("debian");
}

#[test]
#[ignore = "starts a machine"]
fn layers_merge_as_umoci_merges_them() {
    compare("layers");
}
