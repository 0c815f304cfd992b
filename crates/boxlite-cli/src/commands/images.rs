//! `boxlite images`

use boxlite::ImageInfo;
use clap::Args;
use jiff::Timestamp;

use super::ps::{ID_DIGITS, ago};
use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::format::{self, Format};
use crate::output;
use crate::table::Table;
use crate::value::byte_size::ByteSize;

const NONE: &str = "<none>";

/// List images
#[derive(Debug, Args)]
#[command(after_help = "\
    SIZE is what the root filesystem takes on the host's disk, once for all boxes; before it \
    is built, the sum of the compressed layers. IMAGE ID begins the manifest's digest.")]
pub(crate) struct ImagesArgs {
    /// Print ids only
    #[arg(short, long)]
    quiet: bool,

    /// Don't shorten ids
    #[arg(long)]
    no_trunc: bool,

    /// Also show digests
    #[arg(long)]
    digests: bool,

    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::parse)]
    format: Format,

    /// Only images of this name, or this name and tag
    #[arg(value_name = "REPOSITORY[:TAG]")]
    name: Option<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: ImagesArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    let mut images = client.images().list().await?;
    if let Some(wanted) = &args.name {
        for image in &mut images {
            image.references.retain(|name| is_called(name, wanted));
        }
        images.retain(|image| !image.references.is_empty());
    }
    if args.quiet {
        let ids: String = images
            .iter()
            .map(|image| format!("{}\n", shown_digest(&image.digest, args.no_trunc)))
            .collect();
        output::print(&ids)?;
    } else if args.format == Format::Json {
        output::json(&images)?;
    } else {
        output::print(&table(&images, &args, Timestamp::now()).render())?;
    }
    Ok(0)
}

fn table(images: &[ImageInfo], args: &ImagesArgs, now: Timestamp) -> Table {
    let mut columns = vec!["REPOSITORY", "TAG"];
    if args.digests {
        columns.push("DIGEST");
    }
    columns.extend(["IMAGE ID", "CREATED", "SIZE"]);
    let mut table = Table::new(&columns);
    for image in images {
        let names: Vec<(String, String)> = if image.references.is_empty() {
            vec![(NONE.to_owned(), NONE.to_owned())]
        } else {
            image.references.iter().map(|name| split(name)).collect()
        };
        for (repository, tag) in names {
            let mut cells = vec![repository, tag];
            if args.digests {
                cells.push(image.digest.clone());
            }
            cells.extend([
                shown_digest(&image.digest, args.no_trunc).to_owned(),
                created(image, now),
                ByteSize(image.rootfs_bytes.unwrap_or(image.size_bytes)).to_string(),
            ]);
            table.row(cells);
        }
    }
    table
}

fn created(image: &ImageInfo, now: Timestamp) -> String {
    image
        .created
        .as_deref()
        .and_then(|text| text.parse::<Timestamp>().ok())
        .and_then(|time| u64::try_from(time.as_millisecond()).ok())
        .map_or_else(|| "N/A".to_owned(), |time| ago(time, now))
}

/// A digest; short: its first hexadecimal digits.
pub(crate) fn shown_digest(digest: &str, whole: bool) -> &str {
    if whole {
        return digest;
    }
    let hex = digest.split_once(':').map_or(digest, |(_, hex)| hex);
    hex.get(..ID_DIGITS).unwrap_or(hex)
}

/// A full name without what people leave out.
fn familiar(name: &str) -> &str {
    match name.strip_prefix("docker.io/") {
        Some(rest) => rest.strip_prefix("library/").unwrap_or(rest),
        None => name,
    }
}

/// Repository, as people write it, and tag of a full name.
fn split(name: &str) -> (String, String) {
    let name = familiar(name);
    let (name, digest) = match name.split_once('@') {
        Some((name, _)) => (name, true),
        None => (name, false),
    };
    // A colon before the last slash belongs to a port.
    let last = name.rfind('/').map_or(0, |slash| slash + 1);
    match name[last..].rfind(':') {
        Some(colon) => (name[..last + colon].to_owned(), name[last + colon + 1..].to_owned()),
        None if digest => (name.to_owned(), NONE.to_owned()),
        None => (name.to_owned(), "latest".to_owned()),
    }
}

/// Whether a full name is meant by a name, or a name and tag, as people write it.
fn is_called(full: &str, wanted: &str) -> bool {
    let (repository, tag) = split(full);
    let wanted = familiar(wanted);
    wanted == repository || wanted == format!("{repository}:{tag}") || wanted == familiar(full)
}

/// The one of an image's names that was asked for; its digest if there is none.
pub(crate) fn full_name(image: &ImageInfo, asked: &str) -> String {
    let tagged = |name: &&String| {
        let (repository, tag) = split(name);
        let (asked_repository, asked_tag) = split(asked);
        repository == asked_repository && tag == asked_tag
    };
    image
        .references
        .iter()
        .find(tagged)
        .or(image.references.first())
        .unwrap_or(&image.digest)
        .clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_as_people_write_them() {
        for (full, repository, tag) in [
            ("docker.io/library/alpine:3.20", "alpine", "3.20"),
            ("docker.io/me/app:1", "me/app", "1"),
            ("localhost:5000/app:1", "localhost:5000/app", "1"),
            ("localhost:5000/app", "localhost:5000/app", "latest"),
            ("ghcr.io/a/b@sha256:00", "ghcr.io/a/b", NONE),
        ] {
            assert_eq!(split(full), (repository.to_owned(), tag.to_owned()));
        }
    }

    #[test]
    fn names_are_found_as_people_write_them() {
        let full = "docker.io/library/alpine:3.20";
        for wanted in ["alpine", "alpine:3.20", "docker.io/library/alpine", full] {
            assert!(is_called(full, wanted), "{wanted}");
        }
        for wanted in ["alpin", "alpine:3", "me/alpine"] {
            assert!(!is_called(full, wanted), "{wanted}");
        }
    }

    #[test]
    fn digests_are_shortened() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(shown_digest(&digest, false), "0123456789ab");
        assert_eq!(shown_digest(&digest, true), digest);
        assert_eq!(shown_digest("sha256:12", false), "12");
    }
}
