//! Process 1 of the guest: makes the machine the host's box, runs the box's
//! processes and ends the machine.
//!
//! A static binary that is the initramfs's `/init`. One thread: a fork of it may
//! do anything that the parent may. Whatever could block on a file system that the
//! box controls is done by a child, never by the thread that serves the host.
#![deny(unsafe_code)]
#![cfg(target_os = "linux")]

mod agent;
mod archive_pipe;
mod boot;
mod cgroup;
mod child;
mod configure;
mod console;
mod copy_error;
mod copy_in;
mod copy_out;
mod devices;
mod disks;
mod entropy;
mod etc;
mod execution;
mod first_process;
mod founder;
mod launch;
mod metrics;
mod network;
mod port;
mod prepared;
mod processes;
mod rootfs;
mod service;
mod shutdown;
mod spaces;
mod stat_path;
#[allow(unsafe_code)]
mod sys;
mod user;
mod volumes;

use std::{process::ExitCode, sync::Arc, time::Duration};

use boxlite_protocol::{
    AGENT_PORT_NAME, guest::guest_server::GuestServer, preamble, transport, version::RequireVersion,
};

use crate::{agent::Agent, boot::Boot, console::log, prepared::Prepared, service::Service};

fn main() -> ExitCode {
    let boot = Boot::begin();
    if boot.is_probe() {
        boot::power_off();
    }
    if let Err(error) = boot::prepare() {
        log!("{error}");
    }
    if let Err(error) = launch::occupy_standard_streams() {
        log!("standard streams: {error}");
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            log!("no runtime: {error}");
            boot::power_off();
        }
    };
    runtime.block_on(serve(Arc::new(Agent::new(boot))));
    boot::power_off();
}

/// How long the host may take to confirm that it has got the last answer.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves one host after the other until a shutdown was answered.
async fn serve(agent: Arc<Agent>) {
    match Prepared::make().await {
        Ok(prepared) => agent.keep_prepared(prepared),
        // Configure tries again, and tells the host.
        Err(error) => log!("{error}"),
    }
    log!("waiting for the host");
    let calls = GuestServer::with_interceptor(Service::new(Arc::clone(&agent)), RequireVersion::default());
    let mut failures: u32 = 0;
    let device = port::Device::open(AGENT_PORT_NAME).await;
    while !agent.is_ending() {
        let mut port = match device.connect().await {
            Ok(port) => port,
            Err(error) => {
                log!("the port to the host: {error}");
                // Nobody can say any more whether the disk is to last.
                rustix::fs::sync();
                return;
            }
        };
        agent.mark_serving();
        if let Err(error) = preamble::agent(&mut port).await {
            // The host end closed before it said anything; it may come back.
            failures += 1;
            if failures == 1 {
                log!("{error}");
            }
            tokio::time::sleep(Duration::from_millis(u64::from(failures.min(20)))).await;
            continue;
        }
        failures = 0;
        device.forget();
        let gone = async {
            agent.ended().await;
            tokio::time::sleep(FAREWELL).await;
        };
        tokio::select! {
            served = transport::serve_until(port, calls.clone(), agent.ended()) => {
                if let (Err(error), false) = (served, agent.is_ending()) {
                    log!("the host's stream broke: {error}");
                }
            }
            () = gone => log!("the host does not confirm the end"),
        }
    }
}
