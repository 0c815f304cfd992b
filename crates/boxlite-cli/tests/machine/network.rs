//! Outbound network, `--network none`, published ports.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::harness::{shared, text};

#[test]
#[ignore = "starts a machine"]
fn none_is_loopback_alone() {
    let out = shared().ok([
        "run",
        "--rm",
        "--memory",
        "256m",
        "--network",
        "none",
        "busybox",
        "sh",
        "-c",
        "ls /sys/class/net; ip -o -4 addr; ping -c1 -W5 127.0.0.1 >/dev/null && echo lo is up",
    ]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!(lines.first().copied(), Some("lo"), "{out}");
    assert!(!out.contains("eth0") && out.contains("lo is up"), "{out}");
}

#[test]
#[ignore = "starts a machine"]
fn the_box_reaches_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = [0; 5];
        stream.read_exact(&mut line).unwrap();
        stream.write_all(b"pong\n").unwrap();
        line
    });
    // 10.0.2.2 is the host in QEMU's user-mode network.
    let script = format!(
        "ip -o -4 addr show eth0 | grep -q 10.0.2.15 && echo address; grep nameserver /etc/resolv.conf; grep -c $(hostname) /etc/hosts; echo ping! | nc 10.0.2.2 {port}"
    );
    let out = shared().ok(["run", "--rm", "--memory", "256m", "busybox", "sh", "-c", &script]);
    assert_eq!(out, "address\nnameserver 10.0.2.3\n1\npong\n");
    assert_eq!(&served.join().unwrap(), b"ping!");
}

#[test]
#[ignore = "starts a machine"]
fn ports_are_published_and_shown() {
    let boxlite = shared();
    let running = boxlite.sleeper("busybox", &["-p", "0:8080", "-p", "127.0.0.1:0:9090/udp"]);
    running.sh("mkdir /www; echo served > /www/index.html; httpd -p 8080 -h /www");
    let shown = boxlite.ok(["port", &running.name]);
    let address = shown
        .lines()
        .find_map(|line| line.strip_prefix("8080/tcp -> "))
        .unwrap_or_else(|| panic!("{shown}"))
        .to_owned();
    assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{shown}");
    assert!(boxlite.ok(["ps"]).contains(&address));
    assert!(
        boxlite.inspect(&running.name)["ports"]
            .to_string()
            .contains(address.rsplit(':').next().unwrap())
    );

    let mut stream = TcpStream::connect(&address).unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.ends_with("served\n"), "{reply}");

    let udp_address = shown
        .lines()
        .find_map(|line| line.strip_prefix("9090/udp -> "))
        .unwrap_or_else(|| panic!("{shown}"))
        .to_owned();
    assert!(
        udp_address.starts_with("127.0.0.1:") && !udp_address.ends_with(":0"),
        "{shown}"
    );
}

#[test]
#[ignore = "starts a machine"]
fn datagrams_of_a_published_port_come_back() {
    let boxlite = shared();
    let running = boxlite.sleeper("debian", &["-p", "0:5000/udp"]);
    running.sh("cat > /tmp/echo.py <<'END'
import os, socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('0.0.0.0', 5000))
if os.fork(): os._exit(0)
os.setsid()
for fd in range(3): os.dup2(os.open('/dev/null', os.O_RDWR), fd)
while True:
    data, peer = s.recvfrom(2000)
    s.sendto(data.upper(), peer)
END
python3 /tmp/echo.py");
    let shown = boxlite.ok(["port", &running.name, "5000/udp"]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(shown.trim()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut reply = [0; 100];
    // Datagrams may be lost; ten in a row are not.
    let length = (0..10).find_map(|_| {
        socket.send(b"hello").unwrap();
        socket.recv(&mut reply).ok()
    });
    assert_eq!(&reply[..length.expect("an answer")], b"HELLO");
}

#[test]
#[ignore = "starts a machine"]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let boxlite = shared();
    let output = boxlite.output([
        "run",
        "--rm",
        "--memory",
        "256m",
        "-p",
        &format!("{port}:80"),
        "busybox",
        "true",
    ]);
    assert_eq!(output.status.code(), Some(125));
    let said = text(&output.stderr);
    assert!(said.contains(&port.to_string()), "{said}");
}
