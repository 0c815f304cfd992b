//! What the values of options and arguments mean: one file a kind of value,
//! each with its own error that says what was wrong with the text.

pub(crate) mod add_host;
pub(crate) mod byte_size;
pub(crate) mod copy_path;
pub(crate) mod cpus;
pub(crate) mod environment;
pub(crate) mod filter;
pub(crate) mod instant;
pub(crate) mod label;
pub(crate) mod port;
pub(crate) mod volume;
