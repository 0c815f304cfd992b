use super::super::{Limits, Writer};
use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    max_file_bytes: 64 * 1024,
    max_files: 3,
};

fn text(reader: &mut Reader) -> String {
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        all.extend(entry.bytes);
    }
    String::from_utf8(all).unwrap()
}

fn tail(dir: &Path, lines: usize) -> String {
    let options = ReadOptions {
        tail_lines: Some(lines),
        ..ReadOptions::default()
    };
    text(&mut Reader::open(dir, options).unwrap())
}

#[test]
fn a_missing_log_is_empty_and_may_come_later() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = Reader::open(dir.path(), ReadOptions::default()).unwrap();
    assert_eq!(reader.next_entry().unwrap(), None);
    let mut writer = Writer::open(dir.path(), LIMITS).unwrap();
    writer.append(Stream::Stderr, 5, b"late").unwrap();
    let entry = reader.next_entry().unwrap().unwrap();
    assert_eq!(
        (entry.stream, entry.time_unix_ns, &entry.bytes[..]),
        (Stream::Stderr, 5, &b"late"[..])
    );
}

#[test]
fn a_follower_misses_nothing_over_rotations() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), LIMITS).unwrap();
    let mut reader = Reader::open(dir.path(), ReadOptions::default()).unwrap();
    let (mut written, mut read) = (Vec::new(), Vec::new());
    for number in 0..400_u32 {
        let line = format!("{number:01000}\n");
        writer.append(Stream::Stdout, 1, line.as_bytes()).unwrap();
        written.extend(line.into_bytes());
        // Falls behind by up to a whole file.
        if number % 60 == 0 {
            while let Some(entry) = reader.next_entry().unwrap() {
                read.extend(entry.bytes);
            }
        }
    }
    while let Some(entry) = reader.next_entry().unwrap() {
        read.extend(entry.bytes);
    }
    assert!(read == written);
    assert!(dir.path().join("output.log.2").exists());
    assert!(!dir.path().join("output.log.3").exists());
}

#[test]
fn old_files_are_dropped_and_reading_starts_at_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), LIMITS).unwrap();
    for number in 0..1000_u32 {
        writer
            .append(Stream::Stdout, 1, format!("{number:01000}\n").as_bytes())
            .unwrap();
    }
    let all = text(&mut Reader::open(dir.path(), ReadOptions::default()).unwrap());
    assert!(all.len() <= 3 * 64 * 1024 && all.len() > 2 * 60 * 1000);
    assert!(all.ends_with("999\n"));
    let last_two: Vec<u32> = tail(dir.path(), 2).lines().map(|l| l.parse().unwrap()).collect();
    assert_eq!(last_two, [998, 999]);
}

#[test]
fn tail_counts_lines_not_entries() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(dir.path(), LIMITS).unwrap();
    writer.append(Stream::Stdout, 1, b"one\ntw").unwrap();
    writer.append(Stream::Stderr, 1, b"oops\n").unwrap();
    writer.append(Stream::Stdout, 2, b"o\nthree\nfour").unwrap();
    assert_eq!(tail(dir.path(), 0), "");
    assert_eq!(tail(dir.path(), 1), "four");
    assert_eq!(tail(dir.path(), 2), "three\nfour");
    // The rest of stdout's line "two" is not a line of its own.
    assert_eq!(tail(dir.path(), 3), "oops\nthree\nfour");
    assert_eq!(tail(dir.path(), 4), "twoops\no\nthree\nfour");
    assert_eq!(tail(dir.path(), 99), "one\ntwoops\no\nthree\nfour");
    let since = ReadOptions {
        since_unix_ns: Some(2),
        ..ReadOptions::default()
    };
    assert_eq!(text(&mut Reader::open(dir.path(), since).unwrap()), "o\nthree\nfour");
}

#[test]
fn an_incomplete_entry_is_not_shown_and_cut_off_by_the_next_writer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(OUTPUT_LOG_NAME);
    Writer::open(dir.path(), LIMITS)
        .unwrap()
        .append(Stream::Stdout, 1, b"whole\n")
        .unwrap();
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        let mut torn = whole.clone();
        torn.extend(&whole[..cut]);
        std::fs::write(&path, &torn).unwrap();
        assert_eq!(
            text(&mut Reader::open(dir.path(), ReadOptions::default()).unwrap()),
            "whole\n"
        );
    }
    Writer::open(dir.path(), LIMITS)
        .unwrap()
        .append(Stream::Stdout, 1, b"next\n")
        .unwrap();
    assert_eq!(
        text(&mut Reader::open(dir.path(), ReadOptions::default()).unwrap()),
        "whole\nnext\n"
    );
}

proptest! {
    #[test]
    fn foreign_bytes_are_an_error_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(OUTPUT_LOG_NAME), &bytes).unwrap();
        let mut reader = Reader::open(dir.path(), ReadOptions::default()).unwrap();
        for _ in 0..20 {
            match reader.next_entry() {
                Ok(Some(entry)) => prop_assert!(entry.bytes.len() <= bytes.len()),
                Ok(None) | Err(ReadError::Damaged { .. }) => break,
                Err(error) => return Err(TestCaseError::fail(error.to_string())),
            }
        }
    }

    #[test]
    fn what_is_written_is_read(entries in proptest::collection::vec((any::<bool>(), any::<u64>(), proptest::collection::vec(any::<u8>(), 1..100)), 0..50)) {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(dir.path(), LIMITS).unwrap();
        for (stderr, time, bytes) in &entries {
            let stream = if *stderr { Stream::Stderr } else { Stream::Stdout };
            writer.append(stream, *time, bytes).unwrap();
        }
        let mut reader = Reader::open(dir.path(), ReadOptions::default()).unwrap();
        for (stderr, time, bytes) in entries {
            let entry = reader.next_entry().unwrap().unwrap();
            prop_assert_eq!(entry.stream == Stream::Stderr, stderr);
            prop_assert_eq!(entry.time_unix_ns, time);
            prop_assert_eq!(entry.bytes, bytes);
        }
        prop_assert_eq!(reader.next_entry().unwrap(), None);
    }
}
