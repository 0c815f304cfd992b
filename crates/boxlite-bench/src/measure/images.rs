//! Images: how fast they are loaded, beside what others do with the same bytes, and whether a
//! box of a large one takes longer to create.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use boxlite::{BoxOptions, Client};

use super::copy::{discard, noise};
use crate::bench::{Bench, CPUS, IMAGE, MEMORY_MIB, load, milliseconds, remove};
use crate::error::BenchError;
use crate::host;
use crate::layout::{self, Layout, Packing};
use crate::report::{Bar, Group, Row, Unit};
use crate::sample::{Contender, interleave, row};

/// The middle one of the three images.
const DEBIAN: &str = "bench/debian:latest";
/// The large one: one file.
const LARGE: &str = "bench/large:latest";
const LARGE_MIB: usize = 1024;
/// Written at once while the large image is made.
const PART_MIB: usize = 64;
/// Creating a box of a large image may not cost more than this many times that of a small one.
const SIZE_FACTOR: f64 = 1.5;

pub(super) async fn measure(bench: &Bench, on_round: &mut dyn FnMut(usize)) -> Result<Vec<Row>, BenchError> {
    let folder = bench.work.join("images");
    let tar = bench.settings.fixtures.join("debian.tar");
    let layouts = tokio::task::block_in_place(|| {
        [Packing::Gzip, Packing::Zstd]
            .map(|packing| (packing, layout::make(&folder.join(packing.as_str()), &tar, packing)))
    });
    let mut contenders = Vec::new();
    for (packing, made) in &layouts {
        contenders.extend(loads(bench, *packing, made));
    }
    let mut rows = interleave(bench.settings.heavy, contenders, &mut *on_round).await;

    let large = tokio::task::block_in_place(|| large(&folder))?;
    load(&bench.client, &oci(&large.folder), LARGE).await?;
    load(&bench.client, &oci(&bench.settings.fixtures.join("debian")), DEBIAN).await?;
    rows.extend(interleave(bench.settings.rounds, creates(bench), on_round).await);
    discard(&folder)?;
    Ok(rows)
}

fn oci(folder: &Path) -> String {
    format!("oci:{}:latest", folder.display())
}

fn loads<'a>(bench: &'a Bench, packing: Packing, made: &'a Result<Layout, BenchError>) -> Vec<Contender<'a>> {
    let how = packing.as_str();
    let id = |name: &str| bench.id(&format!("load/{how}/{name}"));
    let rate = |name: &str, title: String| row(id(name), Group::Images, Unit::MegabytesPerSecond, title);
    let ours = rate(
        "boxlite",
        format!("load of a Debian root filesystem, {how}, until boxes can be made of it"),
    )
    .floor(id("umoci"))
    .floor(id("decompress"));
    let unpack = rate("umoci", "floor: `umoci unpack` of the same image".to_owned());
    let decompress = rate("decompress", format!("floor: `{how} -dc`, thrown away"));
    let made = match made {
        Ok(made) => made,
        Err(why) => {
            let absent = |row| Contender::absent(row, why);
            return vec![absent(ours), absent(unpack), absent(decompress)];
        }
    };
    let megabytes = made.tar_bytes as f64 / 1e3;
    let bundle = bench.work.join(format!("unpacked-{how}"));
    vec![
        Contender::one(ours, move || async move { Ok(megabytes / loaded(bench, made).await?) }),
        Contender::one(unpack, move || {
            let elapsed = tokio::task::block_in_place(|| {
                layout::warm(&made.layer)?;
                let begin = Instant::now();
                let image = format!("{}:latest", made.folder.display());
                let unpacked = host::output(Command::new("umoci").args(["unpack", "--image", &image]).arg(&bundle));
                let elapsed = milliseconds(begin);
                if bundle.exists() {
                    discard(&bundle)?;
                }
                unpacked.map(|_| megabytes / elapsed)
            });
            async { elapsed }
        }),
        Contender::one(decompress, move || {
            let elapsed = tokio::task::block_in_place(|| {
                layout::warm(&made.layer)?;
                let begin = Instant::now();
                let mut command = Command::new(how);
                host::output(command.args(["-d", "-c", "-f"]).arg(&made.layer).stdout(Stdio::null()))?;
                Ok(megabytes / milliseconds(begin))
            });
            async { elapsed }
        }),
    ]
}

/// Milliseconds of a load into a home that has nothing of the image.
async fn loaded(bench: &Bench, image: &Layout) -> Result<f64, BenchError> {
    let home: PathBuf = bench.work.join("load-home");
    tokio::task::block_in_place(|| layout::warm(&image.layer))?;
    let client = Client::builder().home(&home).build().await;
    let client = client.map_err(BenchError::boxlite("opening a home"))?;
    let begin = Instant::now();
    let taken = load(&client, &oci(&image.folder), DEBIAN).await;
    let elapsed = milliseconds(begin);
    client.close().await;
    discard(&home)?;
    taken.map(|()| elapsed)
}

/// An image with one file of noise.
fn large(folder: &Path) -> Result<Layout, BenchError> {
    let root = folder.join("root");
    fs::create_dir_all(&root).map_err(BenchError::file(&root))?;
    let path = root.join("noise");
    let mut file = File::create(&path).map_err(BenchError::file(&path))?;
    let part = noise(PART_MIB << 20);
    for _ in 0..LARGE_MIB / PART_MIB {
        file.write_all(&part).map_err(BenchError::file(&path))?;
    }
    let tar = folder.join("large.tar");
    host::output(Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&root).arg("."))?;
    discard(&root)?;
    let layout = layout::make(&folder.join("large"), &tar, Packing::Plain)?;
    discard(&tar)?;
    Ok(layout)
}

fn creates(bench: &Bench) -> Vec<Contender<'_>> {
    let id = |size: &str| bench.id(&format!("create/{size}"));
    let small = id("2mib");
    [
        ("2mib", "2 MiB", IMAGE),
        ("150mib", "150 MiB", DEBIAN),
        ("1gib", "1 GiB", LARGE),
    ]
    .into_iter()
    .map(|(name, size, image)| {
        let title = format!("create of a box, image of {size}");
        let mut row = row(id(name), Group::Images, Unit::Milliseconds, title);
        if name != "2mib" {
            row = row.floor(&small).bar(Bar::AtMostTimes {
                factor: SIZE_FACTOR,
                row: small.clone(),
            });
        }
        Contender::one(row, move || async move {
            let options = BoxOptions::new(image)
                .cpus(CPUS)
                .memory_mib(MEMORY_MIB)
                .command(["true"]);
            let begin = Instant::now();
            let created = bench.client.create(options).await;
            let elapsed = milliseconds(begin);
            remove(&created.map_err(BenchError::boxlite("create"))?).await?;
            Ok(elapsed)
        })
    })
    .collect()
}
