//! Configure: makes the machine the box's machine.

use std::{
    io,
    time::{Duration, Instant},
};

use boxlite_protocol::guest::{ConfigureRequest, ConfigureResponse};
use tonic::Status;

use crate::{
    agent::{Agent, BoxState},
    disks::FindDiskError,
    entropy,
    founder::FoundError,
    network::NetworkError,
    prepared::{PrepareBoxError, Prepared},
    spaces::{Root, Spaces},
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
    Prepare(#[from] PrepareBoxError),
    #[error(transparent)]
    Disk(#[from] FindDiskError),
    #[error(transparent)]
    Network(#[from] NetworkError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error(transparent)]
    Found(#[from] FoundError),
    #[error("open the box's root: {0}")]
    Root(#[source] io::Error),
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

/// Serves Configure.
pub(crate) async fn configure(agent: &Agent, request: ConfigureRequest) -> Result<ConfigureResponse, Status> {
    let claim = agent.begin_configure()?;
    let began = Instant::now();
    check(&request)?;
    let prepared = match agent.take_prepared() {
        Some(prepared) => prepared,
        // It could not be made, or a Configure that failed has used it up.
        None => Prepared::make().await.map_err(ConfigureError::from)?,
    };
    let (state, mounts) = make_box(&request, prepared).await?;
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

async fn make_box(request: &ConfigureRequest, prepared: Prepared) -> Result<(BoxState, Duration), ConfigureError> {
    let Prepared {
        founder,
        namespaces,
        disks,
        interfaces,
        random,
    } = prepared;
    volumes::plan(&request.volumes)?;
    let disk = disks.find(&request.disk_serial)?;
    let rootfs = disks.find(&request.rootfs_serial)?;
    random.reseed(&request.entropy).map_err(ConfigureError::Random)?;
    entropy::set_clock(request.unix_time_ns).map_err(ConfigureError::Clock)?;
    let mounting = Instant::now();
    // The first of the two is told what to do before the second is done.
    let (built, connected) = tokio::join!(
        biased;
        founder.build(request),
        async { interfaces.configure(request.network.as_ref()) }
    );
    built?;
    connected?;
    let root = Root::open(founder.pid()).map_err(ConfigureError::Root)?;
    let spaces = Spaces::new(namespaces, root);
    let state = BoxState::new(spaces, request.hostname.clone(), [disk, rootfs]);
    if request.idle {
        state.set_first(founder.into_idle());
    } else {
        state.keep_founder(founder);
    }
    Ok((state, mounting.elapsed()))
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
