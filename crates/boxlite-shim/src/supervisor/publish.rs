//! What the supervisor's loop shows to the calls that are answered beside it.

use boxlite_protocol::shim::status_response::Stage;
use tokio::sync::watch;

use super::agent::Agent;
use super::service::Outcome;

/// The senders; [`Service`](super::service::Service) and the socket have the receivers.
#[derive(Debug)]
pub(crate) struct Publish {
    stage: watch::Sender<Stage>,
    engine_pid: watch::Sender<Option<u32>>,
    agent: watch::Sender<Option<Agent>>,
    outcome: watch::Sender<Option<Outcome>>,
}

impl Publish {
    pub(crate) fn new() -> Self {
        Self {
            stage: watch::Sender::new(Stage::Starting),
            engine_pid: watch::Sender::new(None),
            agent: watch::Sender::new(None),
            outcome: watch::Sender::new(None),
        }
    }

    pub(crate) fn stage(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    pub(crate) fn engine(&self, pid: Option<u32>) {
        self.engine_pid.send_replace(pid);
    }

    pub(crate) fn agent(&self, agent: Option<Agent>) {
        self.agent.send_replace(agent);
    }

    pub(crate) fn outcome(&self, outcome: Outcome) {
        self.outcome.send_replace(Some(outcome));
    }

    pub(crate) fn watch_stage(&self) -> watch::Receiver<Stage> {
        self.stage.subscribe()
    }

    pub(crate) fn watch_engine(&self) -> watch::Receiver<Option<u32>> {
        self.engine_pid.subscribe()
    }

    pub(crate) fn watch_agent(&self) -> watch::Receiver<Option<Agent>> {
        self.agent.subscribe()
    }

    pub(crate) fn watch_outcome(&self) -> watch::Receiver<Option<Outcome>> {
        self.outcome.subscribe()
    }
}
