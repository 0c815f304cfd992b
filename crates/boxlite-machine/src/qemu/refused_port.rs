//! Which published port stopped the engine, and why.

use std::io;
use std::net::{IpAddr, TcpListener, UdpSocket};

use super::command_line::forwarding_rule;
use super::start_error::StartError;
use crate::spec::{PortForward, Protocol};

/// Finds the rule that QEMU could not set up, and asks the system why.
pub(super) fn refused_port(stderr: &[String], ports: &[PortForward]) -> Option<StartError> {
    let rule = stderr
        .iter()
        .find_map(|line| line.split_once("Could not set up host forwarding rule '"))
        .and_then(|(_, rest)| rest.split_once('\''))?
        .0;
    let port = ports
        .iter()
        .find(|port| forwarding_rule(port).is_ok_and(|own| own == rule))?;
    let (host_ip, host_port, protocol) = (port.host_ip, port.host_port, port.protocol);
    Some(match bind(host_ip, host_port, protocol) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => StartError::PortRefused {
            host_ip,
            host_port,
            protocol,
            why: error.to_string(),
        },
        // Whoever had it may have given it back meanwhile.
        _ => StartError::PortInUse {
            host_ip,
            host_port,
            protocol,
        },
    })
}

fn bind(ip: IpAddr, port: u16, protocol: Protocol) -> io::Result<()> {
    match protocol {
        Protocol::Tcp => TcpListener::bind((ip, port)).map(drop),
        Protocol::Udp => UdpSocket::bind((ip, port)).map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stderr_of(port: &PortForward) -> Vec<String> {
        let rule = forwarding_rule(port).unwrap();
        vec![
            "qemu-system-x86_64: warning: something else".to_owned(),
            format!(
                "qemu-system-x86_64: -netdev user,id=net,hostfwd={rule}: Could not set up host forwarding rule '{rule}'"
            ),
        ]
    }

    #[test]
    fn the_port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let port = |host_port| PortForward {
            host_ip: address.ip(),
            host_port,
            guest_port: 80,
            protocol: Protocol::Tcp,
        };
        let ports = [port(1), port(address.port())];
        match refused_port(&stderr_of(&ports[1]), &ports) {
            Some(StartError::PortInUse { host_port, .. }) => assert_eq!(host_port, address.port()),
            other => panic!("{other:?}"),
        }
        assert!(refused_port(&["another trouble".to_owned()], &ports).is_none());
    }

    #[test]
    fn an_address_of_another_host_is_refused_with_the_systems_reason() {
        let port = PortForward {
            // TEST-NET-1, RFC 5737.
            host_ip: "192.0.2.1".parse().unwrap(),
            host_port: 8080,
            guest_port: 80,
            protocol: Protocol::Udp,
        };
        match refused_port(&stderr_of(&port), std::slice::from_ref(&port)) {
            Some(StartError::PortRefused { why, .. }) => assert!(why.contains("assign"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
}
