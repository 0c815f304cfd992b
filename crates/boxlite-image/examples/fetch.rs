//! Brings an image from anywhere into a content store and says what it is:
//! `cargo run -p boxlite-image --example fetch -- docker-archive:debian.tar /tmp/content`.

use std::process::ExitCode;
use std::sync::Arc;

use boxlite_image::{ContentStore, LoadOptions, ProgressFn, PullOptions, Source, load, pull};
use tokio_util::sync::CancellationToken;

#[tokio::main]
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program")]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, folder] = &arguments[..] else {
        eprintln!("usage: fetch SOURCE FOLDER");
        return ExitCode::from(2);
    };
    match fetch(source, folder).await {
        Ok(lines) => {
            for line in lines {
                println!("{line}");
            }
            ExitCode::SUCCESS
        }
        Err((error, hint)) => {
            eprintln!("{error}");
            if let Some(hint) = hint {
                eprintln!("hint: {hint}");
            }
            ExitCode::FAILURE
        }
    }
}

async fn fetch(source: &str, folder: &str) -> Result<Vec<String>, (String, Option<String>)> {
    let source = Source::parse(source).map_err(|e| (e.to_string(), Some(e.hint())))?;
    let store = ContentStore::open(folder).map_err(|e| (e.to_string(), Some(e.hint().to_owned())))?;
    let progress: ProgressFn = Arc::new(|_| {});
    let cancel = CancellationToken::new();
    let manifests = if let Source::Registry(reference) = &source {
        let pulled = pull(&store, reference, &PullOptions::default(), progress, cancel).await;
        vec![pulled.map_err(|e| (e.to_string(), e.hint()))?]
    } else {
        let loaded = load(&store, &source, &LoadOptions::default(), progress, cancel).await;
        let loaded = loaded.map_err(|e| (e.to_string(), e.hint()))?;
        loaded.into_iter().map(|image| image.manifest).collect()
    };
    let describe = |image: &boxlite_image::ImageManifest| {
        let (layers, bytes) = (image.layers.len(), image.size_bytes);
        format!("{} {} {layers} layers, {bytes} bytes", image.digest, image.platform)
    };
    Ok(manifests.iter().map(describe).collect())
}
