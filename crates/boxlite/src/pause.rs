//! Standing a box still, and letting it go on.

use std::sync::Arc;

use boxlite_protocol::shim::{PauseRequest, UnpauseRequest};
use boxlite_store::{BoxId, BoxRecord, Expected, RecordedState, RunChange, TransitionError};

use crate::error::{AgentError, PauseError, StateError};
use crate::shared::Shared;
use crate::{lifecycle, record, rpc};

/// Pauses a box that runs; a paused one stays so.
pub(crate) async fn pause(shared: &Arc<Shared>, id: &BoxId) -> Result<(), PauseError> {
    let found = lifecycle::current(shared, id).await?;
    match found.state {
        RecordedState::Paused => return Ok(()),
        RecordedState::Running => {}
        state => return Err(invalid_state(&found, state)),
    }
    let connection = lifecycle::connect(shared, &found).await.map_err(AgentError::from)?;
    // First the row: who reads it must not wait for a machine that stands still.
    enter(shared, &found, RecordedState::Running, RecordedState::Paused).await?;
    if let Err(status) = connection.shim().pause(PauseRequest {}).await {
        enter(shared, &found, RecordedState::Paused, RecordedState::Running).await?;
        return Err(rpc::call_error("pause", &status).into());
    }
    Ok(())
}

/// Lets a paused box go on; one that runs stays so.
pub(crate) async fn unpause(shared: &Arc<Shared>, id: &BoxId) -> Result<(), PauseError> {
    let found = lifecycle::current(shared, id).await?;
    if !matches!(found.state, RecordedState::Paused | RecordedState::Running) {
        return Err(invalid_state(&found, found.state));
    }
    let connection = lifecycle::connect(shared, &found).await.map_err(AgentError::from)?;
    // Asked of a running one too: a client may have died between its row and its machine.
    let answer = connection.shim().unpause(UnpauseRequest {}).await;
    answer.map_err(|status| rpc::call_error("unpause", &status))?;
    if found.state == RecordedState::Paused {
        enter(shared, &found, RecordedState::Paused, RecordedState::Running).await?;
    }
    Ok(())
}

fn invalid_state(found: &BoxRecord, state: RecordedState) -> PauseError {
    PauseError::InvalidState {
        name: found.name.clone(),
        state: record::state(state),
    }
}

async fn enter(
    shared: &Arc<Shared>,
    found: &BoxRecord,
    from: RecordedState,
    to: RecordedState,
) -> Result<(), PauseError> {
    let (id, run_id) = (found.id.clone(), found.run_id.clone());
    let changed = shared
        .blocking(move |shared| {
            let expected = Expected {
                run_id,
                ..Expected::state(from)
            };
            match shared.home.transition(&id, expected, to, RunChange::default()) {
                Ok(_) => Ok(None),
                Err(TransitionError::Database(error)) => Err(StateError::from(error)),
                // Another client was faster, or the box has ended.
                Err(_) => Ok(Some(shared.current(&id))),
            }
        })
        .await?;
    match changed {
        None => Ok(()),
        Some(now) => {
            let now = now?;
            if now.state == to {
                Ok(())
            } else {
                Err(invalid_state(&now, now.state))
            }
        }
    }
}
