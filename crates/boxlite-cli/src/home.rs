//! Opening the home that the global options name.

use boxlite::{Client, ClientBuilder, RegistryOptions};

use crate::cli::GlobalArgs;
use crate::failure::Failure;
use crate::image_args::RegistryArgs;

impl GlobalArgs {
    /// What a client is opened with.
    pub(crate) fn builder(&self, registry: &RegistryArgs) -> ClientBuilder {
        let mut builder = Client::builder();
        if let Some(home) = &self.home {
            builder = builder.home(home);
        }
        if let Some(engine) = self.engine {
            builder = builder.engine(engine);
        }
        if !registry.plain_http.is_empty() {
            let mut registries = RegistryOptions::default();
            registries.plain_http.clone_from(&registry.plain_http);
            builder = builder.registries(registries);
        }
        builder
    }

    /// Opens the home.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        self.client_with(&RegistryArgs::default()).await
    }

    /// Opens the home, for commands that may speak to a registry.
    pub(crate) async fn client_with(&self, registry: &RegistryArgs) -> Result<Client, Failure> {
        Ok(self.builder(registry).build().await?)
    }
}
