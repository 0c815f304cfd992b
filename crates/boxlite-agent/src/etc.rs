//! The files that name the box: mounted over those of the image, so that the image's
//! files stay as they are and every start has its own. A process of the box may write
//! to them; what it wrote is gone with the next start, as with other container tools.

use std::{
    fs,
    io::{self, Write as _},
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::Path,
};

use boxlite_protocol::guest::{ConfigureRequest, HostEntry, Network};
use rustix::{
    fs::CWD,
    mount::{MountFlags, OpenTreeFlags, UnmountFlags, mount, open_tree, unmount},
};

use crate::entropy;

/// The mounts of the generated files, not attached anywhere yet.
pub(crate) struct EtcFiles {
    /// Where each goes, and when.
    pub(crate) mounts: Vec<(&'static str, OwnedFd, Replace)>,
}

/// When a generated file goes over the image's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replace {
    /// In any case.
    Always,
    /// When the image has none, or one that says nothing (machine-id(5)).
    WhenUnset,
}

/// A directory of the agent's own for the time of making the files.
const WORKSHOP: &str = "/run/etc";

/// A file without content yet, and a mount of it that is not attached anywhere.
#[derive(Debug)]
struct Blank {
    file: fs::File,
    mount: OwnedFd,
}

impl Blank {
    fn make(dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(name);
        let file = fs::File::create_new(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = open_tree(CWD, &path, flags)?;
        Ok(Blank { file, mount })
    }

    fn fill(mut self, content: &str) -> io::Result<OwnedFd> {
        self.file.write_all(content.as_bytes())?;
        Ok(self.mount)
    }
}

/// The files before their contents are known.
#[derive(Debug)]
pub(crate) struct Workshop {
    hosts: Blank,
    hostname: Blank,
    resolver: Blank,
    machine_id: Blank,
    boot_id: Blank,
}

impl Workshop {
    /// Makes the files, in a file system of their own.
    pub(crate) fn open() -> io::Result<Self> {
        fs::create_dir_all(WORKSHOP)?;
        mount(
            "etc",
            WORKSHOP,
            "tmpfs",
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC,
            Some(c"size=4m,mode=755"),
        )?;
        let result = Self::open_in(Path::new(WORKSHOP));
        // The file system lives on in the mounts of its files.
        unmount(WORKSHOP, UnmountFlags::DETACH)?;
        result
    }

    fn open_in(dir: &Path) -> io::Result<Self> {
        Ok(Workshop {
            hosts: Blank::make(dir, "hosts")?,
            hostname: Blank::make(dir, "hostname")?,
            resolver: Blank::make(dir, "resolv.conf")?,
            machine_id: Blank::make(dir, "machine-id")?,
            boot_id: Blank::make(dir, "boot_id")?,
        })
    }

    /// Writes what `request` says into them.
    pub(crate) fn fill(self, request: &ConfigureRequest) -> io::Result<EtcFiles> {
        let mut mounts = vec![("/etc/hosts", self.hosts.fill(&hosts(request))?, Replace::Always)];
        if !request.hostname.is_empty() {
            let content = format!("{}\n", request.hostname);
            mounts.push(("/etc/hostname", self.hostname.fill(&content)?, Replace::Always));
        }
        if let Some(content) = request.network.as_ref().and_then(resolver) {
            mounts.push(("/etc/resolv.conf", self.resolver.fill(&content)?, Replace::Always));
        }
        if !request.machine_id.is_empty() {
            let content = format!("{}\n", request.machine_id);
            mounts.push(("/etc/machine-id", self.machine_id.fill(&content)?, Replace::WhenUnset));
        }
        self.boot_id.fill(&format!("{}\n", entropy::uuid()?))?;
        Ok(EtcFiles { mounts })
    }

    /// The mount for /proc/sys/kernel/random/boot_id, to be attached before its content is known.
    pub(crate) fn boot_id(&self) -> &OwnedFd {
        &self.boot_id.mount
    }
}

/// hosts(5): the loopback names, the box's own name, then what was asked for.
fn hosts(request: &ConfigureRequest) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\n\
         ff00::\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for HostEntry { name, address } in &request.hosts {
        text.push_str(&format!("{address}\t{name}\n"));
    }
    if !request.hostname.is_empty() {
        let own = request
            .network
            .as_ref()
            .and_then(|network| network.address_cidr.split('/').next())
            .filter(|address| !address.is_empty())
            .unwrap_or("127.0.1.1");
        // A name with dots also goes by its first part.
        match request.hostname.split_once('.') {
            Some((short, _)) if !short.is_empty() => {
                text.push_str(&format!("{own}\t{} {short}\n", request.hostname));
            }
            _ => text.push_str(&format!("{own}\t{}\n", request.hostname)),
        }
    }
    text
}

/// resolv.conf(5). `None` when the host named no servers: then the image's file stays.
fn resolver(network: &Network) -> Option<String> {
    if network.nameservers.is_empty() {
        return None;
    }
    let mut text = String::new();
    if !network.search.is_empty() {
        text.push_str(&format!("search {}\n", network.search.join(" ")));
    }
    for server in &network.nameservers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_name_the_box_and_what_was_asked_for() {
        let request = ConfigureRequest {
            hostname: "web.example".into(),
            network: Some(Network {
                address_cidr: "10.0.2.15/24".into(),
                ..Default::default()
            }),
            hosts: vec![HostEntry {
                name: "db".into(),
                address: "10.9.9.9".into(),
            }],
            ..Default::default()
        };
        let text = hosts(&request);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n"), "{text}");
        assert!(text.ends_with("10.9.9.9\tdb\n10.0.2.15\tweb.example web\n"), "{text}");
        let offline = ConfigureRequest {
            hostname: "alone".into(),
            ..Default::default()
        };
        assert!(hosts(&offline).ends_with("127.0.1.1\talone\n"));
    }

    #[test]
    fn the_resolver_is_only_replaced_by_servers() {
        assert_eq!(resolver(&Network::default()), None);
        let network = Network {
            nameservers: vec!["10.0.2.3".into(), "1.1.1.1".into()],
            search: vec!["a.example".into(), "b.example".into()],
            ..Default::default()
        };
        assert_eq!(
            resolver(&network).unwrap(),
            "search a.example b.example\nnameserver 10.0.2.3\nnameserver 1.1.1.1\n"
        );
    }
}
