//! What a box is to run: its options and its image's configuration made into one.

use std::collections::BTreeMap;

use boxlite_image::ImageConfig;
use serde::{Deserialize, Serialize};

use crate::error::OptionsError;
use crate::options::BoxOptions;
use crate::signal::Signal;

/// The form that a box's row has; raised when an older library could misread it.
const CONFIG_VERSION: u32 = 1;

/// A box's configuration as its row keeps it: decided once, when the box is created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BoxConfig {
    pub(crate) version: u32,
    /// The options as they were given, with absolute mount sources.
    pub(crate) options: BoxOptions,
    /// Platform of the image.
    pub(crate) platform: String,
    /// Program and arguments of the main process; empty for an idle box.
    pub(crate) args: Vec<String>,
    /// `KEY=value`.
    pub(crate) env: Vec<String>,
    pub(crate) working_dir: String,
    pub(crate) user: String,
    pub(crate) stop_signal: Signal,
    /// Folders that must exist in the box.
    pub(crate) volume_dirs: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
}

impl BoxConfig {
    /// Applies the image's configuration by docker's rules.
    pub(crate) fn merge(options: BoxOptions, image: &ImageConfig, platform: String) -> Result<Self, OptionsError> {
        let args = merge_args(&options, image)?;
        let mut labels = image.labels.clone();
        labels.extend(options.labels.clone());
        Ok(Self {
            version: CONFIG_VERSION,
            platform,
            args,
            env: merge_env(&image.env, options.env.iter().map(|(k, v)| (k.as_str(), v.as_str()))),
            working_dir: first_set([options.working_dir.as_ref(), image.working_dir.as_ref()])
                .unwrap_or_else(|| "/".to_owned()),
            user: first_set([options.user.as_ref(), image.user.as_ref()]).unwrap_or_default(),
            stop_signal: stop_signal(&options, image),
            volume_dirs: image
                .volumes
                .iter()
                .filter(|path| path.starts_with('/') && !path.contains('\0'))
                .cloned()
                .collect(),
            labels,
            options,
        })
    }

    /// Whether the box has no main process.
    pub(crate) fn is_idle(&self) -> bool {
        self.args.is_empty()
    }

    /// The host name of the box with this id.
    pub(crate) fn hostname(&self, id: &str) -> String {
        self.options
            .hostname
            .clone()
            .unwrap_or_else(|| id.get(..12).unwrap_or(id).to_owned())
    }
}

fn first_set<const N: usize>(candidates: [Option<&String>; N]) -> Option<String> {
    candidates.into_iter().flatten().find(|text| !text.is_empty()).cloned()
}

fn merge_args(options: &BoxOptions, image: &ImageConfig) -> Result<Vec<String>, OptionsError> {
    if !options.has_main_process() {
        return Ok(Vec::new());
    }
    let mut args: Vec<String> = match &options.entrypoint {
        // A lone empty word is how command lines say "none".
        Some(words) if words.iter().all(String::is_empty) => Vec::new(),
        Some(words) => words.clone(),
        None => image.entrypoint.clone(),
    };
    if !options.command.is_empty() {
        args.extend(options.command.iter().cloned());
    } else if options.entrypoint.is_none() {
        args.extend(image.cmd.iter().cloned());
    }
    match args.first() {
        None => Err(OptionsError::NoCommand),
        Some(program) if program.is_empty() => Err(OptionsError::EmptyCommand),
        Some(_) => Ok(args),
    }
}

/// `base` with `over` put over it: what `base` has keeps its place, the rest follows.
pub(crate) fn merge_env<'a>(base: &[String], over: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let mut merged: Vec<String> = Vec::with_capacity(base.len());
    let mut put = |key: &str, entry: String| {
        let known = merged
            .iter_mut()
            .find(|known| known.split_once('=').is_some_and(|(name, _)| name == key));
        match known {
            Some(known) => *known = entry,
            None => merged.push(entry),
        }
    };
    for entry in base {
        // Entries without a name or a value mean nothing to execve(2).
        if let Some((key, _)) = entry.split_once('=').filter(|(key, _)| !key.is_empty()) {
            put(key, entry.clone());
        }
    }
    for (key, value) in over {
        put(key, format!("{key}={value}"));
    }
    merged
}

fn stop_signal(options: &BoxOptions, image: &ImageConfig) -> Signal {
    if let Some(signal) = options.stop_signal {
        return signal;
    }
    match image.stop_signal.as_deref().map(str::parse) {
        Some(Ok(signal)) => signal,
        Some(Err(error)) => {
            tracing::warn!(%error, "the image's stop signal is not known; SIGTERM is taken");
            Signal::TERM
        }
        None => Signal::TERM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn image(entrypoint: &str, cmd: &str) -> ImageConfig {
        ImageConfig {
            entrypoint: words(entrypoint),
            cmd: words(cmd),
            ..ImageConfig::default()
        }
    }

    fn merged(options: BoxOptions, image: &ImageConfig) -> Result<BoxConfig, OptionsError> {
        BoxConfig::merge(options, image, "linux/amd64".to_owned())
    }

    #[test]
    fn arguments_follow_docker_s_table() {
        // (image entrypoint, image cmd, --entrypoint, command, run_image_command, result)
        type Row = (
            &'static str,
            &'static str,
            Option<&'static [&'static str]>,
            &'static str,
            bool,
            Result<&'static str, OptionsError>,
        );
        let table: &[Row] = &[
            ("", "sh", None, "", false, Ok("")),
            ("/entry", "arg", None, "", false, Ok("")),
            ("", "sh", None, "", true, Ok("sh")),
            ("/entry", "", None, "", true, Ok("/entry")),
            ("/entry", "arg", None, "", true, Ok("/entry arg")),
            ("/entry", "arg", None, "own", false, Ok("/entry own")),
            ("", "sh -c x", None, "own y", false, Ok("own y")),
            ("/entry", "arg", Some(&["/own"]), "", false, Ok("/own")),
            ("/entry", "arg", Some(&["/own"]), "x y", false, Ok("/own x y")),
            ("/entry", "arg", Some(&[""]), "x", false, Ok("x")),
            ("/entry", "arg", Some(&[]), "x", false, Ok("x")),
            ("/entry", "arg", Some(&["/own"]), "", true, Ok("/own")),
            ("/entry", "arg", Some(&[]), "", false, Err(OptionsError::NoCommand)),
            ("", "", None, "", true, Err(OptionsError::NoCommand)),
        ];
        for (entrypoint, cmd, own, command, run, expected) in table {
            let mut options = BoxOptions::new("image").command(words(command)).run_image_command(*run);
            options.entrypoint = own.map(|words| words.iter().map(|word| (*word).to_owned()).collect());
            let result = merged(options, &image(entrypoint, cmd)).map(|config| config.args);
            assert_eq!(
                result,
                expected.clone().map(words),
                "{entrypoint:?} {cmd:?} {own:?} {command:?} {run}"
            );
        }
    }

    #[test]
    fn environment_keeps_the_image_s_order_and_takes_the_box_s_values() {
        let base: Vec<String> = words("PATH=/bin A=1 BROKEN =x A=2 EMPTY=");
        let env = merge_env(&base, [("B", "3"), ("PATH", "/usr/bin:/x=y")]);
        assert_eq!(env, words("PATH=/usr/bin:/x=y A=2 EMPTY= B=3"));
    }

    #[test]
    fn the_rest_prefers_the_box() {
        let image = ImageConfig {
            working_dir: Some("/image".to_owned()),
            user: Some("daemon".to_owned()),
            stop_signal: Some("SIGQUIT".to_owned()),
            volumes: ["/data".to_owned(), "relative".to_owned()].into(),
            labels: [("a", "1"), ("b", "2")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            ..ImageConfig::default()
        };
        let config = merged(BoxOptions::new("image"), &image).unwrap();
        assert_eq!(
            (config.working_dir.as_str(), config.user.as_str()),
            ("/image", "daemon")
        );
        assert_eq!(config.stop_signal, Signal::QUIT);
        assert_eq!(config.volume_dirs, ["/data"]);
        assert!(config.is_idle());
        assert_eq!(config.hostname(&"0123456789abcdef".repeat(2)), "0123456789ab");

        let options = BoxOptions::new("image")
            .working_dir("/own")
            .user("0")
            .hostname("host")
            .stop_signal(Signal::INT)
            .label("b", "3");
        let config = merged(options, &image).unwrap();
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/own", "0"));
        assert_eq!(config.stop_signal, Signal::INT);
        assert_eq!(config.labels["a"], "1");
        assert_eq!(config.labels["b"], "3");
        assert_eq!(config.hostname("x"), "host");
    }

    #[test]
    fn a_stop_signal_that_nobody_knows_is_no_obstacle() {
        let image = ImageConfig {
            stop_signal: Some("SIGNOPE".to_owned()),
            ..ImageConfig::default()
        };
        let config = merged(BoxOptions::new("image"), &image).unwrap();
        assert_eq!(config.stop_signal, Signal::TERM);
        assert_eq!((config.working_dir.as_str(), config.user.as_str()), ("/", ""));
    }
}
