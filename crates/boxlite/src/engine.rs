//! TEMPORARY
use crate::bundle::Bundle;
use crate::error::*;
use crate::shared::Shared;
use crate::system::{AcceleratorInfo, EngineInfo};
use boxlite_store::Home;
pub(crate) struct Found {
    pub(crate) info: EngineInfo,
    pub(crate) accelerator: Option<AcceleratorInfo>,
}
pub(crate) fn find(_shared: &Shared, _bundle: Option<&Bundle>) -> Result<Found, StateError> {
    Err(StateError::Closed)
}
pub(crate) fn check(
    _home: &Home,
    _builder: &crate::client::ClientBuilder,
    _bundle: Option<&Bundle>,
    _checks: &mut Vec<crate::doctor::Check>,
) {
}
