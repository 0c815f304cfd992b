//! The progress of pulls and loads, on stderr where that is a terminal.

use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};

use boxlite::{LayerState, Progress, ProgressFn, no_progress};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::value::byte_size::ByteSize;

/// How many digits of a digest tell layers apart.
const DIGEST_DIGITS: usize = 12;

/// Shows progress until it is dropped; then nothing of it is left on the terminal.
#[derive(Debug)]
pub(crate) struct Display {
    bars: Option<Arc<Mutex<Bars>>>,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    /// What is being done as a whole.
    head: Option<ProgressBar>,
    layers: HashMap<String, ProgressBar>,
}

impl Display {
    /// A display on stderr; none where that is no terminal, or when `quiet`.
    pub(crate) fn new(quiet: bool) -> Self {
        let shown = !quiet && std::io::stderr().is_terminal();
        Self {
            bars: shown.then(|| {
                Arc::new(Mutex::new(Bars {
                    all: MultiProgress::new(),
                    head: None,
                    layers: HashMap::new(),
                }))
            }),
        }
    }

    /// What the library is to call.
    pub(crate) fn function(&self) -> ProgressFn {
        match &self.bars {
            None => no_progress(),
            Some(bars) => {
                let bars = Arc::clone(bars);
                Arc::new(move |progress| {
                    bars.lock().unwrap_or_else(PoisonError::into_inner).show(progress);
                })
            }
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some(bars) = &self.bars {
            let mut bars = bars.lock().unwrap_or_else(PoisonError::into_inner);
            bars.layers.clear();
            bars.head = None;
            let _ = bars.all.clear();
        }
    }
}

impl Bars {
    fn show(&mut self, progress: Progress) {
        match progress {
            Progress::Resolving { reference } => self.head(format!("{reference}: resolving")),
            Progress::Resolved {
                layers, total_bytes, ..
            } => self.head(format!(
                "{layers} {}, {}",
                if layers == 1 { "layer" } else { "layers" },
                ByteSize(total_bytes)
            )),
            Progress::Layer {
                digest,
                state,
                current_bytes,
                total_bytes,
            } => self.layer(&digest, state, current_bytes, total_bytes),
            Progress::Retrying { what, reason, attempt } => {
                let _ = self.all.println(crate::failure::visible(&format!(
                    "boxlite: {}: {reason}; attempt {attempt}",
                    short(&what)
                )));
            }
            Progress::Reading {
                path,
                current_bytes,
                total_bytes,
            } => {
                let read = ByteSize(current_bytes);
                let of = total_bytes.map_or_else(String::new, |total| format!(" of {}", ByteSize(total)));
                self.head(format!("reading {}: {read}{of}", path.display()));
            }
            Progress::BuildingRootfs { .. } => self.head("building the root filesystem".to_owned()),
            Progress::Done { .. } => {
                for (_, bar) in self.layers.drain() {
                    bar.finish_and_clear();
                }
                if let Some(head) = self.head.take() {
                    head.finish_and_clear();
                }
            }
            // Steps of a newer library have no picture here.
            _ => {}
        }
    }

    fn head(&mut self, message: String) {
        let head = self.head.get_or_insert_with(|| {
            let bar = self.all.insert(0, ProgressBar::new_spinner());
            bar.set_style(style("{spinner} {msg}"));
            bar.enable_steady_tick(std::time::Duration::from_millis(120));
            bar
        });
        head.set_message(crate::failure::visible(&message));
    }

    fn layer(&mut self, digest: &str, state: LayerState, current: u64, total: Option<u64>) {
        let bar = self.layers.entry(digest.to_owned()).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(total.unwrap_or(0)));
            bar.set_prefix(short(digest));
            bar
        });
        if let Some(total) = total {
            bar.set_length(total);
        }
        let (message, counted) = match state {
            LayerState::Waiting => ("waiting", false),
            LayerState::Downloading => ("fetching", true),
            LayerState::Verifying => ("checking", true),
            LayerState::Complete => ("complete", false),
            LayerState::Exists => ("is here already", false),
            _ => ("working", true),
        };
        bar.set_style(style(if counted {
            "{prefix}  {msg:9} [{bar:30}] {bytes:>10}/{total_bytes:10} {bytes_per_sec}"
        } else {
            "{prefix}  {msg}"
        }));
        bar.set_message(message);
        bar.set_position(current);
    }
}

/// A picture without colours, which are thus nobody's trouble.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

/// The first digits of a digest; other names as they are.
pub(crate) fn short(digest: &str) -> String {
    match digest.split_once(':') {
        Some((_, hex)) if hex.len() > DIGEST_DIGITS && hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            hex[..DIGEST_DIGITS].to_owned()
        }
        _ => digest.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_shortened_and_names_are_not() {
        let digest = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(short(&digest), "abababababab");
        assert_eq!(short("localhost:5000/x"), "localhost:5000/x");
    }

    #[test]
    fn every_picture_is_a_valid_template() {
        for template in [
            "{spinner} {msg}",
            "{prefix}  {msg:9} [{bar:30}] {bytes:>10}/{total_bytes:10} {bytes_per_sec}",
            "{prefix}  {msg}",
        ] {
            assert!(ProgressStyle::with_template(template).is_ok(), "{template}");
        }
    }

    #[test]
    fn every_step_can_be_shown() {
        let display = Display {
            bars: Some(Arc::new(Mutex::new(Bars {
                all: MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden()),
                head: None,
                layers: HashMap::new(),
            }))),
        };
        let show = display.function();
        show(Progress::Resolving { reference: "x".into() });
        show(Progress::Resolved {
            digest: "d".into(),
            layers: 1,
            total_bytes: 10,
        });
        for state in [LayerState::Waiting, LayerState::Downloading, LayerState::Complete] {
            show(Progress::Layer {
                digest: "l".into(),
                state,
                current_bytes: 3,
                total_bytes: Some(10),
            });
        }
        show(Progress::Retrying {
            what: "l".into(),
            reason: "reset".into(),
            attempt: 2,
        });
        show(Progress::Reading {
            path: "/tmp/image.tar".into(),
            current_bytes: 5_000_000,
            total_bytes: Some(10_000_000),
        });
        {
            let bars = display.bars.as_ref().unwrap().lock().unwrap();
            let head = bars.head.as_ref().unwrap().message();
            assert_eq!(head, "reading /tmp/image.tar: 5.00MB of 10.0MB");
        }
        show(Progress::BuildingRootfs { digest: "d".into() });
        {
            let bars = display.bars.as_ref().unwrap().lock().unwrap();
            assert_eq!(bars.layers["l"].position(), 3);
            assert_eq!(bars.layers["l"].message(), "complete");
        }
        show(Progress::Done {
            reference: None,
            digest: "d".into(),
        });
        assert!(display.bars.as_ref().unwrap().lock().unwrap().layers.is_empty());
    }
}
