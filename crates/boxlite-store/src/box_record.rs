//! What the database knows of a box.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{BoxId, Digest};

/// The state of a box as its row has it. A live state is true only while the box's lock is
/// held; [`Home::reconcile`](crate::Home::reconcile) corrects the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordedState {
    /// Made and never started.
    Created,
    /// A supervisor is starting the machine.
    Starting,
    /// The machine runs and answers.
    Running,
    /// The machine is halted and can go on.
    Paused,
    /// The machine is being shut down.
    Stopping,
    /// The machine ended, and how is recorded.
    Stopped,
    /// Something went wrong; the row's error says what.
    Failed,
}

impl RecordedState {
    /// Every state.
    pub const ALL: [RecordedState; 7] = [
        RecordedState::Created,
        RecordedState::Starting,
        RecordedState::Running,
        RecordedState::Paused,
        RecordedState::Stopping,
        RecordedState::Stopped,
        RecordedState::Failed,
    ];

    /// The states in which a supervisor must be alive.
    pub const LIVE: [RecordedState; 4] = [
        RecordedState::Starting,
        RecordedState::Running,
        RecordedState::Paused,
        RecordedState::Stopping,
    ];

    /// Whether a supervisor must be alive in this state.
    #[must_use]
    pub fn is_live(self) -> bool {
        RecordedState::LIVE.contains(&self)
    }

    /// Whether a box may go from this state to `next`. A machine may end from any live state,
    /// and anything may fail.
    #[must_use]
    pub fn may_become(self, next: RecordedState) -> bool {
        use RecordedState::{Created, Failed, Paused, Running, Starting, Stopped, Stopping};
        match next {
            Created => false,
            Starting => matches!(self, Created | Stopped | Failed),
            Running => matches!(self, Starting | Paused),
            Paused => self == Running,
            Stopping => matches!(self, Starting | Running | Paused),
            Stopped => self.is_live(),
            Failed => self != Failed,
        }
    }

    /// The word that the design, the database and people use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RecordedState::Created => "created",
            RecordedState::Starting => "starting",
            RecordedState::Running => "running",
            RecordedState::Paused => "paused",
            RecordedState::Stopping => "stopping",
            RecordedState::Stopped => "stopped",
            RecordedState::Failed => "failed",
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<RecordedState> {
        RecordedState::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for RecordedState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Why a box is `failed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedError {
    /// A word for programs.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// What to try next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// What was seen, such as the last console lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
}

/// How the main process of a box ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitStatus {
    /// It exited with this code, 0–255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

/// How the last run's main process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedExit {
    /// Code or signal.
    pub status: ExitStatus,
    /// Whether the guest ran out of memory and killed it.
    pub oom_killed: bool,
}

/// One box. Times are milliseconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BoxRecord {
    /// Identity.
    pub id: BoxId,
    /// Unique name, given or generated.
    pub name: String,
    /// The configuration, as the library wrote it.
    pub config: Value,
    /// The image as it was asked for.
    pub image_reference: Option<String>,
    /// The image that the box has; kept from removal by this.
    pub image_digest: Option<Digest>,
    /// State as recorded.
    pub state: RecordedState,
    /// The run that the state and everything below it belong to; `None` before the first start.
    pub run_id: Option<String>,
    /// When it was made.
    pub created_at_ms: i64,
    /// When the run's machine was up.
    pub started_at_ms: Option<i64>,
    /// When the run ended.
    pub finished_at_ms: Option<i64>,
    /// How the run's main process ended.
    pub exit: Option<RecordedExit>,
    /// Why the box is `failed`.
    pub error: Option<RecordedError>,
    /// Remove the box when its run ends.
    pub auto_remove: bool,
    /// The box outlives the program that starts it.
    pub detached: bool,
    /// The supervisor's process ID while the box is live.
    pub shim_pid: Option<u32>,
    /// The engine of the run.
    pub engine: Option<String>,
    /// The accelerator of the run.
    pub accelerator: Option<String>,
    /// How the run started: mode and stage timings, as the library wrote them.
    pub start: Option<Value>,
    /// The published ports of the run, as the library wrote them.
    pub ports: Option<Value>,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
}

/// A box that is to be recorded; see [`BoxDraft::commit`](crate::BoxDraft::commit).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewBox {
    /// A name, or `None` for a generated one.
    pub name: Option<String>,
    /// The configuration, for the library alone.
    pub config: Value,
    /// The image as it was asked for.
    pub image_reference: Option<String>,
    /// The image; it must be recorded, and stays for as long as the box does.
    pub image_digest: Option<Digest>,
    /// Remove the box when its run ends.
    pub auto_remove: bool,
    /// The box outlives the program that starts it.
    pub detached: bool,
    /// The user's labels.
    pub labels: BTreeMap<String, String>,
}

/// What changes in a row together with its state. `None` leaves a field as it is, except on the
/// way into [`RecordedState::Starting`], which forgets everything of the run before, and out of
/// the live states, which forgets the process ID.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunChange {
    /// The new run; required on the way into `starting` and refused elsewhere.
    pub run_id: Option<String>,
    /// When the machine was up; the time of the change on the way from `starting` to `running`
    /// unless given.
    pub started_at_ms: Option<i64>,
    /// When the run ended; the time of the change on the way into `stopped` or `failed` unless
    /// given.
    pub finished_at_ms: Option<i64>,
    /// How the main process ended.
    pub exit: Option<RecordedExit>,
    /// Why the box failed.
    pub error: Option<RecordedError>,
    /// The supervisor.
    pub shim_pid: Option<u32>,
    /// The engine.
    pub engine: Option<String>,
    /// The accelerator.
    pub accelerator: Option<String>,
    /// Start mode and timings.
    pub start: Option<Value>,
    /// Published ports.
    pub ports: Option<Value>,
    /// Whether the box outlives its client in this run.
    pub detached: Option<bool>,
}

/// What a row must say for a transition to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// One of these states.
    pub states: Vec<RecordedState>,
    /// This run, if it matters.
    pub run_id: Option<String>,
}

impl Expected {
    /// Exactly this state.
    #[must_use]
    pub fn state(state: RecordedState) -> Expected {
        Expected {
            states: vec![state],
            run_id: None,
        }
    }

    /// Any of these states.
    #[must_use]
    pub fn any_of(states: &[RecordedState]) -> Expected {
        Expected {
            states: states.to_vec(),
            run_id: None,
        }
    }

    /// A state from which a box may be started.
    #[must_use]
    pub fn startable() -> Expected {
        Expected::any_of(&[RecordedState::Created, RecordedState::Stopped, RecordedState::Failed])
    }

    /// A state in which a supervisor must be alive.
    #[must_use]
    pub fn live() -> Expected {
        Expected::any_of(&RecordedState::LIVE)
    }

    /// The same, and only for this run.
    #[must_use]
    pub fn of_run(self, run_id: impl Into<String>) -> Expected {
        Expected {
            run_id: Some(run_id.into()),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_machine_is_the_design_s() {
        use RecordedState::{Created, Failed, Paused, Running, Starting, Stopped, Stopping};
        let allowed = [
            (Created, vec![Starting, Failed]),
            (Starting, vec![Running, Stopping, Stopped, Failed]),
            (Running, vec![Paused, Stopping, Stopped, Failed]),
            (Paused, vec![Running, Stopping, Stopped, Failed]),
            (Stopping, vec![Stopped, Failed]),
            (Stopped, vec![Starting, Failed]),
            (Failed, vec![Starting]),
        ];
        assert_eq!(allowed.len(), RecordedState::ALL.len());
        for (from, targets) in allowed {
            for to in RecordedState::ALL {
                assert_eq!(from.may_become(to), targets.contains(&to), "{from} -> {to}");
            }
        }
    }

    #[test]
    fn words_and_states_agree() {
        for state in RecordedState::ALL {
            assert_eq!(RecordedState::from_word(state.as_str()), Some(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.as_str());
        }
        assert_eq!(RecordedState::from_word("asleep"), None);
    }
}
