//! What a supervisor is told: the machine and the box in it.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use boxlite_machine::{ConsoleLog, Disk, EngineSpec, MachineSpec, NetworkSpec, PortForward};
use boxlite_protocol::{DISK_SERIAL, ROOTFS_SERIAL};
use boxlite_shim::{Configure, HostEntry, LaunchConfig, Network, Process, StartFrom};
use boxlite_store::BoxRecord;

use crate::blank;
use crate::bundle::Bundle;
use crate::client::TemplateUse;
use crate::config::BoxConfig;
use crate::engine;
use crate::error::{StartError, StateError};
use crate::execution::TerminalSize;
use crate::handle::StartOptions;
use crate::launch::volumes;
use crate::options::{NetworkMode, Protocol, Security, StartPreference};
use crate::shared::Shared;
use crate::templates;

/// Name of a box's disk in its folder.
pub(crate) const DISK_NAME: &str = "disk";
pub(crate) const CONSOLE_LOG_NAME: &str = "console.log";
pub(crate) const RUNTIME_DIR_NAME: &str = "run";
pub(crate) const CONSOLE_LOG_BYTES: u64 = 1 << 20;

/// The resolver of the engine's user-mode network (machines.md: 10.0.2.0/24).
const RESOLVER: &str = "10.0.2.3";

pub(super) struct Inputs<'a> {
    pub(super) shared: &'a Shared,
    pub(super) record: &'a BoxRecord,
    pub(super) config: &'a BoxConfig,
    pub(super) bundle: &'a Bundle,
    pub(super) rootfs: PathBuf,
    pub(super) run_id: &'a str,
    pub(super) wait_for_attach: bool,
    pub(super) size: Option<TerminalSize>,
    pub(super) stdin: bool,
    pub(super) start: StartOptions,
}

/// Puts together what the supervisor is told, and makes the folders that it needs. Blocking.
pub(super) fn launch_config(inputs: &Inputs<'_>) -> Result<LaunchConfig, StartError> {
    let Inputs {
        shared,
        record,
        config,
        bundle,
        ..
    } = inputs;
    let options = &config.options;
    let id = record.id.as_str();
    let box_dir = shared.home.box_dir(&record.id);
    let runtime_dir = make_private_dir(box_dir.join(RUNTIME_DIR_NAME))?;
    let cache_dir = engine::cache_dir(&shared.home)?;
    let (shares, volumes) = volumes::plan(&options.mounts)?;
    let (network, guest_network) = network(config, id);
    let machine = MachineSpec {
        vcpus: options.cpus,
        memory_mib: options.memory_mib,
        kernel: bundle.kernel(),
        initramfs: bundle.initramfs(),
        kernel_args_extra: Vec::new(),
        rootfs: Some(Disk {
            file: inputs.rootfs.clone(),
            serial: ROOTFS_SERIAL.to_owned(),
            read_only: true,
        }),
        disk: Some(Disk {
            file: box_dir.join(DISK_NAME),
            serial: DISK_SERIAL.to_owned(),
            read_only: false,
        }),
        blank: None,
        shares,
        network,
        console_log: ConsoleLog {
            path: box_dir.join(CONSOLE_LOG_NAME),
            max_bytes: CONSOLE_LOG_BYTES,
        },
        runtime_dir,
        engine: EngineSpec {
            qemu: None,
            cache_dir: Some(cache_dir),
        },
        accelerator: engine::wanted(shared.accelerator),
        security: match options.security {
            Security::Standard => boxlite_machine::Security::Default,
            Security::Strict => boxlite_machine::Security::Strict,
        },
    };
    Ok(LaunchConfig {
        box_id: id.to_owned(),
        run_id: inputs.run_id.to_owned(),
        machine,
        // The disk may be missing only for reasons that the start will find out and tell.
        disk_is_blank: boxlite_disk::unused_bytes(&box_dir.join(DISK_NAME))
            .is_ok_and(|bytes| bytes == Some(blank::FILESYSTEM_BYTES)),
        start_from: start_from(shared, options.start)?,
        configure: Configure {
            hostname: config.hostname(id),
            machine_id: id.to_owned(),
            rootfs_serial: ROOTFS_SERIAL.to_owned(),
            disk_serial: DISK_SERIAL.to_owned(),
            volumes,
            network: guest_network,
            hosts: options
                .extra_hosts
                .iter()
                .map(|host| HostEntry {
                    name: host.name.clone(),
                    address: host.address.to_string(),
                })
                .collect(),
            volume_dirs: config.volume_dirs.clone(),
        },
        main: main_process(config, inputs),
        wait_for_attach: inputs.wait_for_attach,
        stop_signal: config.stop_signal.number(),
        stop_grace_ms: options.stop_timeout_ms,
        // Less than a millisecond is none that could be kept.
        start_timeout_ms: inputs.start.timeout.map_or(options.start_timeout_ms, |timeout| {
            Some(u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1))
        }),
        keep_stdin_open: options.stdin_open,
        log_limits: boxlite_shim::log::Limits {
            max_file_bytes: options.log_limits.max_mib.saturating_mul(1 << 20),
            max_files: options.log_limits.files.saturating_add(1),
        },
        remove_disk_on_exit: options.auto_remove,
        parent_watch: !inputs.start.detached.unwrap_or(options.detached),
        box_dir,
    })
}

/// What a start begins with.
pub(crate) fn start_from(shared: &Shared, preference: StartPreference) -> Result<StartFrom, StateError> {
    Ok(match (preference, shared.templates) {
        (StartPreference::Cold, _) => StartFrom::KernelAsAsked,
        (StartPreference::Auto, TemplateUse::Off) => StartFrom::Kernel,
        (StartPreference::Auto, uses) => {
            StartFrom::Template(templates::location(&shared.home, uses == TemplateUse::Auto)?)
        }
    })
}

fn main_process(config: &BoxConfig, inputs: &Inputs<'_>) -> Option<Process> {
    if config.is_idle() {
        return None;
    }
    Some(Process {
        args: config.args.iter().map(|arg| arg.as_str().into()).collect(),
        env: config.env.iter().map(|entry| entry.as_str().into()).collect(),
        working_dir: config.working_dir.as_str().into(),
        create_working_dir: true,
        user: config.user.clone(),
        tty: config.options.tty,
        size: inputs.size.map(|size| boxlite_shim::TerminalSize {
            rows: size.rows.into(),
            columns: size.columns.into(),
        }),
        // A start that attaches feeds it; a box that keeps it open waits for who will.
        stdin: config.options.stdin_open || inputs.stdin,
    })
}

fn network(config: &BoxConfig, id: &str) -> (NetworkSpec, Option<Network>) {
    let options = &config.options;
    if options.network == NetworkMode::None {
        return (NetworkSpec::None, None);
    }
    let mac = mac_address(id);
    let ports = options
        .ports
        .iter()
        .map(|port| PortForward {
            host_ip: port.host_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host_port: port.host,
            guest_port: port.guest,
            protocol: match port.protocol {
                Protocol::Tcp => boxlite_machine::Protocol::Tcp,
                Protocol::Udp => boxlite_machine::Protocol::Udp,
            },
        })
        .collect();
    let nameservers = if options.dns.is_empty() {
        vec![RESOLVER.to_owned()]
    } else {
        options.dns.iter().map(ToString::to_string).collect()
    };
    let guest = Network {
        mac: mac.clone(),
        address_cidr: boxlite_protocol::USUAL_ADDRESS_CIDR.to_owned(),
        gateway: boxlite_protocol::USUAL_GATEWAY.to_owned(),
        nameservers,
        search: options.dns_search.clone(),
    };
    (NetworkSpec::User { mac, ports }, Some(guest))
}

/// An address in the range that QEMU uses, the same at every start of a box.
fn mac_address(id: &str) -> String {
    let mut address = "52:54:00".to_owned();
    for index in 0..3 {
        address.push(':');
        address.push_str(id.get(index * 2..index * 2 + 2).unwrap_or("00"));
    }
    address
}

fn make_private_dir(path: PathBuf) -> Result<PathBuf, StartError> {
    use std::os::unix::fs::DirBuilderExt;

    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
    match made {
        Ok(()) => Ok(path),
        Err(source) => Err(StartError::File {
            action: "making",
            path,
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{BoxOptions, Port};

    fn config(options: BoxOptions) -> BoxConfig {
        BoxConfig::merge(
            options,
            &boxlite_image::ImageConfig::default(),
            "linux/amd64".to_owned(),
        )
        .unwrap()
    }

    #[test]
    fn addresses_are_stable_and_differ() {
        let mac = mac_address("0a1b2c3d4e5f60718293a4b5c6d7e8f9");
        assert_eq!(mac, "52:54:00:0a:1b:2c");
        assert_ne!(mac, mac_address("ff1b2c3d4e5f60718293a4b5c6d7e8f9"));
    }

    #[test]
    fn ports_go_to_the_loopback_address_unless_one_is_given() {
        let any: IpAddr = "0.0.0.0".parse().unwrap();
        let options = BoxOptions::new("image").port(Port::new(0, 80)).port(Port {
            host_ip: Some(any),
            protocol: Protocol::Udp,
            ..Port::new(53, 53)
        });
        let (NetworkSpec::User { ports, .. }, Some(guest)) = network(&config(options), "00") else {
            panic!("a network by default");
        };
        assert_eq!(ports[0].host_ip, IpAddr::V4(Ipv4Addr::LOCALHOST));
        assert_eq!(ports[1].host_ip, any);
        assert_eq!(ports[1].protocol, boxlite_machine::Protocol::Udp);
        assert_eq!(guest.nameservers, [RESOLVER]);
    }

    #[test]
    fn no_network_is_none_on_both_sides() {
        let options = BoxOptions::new("image").network(NetworkMode::None);
        assert!(matches!(network(&config(options), "00"), (NetworkSpec::None, None)));
    }
}
