//! `boxlite template`

use boxlite::{TemplateInfo, TemplateOptions};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::ps::ago;
use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::format::{self, Format};
use crate::output;
use crate::table::Table;
use crate::value::byte_size::{ByteSize, MebiBytes};
use crate::value::cpus;

/// Machines that have booted, from which boxes start warm
#[derive(Debug, Args)]
#[command(after_help = "\
    A template is made by itself after the first cold start of a shape (vCPUs, memory, places \
    for volumes, network or none), unless $BOXLITE_TEMPLATES is existing or off. It is removed \
    when QEMU, the guest's kernel or agent, or the processor is another.")]
pub(crate) struct TemplateArgs {
    #[command(subcommand)]
    command: TemplateCommand,
}

#[derive(Debug, Subcommand)]
enum TemplateCommand {
    Create(CreateArgs),
    #[command(visible_alias = "list")]
    Ls(LsArgs),
    Rm(RmArgs),
}

/// Make a template, unless there is one of the shape
#[derive(Debug, Args)]
struct CreateArgs {
    /// vCPUs of its boxes
    #[arg(long, value_name = "NUMBER", value_parser = cpus::parse, default_value_t = boxlite::DEFAULT_CPUS)]
    cpus: u32,

    /// Memory of its boxes, such as 512m or 1g
    #[arg(short, long, value_name = "SIZE", default_value = "512m")]
    memory: MebiBytes,

    /// Volumes of its boxes, 0 to 8; the template is good for 0, 1 or 8
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    volumes: u32,

    /// Its boxes have no network
    #[arg(long)]
    no_network: bool,
}

/// List templates
#[derive(Debug, Args)]
struct LsArgs {
    /// Print keys only
    #[arg(short, long)]
    quiet: bool,

    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::parse)]
    format: Format,
}

/// Remove templates; boxes that run are not touched by it
#[derive(Debug, Args)]
struct RmArgs {
    /// Keys, or beginnings of them
    #[arg(value_name = "KEY", required = true)]
    keys: Vec<String>,
}

pub(crate) async fn run(global: &GlobalArgs, args: TemplateArgs) -> Result<u8, Failure> {
    let client = global.client().await?;
    let templates = client.templates();
    match args.command {
        TemplateCommand::Create(args) => {
            let options = TemplateOptions::default()
                .cpus(args.cpus)
                .memory_mib(args.memory.0)
                .volumes(args.volumes)
                .network(!args.no_network);
            let made = templates.create(options).await?;
            output::print(&format!("{}\n", made.key))?;
        }
        TemplateCommand::Ls(args) => {
            let found = templates.list().await?;
            if args.quiet {
                let keys: String = found.iter().map(|template| format!("{}\n", template.key)).collect();
                output::print(&keys)?;
            } else {
                match args.format {
                    Format::Json => output::json(&found)?,
                    Format::Table => output::print(&table(&found, Timestamp::now()).render())?,
                }
            }
        }
        TemplateCommand::Rm(args) => {
            for key in &args.keys {
                let removed = templates.remove(key).await?;
                output::print(&format!("{}\n", removed.key))?;
            }
        }
    }
    Ok(0)
}

fn table(templates: &[TemplateInfo], now: Timestamp) -> Table {
    let mut table = Table::new(&[
        "KEY", "CPUS", "MEMORY", "VOLUMES", "NETWORK", "ENGINE", "CREATED", "SIZE", "USABLE",
    ]);
    for template in templates {
        table.row([
            template.key.clone(),
            template.cpus.to_string(),
            format!("{}MiB", template.memory_mib),
            template.volumes.to_string(),
            if template.network { "user" } else { "none" }.to_owned(),
            format!("{} ({})", template.engine, template.accelerator),
            ago(template.created_at_ms, now),
            ByteSize(template.size_bytes).to_string(),
            if template.usable { "yes" } else { "no" }.to_owned(),
        ]);
    }
    table
}
