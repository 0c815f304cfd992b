use super::*;
use proptest::prelude::*;

fn program(dir: &Path, name: &str, script: &str) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn engine(qemu: &Path, cache_dir: Option<&Path>) -> EngineSpec {
    EngineSpec {
        qemu: Some(qemu.to_owned()),
        cache_dir: cache_dir.map(Path::to_owned),
    }
}

fn installed() -> PathBuf {
    find(None, None, std::env::var_os("PATH").as_deref()).expect("this test needs the Debian package qemu-system-x86")
}

#[test]
fn the_installed_qemu_will_do_and_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let engine = engine(&installed(), Some(dir.path()));
    let info = probe(&engine).unwrap();
    assert!(info.version >= OLDEST_VERSION);
    let remembered = std::fs::read(dir.path().join(CACHE_NAME)).unwrap();
    assert_eq!(serde_json::from_slice::<QemuInfo>(&remembered).unwrap(), info);
    // Told from the cache: what it says is believed as long as the program is the same.
    let mut other = info.clone();
    other.sandbox = !other.sandbox;
    std::fs::write(dir.path().join(CACHE_NAME), serde_json::to_vec(&other).unwrap()).unwrap();
    assert_eq!(probe(&engine).unwrap(), other);
    other.size_bytes += 1;
    std::fs::write(dir.path().join(CACHE_NAME), serde_json::to_vec(&other).unwrap()).unwrap();
    assert_eq!(probe(&engine).unwrap(), info);
}

#[test]
fn what_is_not_there_is_not_found_with_the_place_and_the_package() {
    let dir = tempfile::tempdir().unwrap();
    let error = probe(&engine(&dir.path().join("qemu"), None)).unwrap_err();
    assert!(error.to_string().contains(dir.path().to_str().unwrap()), "{error}");
    assert_eq!(error.hint(), INSTALL_HINT);
    let error = find(None, Some(OsStr::new("")), Some(OsStr::new("/nowhere:relative"))).unwrap_err();
    assert!(matches!(error, ProbeError::NotFound { places } if places == ["/nowhere"]));
}

#[test]
fn the_variable_comes_before_the_path_and_a_path_of_ones_own_before_both() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (program(dir.path(), "a", ""), program(dir.path(), PROGRAM, ""));
    let path = Some(dir.path().as_os_str());
    assert_eq!(find(None, None, path).unwrap(), b);
    assert_eq!(find(None, Some(a.as_os_str()), path).unwrap(), a);
    assert_eq!(find(Some(&b), Some(a.as_os_str()), path).unwrap(), b);
}

#[test]
fn an_old_one_is_too_old() {
    let dir = tempfile::tempdir().unwrap();
    let old = program(
        dir.path(),
        "old",
        "[ \"$1\" = --version ] && echo 'QEMU emulator version 4.2.1 (x)'; exit 1",
    );
    match probe(&engine(&old, None)) {
        Err(ProbeError::TooOld { found, needed, .. }) => {
            assert_eq!((found.to_string(), needed), ("4.2.1".to_owned(), OLDEST_VERSION));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_program_is_not_qemu() {
    let dir = tempfile::tempdir().unwrap();
    let other = program(dir.path(), "other", "echo nothing of the kind >&2; exit 3");
    let error = probe(&engine(&other, None)).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("does not behave like QEMU: nothing of the kind"),
        "{error}"
    );
}

#[test]
fn what_a_build_lacks_is_named() {
    let answers = r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 9}}}}
{"return": {}}
{"return": [{"name": "microvm"}]}
{"return": [{"name": "virtio-serial-device"}, {"name": "virtio-blk-device"}, {"name": "virtserialport"}]}"#;
    assert_eq!(facts(answers).unwrap().lacks, ["virtio-9p-device", "virtio-net-device"]);
}

proptest! {
    #[test]
    fn any_answer_is_read_without_panic(text: String) {
        let _ = facts(&text);
        let _ = parse_version(&text);
    }

    #[test]
    fn versions_are_read(major: u16, minor: u16, micro: u16) {
        let version = Version { major: major.into(), minor: minor.into(), micro: micro.into() };
        let text = format!("QEMU emulator version {version} (Debian 1:{version}+dfsg)\nCopyright");
        prop_assert_eq!(parse_version(&text), Some(version));
    }
}
