//! `boxlite load`

use std::io::{self, IsTerminal};

use boxlite::LoadOptions;
use clap::Args;
use tempfile::NamedTempFile;

use crate::cli::GlobalArgs;
use crate::failure::{Failure, Report};
use crate::output;
use crate::progress::{self, Display};

/// Load images from archives and layouts
#[derive(Debug, Args)]
#[command(after_help = "\
    The source is docker-archive:PATH[:REFERENCE], oci:PATH[:TAG], oci-archive:PATH[:TAG] or \
    the path of such a file or folder; without one, the archive comes from stdin. Prints the \
    names of what was loaded.")]
pub(crate) struct LoadArgs {
    /// The source, as docker writes it
    #[arg(short, long, value_name = "SOURCE", conflicts_with = "source")]
    input: Option<String>,

    /// A name for the image, over those in the archive
    #[arg(short, long, value_name = "IMAGE")]
    tag: Option<String>,

    /// Platform, such as linux/arm64 [default: the host's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,

    /// Say nothing about the progress
    #[arg(short, long)]
    quiet: bool,

    /// What to load
    #[arg(value_name = "SOURCE")]
    source: Option<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: LoadArgs) -> Result<u8, Failure> {
    let mut options = LoadOptions::default();
    options.platform.clone_from(&args.platform);
    options.tag.clone_from(&args.tag);
    let client = global.client().await?;
    let (_spooled, source) = match args.source.or(args.input) {
        Some(source) if source != "-" => (None, source),
        _ => {
            let file = spool().await?;
            let path = file.path().to_str().map(str::to_owned);
            let path = path.ok_or_else(|| Failure::new("TMPDIR is not UTF-8: give load the archive's path"))?;
            (Some(file), path)
        }
    };
    let display = Display::new(args.quiet);
    let loaded = client.images().load(&source, options, display.function()).await;
    drop(display);
    for image in loaded? {
        if image.references.is_empty() {
            output::line(&image.digest)?;
        }
        for reference in &image.references {
            output::line(reference)?;
        }
        tracing::debug!(digest = %progress::short(&image.digest), "loaded");
    }
    Ok(0)
}

/// Writes stdin to a file, because an archive is read in more than one pass.
async fn spool() -> Result<NamedTempFile, Failure> {
    if io::stdin().is_terminal() {
        return Err(Report::new("nothing to load: standard input is a terminal")
            .hint("boxlite load docker-archive:FILE")
            .into());
    }
    let wrong = |error: io::Error| Failure::new(format_args!("can't keep the archive from stdin: {error}"));
    let file = NamedTempFile::with_prefix("boxlite-load-").map_err(wrong)?;
    let mut writer = tokio::fs::File::from_std(file.reopen().map_err(wrong)?);
    tokio::io::copy(&mut crate::stream::stdin_reader(), &mut writer)
        .await
        .map_err(wrong)?;
    writer.sync_all().await.map_err(wrong)?;
    Ok(file)
}
