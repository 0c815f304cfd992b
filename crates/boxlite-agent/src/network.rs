//! The box's interfaces: loopback always, one Ethernet interface if there is one.

use std::{fs, io, net::Ipv4Addr, path::Path};

use boxlite_protocol::guest::Network;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::sys::{self, InterfaceChange};

/// Why the network is not as the host wants it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetworkError {
    #[error("network: {field} {value:?} is not {form}")]
    Invalid {
        field: &'static str,
        value: String,
        form: &'static str,
    },
    #[error("network: the machine has no Ethernet interface, and one with address {mac} is wanted")]
    NoInterface { mac: String },
    #[error("network: {step} of {interface}: {source}")]
    Change {
        step: &'static str,
        interface: String,
        source: io::Error,
    },
}

/// What the host asked for, checked.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    mac: [u8; 6],
    address: Ipv4Addr,
    netmask: Ipv4Addr,
    gateway: Option<Ipv4Addr>,
}

impl Plan {
    fn parse(network: &Network) -> Result<Self, NetworkError> {
        let invalid = |field, value: &str, form| NetworkError::Invalid {
            field,
            value: value.to_owned(),
            form,
        };
        let mac =
            parse_mac(&network.mac).ok_or_else(|| invalid("mac", &network.mac, "six pairs of hexadecimal digits"))?;
        let cidr = &network.address_cidr;
        let (address, netmask) =
            parse_cidr(cidr).ok_or_else(|| invalid("address_cidr", cidr, "IPv4 address/prefix length"))?;
        let gateway = match network.gateway.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| invalid("gateway", text, "an IPv4 address"))?),
        };
        Ok(Plan {
            mac,
            address,
            netmask,
            gateway,
        })
    }
}

fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next()?;
        if part.len() != 2 || !part.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

fn parse_cidr(text: &str) -> Option<(Ipv4Addr, Ipv4Addr)> {
    let (address, prefix) = text.split_once('/')?;
    let prefix = prefix.parse::<u32>().ok().filter(|prefix| *prefix <= 32)?;
    let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
    Some((address.parse().ok()?, mask.into()))
}

/// Brings loopback up, and the interface of `network` with its address and route.
pub(crate) fn configure(network: Option<&Network>) -> Result<(), NetworkError> {
    let change = |interface: &str, step| {
        let interface = interface.to_owned();
        move |source| NetworkError::Change {
            step,
            interface,
            source,
        }
    };
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        .map_err(|error| change("lo", "open a socket")(error.into()))?;
    sys::change_interface(&socket, "lo", InterfaceChange::Up).map_err(change("lo", "bring up"))?;
    let Some(network) = network.filter(|network| !network.mac.is_empty()) else {
        return Ok(());
    };
    let plan = Plan::parse(network)?;
    let class = Path::new("/sys/class/net");
    let name = find(class, plan.mac).ok_or_else(|| NetworkError::NoInterface {
        mac: network.mac.clone(),
    })?;
    let apply = |step, request| sys::change_interface(&socket, &name, request).map_err(change(&name, step));
    if address_of(class, &name) != Some(plan.mac) {
        apply("take down", InterfaceChange::Down)?;
        apply("set the Ethernet address", InterfaceChange::Mac(plan.mac))?;
    }
    apply("set the address", InterfaceChange::Address(plan.address))?;
    apply("set the netmask", InterfaceChange::Netmask(plan.netmask))?;
    apply("bring up", InterfaceChange::Up)?;
    if let Some(gateway) = plan.gateway {
        match sys::add_default_route(&socket, gateway) {
            // From a Configure that failed later on.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            result => result.map_err(change(&name, "set the default route"))?,
        }
    }
    Ok(())
}

/// The interface with the address `mac`; else the only one that is a device: in a
/// machine from a template it still has the template's address.
fn find(class: &Path, mac: [u8; 6]) -> Option<String> {
    let mut devices: Vec<String> = fs::read_dir(class)
        .ok()?
        .flatten()
        .filter(|entry| entry.path().join("device").exists())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    if let Some(name) = devices.iter().find(|name| address_of(class, name) == Some(mac)) {
        return Some(name.clone());
    }
    match devices.len() {
        1 => devices.pop(),
        _ => None,
    }
}

fn address_of(class: &Path, name: &str) -> Option<[u8; 6]> {
    parse_mac(fs::read_to_string(class.join(name).join("address")).ok()?.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(mac: &str, cidr: &str, gateway: &str) -> Network {
        Network {
            mac: mac.into(),
            address_cidr: cidr.into(),
            gateway: gateway.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_plan_is_what_the_host_wrote() {
        let plan = Plan::parse(&network("52:54:00:aB:cd:ef", "10.0.2.15/24", "10.0.2.2")).unwrap();
        assert_eq!(plan.mac, [0x52, 0x54, 0, 0xab, 0xcd, 0xef]);
        assert_eq!(plan.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(plan.netmask, Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(plan.gateway, Some(Ipv4Addr::new(10, 0, 2, 2)));
        let mac = "52:54:00:00:00:01";
        assert_eq!(
            Plan::parse(&network(mac, "1.2.3.4/0", "")).unwrap().netmask,
            Ipv4Addr::UNSPECIFIED
        );
        for (mac, cidr, gateway) in [
            ("52:54:00:00:00", "1.2.3.4/8", ""),
            ("52:54:00:00:00:+1", "1.2.3.4/8", ""),
            (mac, "1.2.3.4", ""),
            (mac, "1.2.3.4/33", ""),
            (mac, "fe80::1/64", ""),
            (mac, "1.2.3.4/8", "host"),
        ] {
            let plan = Plan::parse(&network(mac, cidr, gateway));
            assert!(matches!(plan, Err(NetworkError::Invalid { .. })), "{plan:?}");
        }
    }

    #[test]
    fn the_interface_is_found_by_address_or_as_the_only_one() {
        let class = tempfile::tempdir().unwrap();
        let add = |name: &str, mac: &str, device: bool| {
            let dir = class.path().join(name);
            fs::create_dir(&dir).unwrap();
            fs::write(dir.join("address"), format!("{mac}\n")).unwrap();
            if device {
                fs::create_dir(dir.join("device")).unwrap();
            }
        };
        let wanted = [2, 0, 0, 0, 0, 7];
        assert_eq!(find(class.path(), wanted), None);
        add("lo", "00:00:00:00:00:00", false);
        add("eth0", "02:00:00:00:00:01", true);
        assert_eq!(find(class.path(), wanted).as_deref(), Some("eth0"));
        add("eth1", "02:00:00:00:00:02", true);
        assert_eq!(find(class.path(), wanted), None);
        add("eth2", "02:00:00:00:00:07", true);
        assert_eq!(find(class.path(), wanted).as_deref(), Some("eth2"));
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(mac: String, cidr: String, gateway: String) {
            let _ = Plan::parse(&network(&mac, &cidr, &gateway));
        }

        #[test]
        fn masks_have_as_many_ones_as_the_prefix(prefix in 0..=32_u32) {
            let (_, mask) = parse_cidr(&format!("10.1.2.3/{prefix}")).unwrap();
            prop_assert_eq!(u32::from(mask).leading_ones(), prefix);
            prop_assert_eq!(u32::from(mask).count_ones(), prefix);
        }
    }
}
