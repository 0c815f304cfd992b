//! Root filesystems: what is built is read back by a reader of its own, checked by
//! `fsck.erofs`, and compared with a simple model and with what umoci unpacks.

#![allow(clippy::unwrap_used, reason = "the functions that tests share may panic as well")]

mod folder;
mod layers;
mod model;
mod reader;
mod refusals;
mod sample;
mod stacks;
mod stored;
mod umoci;
