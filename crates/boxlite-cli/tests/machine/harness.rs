//! One prepared home for all tests, and a way to call the command in it.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A home and the command that works in it.
#[derive(Debug)]
pub(crate) struct Boxlite {
    pub(crate) home: PathBuf,
    /// `BOXLITE_TEMPLATES`.
    pub(crate) templates: &'static str,
    /// More of the environment.
    pub(crate) variables: Vec<(&'static str, PathBuf)>,
}

/// How long a condition that must become true may take before the test fails. It
/// decides nothing but when to give up.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn needed(name: &str) -> PathBuf {
    let value = std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: run these tests with `make test`"));
    PathBuf::from(value)
}

pub(crate) fn fixtures() -> PathBuf {
    needed("BOXLITE_TEST_FIXTURES")
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// The home that all tests share, with `busybox`, `debian` and `layers` loaded.
pub(crate) fn shared() -> &'static Boxlite {
    static SHARED: OnceLock<Boxlite> = OnceLock::new();
    SHARED.get_or_init(|| {
        let boxlite = Boxlite {
            home: needed("BOXLITE_TEST_HOME"),
            templates: "auto",
            variables: Vec::new(),
        };
        std::fs::create_dir_all(&boxlite.home).unwrap();
        let loaded = boxlite.ok(["images", "--format", "json"]);
        for name in ["busybox", "debian", "layers"] {
            if !loaded.contains(&format!("{name}:latest")) {
                let source = format!("oci:{}:latest", fixtures().join(name).display());
                boxlite.ok(["load", &source, "--tag", &format!("{name}:latest")]);
            }
        }
        boxlite
    })
}

/// A home of the test's own, empty.
pub(crate) fn fresh() -> (tempfile::TempDir, Boxlite) {
    let folder = tempfile::tempdir().unwrap();
    let boxlite = Boxlite {
        home: folder.path().join("home"),
        // Nothing is to be left that still works when the folder goes.
        templates: "off",
        variables: Vec::new(),
    };
    (folder, boxlite)
}

/// A box name that no other test uses.
pub(crate) fn unique(stem: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{stem}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < PATIENCE, "still not so after {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) fn process_exists(pid: u32) -> bool {
    // A zombie has ended; it only waits for whoever must reap it.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or("").trim_start().starts_with('Z'))
}

pub(crate) fn send_signal(signal: &str, pid: u32) {
    let status = Command::new("kill")
        .args([format!("-{signal}"), pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "kill -{signal} {pid}");
}

impl Boxlite {
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(needed("BOXLITE_TEST_BIN"));
        command
            .env("BOXLITE_HOME", &self.home)
            .env("BOXLITE_TEMPLATES", self.templates)
            .env("NO_COLOR", "1")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .args(args)
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn output<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs, expects exit status 0, and returns stdout.
    #[track_caller]
    pub(crate) fn ok<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> String {
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output = self.output(&args);
        assert!(
            output.status.success(),
            "boxlite {args:?}: {}\n{}{}",
            output.status,
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stdout)
    }

    /// Runs, expects exit status `code`, and returns stderr.
    #[track_caller]
    pub(crate) fn fails<A: AsRef<OsStr>>(&self, code: i32, args: impl IntoIterator<Item = A>) -> String {
        let args: Vec<_> = args.into_iter().map(|arg| arg.as_ref().to_owned()).collect();
        let output = self.output(&args);
        assert_eq!(
            output.status.code(),
            Some(code),
            "boxlite {args:?}\n{}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
        text(&output.stderr)
    }

    /// Runs with `input` on stdin.
    pub(crate) fn with_input<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, input: &[u8]) -> Output {
        let mut child = self.spawn(args);
        let mut stdin = child.stdin.take().unwrap();
        std::thread::scope(|scope| {
            // An error here is a child that ended early; its output says why.
            scope.spawn(move || stdin.write_all(input).ok());
            child.wait_with_output().unwrap()
        })
    }

    pub(crate) fn spawn<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Child {
        self.command(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    pub(crate) fn inspect(&self, name: &str) -> serde_json::Value {
        let all: serde_json::Value = serde_json::from_str(&self.ok(["inspect", name])).unwrap();
        all[0].clone()
    }

    pub(crate) fn state(&self, name: &str) -> String {
        self.inspect(name)["state"].as_str().unwrap_or_default().to_owned()
    }

    /// A detached box of `image` that runs until it is stopped; removed on drop.
    pub(crate) fn sleeper(&self, image: &str, more: &[&str]) -> Running<'_> {
        let name = unique("sleeper");
        let mut args = vec!["run", "-d", "--name", &name, "--memory", "256m"];
        args.extend(more);
        args.extend([image, "sleep", "100000"]);
        self.ok(args);
        Running { boxlite: self, name }
    }
}

/// A box that is removed when the test ends, however it ends.
#[derive(Debug)]
pub(crate) struct Running<'a> {
    pub(crate) boxlite: &'a Boxlite,
    pub(crate) name: String,
}

impl Running<'_> {
    /// Runs a shell command in the box and returns its stdout.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        self.boxlite.ok(["exec", &self.name, "sh", "-c", script])
    }

    pub(crate) fn shim_pid(&self) -> u32 {
        self.pid("shim_pid")
    }

    pub(crate) fn engine_pid(&self) -> u32 {
        self.pid("engine_pid")
    }

    fn pid(&self, field: &str) -> u32 {
        let info = self.boxlite.inspect(&self.name);
        u32::try_from(
            info["run"][field]
                .as_u64()
                .unwrap_or_else(|| panic!("no {field} in {info:#}")),
        )
        .unwrap()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.boxlite.output(["rm", "-f", &self.name]);
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
