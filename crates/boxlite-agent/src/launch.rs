//! From the fork to the program: what a new process of the box does with itself.

use std::{
    ffi::CString,
    fs::{self, File},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

use boxlite_protocol::guest::{ExecRefused, ProcessSpec, exec_refused::Reason};
use prost::Message as _;
use rustix::{
    fs::{Mode, fchown},
    process::{Gid, Uid, chdir, ioctl_tiocsctty, setsid, umask},
    thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid},
};

use crate::{
    child, first_process,
    rootfs::create_dirs,
    spaces::Spaces,
    sys,
    user::{self, Identity, UserError},
};

/// Where programs are looked for when the environment does not say.
const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The most that is read of the box's passwd and group files, in bytes.
const USER_FILE_BYTES: u64 = 8 << 20;

/// What the child of the fork needs; prepared before it.
pub(crate) struct Launch<'a> {
    pub(crate) spec: &'a ProcessSpec,
    pub(crate) hostname: &'a str,
    pub(crate) entry: Entry<'a>,
    pub(crate) stdin: BorrowedFd<'a>,
    pub(crate) stdout: BorrowedFd<'a>,
    pub(crate) stderr: BorrowedFd<'a>,
    /// Where the process's number in the box goes, and an [`ExecRefused`] if it comes to
    /// that. Closed by the start of the program.
    pub(crate) report: BorrowedFd<'a>,
}

/// How a new process comes to be in the box.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Entry<'a> {
    /// It is there.
    Inside,
    /// It has still to go there.
    Enter(&'a Spaces),
    /// As the first, in the place of one that could not become the main process.
    AfterFounder(&'a Spaces),
}

/// A refusal with what was tried and what the kernel said.
pub(crate) fn refused(reason: Reason, what: &str, error: &io::Error) -> ExecRefused {
    ExecRefused {
        reason: reason.into(),
        message: format!("{what}: {}", describe(error)),
        errno: error.raw_os_error().unwrap_or(0),
    }
}

/// The kernel's words without Rust's "(os error 2)".
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

/// Checks what can be checked without the box.
pub(crate) fn check(spec: &ProcessSpec) -> Result<(), ExecRefused> {
    let invalid = |message: &str| {
        Err(ExecRefused {
            reason: Reason::Invalid.into(),
            message: message.to_owned(),
            errno: libc::EINVAL,
        })
    };
    if spec.args.first().is_none_or(|program| program.is_empty()) {
        return invalid("no program is named");
    }
    let mut strings = spec.args.iter().chain(&spec.env).chain([&spec.working_dir]);
    if strings.any(|string| string.contains(&0)) || spec.user.contains('\0') {
        return invalid("an argument, variable or path contains a NUL byte");
    }
    if !spec.working_dir.is_empty() && spec.working_dir[0] != b'/' {
        return invalid("the working directory is not an absolute path");
    }
    Ok(())
}

impl Launch<'_> {
    /// What the child does: becomes the program, or says why not and ends.
    pub(crate) fn run(&self) -> ! {
        let refused = match self.become_program() {
            Ok(never) => match never {},
            Err(refused) => refused,
        };
        // Whoever does not get it sees the end of the process.
        let _ = child::write_all(self.report, &refused.encode_to_vec());
        sys::exit(127)
    }

    fn become_program(&self) -> Result<std::convert::Infallible, ExecRefused> {
        let internal = |what: &'static str| move |error: io::Error| refused(Reason::Resources, what, &error);
        let number = rustix::process::getpid().as_raw_nonzero().get();
        rustix::io::write(self.report, &number.to_ne_bytes())
            .map_err(|error| internal("report the process's number")(error.into()))?;
        if !matches!(self.entry, Entry::Inside) {
            fs::write("/proc/self/oom_score_adj", "0").map_err(internal("set oom_score_adj"))?;
        }
        match self.entry {
            Entry::Inside => {}
            Entry::Enter(spaces) => spaces.enter().map_err(internal("enter the box"))?,
            Entry::AfterFounder(spaces) => {
                first_process::enter_after_founder(spaces).map_err(|(what, error)| internal(what)(error))?;
            }
        }
        setsid().map_err(|error| internal("start a session")(error.into()))?;
        if self.spec.tty {
            ioctl_tiocsctty(self.stdin).map_err(|error| internal("take the terminal")(error.into()))?;
        }

        let identity = self.identity()?;
        self.place_streams(&identity)
            .map_err(internal("set up the standard streams"))?;
        sys::close_on_exec_from(3);

        umask(Mode::from_raw_mode(0o022));
        let working_dir = self.working_dir();
        if self.spec.create_working_dir {
            create_dirs(&working_dir).map_err(|error| {
                refused(
                    Reason::WorkingDir,
                    &format!("create the working directory {}", working_dir.display()),
                    &error,
                )
            })?;
        }
        set_identity(&identity).map_err(internal("set the user"))?;
        // As the user, who must be allowed to be there.
        chdir(&working_dir).map_err(|error| {
            refused(
                Reason::WorkingDir,
                &format!("change to the working directory {}", working_dir.display()),
                &error.into(),
            )
        })?;

        let environment = environment(self.spec, self.hostname, &identity);
        let path = environment
            .iter()
            .find_map(|variable| variable.strip_prefix(b"PATH="))
            .unwrap_or(DEFAULT_PATH)
            .to_vec();
        let arguments: Vec<CString> = self.spec.args.iter().filter_map(c_string).collect();
        let environment: Vec<CString> = environment.iter().filter_map(c_string).collect();
        sys::reset_signals();
        Err(execute(&self.spec.args[0], &path, &arguments, &environment))
    }

    fn working_dir(&self) -> PathBuf {
        match &self.spec.working_dir[..] {
            b"" => PathBuf::from("/"),
            path => PathBuf::from(std::ffi::OsStr::from_bytes(path)),
        }
    }

    fn identity(&self) -> Result<Identity, ExecRefused> {
        let passwd = read_user_file("/etc/passwd");
        let group = read_user_file("/etc/group");
        user::resolve(&self.spec.user, &passwd, &group).map_err(|error| ExecRefused {
            reason: match error {
                UserError::NoSuchUser(_) => Reason::NoSuchUser,
                UserError::NoSuchGroup(_) => Reason::NoSuchGroup,
            }
            .into(),
            message: error.to_string(),
            errno: 0,
        })
    }

    /// The streams become descriptors 0, 1 and 2 and the user's: programs open /dev/stdout
    /// and the terminal anew.
    fn place_streams(&self, identity: &Identity) -> io::Result<()> {
        let streams = [self.stdin, self.stdout, self.stderr];
        for stream in streams {
            // /dev/null is everybody's.
            let shared = rustix::fs::fstat(stream)?.st_rdev == rustix::fs::makedev(1, 3);
            if identity.uid != 0 && !shared {
                fchown(stream, Some(Uid::from_raw(identity.uid)), None)?;
            }
        }
        // Descriptors 0 to 2 of the agent are its console: none of the three is among them.
        for (number, stream) in streams.into_iter().enumerate() {
            sys::place_fd(stream, number as i32)?;
        }
        Ok(())
    }
}

/// A file of users or groups; one that can't be read names nobody.
pub(crate) fn read_user_file(path: &str) -> Vec<u8> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut content = Vec::new();
    // A pipe in its place must not block the reader.
    if let Ok(file) = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)
        && file.metadata().is_ok_and(|metadata| metadata.is_file())
    {
        let _ = file.take(USER_FILE_BYTES).read_to_end(&mut content);
    }
    content
}

fn set_identity(identity: &Identity) -> io::Result<()> {
    let gid = Gid::from_raw(identity.gid);
    let groups: Vec<Gid> = identity.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(identity.uid);
    set_thread_res_uid(uid, uid, uid)?;
    Ok(())
}

/// The environment: what was asked for, where the last of a name counts, and defaults for
/// what every program expects.
fn environment(spec: &ProcessSpec, hostname: &str, identity: &Identity) -> Vec<Vec<u8>> {
    let name = |variable: &[u8]| {
        let end = variable.iter().position(|byte| *byte == b'=');
        variable[..end.unwrap_or(variable.len())].to_vec()
    };
    let mut variables: Vec<Vec<u8>> = Vec::with_capacity(spec.env.len() + 4);
    for variable in &spec.env {
        match variables.iter_mut().find(|known| name(known) == name(variable)) {
            Some(known) => *known = variable.to_vec(),
            None => variables.push(variable.to_vec()),
        }
    }
    let mut default = |key: &[u8], value: &[u8]| {
        if !variables.iter().any(|known| name(known) == key) {
            variables.push([key, b"=", value].concat());
        }
    };
    default(b"PATH", DEFAULT_PATH);
    default(b"HOME", &identity.home);
    if !hostname.is_empty() {
        default(b"HOSTNAME", hostname.as_bytes());
    }
    if spec.tty {
        default(b"TERM", b"xterm");
    }
    variables
}

fn c_string(bytes: impl AsRef<[u8]>) -> Option<CString> {
    CString::new(bytes.as_ref()).ok()
}

/// Starts `program`, found as execvp(3) does but without its shell for files that are no
/// programs. Returns only to say why not.
fn execute(program: &[u8], path: &[u8], arguments: &[CString], environment: &[CString]) -> ExecRefused {
    if program.contains(&b'/') {
        let Some(file) = c_string(program) else {
            return not_found(program);
        };
        let error = sys::execute(&file, arguments, environment);
        return explain(program, &error);
    }
    let mut denied = None;
    for dir in path.split(|byte| *byte == b':') {
        // An empty part is the working directory.
        let dir = if dir.is_empty() { b"." } else { dir };
        let candidate = [dir, b"/", program].concat();
        let Some(file) = c_string(&candidate) else {
            continue;
        };
        let error = sys::execute(&file, arguments, environment);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) if !exists(&candidate) => {}
            Some(libc::EACCES) => {
                denied.get_or_insert((candidate, error));
            }
            _ => return explain(&candidate, &error),
        }
    }
    match denied {
        Some((candidate, error)) => explain(&candidate, &error),
        None => not_found(program),
    }
}

fn exists(path: &[u8]) -> bool {
    fs::metadata(Path::new(std::ffi::OsStr::from_bytes(path))).is_ok()
}

fn not_found(program: &[u8]) -> ExecRefused {
    ExecRefused {
        reason: Reason::NotFound.into(),
        message: format!("{}: not found in PATH", String::from_utf8_lossy(program)),
        errno: libc::ENOENT,
    }
}

/// Why execve(2) failed for `path`.
fn explain(path: &[u8], error: &io::Error) -> ExecRefused {
    let name = String::from_utf8_lossy(path);
    match error.raw_os_error() {
        Some(libc::ENOENT) if exists(path) => {
            let interpreter = interpreter(path);
            refused(
                Reason::NotFound,
                &format!("{name}: its interpreter{interpreter} is missing"),
                error,
            )
        }
        Some(libc::ENOENT | libc::ENOTDIR) => refused(Reason::NotFound, &name, error),
        Some(libc::EAGAIN | libc::ENOMEM | libc::EMFILE | libc::ENFILE) => refused(Reason::Resources, &name, error),
        Some(libc::E2BIG) => refused(Reason::Invalid, &name, error),
        Some(libc::EACCES) if Path::new(std::ffi::OsStr::from_bytes(path)).is_dir() => {
            refused(Reason::NotExecutable, &format!("{name} is a directory"), error)
        }
        _ => refused(Reason::NotExecutable, &name, error),
    }
}

/// The interpreter in a script's first line, with a blank before it; else nothing.
fn interpreter(path: &[u8]) -> String {
    let mut start = [0; 256];
    let count = File::open(std::ffi::OsString::from_vec(path.to_vec()))
        .and_then(|mut file| file.read(&mut start))
        .unwrap_or(0);
    let line = start[..count].split(|byte| *byte == b'\n').next();
    let Some(line) = line.and_then(|line| line.strip_prefix(b"#!")) else {
        return String::new();
    };
    let words = String::from_utf8_lossy(line).into_owned();
    let word = words.split_ascii_whitespace().next();
    // A carriage return at the end is the usual reason, and invisible unless escaped.
    let carriage = if line.ends_with(b"\r") { "\\r" } else { "" };
    word.map_or_else(String::new, |word| format!(" {word}{carriage}"))
}

/// Makes sure that none of the agent's descriptors 0 to 2 is free: a new one must never
/// get such a number.
pub(crate) fn occupy_standard_streams() -> io::Result<()> {
    loop {
        let null = File::options().read(true).write(true).open("/dev/null")?;
        if null.as_fd().as_raw_fd() > 2 {
            return Ok(());
        }
        std::mem::forget(null);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn spec(args: &[&'static str]) -> ProcessSpec {
        ProcessSpec {
            args: args.iter().map(|arg| Bytes::from(*arg)).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn what_no_process_can_have_is_refused() {
        assert!(check(&spec(&["a", ""])).is_ok());
        for wrong in [spec(&[]), spec(&[""]), spec(&["a\0"]), spec(&["a", "b\0c"])] {
            assert_eq!(check(&wrong).unwrap_err().reason(), Reason::Invalid);
        }
        let mut relative = spec(&["a"]);
        relative.working_dir = Bytes::from("tmp");
        assert_eq!(check(&relative).unwrap_err().reason(), Reason::Invalid);
    }

    #[test]
    fn the_environment_has_defaults_and_the_last_value() {
        let mut spec = spec(&["a"]);
        spec.env = ["A=1", "HOME=/x", "B", "A=2"].map(Bytes::from).to_vec();
        let identity = Identity {
            uid: 1,
            gid: 1,
            groups: vec![],
            home: b"/home".to_vec(),
        };
        let text = |spec: &ProcessSpec| -> Vec<String> {
            environment(spec, "host", &identity)
                .into_iter()
                .map(|variable| String::from_utf8(variable).unwrap())
                .collect()
        };
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
        assert_eq!(text(&spec), ["A=2", "HOME=/x", "B", path, "HOSTNAME=host"]);
        spec.tty = true;
        spec.env.clear();
        assert_eq!(text(&spec), [path, "HOME=/home", "HOSTNAME=host", "TERM=xterm"]);
    }

    #[test]
    fn failures_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).into_os_string().into_vec();
        let script = dir.path().join("script");
        fs::write(&script, "#!/no/such/shell -x\r\n").unwrap();
        let error = |number| io::Error::from_raw_os_error(number);
        let missing = explain(&at("none"), &error(libc::ENOENT));
        assert_eq!(missing.reason(), Reason::NotFound);
        assert!(!missing.message.contains("interpreter"));
        assert!(!missing.message.contains("os error"), "{}", missing.message);
        let interpreter = explain(&at("script"), &error(libc::ENOENT));
        assert_eq!(interpreter.reason(), Reason::NotFound);
        assert!(
            interpreter.message.contains("/no/such/shell\\r is missing"),
            "{}",
            interpreter.message
        );
        for number in [libc::EACCES, libc::ENOEXEC] {
            assert_eq!(explain(&at("script"), &error(number)).reason(), Reason::NotExecutable);
        }
        let directory = explain(&at(""), &error(libc::EACCES));
        assert!(directory.message.contains("is a directory"));
        assert_eq!(explain(&at("script"), &error(libc::ENOMEM)).reason(), Reason::Resources);
    }
}
