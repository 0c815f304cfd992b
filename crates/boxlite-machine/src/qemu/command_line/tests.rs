use super::*;
use crate::spec::{ConsoleLog, EngineSpec, Security, Share};
use proptest::prelude::*;

const FDS: Descriptors = Descriptors {
    qmp: 5,
    console: 6,
    agent: 7,
    boot: BootDescriptors::Kernel {
        kernel: 8,
        initramfs: 9,
        ram: None,
        tsc_khz: Some(2_596_144),
    },
    rootfs: Some(10),
    disk: Some(11),
    blank: None,
};

fn disk(serial: &str, read_only: bool) -> Option<Disk> {
    Some(Disk {
        file: "/x".into(),
        serial: serial.into(),
        read_only,
    })
}

fn share(tag: &str, read_only: bool) -> Share {
    Share::folder(tag, "/srv", read_only)
}

fn machine() -> MachineSpec {
    MachineSpec {
        vcpus: 2,
        memory_mib: 256,
        kernel: "/k".into(),
        initramfs: "/i".into(),
        kernel_args_extra: vec!["boxlite.x=1".into()],
        rootfs: disk("rootfs", true),
        disk: disk("disk", false),
        blank: None,
        shares: Vec::new(),
        network: NetworkSpec::None,
        console_log: ConsoleLog {
            path: "/c".into(),
            max_bytes: 8192,
        },
        runtime_dir: "/r".into(),
        engine: EngineSpec::default(),
        accelerator: None,
        security: Security::Default,
    }
}

fn line(spec: &MachineSpec, accelerator: Accelerator, exports: &[&Path]) -> Result<String, InvalidSpec> {
    arguments(spec, accelerator, Some("on"), exports, &FDS).map(|arguments| format!(" {} ", arguments.join(" ")))
}

#[test]
fn emulation_keeps_the_timer_and_kvm_does_without() {
    let tcg = line(&machine(), Accelerator::Tcg, &[]).unwrap();
    assert!(
        tcg.contains(
            " -accel tcg,thread=multi,tb-size=128 -cpu max,-erms,-fsrm,-smap -M microvm,acpi=off,memory-backend=ram -smp 2 -m 256 "
        ),
        "{tcg}"
    );
    assert!(!tcg.contains("pit="));
    assert!(tcg.contains(" no_timer_check "));
    let kvm = line(&machine(), Accelerator::Kvm, &[]).unwrap();
    assert!(
        kvm.contains(" -accel kvm -cpu host -M microvm,acpi=off,memory-backend=ram,pit=off,pic=off,rtc=on "),
        "{kvm}"
    );
    assert!(!kvm.contains("no_timer_check") && !kvm.contains("lapic_timer_hz"));
    assert!(kvm.contains(" -sandbox on "));
}

#[test]
fn disks_are_given_as_descriptors_with_their_serials() {
    let line = line(&machine(), Accelerator::Tcg, &[]).unwrap();
    assert!(line.contains(" -add-fd fd=10,set=0 -blockdev driver=file,node-name=rootfs-file,filename=/dev/fdset/0,locking=off,aio=threads,read-only=on,"), "{line}");
    assert!(line.contains(" -device virtio-blk-device,drive=rootfs,serial=rootfs "));
    assert!(line.contains(" -blockdev driver=raw,node-name=disk,file=disk-file,discard=unmap,detect-zeroes=unmap "));
    assert!(line.find("drive=rootfs") < line.find("drive=disk"));
    assert!(line.contains(
        " -append quiet panic=-1 reboot=t console=ttyS0 random.trust_cpu=on dummy.numdummies=0 no_timer_check lapic_timer_hz=1000000000 tsc_early_khz=2596144 tsc=reliable lpj=10384576 boxlite.x=1 "
    ));
}

#[test]
fn shares_keep_their_commas_and_their_locks() {
    let mut spec = machine();
    spec.shares = vec![share("v0", true), share("v1", false)];
    let line = line(&spec, Accelerator::Tcg, &[Path::new("/a,path=/etc"), Path::new("/b")]).unwrap();
    assert!(
        line.contains(" local,id=share0,path=/a,,path=/etc,security_model=none,multidevs=remap,readonly=on "),
        "{line}"
    );
    assert!(line.contains(" local,id=share1,path=/b,security_model=none,multidevs=remap -device virtio-9p-device,fsdev=share1,mount_tag=v1 "));
}

#[test]
fn published_ports_are_forwarded_and_no_network_is_no_device() {
    let mut spec = machine();
    assert!(!line(&spec, Accelerator::Tcg, &[]).unwrap().contains("netdev"));
    let port = |host_ip: &str, host_port, protocol| PortForward {
        host_ip: host_ip.parse().unwrap(),
        host_port,
        guest_port: 80,
        protocol,
    };
    spec.network = NetworkSpec::User {
        mac: "52:54:00:12:34:56".into(),
        ports: vec![
            port("127.0.0.1", 8080, Protocol::Tcp),
            port("0.0.0.0", 0, Protocol::Udp),
        ],
    };
    let text = line(&spec, Accelerator::Tcg, &[]).unwrap();
    assert!(
        text.contains(" -netdev user,id=net,ipv6=off,hostfwd=tcp:127.0.0.1:8080-:80,hostfwd=udp:0.0.0.0:0-:80 "),
        "{text}"
    );
    assert!(text.contains(" virtio-net-device,netdev=net,guest_announce=off,mac=52:54:00:12:34:56 "));
    spec.network = NetworkSpec::User {
        mac: "52:54:00:12:34:56".into(),
        ports: vec![port("::1", 1, Protocol::Tcp)],
    };
    assert!(matches!(
        line(&spec, Accelerator::Tcg, &[]),
        Err(InvalidSpec::Port { .. })
    ));
}

#[test]
fn a_full_machine_goes_without_the_random_device_and_a_fuller_one_is_refused() {
    let mut spec = machine();
    spec.network = NetworkSpec::User {
        mac: "52:54:00:12:34:56".into(),
        ports: Vec::new(),
    };
    let export = Path::new("/s");
    for shares in 0..=5 {
        spec.shares = (0..shares).map(|n| share(&format!("v{n}"), false)).collect();
        let result = line(&spec, Accelerator::Tcg, &vec![export; shares]);
        match shares {
            0..=3 => assert!(result.unwrap().contains("virtio-rng-device")),
            4 => assert!(!result.unwrap().contains("virtio-rng-device")),
            _ => assert_eq!(result, Err(InvalidSpec::Shares(5))),
        }
    }
}

#[test]
fn nonsense_is_refused() {
    let refused = |change: fn(&mut MachineSpec)| {
        let mut spec = machine();
        change(&mut spec);
        line(&spec, Accelerator::Tcg, &[Path::new("/s")]).unwrap_err()
    };
    assert_eq!(refused(|spec| spec.vcpus = 0), InvalidSpec::Cpus(0));
    assert_eq!(refused(|spec| spec.memory_mib = 1), InvalidSpec::Memory(1));
    assert_eq!(
        refused(|spec| spec.disk = disk("a,b", false)),
        InvalidSpec::DeviceName("a,b".into())
    );
    assert_eq!(
        refused(|spec| spec.shares = vec![share("", false)]),
        InvalidSpec::DeviceName(String::new())
    );
    assert!(matches!(
        refused(|spec| spec.kernel_args_extra = vec!["a b".into()]),
        InvalidSpec::KernelArgument(_)
    ));
    let mac = |spec: &mut MachineSpec| {
        spec.network = NetworkSpec::User {
            mac: "52:54:00:12:34:56,x".into(),
            ports: Vec::new(),
        };
    };
    assert!(matches!(refused(mac), InvalidSpec::Mac(_)));
}

proptest! {
    #[test]
    fn no_path_adds_an_option(path in "[a-z,=/]{1,20}") {
        let escaped = escaped(Path::new(&path)).unwrap();
        // Read as QEMU reads it: a comma that is not doubled ends the value.
        prop_assert!(!escaped.replace(",,", "").contains(','));
        prop_assert_eq!(escaped.replace(",,", ","), path);
    }
}

#[test]
fn a_blank_disk_is_the_third() {
    let mut spec = machine();
    spec.blank = disk("blank", false);
    let fds = Descriptors { blank: Some(12), ..FDS };
    let text = arguments(&spec, Accelerator::Tcg, None, &[], &fds).unwrap().join(" ");
    let position = |serial: &str| text.find(&format!("serial={serial}")).unwrap();
    assert!(position("rootfs") < position("disk") && position("disk") < position("blank"));
    assert!(text.contains("-add-fd fd=12,set=2 "), "{text}");
}
