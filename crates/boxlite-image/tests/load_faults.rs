//! Loading what is damaged, and what an attacker might write.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use boxlite_image::{Digest, DocumentError, ErrorKind, Limits, LoadError, LoadOptions, Progress, Source, load};
use boxlite_tar::{Entry, EntryKind, Writer};
use flate2::write::GzEncoder;
use proptest::prelude::*;
use tokio_util::sync::CancellationToken;

use archives::{Data, HardLink, Layout, Member, Scratch, SymLink, config, fails, listing, load_from, options, tar};
use fake::{Home, noise, silent};

mod archives;
mod fake;
mod tools;

#[tokio::test]
async fn damaged_layouts() {
    let scratch = Scratch::new();
    let layout = Layout::new(scratch.path("layout"));
    let big = noise(1, 100_000);
    let entry = layout.put_image(&[&big]);
    layout.index(std::slice::from_ref(&entry));
    let source = layout.source();
    load_from(&Home::new(), &source).await.unwrap();

    let path = layout.put(&big);
    std::fs::write(&path, noise(2, 100_000)).unwrap();
    let error = fails(&source).await;
    assert!(
        matches!(&error, LoadError::Digest { expected, .. } if *expected == Digest::sha256(&big)),
        "{error}"
    );
    std::fs::write(&path, &big[..99_999]).unwrap();
    assert!(matches!(
        fails(&source).await,
        LoadError::Size {
            actual_bytes: 99_999,
            ..
        }
    ));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(fails(&source).await, LoadError::Missing { .. }));
    // Opening a pipe would wait for ever.
    tools::run("coreutils", "mkfifo", &[path.to_str().unwrap()]);
    assert!(matches!(fails(&source).await, LoadError::Missing { .. }));
    std::fs::remove_file(&path).unwrap();
    layout.put(&big);

    let manifest = layout
        .0
        .join("blobs/sha256")
        .join(&entry["digest"].as_str().unwrap()[7..]);
    let good = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, b"{}").unwrap();
    assert!(matches!(fails(&source).await, LoadError::Digest { .. }));
    std::fs::write(&manifest, vec![b' '; (4 << 20) + 1]).unwrap();
    assert_eq!(fails(&source).await.kind(), ErrorKind::TooLarge);
    std::fs::write(&manifest, good).unwrap();

    std::fs::write(layout.0.join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(matches!(fails(&source).await, LoadError::LayoutVersion { .. }));
    std::fs::write(layout.0.join("oci-layout"), r#"{"imageLayoutVersion":"1.1.0"}"#).unwrap();
    layout.index(&[]);
    assert!(matches!(fails(&source).await, LoadError::Empty { .. }));
    std::fs::write(layout.0.join("index.json"), "nonsense").unwrap();
    assert!(matches!(
        fails(&source).await,
        LoadError::Document {
            source: DocumentError::Json { .. },
            ..
        }
    ));
    std::fs::remove_file(layout.0.join("index.json")).unwrap();
    assert!(matches!(fails(&source).await, LoadError::Missing { .. }));
    std::fs::write(layout.0.join("manifest.json"), "[]").unwrap();
    assert!(matches!(
        fails(&source).await,
        LoadError::OtherFormat {
            actual: "docker-archive",
            ..
        }
    ));
}

#[tokio::test]
async fn wrong_paths_say_what_to_write() {
    let scratch = Scratch::new();
    let dir = scratch.0.path().display();
    assert_eq!(
        fails(&format!("docker-archive:{dir}/none")).await.kind(),
        ErrorKind::NotFound
    );
    assert_eq!(fails(&format!("oci:{dir}/none")).await.kind(), ErrorKind::NotFound);
    let error = fails(&format!("oci-archive:{dir}")).await;
    assert!(error.hint().unwrap().contains(&format!("oci:{dir}")), "{error}");
    let file = scratch.source("oci", b"x");
    assert!(fails(&file).await.hint().unwrap().contains("oci-archive:"));
    let error = fails("alpine").await;
    assert!(error.hint().unwrap().contains("boxlite pull alpine:latest"));
    assert!(matches!(fails("dir:/").await, LoadError::NotLoadable { .. }));
    for content in [&b"x"[..], &[7; 2000], &noise(1, 5000)] {
        let error = fails(&scratch.source("docker-archive", content)).await;
        assert!(matches!(error, LoadError::Archive { .. }), "{error}");
    }
    assert!(matches!(
        fails(&scratch.source("docker-archive", b"")).await,
        LoadError::Missing { .. }
    ));
    let error = fails(&scratch.source("docker-archive", b"\xfd7zXZ\0 and so on")).await;
    assert!(matches!(error, LoadError::Compression { compression: "xz", .. }));
    let oci = tar(&[("index.json", Data(b"{}")), ("oci-layout", Data(b"{}"))]);
    let error = fails(&scratch.source("docker-archive", &oci)).await;
    assert!(error.hint().unwrap().starts_with("name it oci-archive:"));
    let docker = tar(&[("manifest.json", Data(b"[]"))]);
    let error = fails(&scratch.source("oci-archive", &docker)).await;
    assert!(error.hint().unwrap().starts_with("name it docker-archive:"));
    assert!(matches!(
        fails(&scratch.source("docker-archive", &docker)).await,
        LoadError::Empty { .. }
    ));
    let ancient = tar(&[("repositories", Data(b"{}"))]);
    assert!(matches!(
        fails(&scratch.source("docker-archive", &ancient)).await,
        LoadError::OtherFormat { .. }
    ));
}

#[tokio::test]
async fn hostile_docker_archives() {
    let scratch = Scratch::new();
    let layer = noise(1, 700);
    let config = config(&[&layer]);
    let load_with = async |listed: &[u8], extra: &[(&str, Member<'_>)]| {
        let mut writer = Writer::new(Vec::new());
        let mut add = |path: &str, kind, link: &str, data: &[u8]| {
            let mut entry = Entry::new(path, kind);
            entry.link = link.as_bytes().to_vec();
            entry.size = data.len() as u64;
            writer.append(&entry, data).unwrap();
        };
        add("config.json", EntryKind::File, "", &config);
        add("layer.tar", EntryKind::File, "", &layer);
        for (path, file) in extra {
            match file {
                Data(data) => add(path, EntryKind::File, "", data),
                SymLink(link) => add(path, EntryKind::SymLink, link, b""),
                HardLink(link) => add(path, EntryKind::HardLink, link, b""),
            }
        }
        add("manifest.json", EntryKind::File, "", listed);
        fails(&scratch.source("docker-archive", &writer.finish().unwrap())).await
    };
    let named = |layer: &str| listing(&[("config.json", &["a:b"], &[layer])]);
    // Files of the host are out of reach, whatever the archive says.
    let host_file = scratch.path("secret");
    std::fs::write(&host_file, &layer).unwrap();
    let host_file = host_file.to_str().unwrap();
    for path in [host_file, "../secret", "/etc/passwd", "missing", "", "loop", "out"] {
        let extra = [
            ("loop", SymLink("loop")),
            ("out", SymLink("../../secret")),
            ("abs", SymLink(host_file)),
        ];
        let error = load_with(&named(path), &extra).await;
        assert!(matches!(error, LoadError::Missing { .. }), "{path}: {error}");
    }
    let listed = listing(&[(host_file, &["a:b"], &["layer.tar"])]);
    assert!(matches!(load_with(&listed, &[]).await, LoadError::Missing { .. }));
    let error = load_with(&named("other.tar"), &[("other.tar", Data(&noise(2, 700)))]).await;
    assert!(
        matches!(error, LoadError::Digest { .. }),
        "a plain layer must be what the config says: {error}"
    );
    let two = listing(&[("config.json", &["a:b"], &["layer.tar", "layer.tar"])]);
    let error = load_with(&two, &[]).await;
    assert!(
        matches!(
            error,
            LoadError::Document {
                source: DocumentError::LayerCount { .. },
                ..
            }
        ),
        "{error}"
    );
    let many = vec!["layer.tar"; 128];
    let error = load_with(&listing(&[("config.json", &["a:b"], &many)]), &[]).await;
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    for listed in [&b"{}"[..], b"[1]", b"", b"[{\"Config\":1}]"] {
        let error = load_with(listed, &[]).await;
        assert!(matches!(error, LoadError::Document { .. }), "{error}");
    }
    let huge = vec![b' '; (4 << 20) + 1];
    assert_eq!(load_with(&huge, &[]).await.kind(), ErrorKind::TooLarge);
}

#[tokio::test]
async fn limits_and_cancelling() {
    let scratch = Scratch::new();
    // A hundred million zeros in a hundred kilobytes.
    let mut encoder = GzEncoder::new(File::create(scratch.path("bomb")).unwrap(), flate2::Compression::fast());
    let mut entry = Entry::new("zeros", EntryKind::File);
    entry.size = 100_000_000;
    let mut writer = Writer::new(&mut encoder);
    writer.append(&entry, std::io::repeat(0).take(100_000_000)).unwrap();
    writer.finish().unwrap();
    encoder.finish().unwrap();
    let source = Source::DockerArchive {
        path: scratch.path("bomb"),
        reference: None,
    };
    let limited = |limits| LoadOptions { limits, ..options() };
    let home = Home::new();
    let bytes = limited(Limits {
        image_bytes: 50_000_000,
        ..Limits::default()
    });
    let error = load(&home.store, &source, &bytes, silent(), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(matches!(error, LoadError::TooLarge { what: "bytes", .. }), "{error}");
    let cancel = CancellationToken::new();
    let stop = cancel.clone();
    let progress = Arc::new(move |event| {
        assert!(
            matches!(
                event,
                Progress::Reading {
                    total_bytes: Some(_),
                    ..
                }
            ),
            "{event:?}"
        );
        stop.cancel();
    });
    let error = load(&home.store, &source, &options(), progress, cancel)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(home.unfinished() + home.store.blobs().unwrap().len(), 0);

    let files: Vec<String> = (0..30).map(|n| format!("file{n}")).collect();
    let files: Vec<_> = files.iter().map(|name| (name.as_str(), Data(b"x"))).collect();
    let source = Source::parse(&scratch.source("docker-archive", &tar(&files))).unwrap();
    let entries = limited(Limits {
        archive_entries: 20,
        ..Limits::default()
    });
    let error = load(&home.store, &source, &entries, silent(), CancellationToken::new())
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::TooLarge {
                what: "entries",
                limit: 20,
                ..
            }
        ),
        "{error}"
    );
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn valid_archive() -> Vec<u8> {
    let layer = noise(1, 300);
    let listed = listing(&[("config.json", &["a:b"], &["layer.tar"])]);
    tar(&[
        ("config.json", Data(&config(&[&layer]))),
        ("layer.tar", Data(&layer)),
        ("manifest.json", Data(&listed)),
    ])
}

fn load_bytes(dir: &Path, transport: &str, content: &[u8]) {
    let path = dir.join("archive");
    std::fs::write(&path, content).unwrap();
    let home = Home::new();
    let result = block_on(load_from(&home, &format!("{transport}:{}", path.display())));
    if let Ok(loaded) = result {
        for image in loaded {
            for blob in image.manifest.blobs() {
                home.store.verify(blob).unwrap();
            }
        }
    }
    assert_eq!(home.unfinished(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn damaged_archives_load_soundly_or_fail_cleanly(position in 0usize..4000, byte: u8, cut in 0usize..4000) {
        let dir = tempfile::tempdir().unwrap();
        let mut archive = valid_archive();
        let length = archive.len();
        archive[position % length] = byte;
        load_bytes(dir.path(), "docker-archive", &archive);
        archive.truncate(cut % length);
        load_bytes(dir.path(), "oci-archive", &archive);
    }

    #[test]
    fn any_bytes_load_or_fail_cleanly(bytes: Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        load_bytes(dir.path(), "docker-archive", &bytes);
    }
}
