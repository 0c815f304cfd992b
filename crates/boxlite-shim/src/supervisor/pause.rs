//! Standing a box still, and letting it go on.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boxlite_protocol::guest::SetClockRequest;
use boxlite_protocol::shim::status_response::Stage;
use boxlite_protocol::version::SendVersion;
use tokio::time::timeout;
use tonic::Status;

use super::run::Running;

/// How long a guest that goes on may take to set its clock.
const CLOCK: Duration = Duration::from_secs(30);

impl Running<'_> {
    /// Stands the machine still: its processors, its timers and its network.
    pub(super) async fn pause(&mut self) -> Result<(), Status> {
        if self.is_paused {
            return Ok(());
        }
        let stopped = self.machine.stop().await;
        stopped.map_err(|error| Status::internal(format!("the engine does not pause: {error}")))?;
        self.is_paused = true;
        self.publish.stage(Stage::Paused);
        Ok(())
    }

    /// Lets it go on. Its monotonic clock goes on where it stood, as after a suspend; the wall
    /// clock is set to the host's.
    pub(super) async fn unpause(&mut self) -> Result<(), Status> {
        if !self.is_paused {
            return Ok(());
        }
        let going = self.machine.cont().await;
        going.map_err(|error| Status::internal(format!("the engine does not go on: {error}")))?;
        self.is_paused = false;
        self.publish.stage(Stage::Running);
        let mut agent = self.agent.client(SendVersion::default());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let request = SetClockRequest {
            unix_time_ns: u64::try_from(now.as_nanos()).unwrap_or(u64::MAX),
        };
        match timeout(CLOCK, agent.set_clock(request)).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(Status::deadline_exceeded(
                "the box goes on, and its agent does not answer: its clock may be wrong",
            )),
        }
    }
}
