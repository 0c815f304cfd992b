//! QEMU's arguments for a machine.

use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use crate::spec::{Accelerator, Disk, MachineSpec, NetworkSpec, PortForward, Protocol};

/// microvm without ACPI has this many places for virtio devices, with `ioapic2` too.
pub(super) const DEVICE_SLOTS: usize = 8;
/// Shares beside the serial port, two disks and a network card.
pub const MAX_SHARES: usize = DEVICE_SLOTS - 4;
/// microvm's limit.
const MAX_VCPUS: u32 = 255;
/// Under emulation. A guest that sees fast string instructions copies and clears memory with
/// them a byte at a time, and each byte is a round of its own here. With SMAP its kernel opens and
/// closes the door to user memory around each access, and each of the two ends a block of
/// translated code; what it guards is the guest's kernel against the guest.
pub(super) const TCG_CPU: &str = "max,-erms,-fsrm,-smap";
/// Name of the virtio-serial port on which the agent listens.
const AGENT_PORT: &str = "boxlite.agent";
/// The same port among the engine's devices.
pub(super) const AGENT_DEVICE: &str = "agent-port";
/// Longest serial of a virtio-blk device.
const MAX_SERIAL_BYTES: usize = 20;
/// Longest mount tag that the guest's kernel takes.
const MAX_TAG_BYTES: usize = 31;

/// A machine that QEMU can't run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpec {
    /// Too few or too many CPUs.
    #[error("{0} CPUs: a machine has 1 to {MAX_VCPUS}")]
    Cpus(u32),
    /// Too little or too much memory.
    #[error("{0} MiB of memory: a machine has 64 MiB to 16 TiB")]
    Memory(u64),
    /// Too many shares.
    #[error("{0} shares: a machine has at most {MAX_SHARES}")]
    Shares(usize),
    /// A serial or tag that can't be one.
    #[error("{0:?} can't name a device")]
    DeviceName(String),
    /// A MAC address that isn't one.
    #[error("{0:?} is not a MAC address")]
    Mac(String),
    /// QEMU's arguments are text.
    #[error("the path {} is not UTF-8", .0.display())]
    Path(PathBuf),
    /// A port that can't be published.
    #[error("{protocol} port {host_ip}:{host_port} can't be published: {why}", protocol = .port.protocol, host_ip = .port.host_ip, host_port = .port.host_port)]
    Port {
        /// The port.
        port: PortForward,
        /// The reason.
        why: &'static str,
    },
    /// Words for the kernel with something else than printable characters in them.
    #[error("{0:?} can't be on a kernel's command line")]
    KernelArgument(String),
}

/// The numbers of the descriptors that QEMU gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptors {
    pub(crate) qmp: RawFd,
    pub(crate) console: RawFd,
    pub(crate) agent: RawFd,
    pub(crate) boot: BootDescriptors,
    /// Of the root file system and the disks, as far as there are such.
    pub(crate) rootfs: Option<RawFd>,
    pub(crate) disk: Option<RawFd>,
    pub(crate) blank: Option<RawFd>,
}

/// Where the guest's first state comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BootDescriptors {
    /// The kernel starts.
    Kernel {
        kernel: RawFd,
        initramfs: RawFd,
        /// A file that is to be the guest's memory, which a template is made of.
        ram: Option<RawFd>,
        /// Of the time stamp counter that the guest will read, where it is known.
        tsc_khz: Option<u32>,
    },
    /// It goes on where a template's guest stood: nothing of the kernel's file is needed.
    Template {
        /// Its memory, of which this machine gets a private view.
        ram: RawFd,
    },
}

/// The arguments, without the program's name. `exports` are the folders of the shares.
pub(crate) fn arguments(
    spec: &MachineSpec,
    accelerator: Accelerator,
    sandbox: Option<&str>,
    exports: &[&Path],
    fds: &Descriptors,
) -> Result<Vec<String>, InvalidSpec> {
    if !(1..=MAX_VCPUS).contains(&spec.vcpus) {
        return Err(InvalidSpec::Cpus(spec.vcpus));
    }
    if !(64..=16 << 20).contains(&spec.memory_mib) {
        return Err(InvalidSpec::Memory(spec.memory_mib));
    }
    if exports.len() > MAX_SHARES {
        return Err(InvalidSpec::Shares(exports.len()));
    }
    let mut arguments = Arguments::default();
    arguments.machine(spec, accelerator, &fds.boot);
    if let Some(sandbox) = sandbox {
        arguments.add("-sandbox", sandbox);
    }
    match fds.boot {
        BootDescriptors::Kernel {
            kernel,
            initramfs,
            tsc_khz,
            ..
        } => {
            arguments.add("-kernel", descriptor_path(kernel));
            arguments.add("-initrd", descriptor_path(initramfs));
            arguments.add(
                "-append",
                kernel_command_line(accelerator, tsc_khz, &spec.kernel_args_extra)?,
            );
        }
        // Where the state is comes on the control channel, behind what is to be known of it.
        BootDescriptors::Template { .. } => arguments.add("-incoming", "defer"),
    }
    arguments.add("-chardev", format!("socket,id=qmp,fd={}", fds.qmp));
    arguments.add("-mon", "chardev=qmp,mode=control");
    arguments.add("-chardev", format!("socket,id=console,fd={}", fds.console));
    arguments.add("-serial", "chardev:console");
    arguments.device("virtio-serial-device,max_ports=2");
    arguments.add("-chardev", format!("socket,id=agent,fd={}", fds.agent));
    arguments.add(
        "-device",
        format!("virtserialport,id={AGENT_DEVICE},chardev=agent,name={AGENT_PORT}"),
    );
    let disks = [
        ("rootfs", &spec.rootfs, fds.rootfs),
        ("disk", &spec.disk, fds.disk),
        ("blank", &spec.blank, fds.blank),
    ];
    for (set, (id, disk, fd)) in disks.into_iter().enumerate() {
        if let (Some(disk), Some(fd)) = (disk, fd) {
            arguments.disk(id, disk, fd, set)?;
        }
    }
    for (index, (share, export)) in spec.shares.iter().zip(exports).enumerate() {
        let tag = device_name(&share.tag, MAX_TAG_BYTES)?;
        let path = escaped(export)?;
        let read_only = if share.is_read_only() { ",readonly=on" } else { "" };
        arguments.add(
            "-fsdev",
            format!("local,id=share{index},path={path},security_model=none,multidevs=remap{read_only}"),
        );
        arguments.device(format!("virtio-9p-device,fsdev=share{index},mount_tag={tag}"));
    }
    if let NetworkSpec::User { mac, ports } = &spec.network {
        // It would announce addresses that a guest prefers also where the host has no IPv6.
        let mut network = "user,id=net,ipv6=off".to_owned();
        for port in ports {
            network.push_str(&format!(",hostfwd={}", forwarding_rule(port)?));
        }
        arguments.add("-netdev", network);
        // A machine that goes on from a state would tell its network where it is now; nobody in a
        // network of its own wants to know, and it takes the guest longer than its first packet.
        let device = format!(
            "virtio-net-device,netdev=net,guest_announce=off,mac={}",
            mac_address(mac)?
        );
        arguments.device(device);
    }
    // The agent is given entropy by its host; this is for what the guest runs later.
    if arguments.slots < DEVICE_SLOTS {
        arguments.add("-object", "rng-builtin,id=rng");
        arguments.device("virtio-rng-device,rng=rng");
    }
    Ok(arguments.list)
}

#[derive(Debug, Default)]
struct Arguments {
    list: Vec<String>,
    slots: usize,
}

impl Arguments {
    fn add(&mut self, option: &str, value: impl Into<String>) {
        self.list.push(option.to_owned());
        self.list.push(value.into());
    }

    /// A device on the virtio bus.
    fn device(&mut self, device: impl Into<String>) {
        self.slots += 1;
        self.add("-device", device);
    }

    fn machine(&mut self, spec: &MachineSpec, accelerator: Accelerator, boot: &BootDescriptors) {
        for flag in ["-nodefaults", "-no-user-config", "-no-reboot"] {
            self.list.push(flag.to_owned());
        }
        self.add("-display", "none");
        let machine = "microvm,acpi=off,memory-backend=ram";
        match accelerator {
            Accelerator::Kvm => {
                self.add("-accel", "kvm");
                self.add("-cpu", "host");
                self.add("-M", format!("{machine},pit=off,pic=off,rtc=on"));
            }
            // Hypervisors of other systems are refused before. The cache of translated code is
            // the host's memory: bounded, whatever the guest runs.
            Accelerator::Tcg | Accelerator::Hvf => {
                self.add("-accel", "tcg,thread=multi,tb-size=128");
                self.add("-cpu", TCG_CPU);
                self.add("-M", machine);
            }
        }
        self.add("-smp", spec.vcpus.to_string());
        self.add("-m", spec.memory_mib.to_string());
        let (backend, place) = match boot {
            BootDescriptors::Kernel { ram: None, .. } => ("memory-backend-memfd", String::new()),
            BootDescriptors::Kernel { ram: Some(ram), .. } => (
                "memory-backend-file",
                format!(",share=on,mem-path={}", descriptor_path(*ram)),
            ),
            BootDescriptors::Template { ram } => (
                "memory-backend-file",
                format!(",share=off,mem-path={}", descriptor_path(*ram)),
            ),
        };
        self.add(
            "-object",
            format!("{backend},id=ram,size={}M,merge=off,dump=off{place}", spec.memory_mib),
        );
    }

    fn disk(&mut self, id: &str, disk: &Disk, fd: RawFd, set: usize) -> Result<(), InvalidSpec> {
        let serial = device_name(&disk.serial, MAX_SERIAL_BYTES)?;
        let access = if disk.read_only {
            ",read-only=on,auto-read-only=off"
        } else {
            ",discard=unmap"
        };
        self.add("-add-fd", format!("fd={fd},set={set}"));
        self.add(
            "-blockdev",
            format!("driver=file,node-name={id}-file,filename=/dev/fdset/{set},locking=off,aio=threads{access}"),
        );
        let zeroes = if disk.read_only { "" } else { ",detect-zeroes=unmap" };
        self.add(
            "-blockdev",
            format!("driver=raw,node-name={id},file={id}-file{access}{zeroes}"),
        );
        self.device(format!("virtio-blk-device,drive={id},serial={serial}"));
        Ok(())
    }
}

fn descriptor_path(fd: RawFd) -> String {
    format!("/proc/self/fd/{fd}")
}

/// Clock ticks a second of the guest kernel (`CONFIG_HZ`), for `lpj=`. A kernel of the user's own
/// with more of them waits longer than it must in its drivers' delays, never shorter.
const GUEST_HZ: u32 = 250;

/// The frequency of the local APIC's timer as QEMU emulates it: a count a nanosecond.
const EMULATED_APIC_HZ: u32 = 1_000_000_000;

/// What an emulated guest is told of its timers. Left alone, the kernel measures each of them
/// against the PIT for some 300 ms, and where the host is busy it measures wrong: it takes the
/// interrupt controller for broken («8254 timer not connected») or the APIC's timer for unfit,
/// and then goes on without high-resolution timers, or not at all.
fn emulated_timers(tsc_khz: Option<u32>) -> String {
    let mut line = format!(" no_timer_check lapic_timer_hz={EMULATED_APIC_HZ}");
    if let Some(khz) = tsc_khz {
        let loops_per_jiffy = u64::from(khz) * 1000 / u64::from(GUEST_HZ);
        line.push_str(&format!(" tsc_early_khz={khz} tsc=reliable lpj={loops_per_jiffy}"));
    }
    line
}

fn kernel_command_line(
    accelerator: Accelerator,
    tsc_khz: Option<u32>,
    extra: &[String],
) -> Result<String, InvalidSpec> {
    // quiet: a serial port is slow under emulation; what matters (a panic) is printed anyway.
    let mut line = "quiet panic=-1 reboot=t console=ttyS0 random.trust_cpu=on dummy.numdummies=0".to_owned();
    match accelerator {
        Accelerator::Kvm => {}
        Accelerator::Tcg | Accelerator::Hvf => line.push_str(&emulated_timers(tsc_khz)),
    }
    for argument in extra {
        if argument.is_empty() || !argument.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidSpec::KernelArgument(argument.clone()));
        }
        line.push(' ');
        line.push_str(argument);
    }
    Ok(line)
}

fn device_name(name: &str, max_bytes: usize) -> Result<&str, InvalidSpec> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if (1..=max_bytes).contains(&name.len()) && name.bytes().all(allowed) {
        Ok(name)
    } else {
        Err(InvalidSpec::DeviceName(name.to_owned()))
    }
}

fn mac_address(mac: &str) -> Result<&str, InvalidSpec> {
    let pairs: Vec<&str> = mac.split(':').collect();
    let pair = |pair: &&str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    if pairs.len() == 6 && pairs.iter().all(pair) {
        Ok(mac)
    } else {
        Err(InvalidSpec::Mac(mac.to_owned()))
    }
}

/// A path as part of an option, in which a comma is written twice.
fn escaped(path: &Path) -> Result<String, InvalidSpec> {
    let text = path.to_str().ok_or_else(|| InvalidSpec::Path(path.to_owned()))?;
    Ok(text.replace(',', ",,"))
}

/// `tcp:127.0.0.1:8080-:80`
pub(crate) fn forwarding_rule(port: &PortForward) -> Result<String, InvalidSpec> {
    let invalid = |why| {
        Err(InvalidSpec::Port {
            port: port.clone(),
            why,
        })
    };
    if port.guest_port == 0 {
        return invalid("it leads to port 0");
    }
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    };
    match port.host_ip {
        std::net::IpAddr::V4(address) => Ok(format!("{protocol}:{address}:{}-:{}", port.host_port, port.guest_port)),
        std::net::IpAddr::V6(_) => invalid("QEMU's user-mode network publishes on IPv4 addresses only"),
    }
}

#[cfg(test)]
mod tests;
