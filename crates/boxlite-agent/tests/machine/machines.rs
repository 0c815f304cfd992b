//! Start, set-up and end of machines.

use boxlite_protocol::guest::{
    ConfigureRequest, HostEntry, MetricsRequest, ProcessesRequest, SignalRequest, StatPathRequest, exec_refused::Reason,
};
use tonic::Code;

use crate::harness::{Execution, Machine, Options, configure_request, connect, exec, print, shell, spec};

#[tokio::test]
#[ignore = "starts a machine"]
async fn a_probe_powers_off_at_once() {
    let mut machine = Machine::start(&Options {
        kernel_args: "quiet boxlite.probe=1",
        ..Default::default()
    });
    machine.wait_off().await;
    assert!(!machine.console().contains("boxlite-agent"));
}

#[tokio::test]
#[ignore = "starts a machine"]
async fn a_box_is_as_configured() {
    let options = Options {
        network: true,
        ..Default::default()
    };
    let mut machine = Machine::start(&options);
    let (mut client, hello) = machine.connect().await;
    assert!(hello.kernel_release.contains("boxlite"), "{hello:?}");
    assert!(hello.kernel_us > 0 && hello.agent_us > 0, "{hello:?}");

    // Nothing works before there is a box, and everything says so.
    let status = client.metrics(MetricsRequest {}).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let refused = Execution::start(&mut client, spec(&["true"]), false).await;
    assert_eq!(refused.err().unwrap().reason(), Reason::NotRunning);
    let wrong = ConfigureRequest {
        disk_serial: "none".into(),
        ..configure_request(&options)
    };
    let status = client.configure(wrong).await.unwrap_err();
    assert!(status.message().contains("vda (bl-disk)"), "{status}");

    let mut request = configure_request(&options);
    request.hosts.push(HostEntry {
        name: "neighbour".into(),
        address: "10.0.2.99".into(),
    });
    let configured = client.configure(request.clone()).await.unwrap().into_inner();
    assert!(configured.total_us >= configured.mounts_us && configured.mounts_us > 0);
    let again = client.configure(request).await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);

    let client = &mut client;
    assert_eq!(print(client, "hostname; cat /etc/hostname").await, "box-one\nbox-one\n");
    assert_eq!(
        print(client, "cat /etc/machine-id").await,
        "00112233445566778899aabbccddeeff\n"
    );
    let hosts = print(client, "cat /etc/hosts").await;
    assert!(hosts.contains("10.0.2.99\tneighbour\n10.0.2.15\tbox-one\n"), "{hosts}");
    assert_eq!(
        print(client, "cat /run/resolver/stub.conf").await,
        "nameserver 10.0.2.3\n"
    );
    print(
        client,
        "echo '1.2.3.4 edited' >> /etc/hosts && grep -q edited /etc/hosts",
    )
    .await;
    assert_eq!(
        print(client, "cat /etc/motd; ls -d /data/of/image").await,
        "from the image\n/data/of/image\n"
    );
    assert_eq!(
        print(client, "ls /dev | tr '\\n' ' '").await,
        "console core fd full fuse mqueue net null ptmx pts random shm stderr stdin stdout tty urandom zero "
    );
    assert_eq!(print(client, "ls /proc/self/fd | wc -l").await, "4\n");
    assert_eq!(print(client, "ulimit -n; ulimit -c; umask").await, "1048576\n0\n0022\n");
    assert_eq!(print(client, "cat /proc/self/oom_score_adj").await, "0\n");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let theirs: u64 = print(client, "busybox date +%s").await.trim().parse().unwrap();
    assert!(now.as_secs().abs_diff(theirs) < 30);
    let boot_id = print(client, "cat /proc/sys/kernel/random/boot_id").await;
    assert_eq!(boot_id.len(), 37);
    assert_eq!(
        print(client, "mkdir /sys/fs/cgroup/mine && cat /proc/1/cgroup").await,
        "0::/\n"
    );
    // The host's 10.0.2.2 is the engine's own: it answers without a network on the host.
    let net = print(
        client,
        "ifconfig eth0; route -n; cat /proc/sys/net/ipv4/ip_unprivileged_port_start",
    )
    .await;
    assert!(
        net.contains("10.0.2.15") && net.contains("10.0.2.2") && net.ends_with("\n0\n"),
        "{net}"
    );
    print(client, "ping -c 1 -W 20 10.0.2.2 && ping -c 1 127.0.0.1").await;
    let mounts = print(client, "cat /proc/mounts").await;
    assert!(!mounts.contains(" erofs ") && !mounts.contains(" ext4 "), "{mounts}");

    let listed = client
        .processes(ProcessesRequest {})
        .await
        .unwrap()
        .into_inner()
        .processes;
    assert_eq!(listed.len(), 1, "{listed:?}");
    assert_eq!(
        (listed[0].pid, listed[0].user.as_str(), listed[0].command.as_str()),
        (1, "root", "boxlite-init")
    );
    let metrics = client.metrics(MetricsRequest {}).await.unwrap().into_inner();
    assert!(
        metrics.cpu_usage_us > 0 && metrics.memory_usage_bytes > 0,
        "{metrics:?}"
    );
    assert!(
        metrics.memory_limit_bytes > 200 << 20 && metrics.processes == 1,
        "{metrics:?}"
    );
    assert!(
        metrics.net_rx_bytes > 0 && metrics.net_tx_bytes > 0 && metrics.block_read_bytes > 0,
        "{metrics:?}"
    );
    assert!(
        metrics.disk_total_bytes > 400 << 20 && metrics.disk_used_bytes < 64 << 20,
        "{metrics:?}"
    );

    assert!(!machine.shut_down(client, 15, 1000).await);
}

/// Guests have the usual address from the beginning; a host that wants another one gets it alone.
#[tokio::test]
#[ignore = "starts a machine"]
async fn an_unusual_address_takes_the_place_of_the_usual_one() {
    let options = Options {
        network: true,
        ..Default::default()
    };
    let (mut machine, mut client, _) = Machine::with_box(&options, |request| {
        if let Some(network) = &mut request.network {
            network.address_cidr = "10.0.0.77/16".into();
        }
    })
    .await;
    let net = print(&mut client, "ifconfig eth0; route -n").await;
    assert!(net.contains("10.0.0.77") && net.contains("255.255.0.0"), "{net}");
    assert!(!net.contains("10.0.2.15") && !net.contains("255.255.255.0"), "{net}");
    assert!(net.contains("10.0.2.2") && net.contains("52:54:00:00:00:07"), "{net}");
    assert!(!machine.shut_down(&mut client, 15, 1000).await);
}

#[tokio::test]
#[ignore = "starts machines"]
async fn the_disk_survives_and_the_image_shows_through() {
    let keep = tempfile::tempdir().unwrap();
    let disk = keep.path().join("disk");
    let (mut machine, mut client, _) = Machine::with_box(&Options::default(), |_| ()).await;
    print(
        &mut client,
        "echo new > /etc/motd; mv /home/app /home/moved; echo kept > /kept; chmod 700 /var; rm /bin/tail",
    )
    .await;
    // Processes that end only when killed are, after the grace.
    let stubborn = Execution::start(
        &mut client,
        shell("trap '' TERM; echo ready; while :; do sleep 1; done"),
        false,
    );
    let mut stubborn = stubborn.await.unwrap();
    stubborn.read_until("ready").await;
    assert!(machine.shut_down(&mut client, 15, 300).await);
    let finished = stubborn.finish().await;
    assert_eq!(finished.status.shell_code(), 137, "{finished:?}");
    std::fs::copy(&machine.disk, &disk).unwrap();
    drop(machine);
    let check = std::process::Command::new("e2fsck")
        .args(["-f", "-n"])
        .arg(&disk)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.status.success() && !text.contains("recover"), "{text}");

    let options = Options {
        disk: Some(disk),
        ..Default::default()
    };
    let (mut machine, mut client, _) = Machine::with_box(&options, |request| request.hostname = "box-two".into()).await;
    let client = &mut client;
    assert_eq!(print(client, "cat /etc/motd /kept").await, "new\nkept\n");
    assert_eq!(
        print(client, "stat -c '%a %n' /var /home/moved /tmp /").await,
        "700 /var\n700 /home/moved\n1777 /tmp\n755 /\n"
    );
    assert_eq!(
        print(
            client,
            "hostname; ls /bin/tail 2>/dev/null | wc -l; grep -c edited /etc/hosts || true"
        )
        .await,
        "box-two\n0\n0\n"
    );
    assert!(!machine.shut_down(client, 15, 5000).await);
}

#[tokio::test]
#[ignore = "starts a machine"]
async fn the_main_process_is_the_boxs_first_and_last() {
    let (mut machine, mut client, _) = Machine::with_box(&Options::default(), |request| request.idle = false).await;
    let client = &mut client;
    // Without process 1 there is a root to copy to, but nothing runs.
    let found = client
        .stat_path(StatPathRequest {
            path: "/bin/sh".into(),
            follow_link: true,
        })
        .await
        .unwrap();
    assert!(found.into_inner().exists);
    let refused = Execution::start(client, spec(&["true"]), false).await.err().unwrap();
    assert_eq!(refused.reason(), Reason::NotRunning);
    let refused = Execution::start(client, spec(&["nothing-of-this-name"]), true)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.reason(), Reason::NotFound);

    let line = "trap 'echo got it; exit 7' USR1; echo $$; sleep 1000 & while :; do wait; done";
    let mut main = Execution::start(client, shell(line), true).await.unwrap();
    assert_eq!(main.pid, 1);
    main.read_until("1\n").await;
    let refused = Execution::start(client, spec(&["true"]), true).await.err().unwrap();
    assert_eq!(refused.reason(), Reason::Invalid);
    print(client, "until ps | grep -q '[s]leep 1000'; do :; done").await;
    let listed = client
        .processes(ProcessesRequest {})
        .await
        .unwrap()
        .into_inner()
        .processes;
    let sleeping = listed.iter().find(|process| process.command == "sleep 1000");
    assert_eq!(sleeping.map(|process| process.parent_pid), Some(1), "{listed:?}");
    let mut beside = Execution::start(client, shell("echo in; sleep 1000"), false)
        .await
        .unwrap();
    beside.read_until("in").await;

    client.signal(SignalRequest { signal: 10 }).await.unwrap();
    let finished = main.finish().await;
    assert_eq!((finished.text(), finished.status.shell_code()), ("got it\n", 7));
    // Its end is the end of everything.
    assert_eq!(beside.finish().await.status.shell_code(), 137);
    let refused = Execution::start(client, spec(&["true"]), false).await.err().unwrap();
    assert_eq!(refused.reason(), Reason::NotRunning);
    assert_eq!(
        client.signal(SignalRequest { signal: 15 }).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    assert_eq!(
        client
            .processes(ProcessesRequest {})
            .await
            .unwrap()
            .into_inner()
            .processes,
        []
    );
    assert!(!machine.shut_down(client, 15, 1000).await);
}

#[tokio::test]
#[ignore = "starts a machine"]
async fn a_host_may_go_and_another_come() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent");
    let mut machine = Machine::start(&Options {
        socket: Some(socket.clone()),
        ..Default::default()
    });
    let open = || {
        for _ in 0..2000 {
            if let Ok(stream) = std::os::unix::net::UnixStream::connect(&socket) {
                return stream;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("nobody listens");
    };
    let (mut client, _) = connect(open()).await;
    client.configure(configure_request(&Options::default())).await.unwrap();
    let mut attached = Execution::start(&mut client, shell("echo attached; sleep 1000"), false)
        .await
        .unwrap();
    attached.read_until("attached").await;
    let mut left = shell("echo left; sleep 1001");
    left.detached = true;
    let mut left = Execution::start(&mut client, left, false).await.unwrap();
    left.read_until("left").await;
    drop((client, attached, left));

    // The next one finds the box, without what depended on the first.
    let (mut client, _) = connect(open()).await;
    let mut running = String::new();
    for _ in 0..100 {
        running = print(&mut client, "ps").await;
        if !running.contains("sleep 1000") {
            break;
        }
    }
    assert!(
        !running.contains("sleep 1000") && running.contains("sleep 1001"),
        "{running}"
    );
    let finished = exec(&mut client, spec(&["echo", "again"])).await;
    assert_eq!(finished.text(), "again\n");
    machine.shut_down(&mut client, 9, 1000).await;
}
