//! Options about registries that several commands have.

use clap::Args;

/// Options about registries.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct RegistryArgs {
    /// Speak to this registry without TLS
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) plain_http: Vec<String>,
}
