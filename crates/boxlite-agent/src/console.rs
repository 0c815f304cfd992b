//! Short lines on the machine's console, which the host keeps as evidence.

use std::{fmt, fs::File, io::Write as _, sync::OnceLock};

/// Writes `boxlite-agent: …` as one line to the console.
macro_rules! log {
    ($($part:tt)*) => { $crate::console::write_line(format_args!($($part)*)) };
}
pub(crate) use log;

/// What [`log!`] calls. A console that can't be written is not an error.
pub(crate) fn write_line(line: fmt::Arguments<'_>) {
    static CONSOLE: OnceLock<Option<File>> = OnceLock::new();
    let console = CONSOLE.get_or_init(|| {
        ["/dev/console", "/dev/kmsg"]
            .iter()
            .find_map(|path| File::options().write(true).open(path).ok())
    });
    if let Some(mut console) = console.as_ref() {
        // One write: a line must not be torn apart by the kernel's own.
        let _ = console.write_all(format!("boxlite-agent: {line}\n").as_bytes());
    }
}
