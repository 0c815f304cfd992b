//! Reading and writing tar archives, trusting nothing.
//!
//! [`Reader`] understands every format in use: V7, POSIX ustar, PAX (POSIX.1-2001, by record
//! length, so values may hold any byte), GNU (long names, base-256 numbers) and the four ways
//! to store sparse files. Archives that different programs would read differently are refused
//! instead of guessed at. Memory is bounded by [`Limits`], whatever the archive claims.
//!
//! [`Writer`] writes ustar headers and adds PAX records only where ustar can't hold a value.
//!
//! Nothing here touches a file system: paths are bytes as the archive has them, and making
//! them safe is the caller's job.
//!
//! ```
//! use boxlite_tar::{Entry, EntryKind, Limits, Reader, Writer};
//!
//! let mut writer = Writer::new(Vec::new());
//! let mut entry = Entry::new("etc/motd", EntryKind::File);
//! entry.size = 6;
//! writer.append(&entry, &b"hello\n"[..])?;
//! let archive = writer.finish()?;
//!
//! let mut reader = Reader::new(&archive[..], Limits::default());
//! while let Some(entry) = reader.next_entry()? {
//!     let mut content = Vec::new();
//!     std::io::Read::read_to_end(&mut reader.data(), &mut content)?;
//!     assert_eq!((&entry.path[..], &content[..]), (&b"etc/motd"[..], &b"hello\n"[..]));
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod block;
mod entry;
mod limits;
mod pax;
mod read_error;
mod reader;
mod sparse;
mod writer;

pub use entry::{Entry, EntryKind, Extent, Timestamp, Xattr};
pub use limits::Limits;
pub use pax::PaxError;
pub use read_error::ReadError;
pub use reader::{Data, Reader};
pub use sparse::SparseError;
pub use writer::{WriteError, Writer};
