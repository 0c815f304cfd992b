//! The jail around a program that tries what an engine must not be able to do. The test
//! is its own jail: run with `jail`, it is the process that becomes the program.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test, without the harness by which clippy knows one"
)]

use std::fs::File;
use std::io::{Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use boxlite_machine::ShareMember;
use boxlite_machine::jail::process::{ENGINE_FD, Message, REPORT_FD, SPEC_FD, Spec, Step};
use boxlite_machine::jail::{ConfinedShare, Confinement, Identity, JailReport, report};
use command_fds::{CommandFdExt as _, FdMapping};

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("jail") {
        return boxlite_machine::jail::main();
    }
    let tests: [(&str, fn()); 10] = [
        ("files_out_of_reach_stay_so", files_out_of_reach_stay_so),
        ("files_in_a_private_home_are_named", files_in_a_private_home_are_named),
        ("only_its_own_descriptors", only_its_own_descriptors),
        ("root_becomes_nobody", root_becomes_nobody),
        (
            "shares_are_reached_as_they_should_be",
            shares_are_reached_as_they_should_be,
        ),
        ("a_single_file_is_alone", a_single_file_is_alone),
        ("members_keep_to_themselves", members_keep_to_themselves),
        ("without_network_there_is_none", without_network_there_is_none),
        ("a_missing_engine_is_said", a_missing_engine_is_said),
        ("an_orphan_is_refused", an_orphan_is_refused),
    ];
    for (name, test) in tests {
        println!("jail::{name}");
        test();
    }
    ExitCode::SUCCESS
}

fn confinement() -> Confinement {
    Confinement {
        shares: Vec::new(),
        network: true,
        identity: if rustix::process::geteuid().is_root() {
            Identity::Unprivileged {
                id: 0x6123_4567,
                groups: Vec::new(),
            }
        } else {
            Identity::Caller
        },
        low_ports: false,
        kvm: false,
        readable: Vec::new(),
        writable: Vec::new(),
        strict: false,
    }
}

fn memory_file(bytes: &[u8]) -> OwnedFd {
    let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let mut file = File::from(fd);
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file.into()
}

/// What the jail said, and what the program in it wrote.
fn run(spec: &Spec, engine_fds: Vec<OwnedFd>) -> (Vec<Message>, String) {
    let (mut report, report_write) = std::io::pipe().unwrap();
    let mut mappings = vec![
        FdMapping {
            parent_fd: memory_file(&serde_json::to_vec(spec).unwrap()),
            child_fd: SPEC_FD,
        },
        FdMapping {
            parent_fd: report_write.into(),
            child_fd: REPORT_FD,
        },
    ];
    mappings.extend(
        engine_fds
            .into_iter()
            .zip(ENGINE_FD..)
            .map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd }),
    );
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .arg("jail")
        .env("LEAKED", "yes")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let (mut output, output_write) = std::io::pipe().unwrap();
    command.stdout(output_write);
    command.fd_mappings(mappings).unwrap();
    let mut child = command.spawn().unwrap();
    drop(command);
    let mut messages = String::new();
    report.read_to_string(&mut messages).unwrap();
    let mut text = String::new();
    output.read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    let messages = messages
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    (messages, text)
}

fn shell(confinement: Confinement, script: &str) -> (JailReport, String) {
    shell_with(confinement, script, Vec::new())
}

fn shell_with(confinement: Confinement, script: &str, engine_fds: Vec<OwnedFd>) -> (JailReport, String) {
    let spec = Spec {
        parent_pid: std::process::id(),
        binary: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        engine_fds: engine_fds.len() as u32,
        confinement,
    };
    let (messages, text) = run(&spec, engine_fds);
    let [Message::Report(report)] = &messages[..] else {
        panic!("{messages:?}");
    };
    (report.clone(), text)
}

fn files_out_of_reach_stay_so() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "secret").unwrap();
    let script = format!(
        "cat {0} 2>/dev/null || echo closed; (echo x > {1}/new) 2>/dev/null || echo shut; cat /etc/ld.so.cache >/dev/null && echo open",
        secret.display(),
        dir.path().display()
    );
    let (report, text) = shell(confinement(), &script);
    assert!(report.has(report::FILE_ACCESS), "{report:?}");
    assert!(
        report.has(report::NO_NEW_PRIVILEGES) && report.has(report::PARENT_DEATH),
        "{report:?}"
    );
    assert_eq!(text, "closed\nshut\nopen\n");
    let mut readable = confinement();
    readable.readable.push(secret.clone());
    assert!(shell(readable, &script).1.starts_with("secret"));
}

/// The engine's user may not enter the folder where the box's files are; the rules that
/// name them are made all the same.
fn files_in_a_private_home_are_named() {
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let kernel = home.path().join("kernel");
    std::fs::write(&kernel, "").unwrap();
    let mut private = confinement();
    private.readable.push(kernel);
    let (report, text) = shell(private, "echo runs");
    assert!(report.has(report::FILE_ACCESS), "{report:?}");
    assert_eq!(text, "runs\n");
}

fn only_its_own_descriptors() {
    // One that was left open for every child, as a library's host program may do.
    let leaked = File::open("/dev/null").unwrap();
    rustix::io::fcntl_setfd(&leaked, rustix::io::FdFlags::empty()).unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&leaked);
    let script = format!(
        "cat <&5; echo ${{LEAKED-clean}}; for fd in 3 4 {number}; do (: <&$fd) 2>/dev/null && echo $fd open; done; ulimit -c"
    );
    let (_, text) = shell_with(confinement(), &script, vec![memory_file(b"given\n")]);
    assert_eq!(text, "given\nclean\n0\n");
}

fn root_becomes_nobody() {
    if !rustix::process::geteuid().is_root() {
        let (report, text) = shell(confinement(), "id -u");
        assert!(report.has(report::UNPRIVILEGED_USER));
        assert_eq!(text.trim(), rustix::process::geteuid().as_raw().to_string());
        return;
    }
    let mut low_ports = confinement();
    low_ports.readable.push("/proc".into());
    let status = "id -u; id -g; id -G; grep -E '^Cap(Prm|Eff|Bnd|Amb)' /proc/self/status";
    let (report, text) = shell(low_ports.clone(), status);
    assert!(
        report.has(report::UNPRIVILEGED_USER) && report.has(report::CAPABILITIES),
        "{report:?}"
    );
    let id = 0x6123_4567;
    assert!(text.starts_with(&format!("{id}\n{id}\n{id}\n")), "{text}");
    assert_eq!(text.matches("0000000000000000").count(), 4, "{text}");
    low_ports.low_ports = true;
    let (_, text) = shell(low_ports, status);
    assert_eq!(text.matches("0000000000000400").count(), 4, "{text}");
}

fn shares_are_reached_as_they_should_be() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ro", "rw"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        std::fs::write(dir.path().join(name).join("f"), name).unwrap();
    }
    let share = |name: &str, read_only| ConfinedShare::Folder {
        source: dir.path().join(name),
        read_only,
    };
    let mut confined = confinement();
    confined.shares = vec![share("ro", true), share("rw", false)];
    confined.identity = root_or_caller();
    let base = dir.path().display();
    let script = format!(
        "cat {base}/ro/f {base}/rw/f; (echo x > {base}/ro/new) 2>/dev/null || echo -shut; echo y > {base}/rw/new && mkdir {base}/rw/d && mv {base}/rw/new {base}/rw/d/ && cat {base}/rw/d/new"
    );
    assert_eq!(shell(confined, &script).1, "rorw-shut\ny\n");
}

fn root_or_caller() -> Identity {
    if rustix::process::geteuid().is_root() {
        Identity::Root { why: "test".to_owned() }
    } else {
        Identity::Caller
    }
}

fn a_single_file_is_alone() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("file");
    std::fs::write(&source, "one").unwrap();
    std::fs::write(dir.path().join("beside"), "two").unwrap();
    let runtime = tempfile::tempdir().unwrap();
    let share = |name: &str, read_only| ConfinedShare::Members {
        dir: runtime.path().join(name),
        members: vec![ShareMember {
            name: "inside".to_owned(),
            source: source.clone(),
            read_only,
        }],
    };
    let mut confined = confinement();
    confined.shares = vec![share("a", false), share("b", true)];
    confined.identity = root_or_caller();
    let base = runtime.path().display();
    let script = format!(
        "ls {base}/a {base}/b; (echo x > {base}/a/new) 2>/dev/null || echo shut; (echo x > {base}/b/inside) 2>/dev/null || echo read-only; echo new > {base}/a/inside; cat {base}/b/inside"
    );
    let (report, text) = shell(confined, &script);
    assert!(report.has(report::MOUNT_NAMESPACE), "{report:?}");
    assert_eq!(
        text,
        format!("{base}/a:\ninside\n\n{base}/b:\ninside\nshut\nread-only\nnew\n")
    );
    assert_eq!(std::fs::read_to_string(&source).unwrap(), "new\n");
    // Nothing of it is seen outside.
    assert!(!runtime.path().join("a/inside").exists());
}

/// Folders and files beside each other in one private folder: each is as writable as it should be.
fn members_keep_to_themselves() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["ro", "rw"] {
        std::fs::create_dir_all(dir.path().join(name).join("below")).unwrap();
        std::fs::write(dir.path().join(name).join("f"), name).unwrap();
    }
    std::fs::write(dir.path().join("beside"), "beside").unwrap();
    std::os::unix::fs::symlink("../beside", dir.path().join("rw/link")).unwrap();
    let runtime = tempfile::tempdir().unwrap();
    let member = |name: &str, source: &str, read_only| ShareMember {
        name: name.to_owned(),
        source: dir.path().join(source),
        read_only,
    };
    let mut confined = confinement();
    confined.shares = vec![ConfinedShare::Members {
        dir: runtime.path().join("share"),
        members: vec![
            member("0", "ro", true),
            member("1", "rw", false),
            member("2", "beside", true),
        ],
    }];
    confined.identity = root_or_caller();
    let script = format!(
        "cd {}/share && ls; cat 0/f 1/f 2; echo; \
         for path in 0/f 0/new 0/below/new 2 new; do (echo x > $path) 2>/dev/null && echo wrote $path; done; \
         echo y > 1/new && cat 1/new; mv 1/new 0/new 2>/dev/null && echo moved; \
         cat 1/link 0/../../secret 2>/dev/null && echo led outside; true",
        runtime.path().display()
    );
    std::fs::write(runtime.path().join("secret"), "secret").unwrap();
    let (report, text) = shell(confined, &script);
    assert!(report.has(report::MOUNT_NAMESPACE), "{report:?}");
    assert_eq!(text, "0\n1\n2\nrorwbeside\ny\n");
    assert_eq!(std::fs::read_to_string(dir.path().join("rw/new")).unwrap(), "y\n");
    // Nothing of it is seen outside.
    assert!(!runtime.path().join("share/0").exists());
}

fn without_network_there_is_none() {
    let named = |report: &JailReport| {
        let missing = report.missing.iter().map(|missing| &missing.what);
        report
            .applied
            .iter()
            .chain(missing)
            .any(|name| name == report::NETWORK_NAMESPACE)
    };
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let mut confined = confinement();
    confined.readable.push(Path::new("/proc").into());
    let name_space = "readlink /proc/self/ns/net";
    let (report, text) = shell(confined.clone(), name_space);
    assert!(
        !named(&report),
        "a machine with a network has no use for one of its own: {report:?}"
    );
    assert_eq!(Path::new(text.trim()), own);
    confined.network = false;
    let (report, text) = shell(confined, name_space);
    assert!(report.has(report::NETWORK_NAMESPACE), "{report:?}");
    assert_ne!(Path::new(text.trim()), own);
    assert!(text.starts_with("net:["), "{text}");
}

fn a_missing_engine_is_said() {
    let spec = Spec {
        parent_pid: std::process::id(),
        binary: "/nonexistent/qemu".into(),
        args: Vec::new(),
        engine_fds: 0,
        confinement: confinement(),
    };
    let (messages, _) = run(&spec, Vec::new());
    let [Message::Report(_), Message::Failed(failure)] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert_eq!(failure.step, Step::Exec);
    let mut strict = spec;
    strict.confinement.strict = true;
    strict.confinement.identity = Identity::Root {
        why: "on purpose".to_owned(),
    };
    let (messages, _) = run(&strict, Vec::new());
    let [Message::Incomplete(report)] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert_eq!(report.missing.last().unwrap().what, report::UNPRIVILEGED_USER);
}

fn an_orphan_is_refused() {
    let spec = Spec {
        parent_pid: 1,
        binary: "/bin/sh".into(),
        args: vec!["-c".into(), "echo ran".into()],
        engine_fds: 0,
        confinement: confinement(),
    };
    let (messages, text) = run(&spec, Vec::new());
    let [Message::Failed(failure)] = &messages[..] else {
        panic!("{messages:?}");
    };
    assert_eq!(failure.step, Step::Parent);
    assert_eq!(text, "");
}
