//! `boxlite doctor`

use boxlite::{Check, CheckStatus, Client};
use clap::Args;

use crate::cli::GlobalArgs;
use crate::failure::{Failure, visible};
use crate::format::{self, Format};
use crate::image_args::RegistryArgs;
use crate::output;

/// Check everything that a start needs
#[derive(Debug, Args)]
#[command(after_help = "\
    One line each: ok, warning or failure, and the command that mends it. The exit status is \
    1 when a start can't work.")]
pub(crate) struct DoctorArgs {
    /// table or json
    #[arg(long, value_name = "FORMAT", default_value = "table", value_parser = format::parse)]
    format: Format,
}

pub(crate) async fn run(global: &GlobalArgs, args: DoctorArgs) -> Result<u8, Failure> {
    let report = Client::doctor_for(global.builder(&RegistryArgs::default())).await;
    match args.format {
        Format::Json => output::json(&report)?,
        Format::Table => output::print(&text(&report.checks))?,
    }
    Ok(u8::from(!report.can_start()))
}

fn text(checks: &[Check]) -> String {
    let name_width = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    checks
        .iter()
        .map(|check| {
            let word = match check.status {
                CheckStatus::Ok => "ok",
                CheckStatus::Warning => "warning",
                CheckStatus::Failure => "failure",
            };
            let fix = match &check.fix {
                Some(fix) if check.status != CheckStatus::Ok => {
                    format!("\n{:9}try: {}", "", visible(fix))
                }
                _ => String::new(),
            };
            format!("{word:9}{:name_width$}  {}{fix}\n", check.name, visible(&check.message))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_check_and_what_mends_it() {
        let check = |name: &str, status, fix: Option<&str>| Check {
            name: name.into(),
            status,
            message: "found".into(),
            fix: fix.map(str::to_owned),
        };
        let checks = [
            check("engine", CheckStatus::Failure, Some("apt-get install qemu-system-x86")),
            check("home", CheckStatus::Ok, Some("not shown")),
        ];
        assert_eq!(
            text(&checks),
            "failure  engine  found\n         try: apt-get install qemu-system-x86\nok       home    found\n"
        );
    }
}
