//! Which ports of the host QEMU's user-mode network listens on.

use std::net::IpAddr;

use crate::spec::{PortForward, Protocol};

/// Reads the listeners in the text that the monitor's `info usernet` gives. Lines about
/// anything else are passed over.
pub(crate) fn parse(text: &str) -> Vec<PortForward> {
    text.lines().filter_map(listener).collect()
}

/// `  TCP[HOST_FORWARD]  12       127.0.0.1 34567       10.0.2.15    80     0     0`
fn listener(line: &str) -> Option<PortForward> {
    let mut words = line.split_ascii_whitespace();
    let protocol = match words.next()? {
        "TCP[HOST_FORWARD]" => Protocol::Tcp,
        "UDP[HOST_FORWARD]" => Protocol::Udp,
        _ => return None,
    };
    let _descriptor: i64 = words.next()?.parse().ok()?;
    let host_ip = match words.next()? {
        "*" => IpAddr::from([0, 0, 0, 0]),
        address => address.parse().ok()?,
    };
    let host_port = words.next()?.parse().ok()?;
    let _guest: IpAddr = words.next()?.parse().ok()?;
    let guest_port = words.next()?.parse().ok()?;
    Some(PortForward {
        host_ip,
        host_port,
        guest_port,
        protocol,
    })
}

/// `asked`, with the ports that were really taken. A listener is matched by everything
/// that was asked for; each is given out once.
pub(crate) fn resolve(asked: &[PortForward], text: &str) -> Vec<PortForward> {
    let mut found = parse(text);
    let same = |asked: &PortForward, found: &PortForward| {
        asked.host_ip == found.host_ip
            && asked.protocol == found.protocol
            && asked.guest_port == found.guest_port
            && (asked.host_port == 0 || asked.host_port == found.host_port)
    };
    // Exact ports first, so that they are not given to one that takes any.
    let mut resolved = asked.to_vec();
    let (mut exact, mut any): (Vec<_>, Vec<_>) = (0..asked.len()).partition(|index| asked[*index].host_port != 0);
    exact.append(&mut any);
    for index in exact {
        if let Some(at) = found.iter().position(|found| same(&asked[index], found)) {
            resolved[index] = found.swap_remove(at);
        }
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "Hub -1 (net):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n  \
        TCP[ESTABLISHED]   20       127.0.0.1 40000       10.0.2.15    80     0     0\r\n  \
        TCP[HOST_FORWARD]  12       127.0.0.1 34567       10.0.2.15    80     0     0\r\n  \
        UDP[HOST_FORWARD]  13               * 53          10.0.2.15    53     0     0\r\n";

    fn forward(ip: [u8; 4], host_port: u16, guest_port: u16, protocol: Protocol) -> PortForward {
        PortForward {
            host_ip: IpAddr::from(ip),
            host_port,
            guest_port,
            protocol,
        }
    }

    #[test]
    fn finds_listeners_only() {
        let expected = [
            forward([127, 0, 0, 1], 34567, 80, Protocol::Tcp),
            forward([0, 0, 0, 0], 53, 53, Protocol::Udp),
        ];
        assert_eq!(parse(TEXT), expected);
    }

    #[test]
    fn a_port_that_was_left_open_is_found_beside_one_that_was_not() {
        let text = "TCP[HOST_FORWARD] 1 127.0.0.1 4000 10.0.2.15 80 0 0\nTCP[HOST_FORWARD] 2 127.0.0.1 4001 10.0.2.15 80 0 0\n";
        let asked = [
            forward([127, 0, 0, 1], 0, 80, Protocol::Tcp),
            forward([127, 0, 0, 1], 4000, 80, Protocol::Tcp),
        ];
        let ports: Vec<u16> = resolve(&asked, text).iter().map(|port| port.host_port).collect();
        assert_eq!(ports, [4001, 4000]);
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_without_panic(text: String) {
            let _ = parse(&text);
        }

        #[test]
        fn a_listener_is_read_back(fd: u16, ip: [u8; 4], host: u16, guest: u16) {
            let ip = std::net::Ipv4Addr::from(ip);
            let line = format!("  TCP[HOST_FORWARD]  {fd} {ip:>15} {host:>5} 10.0.2.15 {guest:>5} 0 0");
            prop_assert_eq!(parse(&line), vec![forward(ip.octets(), host, guest, Protocol::Tcp)]);
        }
    }
}
