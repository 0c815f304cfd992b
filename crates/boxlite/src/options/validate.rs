//! What options must be to make sense, before anything is looked at.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use crate::error::OptionsError;
use crate::options::{BoxOptions, EngineKind, MAX_VOLUMES, NetworkMode};

/// vCPUs that the machine type can have.
const MAX_CPUS: u64 = 255;
/// Below this the guest's kernel and agent have no room to start.
const MIN_MEMORY_MIB: u64 = 64;
const MAX_MEMORY_MIB: u64 = 1024 * 1024;
const MIN_DISK_MIB: u64 = 16;
/// The fixed size of the device that carries the disk.
const MAX_DISK_MIB: u64 = 1024 * 1024;
const MAX_NAME_BYTES: usize = 128;
/// `HOST_NAME_MAX` of Linux.
const MAX_HOSTNAME_BYTES: usize = 64;
/// A day; a start or a stop that may take longer is a mistake in the unit.
const MAX_TIMEOUT_MS: u64 = 24 * 60 * 60 * 1000;

/// Targets that the agent mounts itself, with everything below them.
const OWN_MOUNTS: [&str; 3] = ["/proc", "/sys", "/dev"];

pub(crate) fn validate(options: &BoxOptions) -> Result<(), OptionsError> {
    if options.image.trim().is_empty() {
        return Err(OptionsError::NoImage);
    }
    if let Some(name) = &options.name {
        validate_name(name)?;
    }
    range("cpus", u64::from(options.cpus), 1, MAX_CPUS)?;
    range("memory_mib", options.memory_mib, MIN_MEMORY_MIB, MAX_MEMORY_MIB)?;
    range("disk_mib", options.disk_mib, MIN_DISK_MIB, MAX_DISK_MIB)?;
    range("stop_timeout_ms", options.stop_timeout_ms, 0, MAX_TIMEOUT_MS)?;
    if let Some(timeout_ms) = options.start_timeout_ms {
        range("start_timeout_ms", timeout_ms, 1, MAX_TIMEOUT_MS)?;
    }
    range("log_limits.max_mib", options.log_limits.max_mib, 1, 1024 * 1024)?;
    range("log_limits.files", u64::from(options.log_limits.files), 0, 1000)?;
    for (key, value) in &options.env {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            return Err(OptionsError::Env { key: key.clone() });
        }
    }
    if let Some(path) = &options.working_dir {
        box_path("working_dir", path)?;
    }
    if let Some(user) = &options.user {
        text("user", user, |c| !c.is_control())?;
    }
    if let Some(hostname) = &options.hostname {
        validate_hostname(hostname)?;
    }
    for word in options.command.iter().chain(options.entrypoint.iter().flatten()) {
        if word.contains('\0') {
            return Err(OptionsError::Text {
                field: "command",
                value: word.clone(),
            });
        }
    }
    let first = options.entrypoint.iter().flatten().chain(&options.command).next();
    if first.is_some_and(String::is_empty) && options.entrypoint.is_none() {
        return Err(OptionsError::EmptyCommand);
    }
    if !options.has_main_process() {
        for (set, field) in [(options.tty, "tty"), (options.stdin_open, "stdin_open")] {
            if set {
                return Err(OptionsError::NeedsMainProcess { field });
            }
        }
    }
    validate_mounts(options)?;
    validate_network(options)?;
    for key in options.labels.keys() {
        text("labels", key, |c| !c.is_control())?;
    }
    if options.engine == EngineKind::Krun {
        return Err(OptionsError::Engine { engine: "krun" });
    }
    Ok(())
}

/// Checks a name that someone gives to a box.
pub(crate) fn validate_name(name: &str) -> Result<(), OptionsError> {
    let good = name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
    if good {
        Ok(())
    } else {
        Err(OptionsError::Name { name: name.to_owned() })
    }
}

fn validate_mounts(options: &BoxOptions) -> Result<(), OptionsError> {
    if options.mounts.len() > MAX_VOLUMES {
        return Err(OptionsError::TooManyMounts {
            count: options.mounts.len(),
            max: MAX_VOLUMES,
        });
    }
    let mut targets = BTreeSet::new();
    for mount in &options.mounts {
        if mount.source.as_os_str().is_empty() {
            return Err(OptionsError::MountSource {
                source_path: mount.source.clone(),
                reason: "the path is empty".to_owned(),
            });
        }
        box_path("mount target", &mount.target)?;
        let target = normal(&mount.target);
        let own = target == "/"
            || OWN_MOUNTS
                .iter()
                .any(|own| target == *own || target.strip_prefix(own).is_some_and(|r| r.starts_with('/')));
        if own {
            return Err(OptionsError::MountTarget {
                target: mount.target.clone(),
            });
        }
        if !targets.insert(target) {
            return Err(OptionsError::DuplicateMount {
                target: mount.target.clone(),
            });
        }
    }
    Ok(())
}

fn validate_network(options: &BoxOptions) -> Result<(), OptionsError> {
    if options.network == NetworkMode::None {
        if !options.ports.is_empty() {
            return Err(OptionsError::PortsWithoutNetwork);
        }
        if !options.dns.is_empty() {
            return Err(OptionsError::DnsWithoutNetwork);
        }
    }
    let mut published = Vec::new();
    for port in &options.ports {
        if port.guest == 0 {
            return Err(OptionsError::GuestPort);
        }
        let address = match port.host_ip {
            None => Ipv4Addr::LOCALHOST,
            Some(IpAddr::V4(address)) => address,
            Some(address @ IpAddr::V6(_)) => return Err(OptionsError::PortAddress { address }),
        };
        if port.host == 0 {
            continue;
        }
        // The wildcard address takes the port on every other address too.
        let clash = published.iter().any(|(number, protocol, other): &(_, _, Ipv4Addr)| {
            *number == port.host
                && *protocol == port.protocol
                && (*other == address || other.is_unspecified() || address.is_unspecified())
        });
        if clash {
            return Err(OptionsError::DuplicatePort {
                port: port.host,
                protocol: port.protocol,
            });
        }
        published.push((port.host, port.protocol, address));
    }
    for host in &options.extra_hosts {
        text("extra_hosts", &host.name, |c| {
            !c.is_control() && !c.is_whitespace() && c != '#'
        })?;
    }
    for domain in &options.dns_search {
        text("dns_search", domain, |c| !c.is_control() && !c.is_whitespace())?;
    }
    Ok(())
}

fn validate_hostname(hostname: &str) -> Result<(), OptionsError> {
    let good = !hostname.is_empty()
        && hostname.len() <= MAX_HOSTNAME_BYTES
        && hostname.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        });
    if good {
        Ok(())
    } else {
        Err(OptionsError::Hostname {
            hostname: hostname.to_owned(),
        })
    }
}

fn range(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), OptionsError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(OptionsError::OutOfRange { field, value, min, max })
    }
}

fn text(field: &'static str, value: &str, allowed: impl Fn(char) -> bool) -> Result<(), OptionsError> {
    if !value.is_empty() && value.chars().all(allowed) {
        Ok(())
    } else {
        Err(OptionsError::Text {
            field,
            value: value.to_owned(),
        })
    }
}

fn box_path(field: &'static str, path: &str) -> Result<(), OptionsError> {
    let good = path.starts_with('/') && !path.contains('\0') && !path.split('/').any(|part| part == "..");
    if good {
        Ok(())
    } else {
        Err(OptionsError::BoxPath {
            field,
            path: path.to_owned(),
        })
    }
}

/// The same path without double slashes, `.` and a trailing slash.
fn normal(path: &str) -> String {
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !part.is_empty() && *part != ".")
        .collect();
    format!("/{}", parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{ExtraHost, Mount, Port, Protocol};

    fn options() -> BoxOptions {
        BoxOptions::new("alpine")
    }

    #[test]
    fn defaults_are_valid() {
        options().validate().unwrap();
    }

    #[test]
    fn every_wrong_value_has_its_own_error() {
        type Case = (&'static str, BoxOptions, fn(&OptionsError) -> bool);
        let port = |host, guest| Port::new(host, guest);
        let cases: Vec<Case> = vec![
            ("image", BoxOptions::new(" "), |e| matches!(e, OptionsError::NoImage)),
            ("name", options().name("-a"), |e| matches!(e, OptionsError::Name { .. })),
            ("name slash", options().name("a/b"), |e| {
                matches!(e, OptionsError::Name { .. })
            }),
            ("name long", options().name("a".repeat(129)), |e| {
                matches!(e, OptionsError::Name { .. })
            }),
            ("cpus", options().cpus(0), |e| {
                matches!(e, OptionsError::OutOfRange { field: "cpus", .. })
            }),
            ("memory", options().memory_mib(1), |e| {
                matches!(
                    e,
                    OptionsError::OutOfRange {
                        field: "memory_mib",
                        ..
                    }
                )
            }),
            ("disk", options().disk_mib(1), |e| {
                matches!(e, OptionsError::OutOfRange { field: "disk_mib", .. })
            }),
            ("start", options().start_timeout_ms(0), |e| {
                matches!(
                    e,
                    OptionsError::OutOfRange {
                        field: "start_timeout_ms",
                        ..
                    }
                )
            }),
            ("env empty", options().env("", "x"), |e| {
                matches!(e, OptionsError::Env { .. })
            }),
            ("env equals", options().env("A=B", "x"), |e| {
                matches!(e, OptionsError::Env { .. })
            }),
            ("env nul", options().env("A", "\0"), |e| {
                matches!(e, OptionsError::Env { .. })
            }),
            ("workdir", options().working_dir("srv"), |e| {
                matches!(e, OptionsError::BoxPath { .. })
            }),
            ("workdir up", options().working_dir("/srv/../x"), |e| {
                matches!(e, OptionsError::BoxPath { .. })
            }),
            ("user", options().user(""), |e| {
                matches!(e, OptionsError::Text { field: "user", .. })
            }),
            ("hostname", options().hostname("a_b-"), |e| {
                matches!(e, OptionsError::Hostname { .. })
            }),
            ("command nul", options().command(["a\0b"]), |e| {
                matches!(e, OptionsError::Text { field: "command", .. })
            }),
            ("command empty", options().command([""]), |e| {
                matches!(e, OptionsError::EmptyCommand)
            }),
            ("tty", options().tty(true), |e| {
                matches!(e, OptionsError::NeedsMainProcess { field: "tty" })
            }),
            ("stdin", options().stdin_open(true), |e| {
                matches!(e, OptionsError::NeedsMainProcess { field: "stdin_open" })
            }),
            ("mount relative", options().mount(Mount::new("/a", "b")), |e| {
                matches!(e, OptionsError::BoxPath { .. })
            }),
            ("mount root", options().mount(Mount::new("/a", "//.")), |e| {
                matches!(e, OptionsError::MountTarget { .. })
            }),
            ("mount proc", options().mount(Mount::new("/a", "/proc/x")), |e| {
                matches!(e, OptionsError::MountTarget { .. })
            }),
            (
                "mount twice",
                options().mount(Mount::new("/a", "/b")).mount(Mount::new("/c", "/b/")),
                |e| matches!(e, OptionsError::DuplicateMount { .. }),
            ),
            (
                "nine mounts",
                (0..9).fold(options(), |options, n| options.mount(Mount::new("/a", format!("/{n}")))),
                |e| matches!(e, OptionsError::TooManyMounts { count: 9, max: 8 }),
            ),
            ("port 0", options().port(port(1, 0)), |e| {
                matches!(e, OptionsError::GuestPort)
            }),
            ("port twice", options().port(port(80, 1)).port(port(80, 2)), |e| {
                matches!(e, OptionsError::DuplicatePort { .. })
            }),
            (
                "port v6",
                options().port(Port {
                    host_ip: Some("::1".parse().unwrap()),
                    ..port(80, 1)
                }),
                |e| matches!(e, OptionsError::PortAddress { .. }),
            ),
            (
                "port none",
                options().network(NetworkMode::None).port(port(1, 1)),
                |e| matches!(e, OptionsError::PortsWithoutNetwork),
            ),
            (
                "dns none",
                options().network(NetworkMode::None).dns("1.1.1.1".parse().unwrap()),
                |e| matches!(e, OptionsError::DnsWithoutNetwork),
            ),
            ("krun", options().engine(EngineKind::Krun), |e| {
                matches!(e, OptionsError::Engine { .. })
            }),
            (
                "host",
                BoxOptions {
                    extra_hosts: vec![ExtraHost {
                        name: "a b".into(),
                        address: "1.1.1.1".parse().unwrap(),
                    }],
                    ..options()
                },
                |e| {
                    matches!(
                        e,
                        OptionsError::Text {
                            field: "extra_hosts",
                            ..
                        }
                    )
                },
            ),
            ("label", options().label("", "x"), |e| {
                matches!(e, OptionsError::Text { field: "labels", .. })
            }),
        ];
        for (what, options, expected) in cases {
            let error = options.validate().expect_err(what);
            assert!(expected(&error), "{what}: {error:?}");
        }
    }

    #[test]
    fn what_looks_alike_but_differs_is_valid() {
        let udp = Port {
            protocol: Protocol::Udp,
            ..Port::new(80, 80)
        };
        let other = Port {
            host_ip: Some("127.0.0.2".parse().unwrap()),
            ..Port::new(80, 80)
        };
        options()
            .port(Port::new(80, 80))
            .port(udp)
            .port(other)
            .port(Port::new(0, 80))
            .port(Port::new(0, 80))
            .mount(Mount::new("/a", "/process"))
            .hostname("a.b-c")
            .validate()
            .unwrap();
    }

    #[test]
    fn json_refuses_unknown_fields_and_knows_every_default() {
        let parsed: BoxOptions = serde_json::from_str(r#"{"image":"alpine"}"#).unwrap();
        assert_eq!(parsed, options());
        assert!(serde_json::from_str::<BoxOptions>(r#"{"image":"a","memory":1}"#).is_err());
        let text = serde_json::to_string(&parsed).unwrap();
        assert_eq!(serde_json::from_str::<BoxOptions>(&text).unwrap(), parsed);
    }
}
