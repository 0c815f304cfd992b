//! A connection to the supervisor of a running box.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use boxlite_protocol::guest::guest_client::GuestClient;
use boxlite_protocol::shim::shim_client::ShimClient;
use boxlite_protocol::version::SendVersion;
use boxlite_protocol::{MESSAGE_LIMIT_BYTES, transport};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

type Versioned = InterceptedService<Channel, SendVersion>;

/// One connection, which ends with this value and takes every call on it along.
///
/// Each operation has its own: HTTP/2 can't reset a stream whose sender waits for the
/// receiver's window, and a process that does not read its standard input makes it wait for
/// ever. Shutting the socket down ends all of it, tasks included, at once.
#[derive(Debug)]
pub(crate) struct Connection {
    channel: Channel,
    socket: UnixStream,
}

impl Connection {
    /// Connects to the supervisor that listens in `box_dir`.
    pub(crate) async fn open(box_dir: PathBuf) -> std::io::Result<Self> {
        let socket = tokio::task::spawn_blocking(move || transport::connect_unix(&box_dir, boxlite_shim::SOCKET_NAME))
            .await
            .map_err(std::io::Error::other)??;
        let stream = socket.try_clone()?;
        stream.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(stream)?;
        let channel = transport::client_over(stream).await.map_err(std::io::Error::other)?;
        Ok(Self { channel, socket })
    }

    /// The supervisor's own calls.
    pub(crate) fn shim(&self) -> ShimClient<Versioned> {
        ShimClient::with_interceptor(self.channel.clone(), SendVersion::default())
            .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
    }

    /// The calls that it hands on to the agent.
    pub(crate) fn guest(&self) -> GuestClient<Versioned> {
        GuestClient::with_interceptor(self.channel.clone(), SendVersion::default())
            .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It may be shut down from the other end already.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}
