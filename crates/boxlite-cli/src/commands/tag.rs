//! `boxlite tag`

use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::Failure;

/// Give an image another name
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// Name or id of the image
    #[arg(value_name = "IMAGE")]
    source: String,

    /// The further name
    #[arg(value_name = "NAME[:TAG]")]
    target: String,
}

pub(crate) async fn run(global: &GlobalArgs, args: TagArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    client.images().tag(&args.source, &args.target).await?;
    Ok(0)
}
