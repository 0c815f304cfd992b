//! The library's own log, as lines of JSON on descriptors.

use std::ffi::{c_char, c_int};
use std::fmt::Debug;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::net::{SendFlags, send};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::code::boxlite_code_t;
use crate::error::{Failure, boundary, boxlite_error_t};
use crate::pipe;
use crate::text::{Out, required};

/// A line that is longer might not go into a socket at once, and could be torn.
const MAX_LINE_BYTES: usize = 4096;

/// One reader of the log.
#[derive(Debug)]
struct Reader {
    level: LevelFilter,
    /// Does not block; what is in it is all that is kept for a slow reader. A socket: the line may
    /// come from a thread of the caller, in which a closed pipe would raise SIGPIPE.
    writer: OwnedFd,
    /// Lines that did not fit since the last that did. Also the turn to write.
    lost: Mutex<u64>,
}

static READERS: RwLock<Vec<Arc<Reader>>> = RwLock::new(Vec::new());

impl Reader {
    /// Writes a line, or counts it as lost; `false` when nobody reads any more.
    fn write(&self, line: &[u8]) -> bool {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if *lost > 0 {
            match self.write_now(&lost_line(*lost)) {
                Ok(true) => *lost = 0,
                Ok(false) => {
                    *lost += 1;
                    return true;
                }
                Err(()) => return false,
            }
        }
        match self.write_now(line) {
            Ok(written) => {
                *lost += u64::from(!written);
                true
            }
            Err(()) => false,
        }
    }

    /// Whether the line is on its way; an error when nobody reads any more.
    fn write_now(&self, line: &[u8]) -> Result<bool, ()> {
        loop {
            match send(&self.writer, line, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                // What fits into one buffer of the kernel is taken whole or not at all.
                Ok(_) => return Ok(true),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(_) => return Err(()),
            }
        }
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

fn line(level: Level, target: &str, message: &str, fields: &Map<String, Value>) -> Vec<u8> {
    let value = serde_json::json!({
        "time_ms": now_ms(),
        "level": level_name(level),
        "target": target,
        "message": message,
        "fields": fields,
    });
    let mut line = value.to_string().into_bytes();
    line.push(b'\n');
    line
}

fn lost_line(count: u64) -> Vec<u8> {
    let mut fields = Map::new();
    fields.insert("lost".to_owned(), count.into());
    line(
        Level::WARN,
        "boxlite_ffi::log",
        "lines were lost: the log was not read in time",
        &fields,
    )
}

/// As much of a text as fits into so many bytes.
fn beginning(text: &str, max_bytes: usize) -> &str {
    let fits = |end: &usize| text.is_char_boundary(*end);
    let end = (0..=max_bytes.min(text.len())).rev().find(fits).unwrap_or(0);
    &text[..end]
}

/// A line that fits.
fn event_line(level: Level, target: &str, parts: Parts) -> Vec<u8> {
    let full = line(level, target, &parts.message, &parts.fields);
    if full.len() <= MAX_LINE_BYTES {
        return full;
    }
    let mut fields = Map::new();
    fields.insert("truncated".to_owned(), true.into());
    // A byte of the message takes six at most ("\u0000").
    let message = beginning(&parts.message, (MAX_LINE_BYTES - 1024) / 6);
    line(level, beginning(target, 64), message, &fields)
}

#[derive(Default)]
struct Parts {
    message: String,
    fields: Map<String, Value>,
}

impl Parts {
    fn put(&mut self, field: &Field, value: Value) {
        self.fields.insert(field.name().to_owned(), value);
    }
}

impl Visit for Parts {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = format!("{value:?}");
        if field.name() == "message" {
            self.message = text;
        } else {
            self.put(field, text.into());
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.put(field, value.into());
        }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

/// Hands events to the readers.
struct Lines;

fn widest() -> LevelFilter {
    let readers = READERS.read().unwrap_or_else(PoisonError::into_inner);
    readers
        .iter()
        .map(|reader| reader.level)
        .max()
        .unwrap_or(LevelFilter::OFF)
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        metadata.target().starts_with("boxlite") && *metadata.level() <= widest()
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(widest())
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = *event.metadata().level();
        let mut parts = Parts::default();
        event.record(&mut parts);
        let text = event_line(level, event.metadata().target(), parts);
        let readers = READERS.read().unwrap_or_else(PoisonError::into_inner).clone();
        let gone: Vec<_> = readers
            .iter()
            .filter(|reader| reader.level >= level && !reader.write(&text))
            .collect();
        if !gone.is_empty() {
            let mut readers = READERS.write().unwrap_or_else(PoisonError::into_inner);
            readers.retain(|reader| !gone.iter().any(|gone| Arc::ptr_eq(reader, gone)));
            drop(readers);
            changed();
        }
    }
}

/// Lets what was decided about each place that logs be decided anew.
fn changed() {
    tracing::callsite::rebuild_interest_cache();
}

fn install() -> Result<(), Failure> {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    let is_ours = *INSTALLED
        .get_or_init(|| tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Lines)).is_ok());
    if is_ours {
        Ok(())
    } else {
        Err(Failure::state(
            "this program has a tracing subscriber of its own, which gets the log",
        ))
    }
}

fn parse_level(text: &str) -> Result<LevelFilter, Failure> {
    [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE]
        .into_iter()
        .find(|level| level_name(*level) == text)
        .map(LevelFilter::from_level)
        .ok_or_else(|| Failure::argument(format!("{text:?} is not one of: error, warn, info, debug, trace")))
}

/// `boxlite_log_fd`
///
/// # Safety
/// `level` is NULL or a C string; `fd` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_log_fd(
    level: *const c_char,
    fd: *mut c_int,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("fd", fd)?, required("level", level)?) };
        let level = parse_level(&text)?;
        install()?;
        let pair = pipe::both_ways().map_err(|error| Failure::system("making a socket", error))?;
        let reader = Arc::new(Reader {
            level,
            writer: pair.ours,
            lost: Mutex::new(0),
        });
        READERS.write().unwrap_or_else(PoisonError::into_inner).push(reader);
        changed();
        out.write(pair.theirs.into_raw_fd());
        Ok(())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("log_fd", error, body) }
}
