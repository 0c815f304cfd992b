//! The caller's terminal: its size, and raw mode that is always taken back.

use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

/// Rows and columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// What stdin's terminal was set to before it was made raw. It lives outside of
/// [`RawMode`] so that the panic hook can take raw mode back before the message.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether stdin is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    isatty(rustix::stdio::stdin())
}

/// The size of the first of stdout, stdin and stderr that is a terminal with a size.
pub(crate) fn size() -> Option<Size> {
    [rustix::stdio::stdout(), rustix::stdio::stdin(), rustix::stdio::stderr()]
        .into_iter()
        .filter_map(|fd| tcgetwinsize(fd).ok())
        .find(|size| size.ws_row != 0 && size.ws_col != 0)
        .map(|size| Size {
            rows: size.ws_row,
            columns: size.ws_col,
        })
}

/// Raw mode of stdin's terminal, until this is dropped.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Makes stdin's terminal raw: every key goes to the box, none to this process.
    pub(crate) fn enter() -> io::Result<Self> {
        let before = tcgetattr(rustix::stdio::stdin())?;
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        let mode = Self(());
        mode.apply()?;
        Ok(mode)
    }

    /// Makes the terminal raw again, after the shell had it (`fg`).
    pub(crate) fn apply(&self) -> io::Result<()> {
        let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = &*before {
            let mut raw = before.clone();
            raw.make_raw();
            tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &raw)?;
        }
        Ok(())
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Takes raw mode back, if there is any.
fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        // Nothing can be done where the terminal is gone.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Drain, &before);
    }
}

/// Makes panics take raw mode back before they print.
pub(crate) fn restore_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        restore();
        print(panic);
    }));
}
