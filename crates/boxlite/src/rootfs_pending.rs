use std::path::Path;
use tokio_util::sync::CancellationToken;
#[derive(Debug, Default)]
pub struct BuildOptions {
    pub device_bytes: u64,
}
#[derive(Debug)]
pub struct RootfsInfo {
    pub bytes_written: u64,
}
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct BuildError;
impl BuildError {
    pub fn kind(&self) -> boxlite_image::ErrorKind {
        boxlite_image::ErrorKind::Io
    }
    pub fn hint(&self) -> Option<String> {
        None
    }
}
pub fn build(
    _: &boxlite_image::ContentStore,
    _: &boxlite_image::ImageManifest,
    _: &Path,
    _: &BuildOptions,
    _: &CancellationToken,
) -> Result<RootfsInfo, BuildError> {
    Err(BuildError)
}
pub fn build_from_dir(_: &Path, _: &Path, _: &BuildOptions, _: &CancellationToken) -> Result<RootfsInfo, BuildError> {
    Err(BuildError)
}
