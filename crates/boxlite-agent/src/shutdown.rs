//! Shutdown: the box's processes end, its disk is clean, the machine powers off.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use boxlite_protocol::guest::{ShutdownRequest, ShutdownResponse};
use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    process::{Pid, Signal, kill_process},
};
use tokio::time::{sleep, timeout};
use tonic::Status;

use crate::{
    agent::{Agent, BoxState},
    cgroup,
    console::log,
    disks, sys,
};

/// How long the kernel may take to end killed processes.
const KILL_TIME: Duration = Duration::from_secs(10);
/// How long the host may take for output that is left.
const OUTPUT_TIME: Duration = Duration::from_secs(3);
/// How long the box's file systems may take to go once nothing uses them.
const UNMOUNT_TIME: Duration = Duration::from_secs(10);

/// Serves Shutdown, except for the end of the machine, which [`Agent::ended`] starts
/// when the answer is on its way.
pub(crate) async fn shut_down(agent: &Agent, request: ShutdownRequest) -> Result<ShutdownResponse, Status> {
    let state = agent.begin_shutdown()?;
    let mut killed = false;
    if let Some(state) = state {
        killed = end_processes(&state, &request).await;
        // What the processes wrote last is still to be delivered.
        let _ = timeout(OUTPUT_TIME, agent.executions_over()).await;
        if !request.discard_disk {
            unmount(state).await;
        }
    }
    agent.end();
    Ok(ShutdownResponse { killed })
}

/// Ends all processes of the box; true if they had to be killed.
async fn end_processes(state: &BoxState, request: &ShutdownRequest) -> bool {
    let Some(first) = state.live_first() else {
        return false;
    };
    let alone = || others(state).is_empty();
    let mut killed = false;
    if !(first.idle && alone()) {
        if let Some(signal) = sys::signal(request.signal) {
            signal_box(state, signal);
        }
        let grace = Duration::from_millis(request.grace_ms);
        let ended = async {
            if !first.idle {
                first.child.wait().await;
                return;
            }
            // Nothing tells when a control group with process 1 in it has no other.
            let began = Instant::now();
            while !alone() {
                sleep((began.elapsed() / 4).clamp(Duration::from_millis(2), Duration::from_millis(50))).await;
            }
        };
        killed = timeout(grace, ended).await.is_err();
    }
    if first.child.is_alive() {
        if let Err(error) = cgroup::kill_box() {
            log!("kill the box: {error}");
        }
        if timeout(KILL_TIME, first.child.wait()).await.is_err() {
            log!("process 1 of the box does not end");
        }
    }
    killed
}

/// All processes of the box but its first.
fn others(state: &BoxState) -> Vec<i32> {
    let first = state.first().map(|first| first.child.pid());
    cgroup::box_processes()
        .into_iter()
        .filter(|pid| Some(*pid) != first)
        .collect()
}

/// Signals the main process, or every process of an idle box.
pub(crate) fn signal_box(state: &BoxState, signal: Signal) {
    let Some(first) = state.live_first() else {
        return;
    };
    if !first.idle {
        if let Err(error) = first.child.signal(signal) {
            log!("signal the main process: {error}");
        }
        return;
    }
    for pid in others(state).into_iter().filter_map(Pid::from_raw) {
        // It may have ended since it was listed.
        let _ = kill_process(pid, signal);
    }
}

/// Lets go of the box's mounts and sees to it that its disk is not in use any more.
async fn unmount(state: Arc<BoxState>) {
    rustix::fs::sync();
    let disk = disks::device(&state.disks[0]);
    // The last process and the last descriptor held the mount namespace.
    drop(state);
    let released = async {
        // Exclusive, a block device opens only when it is not mounted (open(2)).
        loop {
            let flags = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
            match openat(CWD, &disk, flags, Mode::empty()) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::BUSY) => sleep(Duration::from_millis(2)).await,
                Err(error) => return Err(io::Error::from(error)),
            }
        }
    };
    match timeout(UNMOUNT_TIME, released).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => log!("{}: {error}", disk.display()),
        Err(_) => log!("{} is still mounted: its journal will be replayed", disk.display()),
    }
}
