//! Homes with many boxes.

use std::path::PathBuf;
use std::time::Instant;

use boxlite::{Client, ListFilter};
use futures_util::future::try_join_all;

use super::copy::discard;
use crate::bench::{Bench, load_usual, milliseconds};
use crate::error::BenchError;
use crate::host;
use crate::report::{Group, Row, Unit};
use crate::sample::{Contender, interleave, row};

/// Boxes of the homes.
const SIZES: [usize; 3] = [10, 1_000, 10_000];
/// Boxes that are created at once: more than this many wait for each other.
const AT_ONCE: usize = 8;

/// A home of which all boxes are created and none runs.
struct Home {
    boxes: usize,
    path: PathBuf,
    client: Client,
}

pub(super) async fn measure(bench: &Bench, on_round: &mut dyn FnMut(usize)) -> Result<Vec<Row>, BenchError> {
    let mut homes = Vec::new();
    for boxes in SIZES {
        homes.push(Home::with(bench, boxes).await?);
    }
    let contenders = homes.iter().flat_map(|home| contenders(bench, home)).collect();
    let rows = interleave(bench.settings.rounds, contenders, on_round).await;
    for home in homes {
        home.client.close().await;
        discard(&home.path)?;
    }
    Ok(rows)
}

impl Home {
    async fn with(bench: &Bench, boxes: usize) -> Result<Self, BenchError> {
        let path = bench.work.join(format!("home-of-{boxes}"));
        let client = Client::builder().home(&path).build().await;
        let client = client.map_err(BenchError::boxlite("opening a home"))?;
        load_usual(&client, &bench.settings).await?;
        for beginning in (0..boxes).step_by(AT_ONCE) {
            let some = AT_ONCE.min(boxes - beginning);
            try_join_all((0..some).map(|_| client.create(bench.options())))
                .await
                .map_err(BenchError::boxlite("create"))?;
        }
        Ok(Self { boxes, path, client })
    }
}

fn contenders<'a>(bench: &'a Bench, home: &'a Home) -> Vec<Contender<'a>> {
    let boxes = home.boxes;
    let id = |name: &str| bench.id(&format!("list/{boxes}/{name}"));
    let time = |name: &str, title: String| row(id(name), Group::Lists, Unit::Milliseconds, title);
    let command = time("ps", format!("`boxlite ps -a` of {boxes} boxes, the whole process")).floor(id("library"));
    vec![
        Contender::one(
            time("library", format!("list of {boxes} boxes, by the library")),
            move || async move {
                let begin = Instant::now();
                let listed = home.client.list(ListFilter::all()).await;
                let elapsed = milliseconds(begin);
                let listed = listed.map_err(BenchError::boxlite("list"))?.len();
                if listed == boxes {
                    return Ok(elapsed);
                }
                Err(BenchError::Answer {
                    what: "list",
                    expected: boxes.to_string(),
                    got: listed.to_string(),
                })
            },
        ),
        Contender::one(command, move || {
            let mut command = bench.cli(&["ps", "-a"]);
            command.env("BOXLITE_HOME", &home.path);
            let elapsed = tokio::task::block_in_place(|| {
                let begin = Instant::now();
                host::output(&mut command).map(|_| milliseconds(begin))
            });
            async { elapsed }
        }),
    ]
}
