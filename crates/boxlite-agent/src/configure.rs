//! Configure: makes the machine the box's machine.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use boxlite_protocol::guest::{ConfigureRequest, ConfigureResponse};
use rustix::pipe::{PipeFlags, pipe_with};
use tonic::Status;

use crate::{
    agent::{Agent, BoxState},
    boot::set_sysctl,
    cgroup,
    child::{self, Child},
    disks::{self, FindDiskError},
    entropy,
    etc::{self, EtcFiles},
    first_process,
    network::{self, NetworkError},
    rootfs::Assembly,
    spaces::Spaces,
    sys,
    volumes::{self, VolumeError},
};

/// Why the machine is not the box's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigureError {
    #[error("{got} bytes of entropy came, at least {} are needed", entropy::ENTROPY_BYTES)]
    Entropy { got: usize },
    #[error("machine id {0:?} is not 32 lower-case hexadecimal digits")]
    MachineId(String),
    #[error("{what} {value:?} contains white space or a control character")]
    Name { what: &'static str, value: String },
    #[error("seed the random number generator: {0}")]
    Random(#[source] io::Error),
    #[error("set the clock: {0}")]
    Clock(#[source] io::Error),
    #[error(transparent)]
    Disk(#[from] FindDiskError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("make the box's own files: {0}")]
    Etc(#[source] io::Error),
    #[error("start the process that mounts the box's root: {0}")]
    Fork(#[source] io::Error),
    #[error("{message}")]
    Assemble { message: String },
    #[error("open the box's namespaces: {0}")]
    Spaces(#[source] io::Error),
    #[error("start process 1 of the box: {0}")]
    Idle(#[source] io::Error),
}

impl From<ConfigureError> for Status {
    fn from(error: ConfigureError) -> Self {
        let message = error.to_string();
        match error {
            ConfigureError::Entropy { .. }
            | ConfigureError::MachineId(_)
            | ConfigureError::Name { .. }
            | ConfigureError::Network(NetworkError::Invalid { .. })
            | ConfigureError::Volume(VolumeError::Target { .. } | VolumeError::FileName { .. }) => {
                Status::invalid_argument(message)
            }
            _ => Status::internal(message),
        }
    }
}

/// What programs for containers rely on.
const SYSCTLS: [(&str, &str); 5] = [
    // ping(8) for everyone, and web servers that are not root.
    ("net/ipv4/ping_group_range", "0 2147483647"),
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    // What search engines and other users of many mappings ask for.
    ("vm/max_map_count", "1048576"),
    ("fs/inotify/max_user_watches", "1048576"),
    ("fs/inotify/max_user_instances", "8192"),
];

/// Serves Configure.
pub(crate) async fn configure(agent: &Agent, request: ConfigureRequest) -> Result<ConfigureResponse, Status> {
    let claim = agent.begin_configure()?;
    let began = Instant::now();
    check(&request)?;
    let (state, mounts) = make_box(&request).await?;
    if request.idle {
        let first = first_process::start_idle(&state.spaces, &state.boot_id).map_err(ConfigureError::Idle)?;
        state.set_first(Some(first));
    }
    claim.finish(state);
    Ok(ConfigureResponse {
        mounts_us: mounts.as_micros() as u64,
        total_us: began.elapsed().as_micros() as u64,
    })
}

fn check(request: &ConfigureRequest) -> Result<(), ConfigureError> {
    if request.entropy.len() < entropy::ENTROPY_BYTES {
        return Err(ConfigureError::Entropy {
            got: request.entropy.len(),
        });
    }
    let id = &request.machine_id;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if !id.is_empty() && (id.len() != 32 || !id.bytes().all(is_hex)) {
        return Err(ConfigureError::MachineId(id.clone()));
    }
    // These become words in files of lines and words.
    let network = request.network.iter();
    let names = [("host name", &request.hostname)]
        .into_iter()
        .chain(
            request
                .hosts
                .iter()
                .flat_map(|host| [("name of a host", &host.name), ("address of a host", &host.address)]),
        )
        .chain(network.flat_map(|network| {
            let servers = network.nameservers.iter().map(|server| ("name server", server));
            servers.chain(network.search.iter().map(|domain| ("search domain", domain)))
        }));
    for (what, value) in names {
        if value.contains(|char: char| char.is_whitespace() || char.is_control() || char == '#') {
            return Err(ConfigureError::Name {
                what,
                value: value.clone(),
            });
        }
    }
    Ok(())
}

async fn make_box(request: &ConfigureRequest) -> Result<(BoxState, Duration), ConfigureError> {
    let volumes = volumes::plan(&request.volumes)?;
    entropy::reseed(&request.entropy).map_err(ConfigureError::Random)?;
    entropy::set_clock(request.unix_time_ns).map_err(ConfigureError::Clock)?;
    for (name, value) in SYSCTLS {
        set_sysctl(name, value);
    }
    let disk = disks::find(&request.disk_serial)?;
    let rootfs = disks::find(&request.rootfs_serial)?;
    network::configure(request.network.as_ref())?;
    let mounting = Instant::now();
    let etc = etc::create(request).map_err(ConfigureError::Etc)?;
    let spaces = assemble(&Assembly {
        rootfs_device: disks::device(&rootfs),
        disk_device: disks::device(&disk),
        hostname: &request.hostname,
        etc: &etc,
        volume_dirs: &request.volume_dirs,
        volumes: &volumes,
    })
    .await?;
    let EtcFiles { boot_id, .. } = etc;
    let state = BoxState::new(spaces, request.hostname.clone(), boot_id, [disk, rootfs]);
    Ok((state, mounting.elapsed()))
}

/// Has a child put the box's root together and opens the namespaces that it made.
async fn assemble(assembly: &Assembly<'_>) -> Result<Spaces, ConfigureError> {
    let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|error| ConfigureError::Fork(error.into()));
    let (report, reporter): (OwnedFd, OwnedFd) = pipe()?;
    let (hold, release) = pipe()?;
    let group = cgroup::open_box().map_err(ConfigureError::Fork)?;
    match sys::fork(false, Some(group.as_fd())).map_err(ConfigureError::Fork)? {
        sys::Fork::Child => {
            drop(release);
            if let Err(error) = assembly.build() {
                let _ = rustix::io::write(&reporter, error.to_string().as_bytes());
                sys::exit(1);
            }
            // The end of the report is the sign that all is there; the end of `hold`
            // that the agent has what it needs of this process.
            drop(reporter);
            let _ = rustix::io::read(&hold, &mut [0; 1]);
            sys::exit(0)
        }
        sys::Fork::Parent(pid, pidfd) => {
            drop(reporter);
            let child = Child::adopt(pid, pidfd).map_err(ConfigureError::Fork)?;
            let message = child::read_to_end(report).await.map_err(ConfigureError::Fork)?;
            if !message.is_empty() {
                return Err(ConfigureError::Assemble {
                    message: String::from_utf8_lossy(&message).into_owned(),
                });
            }
            let spaces = Spaces::open(child.pid()).map_err(ConfigureError::Spaces)?;
            drop(release);
            child.wait().await;
            Ok(spaces)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> ConfigureRequest {
        ConfigureRequest {
            entropy: vec![7; 32].into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            hostname: "box-1".into(),
            ..Default::default()
        }
    }

    #[test]
    fn what_would_break_the_boxs_files_is_refused() {
        check(&request()).unwrap();
        let mut short = request();
        short.entropy = vec![0; 31].into();
        assert!(matches!(check(&short), Err(ConfigureError::Entropy { got: 31 })));
        for id in ["0123", "0123456789ABCDEF0123456789abcdef"] {
            let mut wrong = request();
            wrong.machine_id = id.into();
            assert!(matches!(check(&wrong), Err(ConfigureError::MachineId(_))));
        }
        let mut wrong = request();
        wrong.hostname = "a\n1.2.3.4 evil".into();
        assert!(matches!(check(&wrong), Err(ConfigureError::Name { .. })));
        let mut wrong = request();
        wrong.network = Some(boxlite_protocol::guest::Network {
            search: vec!["a b".into()],
            ..Default::default()
        });
        assert!(matches!(check(&wrong), Err(ConfigureError::Name { .. })));
    }
}
