//! A home of its own for each test, and an image made of the distribution's static busybox.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use boxlite::{BoxHandle, BoxOptions, Client, ExecOptions, Execution, ExitStatus, ListFilter};
use tokio::io::AsyncReadExt;

/// Nothing that a test waits for takes longer, however slow the host.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What a test works with: a home and an image's files, gone with it.
pub(crate) struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        assert!(
            std::env::var_os("BOXLITE_BUNDLE_DIR").is_some(),
            "BOXLITE_BUNDLE_DIR is not set: `make bundle` makes target/bundle"
        );
        let folder = tempfile::tempdir().unwrap();
        make_root(&folder.path().join("root"));
        Self { folder }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    pub(crate) async fn client(&self) -> Client {
        Client::builder().home(self.home()).build().await.unwrap()
    }

    /// Options for a box of the busybox image.
    pub(crate) fn options(&self) -> BoxOptions {
        let image = format!("dir:{}", self.folder.path().join("root").display());
        BoxOptions::new(image).memory_mib(128).disk_mib(64)
    }

    /// What is left of boxes on the disk.
    pub(crate) fn box_folders(&self) -> usize {
        std::fs::read_dir(self.home().join("boxes")).unwrap().count()
    }
}

fn make_root(root: &Path) {
    let busybox = Path::new("/bin/busybox");
    assert!(
        busybox.is_file(),
        "there is no /bin/busybox: apt-get install busybox-static"
    );
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    std::fs::set_permissions(root.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    for applet in [
        "cat",
        "chmod",
        "dd",
        "echo",
        "env",
        "false",
        "head",
        "hostname",
        "id",
        "kill",
        "ls",
        "mkdir",
        "ps",
        "pwd",
        "rm",
        "sh",
        "sha256sum",
        "sleep",
        "stat",
        "sync",
        "test",
        "true",
        "uname",
        "wc",
        "yes",
    ] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000::/tmp:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nguest:x:1000:\n").unwrap();
}

/// Everything that a process wrote, and how it ended.
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
    pub(crate) status: ExitStatus,
}

pub(crate) async fn finish(mut execution: Execution) -> Output {
    let mut stdout = execution.take_stdout().unwrap();
    let mut stderr = execution.take_stderr().unwrap();
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let (read_out, read_err, status) = tokio::join!(
        stdout.read_to_end(&mut out),
        stderr.read_to_end(&mut err),
        execution.wait()
    );
    read_out.unwrap();
    read_err.unwrap();
    Output {
        stdout: out,
        stderr: err,
        status: status.unwrap(),
    }
}

/// Runs a shell command and gives what it printed; it must succeed.
pub(crate) async fn shell(handle: &BoxHandle, command: &str) -> String {
    let execution = handle.exec(ExecOptions::new(["sh", "-c", command])).await.unwrap();
    let output = finish(execution).await;
    assert!(
        output.status.success(),
        "{command}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Asks again and again until the answer is yes.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut question: impl FnMut() -> F) {
    let begun = Instant::now();
    while !question().await {
        assert!(begun.elapsed() < PATIENCE, "{what} has not come to pass");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub(crate) async fn all_names(client: &Client) -> Vec<String> {
    let boxes = client.list(ListFilter::all()).await.unwrap();
    boxes.into_iter().map(|info| info.name).collect()
}
