//! How a function or an operation ended.

use std::ffi::CStr;

use boxlite::ErrorCode;

/// A [`Code`] as C has it.
pub type boxlite_code_t = i32;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// How a function or an operation ended. The numbers never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(i32)]
        pub enum Code {
            $($(#[$doc])* $name = $number,)*
        }

        impl Code {
            /// Every code.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The code with this number.
            #[must_use]
            pub fn from_number(number: boxlite_code_t) -> Option<Self> {
                match number {
                    $($number => Some(Self::$name),)*
                    _ => None,
                }
            }

            /// The stable name, for C.
            #[must_use]
            pub fn c_name(self) -> &'static CStr {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

codes! {
    /// It worked.
    Ok = 0, c"ok";
    /// What was named does not exist.
    NotFound = 1, c"not_found";
    /// Something has that name already.
    AlreadyExists = 2, c"already_exists";
    /// The box, or the handle, is not in a state for this.
    InvalidState = 3, c"invalid_state";
    /// An argument or option is wrong.
    InvalidArgument = 4, c"invalid_argument";
    /// This host, engine or version can't do it.
    Unsupported = 5, c"unsupported";
    /// The client was closed.
    Closed = 6, c"closed";
    /// No space, memory or descriptors; a port that is taken.
    ResourceExhausted = 7, c"resource_exhausted";
    /// An image could not be resolved, fetched, read or built.
    Image = 8, c"image";
    /// The machine, or what runs it, failed.
    Engine = 9, c"engine";
    /// A deadline of the operation passed.
    Timeout = 10, c"timeout";
    /// The operation was cancelled.
    Cancelled = 11, c"cancelled";
    /// Anything else.
    Internal = 12, c"internal";
    /// The operation has not ended yet.
    Pending = 100, c"pending";
}

impl Code {
    /// The number, as functions return it.
    #[must_use]
    pub fn number(self) -> boxlite_code_t {
        self as boxlite_code_t
    }
}

impl From<ErrorCode> for Code {
    fn from(code: ErrorCode) -> Self {
        match code {
            ErrorCode::NotFound => Self::NotFound,
            ErrorCode::AlreadyExists => Self::AlreadyExists,
            ErrorCode::InvalidState => Self::InvalidState,
            ErrorCode::InvalidArgument => Self::InvalidArgument,
            ErrorCode::Unsupported => Self::Unsupported,
            ErrorCode::Closed => Self::Closed,
            ErrorCode::ResourceExhausted => Self::ResourceExhausted,
            ErrorCode::Image => Self::Image,
            ErrorCode::Engine => Self::Engine,
            ErrorCode::Timeout => Self::Timeout,
            ErrorCode::Cancelled => Self::Cancelled,
            // `tests/codes.rs` fails when the library gets a code that has no line here.
            _ => Self::Internal,
        }
    }
}
