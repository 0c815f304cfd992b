//! The command against real machines, on images that other people's tools made.
//!
//! `make test` prepares what these need and runs them; by hand:
//! `BOXLITE_TEST_BIN=target/release/boxlite BOXLITE_TEST_FIXTURES=$(scripts/fixtures.sh) \
//!  cargo test -p boxlite-cli --test machine -- --ignored`
#![allow(missing_docs)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that panics is a test that fails"
)]

mod blank_disks;
mod copy;
mod exec;
mod failure;
mod harness;
mod images;
mod lifecycle;
mod network;
mod registry;
mod run;
mod stale_templates;
mod templates;
mod tree;
mod twins;
mod volumes;
