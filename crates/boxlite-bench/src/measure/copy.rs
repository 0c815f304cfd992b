//! Files into a box and out of it, beside `cp` on the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use boxlite::{BoxHandle, BoxOptions, CopyOptions};

use crate::bench::{Bench, IMAGE, milliseconds, remove, run_in};
use crate::error::BenchError;
use crate::host;
use crate::report::{Bar, Group, Row, Unit};
use crate::sample::{Contender, interleave, row};

const BIG_BYTES: usize = 256 << 20;
const SMALL_FILES: usize = 5_000;
/// About the median of files of source code.
const SMALL_BYTES: usize = 4 << 10;
/// Files of a folder: a flat one of thousands would measure the folder.
const FILES_PER_FOLDER: usize = 100;
/// In the box: on its disk, which has the room.
const TARGET: &str = "/root/in";

/// One thing to copy.
#[derive(Debug, Clone)]
struct Load {
    name: &'static str,
    title: String,
    path: PathBuf,
    bytes: usize,
}

pub(super) async fn measure(bench: &Bench, on_round: &mut dyn FnMut(usize)) -> Result<Vec<Row>, BenchError> {
    let loads = tokio::task::block_in_place(|| make(&bench.work))?;
    let copies = Copies::new(&bench.work)?;
    // The shape that a box has when nobody asks for another.
    let sandbox = bench.idle(BoxOptions::new(IMAGE)).await?;
    let contenders = loads
        .iter()
        .flat_map(|load| contenders(bench, &sandbox, load, &copies))
        .collect();
    let rows = interleave(bench.settings.heavy, contenders, on_round).await;
    remove(&sandbox).await?;
    for load in &loads {
        discard(&load.path)?;
    }
    discard(&copies.folder)?;
    Ok(rows)
}

/// What is copied on the host, and where to.
#[derive(Debug)]
struct Copies {
    folder: PathBuf,
    made: AtomicUsize,
}

impl Copies {
    fn new(work: &Path) -> Result<Self, BenchError> {
        let folder = work.join("copies");
        fs::create_dir(&folder).map_err(BenchError::file(&folder))?;
        Ok(Self {
            folder,
            made: AtomicUsize::new(0),
        })
    }

    /// A place that nothing was at before.
    fn next(&self) -> PathBuf {
        self.folder.join(self.made.fetch_add(1, Ordering::Relaxed).to_string())
    }

    /// Makes room where that is needed. Many files stay until the end: an ext4 without a journal
    /// looks, for each file that it makes, at all that were deleted in the last minutes
    /// (`recently_deleted`), so that deleting some between two rounds makes the next slower, and
    /// slower with every round.
    fn done(copy: &Path) -> Result<(), BenchError> {
        if copy.is_dir() { Ok(()) } else { discard(copy) }
    }
}

fn make(work: &Path) -> Result<Vec<Load>, BenchError> {
    let big = work.join("big");
    fs::write(&big, noise(BIG_BYTES)).map_err(BenchError::file(&big))?;
    let small = work.join("small");
    let data = noise(SMALL_BYTES);
    for number in 0..SMALL_FILES {
        let folder = small.join((number / FILES_PER_FOLDER).to_string());
        fs::create_dir_all(&folder).map_err(BenchError::file(&folder))?;
        let file = folder.join(number.to_string());
        fs::write(&file, &data).map_err(BenchError::file(&file))?;
    }
    Ok(vec![
        Load {
            name: "big",
            title: format!("one file of {} MiB", BIG_BYTES >> 20),
            path: big,
            bytes: BIG_BYTES,
        },
        Load {
            name: "small",
            title: format!("{SMALL_FILES} files of {} KiB", SMALL_BYTES >> 10),
            path: small,
            bytes: SMALL_FILES * SMALL_BYTES,
        },
    ])
}

/// Bytes that nothing on the way can make fewer of (xorshift; the seed is any odd number).
pub(super) fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut data = Vec::with_capacity(bytes + 8);
    while data.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        data.extend_from_slice(&state.to_le_bytes());
    }
    data.truncate(bytes);
    data
}

fn contenders<'a>(bench: &'a Bench, sandbox: &'a BoxHandle, load: &'a Load, copies: &'a Copies) -> Vec<Contender<'a>> {
    let floor = bench.id(&format!("copy/{}/cp", load.name));
    let rate = |direction: &str, title: &str| {
        let id = bench.id(&format!("copy/{}/{direction}", load.name));
        row(
            id,
            Group::Throughput,
            Unit::MegabytesPerSecond,
            format!("{title}, {}", load.title),
        )
    };
    let barred = |row: Row| {
        let row = row.floor(&floor);
        // The bar is for bytes; small files are files.
        if load.name == "big" {
            row.bar(Bar::AtLeast { value: 100.0 })
        } else {
            row
        }
    };
    let megabytes = load.bytes as f64 / 1e3;
    vec![
        Contender::one(barred(rate("in", "copy in")), move || async move {
            run_in(sandbox, &["rm", "-rf", TARGET]).await?;
            let begin = Instant::now();
            let copying = sandbox.copy_in(&load.path, TARGET, CopyOptions::default());
            copying.await.map_err(BenchError::boxlite("copy_in"))?;
            Ok(megabytes / milliseconds(begin))
        }),
        Contender::one(barred(rate("out", "copy out")), move || {
            let back = copies.next();
            async move {
                let begin = Instant::now();
                let copying = sandbox.copy_out(TARGET, &back, CopyOptions::default());
                copying.await.map_err(BenchError::boxlite("copy_out"))?;
                let elapsed = milliseconds(begin);
                Copies::done(&back)?;
                Ok(megabytes / elapsed)
            }
        }),
        Contender::one(rate("cp", "floor: `cp -r` on the host"), move || {
            let host_copy = copies.next();
            let elapsed = tokio::task::block_in_place(|| {
                let begin = Instant::now();
                host::output(Command::new("cp").arg("-r").arg(&load.path).arg(&host_copy))?;
                let elapsed = milliseconds(begin);
                Copies::done(&host_copy)?;
                Ok(megabytes / elapsed)
            });
            async { elapsed }
        }),
    ]
}

/// Removes a file or a folder.
pub(super) fn discard(path: &Path) -> Result<(), BenchError> {
    let removed = if path.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    removed.map_err(BenchError::file(path))
}
