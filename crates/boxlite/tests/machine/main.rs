//! The library on real machines.
//!
//! `make test` prepares what these need and runs them; by hand:
//! `BOXLITE_BUNDLE_DIR=$PWD/target/bundle cargo test -p boxlite --test machine -- --ignored --test-threads=1`
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

mod copy;
mod exec;
mod harness;
mod lifecycle;
mod main_process;
mod ownership;
