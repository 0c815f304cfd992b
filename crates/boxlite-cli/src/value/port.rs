//! Published ports: `[IP:][HOST:]GUEST[/tcp|/udp]`, as docker writes them.

use std::net::{IpAddr, SocketAddr};

use boxlite::{Port, Protocol};
use thiserror::Error;

/// What one `-p` asks for: one port, or as many as its range has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PublishedPorts(pub(crate) Vec<Port>);

/// Why a text publishes no port.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum PortError {
    #[error("the form is [IP:][HOST:]GUEST[/tcp|/udp], an IPv6 address in brackets")]
    Form,
    #[error("{0:?} is no port: a number from 1 to 65535, or a range such as 8000-8003")]
    NotAPort(String),
    #[error("port 0 of the box can't be published")]
    GuestPortZero,
    #[error("the range {0:?} ends before it begins")]
    EmptyRange(String),
    #[error("{host} ports of the host for {guest} ports of the box: both ranges must be as long")]
    RangesDiffer { host: usize, guest: usize },
    #[error("{0:?} is no IP address")]
    NotAnAddress(String),
    #[error("unknown protocol {0:?}: tcp and udp can be published")]
    Protocol(String),
}

/// Parses the value of one `-p`.
pub(crate) fn parse(text: &str) -> Result<PublishedPorts, PortError> {
    let (rest, protocol) = split_protocol(text)?;
    let (address, host, guest_text) = split_fields(rest)?;
    let host_ip = address.map(parse_address).transpose()?;
    let guest_range = range(guest_text)?;
    if guest_range.0 == 0 {
        return Err(PortError::GuestPortZero);
    }
    let guest_count = count(guest_range);
    let host_range = match host {
        None | Some("" | "0") => None,
        Some(host) => Some(range(host)?),
    };
    if let Some(host_range) = host_range {
        if host_range.0 == 0 {
            return Err(PortError::NotAPort(host.unwrap_or_default().to_owned()));
        }
        if count(host_range) != guest_count {
            return Err(PortError::RangesDiffer {
                host: count(host_range),
                guest: guest_count,
            });
        }
    }
    let ports = (guest_range.0..=guest_range.1)
        .enumerate()
        .map(|(index, guest)| Port {
            host_ip,
            host: host_range.map_or(0, |(first, _)| {
                // The ranges are as long, so this stays within the host's range.
                first.saturating_add(u16::try_from(index).unwrap_or(u16::MAX))
            }),
            guest,
            protocol,
        })
        .collect();
    Ok(PublishedPorts(ports))
}

/// Parses `GUEST[/tcp|/udp]`, the argument of `boxlite port`.
pub(crate) fn parse_guest_port(text: &str) -> Result<(u16, Option<Protocol>), PortError> {
    let protocol = match text.split_once('/') {
        None => None,
        Some(_) => Some(split_protocol(text)?.1),
    };
    let digits = text.split('/').next().unwrap_or(text);
    match port(digits)? {
        0 => Err(PortError::GuestPortZero),
        number => Ok((number, protocol)),
    }
}

/// Writes an address as docker's `ps` and `port` do.
pub(crate) fn host_address(host_ip: IpAddr, host_port: u16) -> String {
    SocketAddr::new(host_ip, host_port).to_string()
}

fn split_protocol(text: &str) -> Result<(&str, Protocol), PortError> {
    match text.split_once('/') {
        None => Ok((text, Protocol::Tcp)),
        Some((rest, protocol)) => match protocol.to_ascii_lowercase().as_str() {
            "tcp" => Ok((rest, Protocol::Tcp)),
            "udp" => Ok((rest, Protocol::Udp)),
            _ => Err(PortError::Protocol(protocol.to_owned())),
        },
    }
}

type Fields<'a> = (Option<&'a str>, Option<&'a str>, &'a str);

fn split_fields(text: &str) -> Result<Fields<'_>, PortError> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, rest) = bracketed.split_once(']').ok_or(PortError::Form)?;
        let rest = rest.strip_prefix(':').ok_or(PortError::Form)?;
        let (host, guest) = rest.split_once(':').ok_or(PortError::Form)?;
        return if guest.contains(':') {
            Err(PortError::Form)
        } else {
            Ok((Some(address), Some(host), guest))
        };
    }
    let fields: Vec<&str> = text.split(':').collect();
    match fields.as_slice() {
        [guest] => Ok((None, None, guest)),
        [host, guest] if !host.is_empty() => Ok((None, Some(host), guest)),
        [address, host, guest] if !address.is_empty() => Ok((Some(address), Some(host), guest)),
        _ => Err(PortError::Form),
    }
}

fn parse_address(text: &str) -> Result<IpAddr, PortError> {
    text.parse().map_err(|_| PortError::NotAnAddress(text.to_owned()))
}

fn port(text: &str) -> Result<u16, PortError> {
    if text.is_empty() || !text.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(PortError::NotAPort(text.to_owned()));
    }
    text.parse().map_err(|_| PortError::NotAPort(text.to_owned()))
}

fn range(text: &str) -> Result<(u16, u16), PortError> {
    let (first, last) = match text.split_once('-') {
        None => (port(text)?, port(text)?),
        Some((first, last)) => (port(first)?, port(last)?),
    };
    if last < first {
        return Err(PortError::EmptyRange(text.to_owned()));
    }
    Ok((first, last))
}

fn count((first, last): (u16, u16)) -> usize {
    usize::from(last - first) + 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> (Option<String>, u16, u16, Protocol) {
        let PublishedPorts(ports) = parse(text).unwrap();
        assert_eq!(ports.len(), 1, "{text}");
        let port = ports[0];
        (
            port.host_ip.map(|ip| ip.to_string()),
            port.host,
            port.guest,
            port.protocol,
        )
    }

    #[test]
    fn every_form_of_docker() {
        use Protocol::{Tcp, Udp};
        let ip = |text: &str| Some(text.to_owned());
        assert_eq!(one("80"), (None, 0, 80, Tcp));
        assert_eq!(one("80/udp"), (None, 0, 80, Udp));
        assert_eq!(one("8080:80"), (None, 8080, 80, Tcp));
        assert_eq!(one("0:80"), (None, 0, 80, Tcp));
        assert_eq!(one("8080:80/UDP"), (None, 8080, 80, Udp));
        assert_eq!(one("0.0.0.0:8080:80"), (ip("0.0.0.0"), 8080, 80, Tcp));
        assert_eq!(one("127.0.0.1::80"), (ip("127.0.0.1"), 0, 80, Tcp));
        assert_eq!(one("[::1]:80:80/udp"), (ip("::1"), 80, 80, Udp));
        assert_eq!(one("[::]::53/udp"), (ip("::"), 0, 53, Udp));
    }

    #[test]
    fn ranges_are_paired() {
        let PublishedPorts(ports) = parse("9000-9002:80-82/udp").unwrap();
        let pairs: Vec<_> = ports.iter().map(|port| (port.host, port.guest)).collect();
        assert_eq!(pairs, [(9000, 80), (9001, 81), (9002, 82)]);
        let PublishedPorts(ports) = parse("65534-65535").unwrap();
        assert!(ports.iter().all(|port| port.host == 0));
        assert_eq!(
            parse("9000-9001:80"),
            Err(PortError::RangesDiffer { host: 2, guest: 1 })
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(parse(""), Err(PortError::NotAPort(String::new())));
        assert_eq!(parse(":80"), Err(PortError::Form));
        assert_eq!(parse("::80"), Err(PortError::Form));
        assert_eq!(parse("::1:80:80"), Err(PortError::Form));
        assert_eq!(parse("[::1]80:80"), Err(PortError::Form));
        assert_eq!(parse("[::1]:80"), Err(PortError::Form));
        assert_eq!(parse("8080:0"), Err(PortError::GuestPortZero));
        assert_eq!(parse("70000:80"), Err(PortError::NotAPort("70000".into())));
        assert_eq!(parse("+1:80"), Err(PortError::NotAPort("+1".into())));
        assert_eq!(parse("80/sctp"), Err(PortError::Protocol("sctp".into())));
        assert_eq!(
            parse("localhost:80:80"),
            Err(PortError::NotAnAddress("localhost".into()))
        );
        assert_eq!(parse("9-5:9-5"), Err(PortError::EmptyRange("9-5".into())));
    }

    #[test]
    fn the_port_to_look_up() {
        assert_eq!(parse_guest_port("80"), Ok((80, None)));
        assert_eq!(parse_guest_port("53/udp"), Ok((53, Some(Protocol::Udp))));
        assert_eq!(parse_guest_port("0"), Err(PortError::GuestPortZero));
        assert_eq!(parse_guest_port("x"), Err(PortError::NotAPort("x".into())));
    }

    proptest! {
        #[test]
        fn any_text_is_ports_or_an_error(text in "[0-9a-z:./\\[\\]-]{0,32}") {
            if let Ok(PublishedPorts(ports)) = parse(&text) {
                prop_assert!(!ports.is_empty());
                prop_assert!(ports.iter().all(|port| port.guest != 0));
            }
        }

        #[test]
        fn what_is_written_is_read(ip: IpAddr, host in 1_u16.., guest in 1_u16..) {
            let PublishedPorts(ports) = parse(&format!("{}:{guest}/udp", host_address(ip, host))).unwrap();
            let expected = Port { host_ip: Some(ip), host, guest, protocol: Protocol::Udp };
            prop_assert_eq!(ports, vec![expected]);
        }
    }
}
