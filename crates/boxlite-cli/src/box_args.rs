//! The options of a new box: what `run` and `create` have in common.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use boxlite::{BoxOptions, EngineKind, ExtraHost, NetworkMode, PullPolicy, Security, Signal, StartPreference};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::failure::{Failure, Report};
use crate::image_args::RegistryArgs;
use crate::value::byte_size::MebiBytes;
use crate::value::port::PublishedPorts;
use crate::value::{add_host, cpus, environment, label, port, volume};

/// Options of a new box.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct BoxArgs {
    /// Name of the box [default: a made-up one]
    #[arg(long)]
    name: Option<String>,

    /// Keep stdin open and connect it
    #[arg(short, long)]
    pub(crate) interactive: bool,

    /// Give the command a terminal
    #[arg(short, long)]
    pub(crate) tty: bool,

    /// Remove the box once it has ended
    #[arg(long)]
    pub(crate) rm: bool,

    /// Set an environment variable; KEY alone takes the caller's value
    #[arg(short, long, value_name = "KEY[=VALUE]")]
    env: Vec<String>,

    /// Read environment variables from a file of KEY=VALUE lines
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,

    /// Folder in which the command starts
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,

    /// User, and group, that the command runs as
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,

    /// Host name in the box
    #[arg(short = 'h', long, value_name = "NAME")]
    hostname: Option<String>,

    /// Replace the image's entrypoint; an empty one clears it
    #[arg(long, value_name = "COMMAND")]
    entrypoint: Option<String>,

    /// Show a folder or file of the host in the box, up to 8 (no named volumes: SRC is a path)
    #[arg(short, long, value_name = "SRC:DST[:ro]")]
    volume: Vec<OsString>,

    /// Publish a port of the box on the host, on 127.0.0.1 unless an address is given
    #[arg(short, long, value_name = "[IP:][HOST:]GUEST[/udp]", value_parser = port::parse)]
    publish: Vec<PublishedPorts>,

    /// How the box is connected: outbound only, or not at all
    #[arg(long, visible_alias = "net", value_name = "MODE",
          value_parser = PossibleValuesParser::new(["user", "none"]).try_map(|word| word.parse::<NetworkMode>()))]
    network: Option<NetworkMode>,

    /// Add a line to /etc/hosts of the box
    #[arg(long, value_name = "NAME:IP", value_parser = add_host::parse)]
    add_host: Vec<(String, IpAddr)>,

    /// Name server of the box [default: the host's, through the engine]
    #[arg(long, value_name = "IP")]
    dns: Vec<IpAddr>,

    /// Search domain of the box
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,

    /// Number of vCPUs, whole ones [default: 2]
    #[arg(long, value_name = "N", value_parser = cpus::parse)]
    cpus: Option<u32>,

    /// Memory of the machine, such as 512m or 1g [default: 512m]
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<MebiBytes>,

    /// Size of the box's writable disk, which costs only what is written [default: 10g]
    #[arg(long, value_name = "SIZE")]
    disk: Option<MebiBytes>,

    /// Set a label
    #[arg(short, long, value_name = "KEY[=VALUE]", value_parser = label::parse)]
    label: Vec<(String, String)>,

    /// When to ask the registry for the image
    #[arg(long, value_name = "WHEN", default_value = "missing",
          value_parser = PossibleValuesParser::new(["missing", "always", "never"]).try_map(|word| word.parse::<PullPolicy>()))]
    pull: PullPolicy,

    /// Platform of the image, such as linux/arm64 [default: the host's]
    #[arg(long, value_name = "OS/ARCH[/VARIANT]")]
    platform: Option<String>,

    #[command(flatten)]
    pub(crate) registry: RegistryArgs,

    /// Signal that asks the command to end [default: the image's, or TERM]
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<Signal>,

    /// Seconds to wait after that signal before the box is killed [default: 10]
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u64>,

    /// Seconds that a start may take without showing progress [default: by accelerator]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    start_timeout: Option<u64>,

    /// What of the jail around the machine must be there: what this host allows, or all
    #[arg(long, value_name = "LEVEL", default_value = "standard",
          value_parser = PossibleValuesParser::new(["standard", "strict"]).try_map(|word| word.parse::<Security>()))]
    security: Security,

    /// Start with the kernel, also where a template would make it faster
    #[arg(long)]
    cold: bool,

    /// Write the id of the box to a file that does not exist yet
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,

    /// Say nothing about the progress of a pull
    #[arg(short, long)]
    pub(crate) quiet: bool,

    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,

    /// The image, and after it the command to run in place of the image's own
    #[arg(value_name = "IMAGE", required = true, num_args = 1.., trailing_var_arg = true, hide = true)]
    image_and_command: Vec<OsString>,
}

impl BoxArgs {
    /// The options that these arguments ask for.
    pub(crate) fn options(&self, engine: Option<EngineKind>) -> Result<BoxOptions, Failure> {
        let here = std::env::current_dir()
            .map_err(|error| Failure::new(format_args!("can't tell the current folder: {error}")))?;
        self.options_in(engine, &here, &|name| std::env::var_os(name))
    }

    /// The file for the id of the box, made now, so that a box whose id can't be written
    /// is not made.
    pub(crate) fn id_file(&self) -> Result<Option<IdFile>, Failure> {
        self.cidfile.as_deref().map(IdFile::make).transpose()
    }

    fn options_in(
        &self,
        engine: Option<EngineKind>,
        here: &Path,
        lookup: environment::Lookup<'_>,
    ) -> Result<BoxOptions, Failure> {
        let mut words = self.image_and_command.iter().map(|word| {
            word.to_str().map(str::to_owned).ok_or_else(|| {
                Failure::new(format_args!(
                    "the argument {word:?} is not UTF-8; boxlite keeps the commands of boxes as text"
                ))
            })
        });
        let image = words.next().transpose()?.unwrap_or_default();
        if image.is_empty() {
            return Err(Failure::new("the name of the image is empty"));
        }
        let mut options = BoxOptions::new(image).run_image_command(true);
        options.command = words.collect::<Result<_, _>>()?;
        options.name.clone_from(&self.name);
        options.tty = self.tty;
        options.stdin_open = self.interactive;
        options.auto_remove = self.rm;
        options.env = environment::collect(&self.env_file, &self.env, lookup)
            .map_err(|error| Failure::from(Report::of(&error)))?
            .into_iter()
            .collect();
        options.working_dir.clone_from(&self.workdir);
        options.user.clone_from(&self.user);
        options.hostname.clone_from(&self.hostname);
        options.entrypoint = self.entrypoint.as_ref().map(|entrypoint| {
            if entrypoint.is_empty() {
                Vec::new()
            } else {
                vec![entrypoint.clone()]
            }
        });
        for text in &self.volume {
            let mount = volume::parse(text, here)
                .map_err(|error| Failure::new(format_args!("--volume {}: {error}", text.display())))?;
            options.mounts.push(mount);
        }
        options.ports = self.publish.iter().flat_map(|ports| ports.0.iter().copied()).collect();
        options.network = self.network.unwrap_or_default();
        options.extra_hosts = self
            .add_host
            .iter()
            .map(|(name, address)| ExtraHost {
                name: name.clone(),
                address: *address,
            })
            .collect();
        options.dns.clone_from(&self.dns);
        options.dns_search.clone_from(&self.dns_search);
        options.cpus = self.cpus.unwrap_or(options.cpus);
        options.memory_mib = self.memory.map_or(options.memory_mib, |size| size.0);
        options.disk_mib = self.disk.map_or(options.disk_mib, |size| size.0);
        options.labels = self.label.iter().cloned().collect::<BTreeMap<_, _>>();
        options.engine = engine.unwrap_or_default();
        options.platform.clone_from(&self.platform);
        options.pull_policy = self.pull;
        options.stop_signal = self.stop_signal;
        if let Some(seconds) = self.stop_timeout {
            options.stop_timeout_ms = seconds.saturating_mul(1000);
        }
        options.start_timeout_ms = self.start_timeout.map(|seconds| seconds.saturating_mul(1000));
        options.security = self.security;
        if self.cold {
            options.start = StartPreference::Cold;
        }
        Ok(options)
    }
}

/// A file that gets the id of a box. It is removed again if no id was written.
#[derive(Debug)]
pub(crate) struct IdFile {
    file: File,
    path: PathBuf,
    written: bool,
}

impl IdFile {
    fn make(path: &Path) -> Result<Self, Failure> {
        match File::create_new(path) {
            Ok(file) => Ok(Self {
                file,
                path: path.to_owned(),
                written: false,
            }),
            Err(error) => {
                let report = Report::new(format_args!("--cidfile {}: {error}", path.display()));
                Err(if error.kind() == std::io::ErrorKind::AlreadyExists {
                    report.hint("remove the file, if its box is not needed any more").into()
                } else {
                    report.into()
                })
            }
        }
    }

    /// Writes the id.
    pub(crate) fn write(mut self, id: &str) -> Result<(), Failure> {
        self.file
            .write_all(id.as_bytes())
            .map_err(|error| Failure::new(format_args!("--cidfile {}: {error}", self.path.display())))?;
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if !self.written {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: BoxArgs,
    }

    fn parsed(line: &str) -> Result<BoxOptions, String> {
        let words = std::iter::once("run").chain(line.split(' '));
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.args
            .options_in(None, Path::new("/here"), &|name| (name == "LANG").then(|| "C".into()))
            .map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn everything_reaches_the_options() {
        let options = parsed(
            "--name web -it --rm -e A=1 -e LANG -w /srv -u 1:2 -h host --entrypoint sh \
             -v data:/data:ro -p 8080:80 -p 53/udp --network none --add-host db:10.0.0.1 \
             --dns 1.1.1.1 --dns-search lan --cpus 2 -m 1g --disk 20g -l a=b --pull never \
             --platform linux/arm64 --stop-signal INT --stop-timeout 3 --start-timeout 70 --security strict \
             alpine:3.20 -c true -- -it",
        )
        .unwrap();
        insta::assert_json_snapshot!(options);
    }

    #[test]
    fn what_follows_the_image_is_the_command() {
        let options = parsed("alpine -e A=1 --rm --help").unwrap();
        assert_eq!(options.command, ["-e", "A=1", "--rm", "--help"]);
        assert!(!options.auto_remove);
        assert!(options.env.is_empty());
        let options = parsed("-- alpine -x").unwrap();
        assert_eq!(options.image, "alpine");
        assert_eq!(options.command, ["-x"]);
    }

    #[test]
    fn defaults_are_the_librarys() {
        let options = parsed("alpine").unwrap();
        let expected = BoxOptions::new("alpine").run_image_command(true);
        assert_eq!(options, expected);
    }

    #[test]
    fn an_empty_entrypoint_clears_the_images() {
        let options = parsed("--entrypoint= alpine").unwrap();
        assert_eq!(options.entrypoint, Some(Vec::new()));
    }

    #[test]
    fn an_id_file_is_new_and_has_the_id_or_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("id");
        drop(IdFile::make(&path).unwrap());
        assert!(!path.exists());
        IdFile::make(&path).unwrap().write("abc").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "abc");
        assert!(IdFile::make(&path).is_err());
        assert!(path.exists());
    }

    #[test]
    fn unknown_flags_before_the_image_are_errors() {
        let error = parsed("--nme web alpine").unwrap_err();
        assert!(error.contains("--nme"), "{error}");
    }

    #[test]
    fn wrong_values_name_their_option() {
        for (line, expected) in [
            ("-p 80/sctp alpine", "sctp"),
            ("-m 512 alpine", "512m"),
            ("--cpus 1.5 alpine", "whole vCPUs"),
            ("-v /data alpine", "--volume /data"),
            ("--network bridge alpine", "bridge"),
            ("--stop-signal NOPE alpine", "NOPE"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(expected), "{line}: {error}");
        }
    }
}
