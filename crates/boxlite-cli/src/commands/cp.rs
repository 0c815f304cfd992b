//! `boxlite cp`

use std::ffi::OsString;
use std::io::IsTerminal;

use boxlite::{Client, CopyOptions, CopyReport};
use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::{Failure, Report};
use crate::output;
use crate::stream::{PumpError, StdStream, pump, stdin_reader};
use crate::value::byte_size::ByteSize;
use crate::value::copy_path::{self, CopyPath};

/// Copy files and folders between the host and a box
#[derive(Debug, Args)]
#[command(after_help = "\
    One side is BOX:PATH. Into a folder that exists the source comes under its own name; a \
    source that ends with /. brings what is in it. With - for the host's side a tar stream \
    is read from stdin, or written to stdout. The box must be running.\n\n\
    What comes out of a box is not trusted: device nodes and set-user-id bits are left out, \
    and links are not followed.")]
#[command(override_usage = "boxlite cp [OPTIONS] BOX:SRC DST|-\n       boxlite cp [OPTIONS] SRC|- BOX:DST")]
pub(crate) struct CpArgs {
    /// Keep owners, by number (into a box)
    #[arg(short, long)]
    archive: bool,

    /// If the source is a symbolic link, copy what it points to
    #[arg(short = 'L', long)]
    follow_link: bool,

    /// Don't say what was copied
    #[arg(short, long)]
    quiet: bool,

    /// What to copy
    #[arg(value_name = "SRC")]
    source: OsString,

    /// Where to
    #[arg(value_name = "DST")]
    destination: OsString,
}

pub(crate) async fn run(global: &GlobalArgs, args: CpArgs) -> Result<u8, Failure> {
    let side = |text: &OsString| copy_path::parse(text).map_err(|error| Failure::from(Report::of(&error)));
    let source = side(&args.source)?;
    let destination = side(&args.destination)?;
    let mut options = CopyOptions::default();
    options.follow_link = args.follow_link;
    options.keep_owner = args.archive;
    let copy = Copy {
        options,
        quiet: args.quiet,
    };

    match (source, destination) {
        (CopyPath::Host(from), CopyPath::Box { box_name, path }) => {
            let client = global.client().await?;
            let handle = client.get(&box_name).await?;
            copy.tell(&handle.copy_in(&from, &path, copy.options).await?);
        }
        (CopyPath::Box { box_name, path }, CopyPath::Host(to)) => {
            if args.archive {
                return Err(
                    Report::new("-a: what comes out of a box belongs to the caller, whoever owns it there")
                        .hint("leave -a out, or copy a tar stream: boxlite cp BOX:SRC - | tar -x")
                        .into(),
                );
            }
            let client = global.client().await?;
            let handle = client.get(&box_name).await?;
            copy.tell(&handle.copy_out(&path, &to, copy.options).await?);
        }
        (CopyPath::Stream, CopyPath::Box { box_name, path }) => {
            copy.stream_in(&global.client().await?, &box_name, &path).await?;
        }
        (CopyPath::Box { box_name, path }, CopyPath::Stream) => {
            copy.stream_out(&global.client().await?, &box_name, &path).await?;
        }
        (CopyPath::Box { .. }, CopyPath::Box { .. }) => {
            return Err(Report::new("both sides are paths of boxes")
                .hint("boxlite cp BOX1:SRC - | boxlite cp - BOX2:DST")
                .into());
        }
        _ => {
            return Err(Report::new("neither side is a path of a box")
                .hint("name the box on one side, as in BOX:/path")
                .into());
        }
    }
    Ok(0)
}

struct Copy {
    options: CopyOptions,
    quiet: bool,
}

impl Copy {
    async fn stream_in(&self, client: &Client, name: &str, path: &str) -> Result<(), Failure> {
        if std::io::stdin().is_terminal() {
            return Err(Report::new("a tar stream can't be typed: standard input is a terminal")
                .hint(format!("tar -c FILES | boxlite cp - {name}:{path}"))
                .into());
        }
        let handle = client.get(name).await?;
        let report = handle.copy_in_tar(stdin_reader(), path, self.options).await?;
        self.tell(&report);
        Ok(())
    }

    async fn stream_out(&self, client: &Client, name: &str, path: &str) -> Result<(), Failure> {
        if std::io::stdout().is_terminal() {
            return Err(
                Report::new("a tar stream is nothing to read: standard output is a terminal")
                    .hint(format!("boxlite cp {name}:{path} - | tar -t"))
                    .into(),
            );
        }
        let handle = client.get(name).await?;
        let tar = handle.copy_out_tar(path, self.options).await?;
        match pump(tar, StdStream::Out).await {
            Ok(_) => Ok(()),
            Err(PumpError::Write(error)) => Err(Failure::output(error)),
            Err(error) => Err(Report::of(&error).into()),
        }
    }

    fn tell(&self, report: &CopyReport) {
        for entry in &report.skipped {
            output::warn(&format!("not copied: {}: {}", entry.path, entry.reason));
        }
        let listed = u64::try_from(report.skipped.len()).unwrap_or(u64::MAX);
        if report.skipped_count > listed {
            output::warn(&format!("and {} more were not copied", report.skipped_count - listed));
        }
        if !self.quiet {
            output::note(&format!(
                "copied {} {}, {}",
                report.entries,
                if report.entries == 1 { "entry" } else { "entries" },
                ByteSize(report.bytes)
            ));
        }
    }
}
