//! `boxlite version`

use clap::Args;
use serde::Serialize;

use crate::failure::Failure;
use crate::format::{self, Format};
use crate::output;

/// Show versions
#[derive(Debug, Args)]
#[command(after_help = "\
    Of boxlite alone; info shows the engine's.")]
pub(crate) struct VersionArgs {
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::parse)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    os: &'static str,
    arch: &'static str,
}

const VERSION: Version = Version {
    version: env!("CARGO_PKG_VERSION"),
    os: std::env::consts::OS,
    arch: std::env::consts::ARCH,
};

pub(crate) fn run(args: VersionArgs) -> Result<u8, Failure> {
    match args.format {
        Format::Json => output::json(&VERSION)?,
        Format::Table => output::print(&format!(
            "Version:  {}\nOS/Arch:  {}/{}\n",
            VERSION.version, VERSION.os, VERSION.arch
        ))?,
    }
    Ok(0)
}
