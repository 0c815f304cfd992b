//! What e2fsprogs says of the file systems that this crate makes.

#![allow(clippy::unwrap_used, reason = "a test is to fail there")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use boxlite_disk::{DISK_DEVICE_BYTES, FormatError, FormatOptions, SMALLEST_FILESYSTEM_BYTES, allocated_bytes, format};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn options(filesystem_bytes: u64) -> FormatOptions {
    FormatOptions {
        filesystem_bytes,
        device_bytes: filesystem_bytes,
        label: "boxlite".into(),
        uuid: *b"\x0f\x1e\x2d\x3c\x4b\x5a\x49\x78\x87\x96\xa5\xb4\xc3\xd2\xe1\xf0",
        created_at_seconds: 1_700_000_000,
        journal_bytes: None,
    }
}

fn run(tool: &str, arguments: &[&str], file: &Path) -> Output {
    // Debian has these tools in /usr/sbin, which is not on everybody's PATH.
    let path = format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default());
    Command::new(tool)
        .args(arguments)
        .arg(file)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("can't run {tool} ({error}): install the Debian package e2fsprogs"))
}

fn assert_clean(file: &Path) {
    let output = run("e2fsck", &["-f", "-n"], file);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    // Whatever it would have asked or fixed, it has said before this summary.
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("Pass ")).collect();
    assert_eq!(lines.len(), 1, "{text}");
    assert!(lines[0].contains("files (") && lines[0].contains("blocks"), "{text}");
}

fn check(options: &FormatOptions) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("disk");
    format(&file, options).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().len(), options.device_bytes);
    assert_clean(&file);
}

#[test]
fn every_edge_between_two_layouts_is_clean() {
    let group = 128 * MIB;
    let mut sizes = vec![
        SMALLEST_FILESYSTEM_BYTES,
        17 * MIB + 4096,
        31 * MIB,
        127 * MIB,
        10 * GIB,
        64 * GIB,
    ];
    for edge in [group, 2 * group, 16 * group, 17 * group, 32 * group] {
        for blocks in [-1_i64, 0, 1, 49, 50, 51, 60, 563, 564, 565, 600] {
            sizes.push(edge.checked_add_signed(blocks * 4096).unwrap());
        }
    }
    for size in sizes {
        check(&options(size));
    }
}

#[test]
fn a_tebibyte_is_clean() {
    check(&options(TIB));
}

#[test]
#[ignore = "e2fsck takes a minute for the largest"]
fn the_largest_are_clean() {
    for size in [4 * TIB - 12_345, 16 * TIB - 4096] {
        check(&FormatOptions {
            device_bytes: size,
            ..options(size)
        });
    }
}

#[test]
fn any_size_is_clean_or_refused() {
    let mut runner = TestRunner::new(Config {
        cases: 16,
        ..Config::default()
    });
    // As many of a few mebibytes as of many gibibytes.
    let sizes = (20_u32..38, 0.0..1.0_f64).prop_map(|(log, part)| ((1_u64 << log) as f64 * (1.0 + part)) as u64);
    runner
        .run(&sizes, |size| {
            if size < SMALLEST_FILESYSTEM_BYTES {
                let directory = tempfile::tempdir().unwrap();
                let file = directory.path().join("disk");
                let refused = format(&file, &options(size));
                let is_too_small = matches!(refused, Err(FormatError::TooSmall { .. }));
                prop_assert!(is_too_small, "{:?}", refused);
                prop_assert!(!file.exists());
            } else {
                check(&options(size));
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn any_journal_that_is_allowed_is_clean() {
    for (size, journal) in [
        (64 * MIB, 4 * MIB),
        (64 * MIB, 20 * MIB + 4096),
        (10 * GIB, GIB),
        (100 * GIB, 40 * GIB),
    ] {
        check(&FormatOptions {
            journal_bytes: Some(journal),
            ..options(size)
        });
    }
}

#[test]
fn the_tools_read_what_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("disk");
    format(
        &file,
        &FormatOptions {
            device_bytes: DISK_DEVICE_BYTES,
            ..options(10 * GIB)
        },
    )
    .unwrap();
    let output = run("dumpe2fs", &[], &file);
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |key: &str| {
        let line = text
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_else(|| panic!("no {key} in {text}"));
        line[key.len()..].trim().to_owned()
    };
    assert_eq!(value("Filesystem volume name:"), "boxlite");
    assert_eq!(value("Filesystem UUID:"), "0f1e2d3c-4b5a-4978-8796-a5b4c3d2e1f0");
    assert_eq!(value("Block count:"), (10 * GIB / 4096).to_string());
    assert_eq!(value("Block size:"), "4096");
    assert_eq!(value("Inode count:"), (10 * GIB / 16384).to_string());
    assert_eq!(value("Inode size:").trim(), "256");
    assert_eq!(value("Reserved block count:"), "0");
    assert_eq!(value("Filesystem state:"), "clean");
    assert_eq!(value("Checksum type:"), "crc32c");
    assert_eq!(value("Total journal size:"), "64M");
    for feature in [
        "has_journal",
        "ext_attr",
        "dir_index",
        "filetype",
        "extent",
        "64bit",
        "flex_bg",
        "metadata_csum",
    ] {
        assert!(value("Filesystem features:").contains(feature), "{feature}");
    }
    assert_eq!(text.matches("Backup superblock").count(), 1);

    let output = run("debugfs", &["-R", "ls -l"], &file);
    let names = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        names.lines().filter(|line| !line.trim().is_empty()).count(),
        2,
        "{names}"
    );
    let output = run("debugfs", &["-R", "stat <8>"], &file);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Size: 67108864"), "{text}");
}

#[test]
fn a_broken_superblock_is_restored_from_its_copy() {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("disk");
    format(&file, &options(GIB)).unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&file)
        .unwrap()
        .write_all_at(&[0; 8192], 0)
        .unwrap();
    let output = run("e2fsck", &["-f", "-y", "-b", "32768"], &file);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert_clean(&file);
}

#[test]
fn the_same_options_give_the_same_bytes_and_another_uuid_others() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = |name: &str, options: &FormatOptions| {
        let file = directory.path().join(name);
        format(&file, options).unwrap();
        std::fs::read(&file).unwrap()
    };
    let first = bytes("first", &options(32 * MIB));
    assert!(first == bytes("second", &options(32 * MIB)));
    assert!(
        first
            != bytes(
                "third",
                &FormatOptions {
                    uuid: [1; 16],
                    ..options(32 * MIB)
                }
            )
    );
}

#[test]
fn little_is_written() {
    let directory = tempfile::tempdir().unwrap();
    for (name, size, most) in [("10", 10 * GIB, 256 << 10), ("1024", TIB, 4 * MIB)] {
        let file = directory.path().join(name);
        let begun = Instant::now();
        format(
            &file,
            &FormatOptions {
                device_bytes: DISK_DEVICE_BYTES,
                ..options(size)
            },
        )
        .unwrap();
        // Shown, not asserted: how long it takes is the computer's business.
        println!("{name} GiB: {:?}", begun.elapsed());
        std::fs::File::open(&file).unwrap().sync_all().unwrap();
        let allocated = allocated_bytes(&file).unwrap();
        println!("{name} GiB: {allocated} bytes");
        assert!(allocated <= most, "{name}: {allocated}");
    }
}

#[test]
fn what_can_not_be_is_refused_and_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("disk");
    let refused = |options: FormatOptions| {
        let error = format(&file, &options).unwrap_err();
        assert!(!file.exists(), "{error}");
        error
    };
    assert!(matches!(refused(options(4096)), FormatError::TooSmall { .. }));
    assert!(matches!(refused(options(17 * TIB)), FormatError::TooLarge { .. }));
    let small_device = FormatOptions {
        device_bytes: GIB,
        ..options(2 * GIB)
    };
    assert!(matches!(refused(small_device), FormatError::DeviceTooSmall { .. }));
    let label = FormatOptions {
        label: "seventeen letters".into(),
        ..options(GIB)
    };
    assert!(matches!(refused(label), FormatError::Label { .. }));
    let journal = FormatOptions {
        journal_bytes: Some(GIB),
        ..options(GIB)
    };
    assert!(matches!(refused(journal), FormatError::Journal { .. }));
    let time = FormatOptions {
        created_at_seconds: 1 << 34,
        ..options(GIB)
    };
    assert!(matches!(refused(time), FormatError::Time { .. }));
    let too_large_for_a_file = FormatOptions {
        device_bytes: u64::MAX,
        ..options(GIB)
    };
    assert!(matches!(refused(too_large_for_a_file), FormatError::Write { .. }));
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(format(&file, &options(GIB)), Err(FormatError::Create { .. })));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}
