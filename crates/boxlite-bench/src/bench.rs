//! What all measurements share: the home, the images, where things are.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use boxlite::{
    Accelerator, BoxHandle, BoxOptions, Client, LoadOptions, RemoveOptions, SystemInfo, TemplateOptions, no_progress,
};
use tokio::io::AsyncReadExt as _;

use crate::error::BenchError;
use crate::floor::{self, Kit};
use crate::host;
use crate::measure;
use crate::sample::Rounds;

/// The image that boxes are made from unless a row says otherwise.
pub(crate) const IMAGE: &str = "bench/busybox:latest";
/// vCPUs of boxes and of their floors: what the bare machine has that boxlite is compared with.
pub(crate) const CPUS: u32 = 1;
/// Memory of boxes and of their floors, in MiB: that of the bar for an idle box.
pub(crate) const MEMORY_MIB: u64 = 256;

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Of latency rows.
    pub(crate) rounds: Rounds,
    /// Of rows that move much data or start many boxes.
    pub(crate) heavy: Rounds,
    /// The command under test.
    pub(crate) cli: PathBuf,
    /// OCI layouts.
    pub(crate) fixtures: PathBuf,
}

/// A home of its own, with a client.
#[derive(Debug)]
pub(crate) struct Bench {
    /// What was asked for.
    pub(crate) settings: Settings,
    /// The client that is measured.
    pub(crate) client: Client,
    /// Its home.
    pub(crate) home: PathBuf,
    /// For files; on the same file system as the home.
    pub(crate) work: PathBuf,
    /// What boxlite found here.
    pub(crate) info: SystemInfo,
    /// `kvm` or `tcg`: what boxes run on.
    pub(crate) accelerator: &'static str,
    /// Compiled for the floors, or why not.
    initramfs: Result<PathBuf, String>,
}

impl Bench {
    /// Opens a home below `work` for one accelerator and loads the image. Blocks.
    pub(crate) async fn open(settings: Settings, work: &Path, accelerator: Accelerator) -> Result<Self, BenchError> {
        let home = work.join("home");
        let client = Client::builder()
            .home(&home)
            .accelerator(accelerator)
            .build()
            .await
            .map_err(BenchError::boxlite("opening the home"))?;
        load_usual(&client, &settings).await?;
        let info = client.info().await.map_err(BenchError::boxlite("info"))?;
        let initramfs = floor::initramfs(work).map_err(|error| error.to_string());
        Ok(Self {
            settings,
            client,
            home,
            work: work.to_owned(),
            info,
            accelerator: measure::name(accelerator),
            initramfs,
        })
    }

    /// An id of a row that is measured on each accelerator.
    pub(crate) fn id(&self, name: &str) -> String {
        format!("{name}/{}", self.accelerator)
    }

    /// What bare machines are made of here.
    pub(crate) fn kit(&self) -> Result<Kit, String> {
        let initramfs = self.initramfs.clone()?;
        let engine = self.info.engine.as_ref().ok_or("there is no engine")?;
        let bundle = self.info.bundle.as_ref().ok_or("there is no bundle")?;
        Ok(Kit {
            engine: engine.path.clone(),
            accelerator: self.accelerator,
            kernel: bundle.directory.join("vmlinux"),
            initramfs,
            work: self.work.clone(),
            memory_mib: MEMORY_MIB,
        })
    }

    /// Options of the usual box.
    pub(crate) fn options(&self) -> BoxOptions {
        BoxOptions::new(IMAGE).cpus(CPUS).memory_mib(MEMORY_MIB)
    }

    /// Makes the template of boxes that are made with [`options`](Self::options).
    pub(crate) async fn template(&self) -> Result<(), BenchError> {
        self.template_of(TemplateOptions::default().cpus(CPUS).memory_mib(MEMORY_MIB))
            .await
    }

    /// Makes the template of boxes that nobody asks another shape for.
    pub(crate) async fn usual_template(&self) -> Result<(), BenchError> {
        self.template_of(TemplateOptions::default()).await
    }

    async fn template_of(&self, shape: TemplateOptions) -> Result<(), BenchError> {
        self.client
            .templates()
            .create(shape)
            .await
            .map(drop)
            .map_err(BenchError::boxlite("making a template"))
    }

    /// A box that runs, with nothing in it.
    pub(crate) async fn idle(&self, options: BoxOptions) -> Result<BoxHandle, BenchError> {
        let created = self
            .client
            .create(options)
            .await
            .map_err(BenchError::boxlite("create"))?;
        created.start().await.map_err(BenchError::boxlite("start"))?;
        Ok(created)
    }

    /// The command under test, in this home.
    pub(crate) fn cli(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.settings.cli);
        command.args(arguments);
        command.env("BOXLITE_HOME", &self.home);
        command.env("BOXLITE_ACCEL", self.accelerator);
        command
    }

    /// Runs the command under test to its end; gives milliseconds.
    pub(crate) fn time_cli(&self, arguments: &[&str]) -> Result<f64, BenchError> {
        let mut command = self.cli(arguments);
        let begin = Instant::now();
        host::output(&mut command)?;
        Ok(milliseconds(begin))
    }
}

/// Loads the usual image, under its name.
pub(crate) async fn load_usual(client: &Client, settings: &Settings) -> Result<(), BenchError> {
    let source = format!("oci:{}/busybox:latest", settings.fixtures.display());
    load(client, &source, IMAGE).await
}

/// Loads an image under a name.
pub(crate) async fn load(client: &Client, source: &str, name: &str) -> Result<(), BenchError> {
    let mut options = LoadOptions::default();
    options.tag = Some(name.to_owned());
    let images = client.images();
    let loading = images.load(source, options, no_progress());
    loading.await.map(drop).map_err(BenchError::boxlite("load"))
}

/// Removes a box, whatever it does.
pub(crate) async fn remove(handle: &BoxHandle) -> Result<(), BenchError> {
    handle
        .remove(RemoveOptions::force())
        .await
        .map_err(BenchError::boxlite("remove"))
}

/// Runs to the end in a box what must succeed; gives its standard output.
pub(crate) async fn run_in(handle: &BoxHandle, command: &[&str]) -> Result<Vec<u8>, BenchError> {
    let options = boxlite::ExecOptions::new(command.iter().copied());
    let mut execution = handle.exec(options).await.map_err(BenchError::boxlite("exec"))?;
    let mut output = Vec::new();
    if let Some(mut stdout) = execution.take_stdout() {
        stdout
            .read_to_end(&mut output)
            .await
            .map_err(BenchError::stream("stdout"))?;
    }
    let status = execution.wait().await.map_err(BenchError::boxlite("wait"))?;
    if status.success() {
        return Ok(output);
    }
    Err(BenchError::Answer {
        what: "a command in a box",
        expected: "success".to_owned(),
        got: format!("{command:?}: {status}"),
    })
}

/// Since `begin`.
pub(crate) fn milliseconds(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}
