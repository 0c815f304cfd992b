//! `boxlite inspect`

use boxlite::{Client, Diagnose, ErrorCode};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::GlobalArgs;
use crate::failure::{Failure, Report};
use crate::format::{self, JsonOnly};
use crate::{output, targets};

/// Show everything about boxes or images, as JSON
#[derive(Debug, Args)]
#[command(after_help = "\
    Prints an array with an object for each name; docs/cli-json.md says what is in it.")]
pub(crate) struct InspectArgs {
    /// What the names are of [default: boxes, and images that no box is named like]
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<Kind>,

    /// json, which is the only format
    #[arg(short, long, value_name = "FORMAT", default_value = "json", value_parser = format::parse_json_only)]
    format: JsonOnly,

    /// Names or ids of boxes or images
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Box,
    Image,
}

pub(crate) async fn run(global: &GlobalArgs, args: InspectArgs) -> Result<u8, Failure> {
    let JsonOnly = args.format;
    let client = global.client().await?;
    let mut found = Vec::new();
    let status = targets::each(&args.names, async |name: &str| {
        found.push(inspect(&client, name, args.kind).await?);
        Ok(())
    })
    .await?;
    output::json(&found)?;
    Ok(status)
}

async fn inspect(client: &Client, name: &str, kind: Option<Kind>) -> Result<Value, Failure> {
    if kind != Some(Kind::Image) {
        match client.get(name).await {
            Ok(handle) => return document(&handle.info().await?),
            Err(error) if kind.is_none() && error.code() == ErrorCode::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    match client.images().get(name).await {
        Ok(image) => document(&image),
        // A text that is no image's name at all is not a box's either.
        Err(error) if kind.is_none() && matches!(error.code(), ErrorCode::NotFound | ErrorCode::InvalidArgument) => {
            Err(Report::new(format_args!("no box and no image is named {name:?}"))
                .hint("boxlite ps -a, or boxlite images")
                .into())
        }
        Err(error) => Err(error.into()),
    }
}

fn document(value: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(value).map_err(|error| Failure::new(format_args!("can't write JSON: {error}")))
}
