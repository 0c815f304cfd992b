//! `boxlite create`

use clap::Args;

use crate::box_args::BoxArgs;
use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::output;
use crate::progress::Display;

/// Create a box without starting it
#[derive(Debug, Args)]
#[command(after_help = "\
    Prints the id of the box. What start then starts runs in the background, unless it is \
    told to attach.\n\n\
    IMAGE is a reference, or docker-archive:PATH, oci:PATH[:TAG], oci-archive:PATH or \
    dir:ROOTFS. Not docker's: whole vCPUs only, no named or anonymous volumes, ports are \
    published on 127.0.0.1 unless an address is given.")]
#[command(override_usage = "boxlite create [OPTIONS] IMAGE [COMMAND [ARGUMENT]...]")]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    new: BoxArgs,
}

pub(crate) async fn run(global: &GlobalArgs, args: CreateArgs) -> Result<u8, Failure> {
    let options = args.new.options(global.engine)?.detached(true);
    let id_file = args.new.id_file()?;
    let client = global.client_with(&args.new.registry).await?;
    let display = Display::new(args.new.quiet);
    let created = client.create_with(options, display.function()).await;
    drop(display);
    let handle = created?;
    if let Some(file) = id_file
        && let Err(failure) = file.write(handle.id())
    {
        handle.remove(boxlite::RemoveOptions::default()).await?;
        return Err(failure);
    }
    output::line(handle.id())?;
    Ok(0)
}
