//! The C interface on real machines.
//!
//! `scripts/test-sdk.sh c` runs these; by hand:
//! `BOXLITE_TEST_FIXTURES=$(scripts/fixtures.sh) BOXLITE_BUNDLE_DIR=$PWD/target/bundle \
//!  cargo test -p boxlite-ffi --test machine -- --ignored --test-threads=2`
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

#[path = "../harness/mod.rs"]
mod harness;

mod lifecycle;
mod options;
mod scene;
mod streams;
