//! The client side of the OCI distribution specification, as far as pulling needs it.

use std::sync::Arc;

use crate::pull::PullOptions;
use crate::reference::Reference;

mod challenge;
mod endpoint;
mod error;
mod retry;
mod session;
mod transport;

pub use endpoint::AddressError;
pub use error::{ChallengeProblem, RedirectProblem, RegistryError, Request, TlsProblem, Tried, Unreachable, Waiting};
pub(crate) use retry::Backoff;
pub use retry::RetryPolicy;
pub(crate) use session::Session;
pub(crate) use transport::{Answer, Transport, presentable};
pub use transport::{ProxySource, Timeouts};

/// The conversations that may serve a reference: its registry's mirrors, then itself. Contacts
/// nobody yet.
pub(crate) fn sessions(
    reference: &Reference,
    options: &PullOptions,
    transport: &Arc<Transport>,
) -> Result<Vec<Session>, AddressError> {
    endpoint::check_plain_http(&options.plain_http)?;
    let mut endpoints = Vec::new();
    for address in options.mirrors.get(reference.registry()).into_iter().flatten() {
        endpoints.push(endpoint::Endpoint::mirror(reference, address, &options.plain_http)?);
    }
    endpoints.push(endpoint::Endpoint::origin(reference, &options.plain_http));
    Ok(endpoints
        .into_iter()
        .map(|endpoint| Session::new(endpoint, Arc::clone(transport), options.auth.clone()))
        .collect())
}
