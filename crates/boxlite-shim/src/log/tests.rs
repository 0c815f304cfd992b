use std::io::Write;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::frame::{self, Found, HEADER_BYTES, Header};
use super::*;
use crate::launch::LogLimits;

fn limits(max_file_bytes: u64, files: u32) -> LogLimits {
    LogLimits { max_file_bytes, files }
}

fn log_path() -> (tempfile::TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("output.log");
    (dir, path)
}

fn read_all(reader: &mut Reader) -> Vec<(Stream, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        all.push((entry.stream, entry.bytes.to_vec()));
    }
    all
}

fn text(reader: &mut Reader) -> String {
    let bytes = read_all(reader).into_iter().flat_map(|(_, bytes)| bytes).collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn what_is_written_is_read() {
    let (_dir, path) = log_path();
    let mut reader = Reader::open(&path, OpenOptions::default()).unwrap();
    assert!(reader.next_entry().unwrap().is_none());
    let mut writer = Writer::open(&path, LogLimits::default()).unwrap();
    writer.write(Stream::Stdout, b"out").unwrap();
    writer.write(Stream::Stderr, b"err").unwrap();
    let expected = vec![(Stream::Stdout, b"out".to_vec()), (Stream::Stderr, b"err".to_vec())];
    assert_eq!(read_all(&mut reader), expected);
    drop(writer);
    Writer::open(&path, LogLimits::default()).unwrap().write(Stream::Stdout, b"more").unwrap();
    assert_eq!(read_all(&mut reader), [(Stream::Stdout, b"more".to_vec())]);
}

#[test]
fn long_output_is_cut_into_frames_and_complete() {
    let (_dir, path) = log_path();
    let output: Vec<u8> = (0..MAX_PAYLOAD_BYTES * 2 + 5).map(|n| n as u8).collect();
    Writer::open(&path, LogLimits::default()).unwrap().write(Stream::Stdout, &output).unwrap();
    let mut reader = Reader::open(&path, OpenOptions::default()).unwrap();
    let read = read_all(&mut reader);
    assert_eq!(read.len(), 3);
    assert_eq!(read.into_iter().flat_map(|(_, bytes)| bytes).collect::<Vec<_>>(), output);
}

#[test]
fn rotation_keeps_the_newest_within_the_limit() {
    let (dir, path) = log_path();
    let mut writer = Writer::open(&path, limits(200, 3)).unwrap();
    for n in 0..100 {
        writer.write(Stream::Stdout, format!("line {n}\n").as_bytes()).unwrap();
    }
    let bytes: u64 = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(bytes <= 600, "{bytes}");
    let kept = text(&mut Reader::open(&path, OpenOptions::default()).unwrap());
    assert!(kept.ends_with("line 98\nline 99\n"), "{kept}");
    let first: u32 = kept.lines().next().unwrap()[5..].parse().unwrap();
    assert_eq!(kept.lines().count() as u32, 100 - first);
}

#[test]
fn one_file_is_a_limit_too() {
    let (dir, path) = log_path();
    let mut writer = Writer::open(&path, limits(100, 1)).unwrap();
    for n in 0..20 {
        writer.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap();
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    assert!(text(&mut Reader::open(&path, OpenOptions::default()).unwrap()).ends_with("19\n"));
}

#[test]
fn a_reader_follows_through_rotations() {
    let (_dir, path) = log_path();
    let mut writer = Writer::open(&path, limits(200, 4)).unwrap();
    let mut reader = Reader::open(&path, OpenOptions::default()).unwrap();
    let mut read = String::new();
    for n in 0..60 {
        writer.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap();
        if n % 7 == 0 {
            read += &text(&mut reader);
        }
    }
    read += &text(&mut reader);
    let expected: String = (0..60).map(|n| format!("{n}\n")).collect();
    assert_eq!(read, expected);
}

#[test]
fn a_reader_that_was_left_behind_goes_on_with_the_oldest() {
    let (_dir, path) = log_path();
    let mut writer = Writer::open(&path, limits(100, 2)).unwrap();
    writer.write(Stream::Stdout, b"0\n").unwrap();
    let mut reader = Reader::open(&path, OpenOptions::default()).unwrap();
    assert_eq!(text(&mut reader), "0\n");
    for n in 1..50 {
        writer.write(Stream::Stdout, format!("{n}\n").as_bytes()).unwrap();
    }
    let rest = text(&mut reader);
    assert!(rest.ends_with("48\n49\n"), "{rest}");
}

#[test]
fn a_torn_frame_is_the_end_and_the_next_writer_repairs_it() {
    let (_dir, path) = log_path();
    Writer::open(&path, LogLimits::default()).unwrap().write(Stream::Stdout, b"whole").unwrap();
    let torn = Header { stream: Stream::Stdout, length: 9, unix_ns: 1 }.encode();
    let mut file = std::fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(&torn).unwrap();
    file.write_all(b"half").unwrap();
    let mut reader = Reader::open(&path, OpenOptions::default()).unwrap();
    assert_eq!(text(&mut reader), "whole");
    Writer::open(&path, LogLimits::default()).unwrap().write(Stream::Stdout, b"next").unwrap();
    assert_eq!(text(&mut reader), "next");
}

#[test]
fn damage_is_an_error_that_says_where() {
    let (_dir, path) = log_path();
    Writer::open(&path, LogLimits::default()).unwrap().write(Stream::Stdout, b"whole").unwrap();
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(&[7; 64]).unwrap();
    let mut reader = Reader::open(&path, OpenOptions::default()).unwrap();
    assert!(reader.next_entry().unwrap().is_some());
    match reader.next_entry() {
        Err(ReadError::Damaged { offset, source, .. }) => {
            assert_eq!((offset, source), (HEADER_BYTES as u64 + 5, FrameError::Magic));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn since_leaves_out_what_is_older() {
    let (_dir, path) = log_path();
    let mut writer = Writer::open(&path, LogLimits::default()).unwrap();
    writer.write(Stream::Stdout, b"old").unwrap();
    let options = OpenOptions {
        since: Some(SystemTime::now() + Duration::from_secs(60)),
        tail_lines: None,
    };
    assert_eq!(text(&mut Reader::open(&path, options).unwrap()), "");
    let options = OpenOptions { since: Some(SystemTime::UNIX_EPOCH), tail_lines: None };
    assert_eq!(text(&mut Reader::open(&path, options).unwrap()), "old");
}

#[tokio::test(flavor = "current_thread")]
async fn a_watch_tells_of_growth() {
    let (_dir, path) = log_path();
    let mut watch = Watch::new(&path).unwrap();
    let mut writer = Writer::open(&path, LogLimits::default()).unwrap();
    watch.changed().await.unwrap();
    writer.write(Stream::Stdout, b"x").unwrap();
    watch.changed().await.unwrap();
}

proptest! {
    #[test]
    fn tails_are_the_last_lines(
        pieces in proptest::collection::vec("[ab\n]{0,12}", 0..30),
        lines in 0_u64..12,
        rotate_at in 60_u64..400,
    ) {
        let (_dir, path) = log_path();
        let mut writer = Writer::open(&path, limits(rotate_at, 50)).unwrap();
        for piece in &pieces {
            writer.write(Stream::Stdout, piece.as_bytes()).unwrap();
        }
        let whole = pieces.concat();
        let all: Vec<&str> = whole.split_inclusive('\n').collect();
        let expected = all[all.len().saturating_sub(lines as usize)..].concat();
        let options = OpenOptions { tail_lines: Some(lines), since: None };
        prop_assert_eq!(text(&mut Reader::open(&path, options).unwrap()), expected);
    }

    #[test]
    fn any_bytes_are_read_without_panic_and_within_bounds(bytes: Vec<u8>) {
        let mut rest = bytes.as_slice();
        while let Found::Frame(entry) = frame::read(&mut rest).unwrap() {
            prop_assert!(entry.bytes.len() <= MAX_PAYLOAD_BYTES);
        }
    }

    #[test]
    fn headers_survive(stdout: bool, length in 0..=MAX_PAYLOAD_BYTES as u32, unix_ns: u64) {
        let stream = if stdout { Stream::Stdout } else { Stream::Stderr };
        let header = Header { stream, length, unix_ns };
        prop_assert_eq!(Header::decode(header.encode()), Ok(header));
    }
}
