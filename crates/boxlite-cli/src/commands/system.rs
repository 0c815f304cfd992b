//! `boxlite system`

use std::io::IsTerminal;

use boxlite::{DiskUsage, PruneOptions, PruneReport, UsageClass};
use clap::{Args, Subcommand};

use super::images::shown_digest;
use super::ps::shown_id;
use crate::cli::GlobalArgs;
use crate::failure::{Failure, Report};
use crate::format::{self, Format};
use crate::output;
use crate::table::Table;
use crate::value::byte_size::ByteSize;

/// Disk usage and cleaning up
#[derive(Debug, Args)]
pub(crate) struct SystemArgs {
    #[command(subcommand)]
    command: SystemCommand,
}

#[derive(Debug, Subcommand)]
enum SystemCommand {
    Df(DfArgs),
    Prune(PruneArgs),
}

/// Show what the home takes of the disk
#[derive(Debug, Args)]
#[command(after_help = "\
    Sizes are what files really take; the holes of sparse disks are not counted.")]
struct DfArgs {
    /// Also each image and each box
    #[arg(short, long)]
    verbose: bool,

    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::parse)]
    format: Format,
}

/// Remove what is not used
#[derive(Debug, Args)]
#[command(after_help = "\
    That is: boxes that don't run, with their disks; images without a name and without a \
    box; templates (they are made again); left-over layers and bundles of other versions.")]
struct PruneArgs {
    /// Also images with a name, if there is no box of them
    #[arg(short, long)]
    all: bool,

    /// Don't ask
    #[arg(short, long)]
    force: bool,

    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::parse)]
    format: Format,
}

pub(crate) async fn run(global: &GlobalArgs, args: SystemArgs) -> Result<u8, Failure> {
    match args.command {
        SystemCommand::Df(args) => df(global, args).await,
        SystemCommand::Prune(args) => prune(global, args).await,
    }
}

async fn df(global: &GlobalArgs, args: DfArgs) -> Result<u8, Failure> {
    let usage = global.client().await?.disk_usage().await?;
    match args.format {
        Format::Json => output::json(&usage)?,
        Format::Table => {
            let mut text = summary(&usage).render();
            if args.verbose {
                text.push_str(&details(&usage));
            }
            output::print(&text)?;
        }
    }
    Ok(0)
}

fn summary(usage: &DiskUsage) -> Table {
    let mut table = Table::new(&["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    for (name, class) in [
        ("Images", &usage.images),
        ("Boxes", &usage.boxes),
        ("Guest bundles", &usage.bundles),
        ("Templates", &usage.templates),
        ("Left-overs", &usage.build_cache),
    ] {
        table.row([
            name.to_owned(),
            class.count.to_string(),
            class.active.to_string(),
            ByteSize(class.size_bytes).to_string(),
            reclaimable(class),
        ]);
    }
    table
}

fn reclaimable(class: &UsageClass) -> String {
    let bytes = class.reclaimable_bytes;
    match (u128::from(bytes) * 100).checked_div(u128::from(class.size_bytes)) {
        Some(percent) => format!("{} ({percent}%)", ByteSize(bytes)),
        None => ByteSize(bytes).to_string(),
    }
}

fn details(usage: &DiskUsage) -> String {
    let mut images = Table::new(&["IMAGE", "IMAGE ID", "LAYERS", "ROOTFS", "BOXES"]);
    for image in &usage.image_list {
        images.row([
            image.references.first().map_or("<none>", String::as_str).to_owned(),
            shown_digest(&image.digest, false).to_owned(),
            ByteSize(image.layers_bytes).to_string(),
            ByteSize(image.rootfs_bytes).to_string(),
            image.boxes.to_string(),
        ]);
    }
    let mut boxes = Table::new(&["BOX ID", "NAME", "STATE", "SIZE"]);
    for usage in &usage.box_list {
        boxes.row([
            shown_id(&usage.id, false).to_owned(),
            usage.name.clone(),
            usage.state.to_string(),
            ByteSize(usage.size_bytes).to_string(),
        ]);
    }
    format!("\n{}\n{}", images.render(), boxes.render())
}

async fn prune(global: &GlobalArgs, args: PruneArgs) -> Result<u8, Failure> {
    if !args.force && !confirmed(args.all).await? {
        return Err(Failure::Silent { status: 1 });
    }
    let mut options = PruneOptions::default();
    options.all_images = args.all;
    let report = global.client().await?.prune(options).await?;
    match args.format {
        Format::Json => output::json(&report)?,
        Format::Table => output::print(&pruned(&report))?,
    }
    Ok(0)
}

async fn confirmed(all: bool) -> Result<bool, Failure> {
    if !std::io::stdin().is_terminal() {
        return Err(Report::new("standard input is no terminal to ask on")
            .hint("boxlite system prune --force")
            .into());
    }
    let question = format!(
        "This removes all boxes that don't run, with their disks, and all images without {}. Go on?",
        if all { "a box" } else { "a name and a box" }
    );
    output::confirm(&question)
        .await
        .map_err(|error| Failure::new(format_args!("can't read the answer: {error}")))
}

fn pruned(report: &PruneReport) -> String {
    let mut text = String::new();
    for (title, names) in [
        ("Boxes:", &report.boxes),
        ("Images:", &report.images),
        ("Templates:", &report.templates),
    ] {
        if !names.is_empty() {
            text.push_str(&format!("{title}\n{}\n\n", names.join("\n")));
        }
    }
    text.push_str(&format!("Freed: {}\n", ByteSize(report.freed_bytes)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_shares() {
        let mut usage = DiskUsage::default();
        usage.images = UsageClass {
            count: 2,
            active: 1,
            size_bytes: 2_000_000,
            reclaimable_bytes: 500_000,
        };
        assert_eq!(
            summary(&usage).render(),
            "TYPE            TOTAL   ACTIVE   SIZE     RECLAIMABLE\n\
             Images          2       1        2.00MB   500kB (25%)\n\
             Boxes           0       0        0B       0B\n\
             Guest bundles   0       0        0B       0B\n\
             Templates       0       0        0B       0B\n\
             Left-overs      0       0        0B       0B\n"
        );
    }

    #[test]
    fn what_was_pruned() {
        let mut report = PruneReport::default();
        assert_eq!(pruned(&report), "Freed: 0B\n");
        report.boxes = vec!["a".into(), "b".into()];
        report.freed_bytes = 1_500_000;
        assert_eq!(pruned(&report), "Boxes:\na\nb\n\nFreed: 1.50MB\n");
    }
}
