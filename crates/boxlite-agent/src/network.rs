//! The box's interfaces: loopback always, one Ethernet interface if there is one.

use std::{fs, io, net::Ipv4Addr, os::fd::OwnedFd, path::Path};

use boxlite_protocol::{USUAL_ADDRESS_CIDR, USUAL_GATEWAY, guest::Network};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use crate::{
    boot::set_sysctl,
    console::log,
    sys::{self, InterfaceChange},
};

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
    addresses: Addresses,
}

/// All of an interface that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Addresses {
    address: Ipv4Addr,
    netmask: Ipv4Addr,
    gateway: Option<Ipv4Addr>,
}

impl Plan {
    fn parse(network: &Network) -> Result<Self, NetworkError> {
        let mac =
            parse_mac(&network.mac).ok_or_else(|| invalid("mac", &network.mac, "six pairs of hexadecimal digits"))?;
        Ok(Plan {
            mac,
            addresses: Addresses::parse(&network.address_cidr, &network.gateway)?,
        })
    }
}

impl Addresses {
    fn parse(cidr: &str, gateway: &str) -> Result<Self, NetworkError> {
        let (address, netmask) =
            parse_cidr(cidr).ok_or_else(|| invalid("address_cidr", cidr, "IPv4 address/prefix length"))?;
        let gateway = match gateway {
            "" => None,
            text => Some(text.parse().map_err(|_| invalid("gateway", text, "an IPv4 address"))?),
        };
        Ok(Addresses {
            address,
            netmask,
            gateway,
        })
    }

    /// Gives them to an interface that has none, and brings it up.
    fn apply(&self, socket: &OwnedFd, name: &str) -> Result<(), NetworkError> {
        let apply = |step, request| sys::change_interface(socket, name, request).map_err(change(name, step));
        apply("set the address", InterfaceChange::Address(self.address))?;
        apply("set the netmask", InterfaceChange::Netmask(self.netmask))?;
        apply("bring up", InterfaceChange::Up)?;
        if let Some(gateway) = self.gateway {
            match sys::add_default_route(socket, gateway) {
                // From a Configure that failed later on.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                result => result.map_err(change(name, "set the default route"))?,
            }
        }
        Ok(())
    }
}

fn invalid(field: &'static str, value: &str, form: &'static str) -> NetworkError {
    NetworkError::Invalid {
        field,
        value: value.to_owned(),
        form,
    }
}

fn change(interface: &str, step: &'static str) -> impl FnOnce(io::Error) -> NetworkError {
    let interface = interface.to_owned();
    move |source| NetworkError::Change {
        step,
        interface,
        source,
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

/// The machine's Ethernet interfaces. They are up before it is known which box this is.
#[derive(Debug, Default)]
pub(crate) struct Interfaces {
    /// Names and addresses; in a machine from a template those are the template's.
    devices: Vec<(String, [u8; 6])>,
    /// What the only one has already.
    preset: Option<Addresses>,
    /// Any IPv4 socket, through which interfaces are changed.
    socket: Option<OwnedFd>,
}

impl Interfaces {
    /// Brings them up, and loopback. What fails here is tried again, and told, when the host
    /// says what it wants.
    pub(crate) fn bring_up() -> Self {
        let class = Path::new("/sys/class/net");
        let mut interfaces = Self::list_in(class);
        for (name, _) in &interfaces.devices {
            // The host's side has no IPv6; an address made from the template's would stay.
            set_sysctl(&format!("net/ipv6/conf/{name}/addr_gen_mode"), "1");
        }
        let names = interfaces.devices.iter().map(|(name, _)| name.as_str());
        if let Ok(socket) = socket() {
            for name in names.chain(["lo"]) {
                if let Err(error) = sys::change_interface(&socket, name, InterfaceChange::Up) {
                    log!("bring up {name}: {error}");
                }
            }
            interfaces.preset = interfaces.take_usual_addresses(&socket);
            interfaces.socket = Some(socket);
        }
        interfaces
    }

    fn list_in(class: &Path) -> Self {
        let mut devices: Vec<_> = fs::read_dir(class)
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.path().join("device").exists())
            .filter_map(|entry| {
                let mac = fs::read_to_string(entry.path().join("address")).ok()?;
                Some((
                    entry.file_name().to_string_lossy().into_owned(),
                    parse_mac(mac.trim_end())?,
                ))
            })
            .collect();
        devices.sort();
        Interfaces {
            devices,
            ..Interfaces::default()
        }
    }

    /// Gives the only interface the addresses that it will have, unless the host is unusual.
    fn take_usual_addresses(&self, socket: &OwnedFd) -> Option<Addresses> {
        let [(name, _)] = self.devices.as_slice() else {
            return None;
        };
        let usual = Addresses::parse(USUAL_ADDRESS_CIDR, USUAL_GATEWAY).ok()?;
        usual.apply(socket, name).map_err(|error| log!("{error}")).ok()?;
        Some(usual)
    }

    /// The interface with the address `mac`; else the only one.
    fn find(&self, mac: [u8; 6]) -> Option<&(String, [u8; 6])> {
        let same = self.devices.iter().find(|(_, own)| *own == mac);
        same.or(match self.devices.as_slice() {
            [only] => Some(only),
            _ => None,
        })
    }

    /// Gives the interface of `network` its addresses and the route.
    pub(crate) fn configure(&self, network: Option<&Network>) -> Result<(), NetworkError> {
        let Some(network) = network.filter(|network| !network.mac.is_empty()) else {
            return Ok(());
        };
        let plan = Plan::parse(network)?;
        let (name, mac) = self.find(plan.mac).ok_or_else(|| NetworkError::NoInterface {
            mac: network.mac.clone(),
        })?;
        let opened;
        let socket = match &self.socket {
            Some(socket) => socket,
            None => {
                opened = socket().map_err(change(name, "open a socket"))?;
                &opened
            }
        };
        let apply = |step, request| sys::change_interface(socket, name, request).map_err(change(name, step));
        if *mac != plan.mac {
            apply("set the Ethernet address", InterfaceChange::Mac(plan.mac))?;
        }
        match self.preset {
            Some(preset) if preset == plan.addresses => return Ok(()),
            Some(_) => apply("bring down", InterfaceChange::Down)?,
            None => {}
        }
        plan.addresses.apply(socket, name)
    }
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?)
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
        assert_eq!(plan.addresses.address, Ipv4Addr::new(10, 0, 2, 15));
        assert_eq!(plan.addresses.netmask, Ipv4Addr::new(255, 255, 255, 0));
        assert_eq!(plan.addresses.gateway, Some(Ipv4Addr::new(10, 0, 2, 2)));
        let mac = "52:54:00:00:00:01";
        assert_eq!(
            Plan::parse(&network(mac, "1.2.3.4/0", "")).unwrap().addresses.netmask,
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
        let find = || {
            let interfaces = Interfaces::list_in(class.path());
            interfaces.find(wanted).map(|(name, _)| name.clone())
        };
        assert_eq!(find(), None);
        add("lo", "00:00:00:00:00:00", false);
        add("eth0", "02:00:00:00:00:01", true);
        assert_eq!(find().as_deref(), Some("eth0"));
        add("eth1", "02:00:00:00:00:02", true);
        assert_eq!(find(), None);
        add("eth2", "02:00:00:00:00:07", true);
        assert_eq!(find().as_deref(), Some("eth2"));
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
