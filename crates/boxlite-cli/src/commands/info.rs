//! `boxlite info`

use boxlite::{BundleOrigin, Diagnosis, SystemInfo};
use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::{Failure, visible};
use crate::format::{self, Format};
use crate::output;
use crate::value::byte_size::BinarySize;

/// Show what this boxlite is and where it keeps things
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table", value_parser = format::parse)]
    format: Format,
}

pub(crate) async fn run(global: &GlobalArgs, args: InfoArgs) -> Result<u8, Failure> {
    let info = global.client().await?.info().await?;
    match args.format {
        Format::Json => output::json(&info)?,
        Format::Table => output::print(&text(&info))?,
    }
    Ok(0)
}

fn text(info: &SystemInfo) -> String {
    let mut lines = Lines::default();
    lines.add("Version", &info.version);
    lines.add("Home", &info.home.display().to_string());
    lines.add("Platform", &info.platform);
    match &info.engine {
        Some(engine) => lines.add(
            "Engine",
            &format!("{} {} ({})", engine.name, engine.version, engine.path.display()),
        ),
        None => lines.missing("Engine", info.engine_error.as_ref()),
    }
    if let Some(accelerator) = &info.accelerator {
        lines.add("Accelerator", &accelerator.name);
        for evidence in &accelerator.evidence {
            lines.add("", evidence);
        }
    }
    match &info.bundle {
        Some(bundle) => {
            let origin = match bundle.origin {
                BundleOrigin::Embedded => "embedded",
                BundleOrigin::Given => "given",
                BundleOrigin::BuildTree => "from the build tree",
            };
            lines.add("Guest bundle", &format!("{} ({origin})", bundle.directory.display()));
        }
        None => lines.missing("Guest bundle", info.bundle_error.as_ref()),
    }
    let boxes = &info.boxes;
    lines.add(
        "Boxes",
        &format!(
            "{} ({} running, {} paused, {} stopped)",
            boxes.total, boxes.running, boxes.paused, boxes.stopped
        ),
    );
    lines.add("Images", &info.images.to_string());
    lines.add(
        "Host",
        &format!(
            "{} CPUs, {}, kernel {}",
            info.host_cpus,
            BinarySize(info.host_memory_bytes),
            info.host_kernel
        ),
    );
    lines.0
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: &str) {
        let name = if name.is_empty() {
            String::new()
        } else {
            format!("{name}:")
        };
        self.0.push_str(&format!("{name:14}{}\n", visible(value)));
    }

    fn missing(&mut self, name: &str, error: Option<&Diagnosis>) {
        match error {
            Some(error) => {
                self.add(name, &format!("none: {}", error.message));
                if let Some(hint) = &error.hint {
                    self.add("", &format!("try: {hint}"));
                }
            }
            None => self.add(name, "none"),
        }
    }
}
