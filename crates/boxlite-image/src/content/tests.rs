use super::*;
use proptest::prelude::*;

fn store() -> (tempfile::TempDir, ContentStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ContentStore::open(dir.path().join("content")).unwrap();
    (dir, store)
}

fn mine(store: &ContentStore, digest: &Digest, size: u64) -> Box<Partial> {
    match Partial::claim(store, digest, size).unwrap() {
        Claim::Mine(partial) => partial,
        other => panic!("{other:?}"),
    }
}

fn files_in(store: &ContentStore, dir: &str) -> usize {
    fs::read_dir(store.root().join(dir)).unwrap().count()
}

#[test]
fn blobs_are_written_read_and_deleted() {
    let (_dir, store) = store();
    let digest = store.write(b"hello").unwrap();
    assert_eq!(digest, Digest::sha256(b"hello"));
    assert_eq!(store.write(b"hello").unwrap(), digest);
    assert!(
        store
            .blob_path(&digest)
            .ends_with(format!("blobs/sha256/{}", digest.hex()))
    );
    assert_eq!(store.read(&digest, 5).unwrap(), b"hello");
    assert!(matches!(
        store.read(&digest, 4),
        Err(ContentError::TooLong { bytes: 5, limit: 4, .. })
    ));
    assert_eq!(store.size(&digest).unwrap(), Some(5));
    assert!(store.free_bytes().unwrap() > 0);
    let blobs = store.blobs().unwrap();
    assert_eq!(blobs.len(), 1);
    assert_eq!((&blobs[0].digest, blobs[0].size_bytes), (&digest, 5));
    let exclusive = store.try_exclusive().unwrap().unwrap();
    assert_eq!(exclusive.remove(&digest).unwrap(), Freed { files: 1, bytes: 5 });
    assert_eq!(exclusive.remove(&digest).unwrap(), Freed::default());
    let missing = store.read(&digest, 5).unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
}

#[test]
fn wrong_content_never_becomes_a_blob() {
    let (_dir, store) = store();
    let expected = Digest::sha256(b"right");
    let error = store.write_as(&expected, b"wrong").unwrap_err();
    assert!(matches!(&error, ContentError::Digest { actual, .. } if *actual == Digest::sha256(b"wrong")));
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(store.blobs().unwrap().is_empty());
    assert_eq!(files_in(&store, "tmp"), 0);
}

#[test]
fn damage_is_found_when_reading() {
    let (_dir, store) = store();
    let digest = store.write(b"hello").unwrap();
    store.verify(&digest).unwrap();
    fs::write(store.blob_path(&digest), b"hellO").unwrap();
    assert!(matches!(store.read(&digest, 10), Err(ContentError::Digest { .. })));
    assert!(matches!(store.verify(&digest), Err(ContentError::Digest { .. })));
}

#[test]
fn what_is_not_committed_vanishes() {
    let (_dir, store) = store();
    let mut writer = store.writer(Algorithm::Sha512).unwrap();
    writer.append(b"abc").unwrap();
    assert_eq!(files_in(&store, "tmp"), 1);
    let pending = writer.finish().unwrap();
    assert_eq!(pending.read(2).unwrap(), b"ab");
    assert_eq!((pending.bytes(), pending.digest().algorithm()), (3, Algorithm::Sha512));
    drop(pending);
    assert_eq!(files_in(&store, "tmp"), 0);
    let mut writer = store.writer(Algorithm::Sha512).unwrap();
    writer.append(b"abc").unwrap();
    let digest = writer.finish().unwrap().commit().unwrap();
    assert_eq!(store.read(&digest, 3).unwrap(), b"abc");
    assert_eq!(files_in(&store, "tmp"), 0);
}

#[test]
fn deleting_waits_for_writers() {
    let (_dir, store) = store();
    let lease = store.lease().unwrap();
    assert!(store.try_exclusive().unwrap().is_none());
    drop(lease);
    let writer = store.writer(Algorithm::Sha256).unwrap();
    assert!(store.try_exclusive().unwrap().is_none());
    drop(writer);
    let partial = mine(&store, &Digest::sha256(b"x"), 1);
    assert!(store.try_exclusive().unwrap().is_none());
    drop(partial);
    fs::write(store.tmp_dir().join("left-by-a-crash"), b"1234").unwrap();
    let kept = store.write(b"kept").unwrap();
    store.write(b"unneeded").unwrap();
    assert_eq!(store.unfinished_bytes().unwrap(), 4);
    let exclusive = store.try_exclusive().unwrap().unwrap();
    assert_eq!(exclusive.remove_unfinished().unwrap(), Freed { files: 1, bytes: 4 });
    assert_eq!(
        exclusive.retain(|digest| *digest == kept).unwrap(),
        Freed { files: 1, bytes: 8 }
    );
    assert!(store.contains(&kept).unwrap());
}

#[test]
fn a_partial_is_resumed_and_has_one_writer() {
    let (_dir, store) = store();
    let digest = Digest::sha256(b"hello world");
    let mut first = mine(&store, &digest, 11);
    first.append(b"hello ").unwrap();
    assert!(matches!(Partial::claim(&store, &digest, 11).unwrap(), Claim::Busy));
    drop(first);
    assert_eq!(files_in(&store, "partial"), 1);
    let mut second = mine(&store, &digest, 11);
    assert_eq!(second.written_bytes(), 6);
    second.append(b"world").unwrap();
    second.commit().unwrap();
    drop(second);
    assert_eq!(files_in(&store, "partial"), 0);
    assert_eq!(store.read(&digest, 11).unwrap(), b"hello world");
    assert!(matches!(Partial::claim(&store, &digest, 11).unwrap(), Claim::Exists));
    assert!(matches!(
        Partial::claim(&store, &digest, 12),
        Err(ContentError::Size { .. })
    ));
}

#[test]
fn a_damaged_partial_starts_over() {
    let (_dir, store) = store();
    let digest = Digest::sha256(b"hello");
    let mut partial = mine(&store, &digest, 5);
    partial.append(b"jello").unwrap();
    assert!(matches!(
        partial.commit(),
        Err(CommitError::Digest { actual }) if actual == Digest::sha256(b"jello")
    ));
    assert_eq!(partial.written_bytes(), 0);
    partial.append(b"hello").unwrap();
    partial.commit().unwrap();
    drop(partial);
    let digest = Digest::sha256(b"short");
    let mut partial = mine(&store, &digest, 5);
    partial.append(b"far too long").unwrap();
    drop(partial);
    assert_eq!(mine(&store, &digest, 5).written_bytes(), 0);
    assert_eq!(files_in(&store, "partial"), 0, "an empty partial leaves nothing");
}

#[test]
fn a_partial_that_comes_and_goes_never_has_two_writers() {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    let (_dir, store) = store();
    let digest = Digest::sha256(b"x");
    let (is_held, claims) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1500 {
                    // Empty, it is deleted each time, while others are opening it.
                    if let Claim::Mine(partial) = Partial::claim(&store, &digest, 1).unwrap() {
                        assert!(!is_held.swap(true, Ordering::SeqCst));
                        claims.fetch_add(1, Ordering::SeqCst);
                        std::thread::yield_now();
                        is_held.store(false, Ordering::SeqCst);
                        drop(partial);
                    }
                }
            });
        }
    });
    assert!(claims.into_inner() > 0);
    assert_eq!(files_in(&store, "partial"), 0);
}

#[test]
fn a_whole_file_is_shared_or_copied() {
    let (dir, store) = store();
    let path = dir.path().join("source");
    fs::write(&path, b"content").unwrap();
    let source = File::open(&path).unwrap();
    let mut writer = store.writer(Algorithm::Sha256).unwrap();
    if !writer.share(&source).unwrap() {
        assert_eq!(writer.bytes(), 0);
        writer.append(b"content").unwrap();
    }
    writer.finish().unwrap().commit_as(&Digest::sha256(b"content")).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn pieces_make_the_same_blob(pieces in proptest::collection::vec(any::<Vec<u8>>(), 0..6)) {
        let (_dir, store) = store();
        let whole: Vec<u8> = pieces.concat();
        let mut writer = store.writer(Algorithm::Sha256).unwrap();
        for piece in &pieces {
            writer.append(piece).unwrap();
        }
        let digest = writer.finish().unwrap().commit().unwrap();
        prop_assert_eq!(store.read(&digest, whole.len() as u64).unwrap(), whole);
    }
}
