//! The agent in real machines. Needs QEMU, a kernel and the static agent, named by
//! BOXLITE_TEST_KERNEL and BOXLITE_TEST_AGENT:
//!
//! `cargo test -p boxlite-agent --test machine -- --ignored --test-threads 1`
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test that panics has failed, and says why"
)]

mod copies;
mod executions;
mod harness;
mod machines;
mod speed;
mod volumes;
