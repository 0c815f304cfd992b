//! Pulls an image and shows how far it is: `cargo run --example pull -- REFERENCE`
#![allow(clippy::print_stdout)]

use std::sync::Arc;

use boxlite::{Client, Progress, PullOptions};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let reference = std::env::args().nth(1).unwrap_or_else(|| "alpine:3.20".to_owned());
    let client = Client::builder().build().await?;
    let progress = Arc::new(|event: Progress| match event {
        Progress::Resolved {
            layers, total_bytes, ..
        } => {
            println!("{layers} layers, {} KiB", total_bytes >> 10);
        }
        Progress::Layer {
            digest,
            state,
            current_bytes,
            total_bytes,
        } => println!("{digest}: {state:?} {current_bytes} of {total_bytes:?}"),
        Progress::Retrying { reason, attempt, .. } => println!("attempt {attempt}: {reason}"),
        Progress::BuildingRootfs { .. } => println!("building the root filesystem"),
        other => println!("{other:?}"),
    });
    let images = client.images();
    let image = images.pull(&reference, PullOptions::default(), progress).await?;
    println!("{} for {}", image.digest, image.platform);
    client.close().await;
    Ok(())
}
