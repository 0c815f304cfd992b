//! HTTP/2 on byte streams and Unix sockets: the limits that every hop shares, and
//! how connections are made.

use std::{
    convert::Infallible,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};

use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint, Uri};

/// How much one stream may send before its receiver has taken it, in bytes.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
/// How much all streams together may send: without a limit (HTTP/2's largest), so
/// that a stalled stream never stalls the others.
pub const CONNECTION_WINDOW_BYTES: u32 = (1 << 31) - 1;
/// The largest HTTP/2 frame that is accepted, in bytes: a chunk and its gRPC header fit in one.
pub const FRAME_LIMIT_BYTES: u32 = 64 * 1024 + 1024;
/// How many calls one connection carries at the same time.
pub const CONCURRENT_STREAMS: u32 = 4096;
/// How much a stream buffers for sending beyond what the connection took, in bytes.
pub const SEND_BUFFER_BYTES: usize = 256 * 1024;

/// The origin of requests: no name that is ever resolved.
const ORIGIN: &str = "http://boxlite.invalid";

/// A server's settings, for [`hyper::server::conn::http2`] connections.
pub fn server_builder() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .adaptive_window(false)
        .max_frame_size(FRAME_LIMIT_BYTES)
        .max_concurrent_streams(CONCURRENT_STREAMS)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        // A client that cancels many calls at once is no attack on these streams:
        // the defaults would end the whole connection.
        .max_pending_accept_reset_streams(CONCURRENT_STREAMS as usize)
        .max_local_error_reset_streams(None);
    builder
}

/// A client's settings, for [`h2::client`] connections.
pub fn client_builder() -> h2::client::Builder {
    let mut builder = h2::client::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_LIMIT_BYTES)
        .enable_push(false)
        .initial_max_send_streams(CONCURRENT_STREAMS as usize)
        .max_concurrent_reset_streams(CONCURRENT_STREAMS as usize)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_local_error_reset_streams(None);
    builder
}

/// Serves the calls of one connection until it ends; the streams of calls that are
/// still running then are reset. `calls` is a generated server, or several behind
/// [`Routes`](tonic::service::Routes).
///
/// # Errors
/// What ended the connection, if not the peer in good order.
pub async fn serve<S, C, B>(stream: S, calls: C) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    C::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    serve_until(stream, calls, std::future::pending()).await
}

/// As [`serve`], but when `end` is ready no more calls are taken, and the connection
/// ends as soon as those that run are answered and the peer has said that it got all of it.
///
/// # Errors
/// What ended the connection, if not one of the two ends in good order.
pub async fn serve_until<S, C, B>(stream: S, calls: C, end: impl Future<Output = ()>) -> Result<(), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    C: tower::Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    C::Future: Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let connection = server_builder().serve_connection(
        TokioIo::new(stream),
        hyper_util::service::TowerToHyperService::new(calls),
    );
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return result,
        () = end => connection.as_mut().graceful_shutdown(),
    }
    connection.await
}

/// A channel over one stream on which HTTP/2 begins with the next byte (after
/// [`crate::preamble::host`]). Never reconnects: when the stream ends, every call fails.
///
/// # Errors
/// When the connection's first frames can't be exchanged.
pub async fn client_over<S>(stream: S) -> Result<Channel, tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stream = Mutex::new(Some(TokioIo::new(stream)));
    endpoint()
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            std::future::ready(
                stream.ok_or_else(|| io::Error::new(io::ErrorKind::NotConnected, "the stream to the peer ended")),
            )
        }))
        .await
}

fn endpoint() -> Endpoint {
    Endpoint::from_static(ORIGIN)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_adaptive_window(false)
        .max_frame_size(FRAME_LIMIT_BYTES)
        .http2_max_concurrent_reset_streams(CONCURRENT_STREAMS as usize)
        .http2_max_local_error_reset_streams(None)
        // Requests wait in the connection's own queue, not in front of it.
        .buffer_size(CONCURRENT_STREAMS as usize)
}

/// A channel to the Unix socket `name` in `dir`, whatever the length of the path.
/// Connects again by itself when the connection was lost.
///
/// # Errors
/// When nobody listens there: the source chain ends in the [`io::Error`].
#[cfg(unix)]
pub async fn channel_unix(
    dir: impl Into<PathBuf>,
    name: impl Into<String>,
) -> Result<Channel, tonic::transport::Error> {
    let (dir, name) = (dir.into(), name.into());
    endpoint()
        .connect_with_connector(tower::service_fn(move |_: Uri| {
            let stream = connect_unix(&dir, &name).and_then(|stream| {
                stream.set_nonblocking(true)?;
                tokio::net::UnixStream::from_std(stream)
            });
            std::future::ready(stream.map(TokioIo::new))
        }))
        .await
}

/// Binds and listens on the Unix socket `name` in `dir`. The 108 bytes of a socket
/// address limit only `name`. The listener is blocking.
///
/// # Errors
/// As bind(2), open(2) of `dir`, and `InvalidInput` for a name that is not one
/// path component of at most 64 bytes.
#[cfg(unix)]
pub fn bind_unix(dir: &Path, name: &str) -> io::Result<UnixListener> {
    with_short_path(dir, name, |path| UnixListener::bind(path))
}

/// Connects to the Unix socket `name` in `dir`, whatever the length of the path.
/// Blocks only while the listener's backlog is full. The stream is blocking.
///
/// # Errors
/// As connect(2), open(2) of `dir`, and `InvalidInput` as for [`bind_unix`].
#[cfg(unix)]
pub fn connect_unix(dir: &Path, name: &str) -> io::Result<UnixStream> {
    with_short_path(dir, name, |path| UnixStream::connect(path))
}

#[cfg(unix)]
fn with_short_path<T>(dir: &Path, name: &str, call: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if name.is_empty() || name.len() > 64 || name.contains(['/', '\0']) || name.starts_with("..") {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is not a name for a socket"),
        ));
    }
    // A direct path is short enough on most machines and shows in ss(8) and lsof(8).
    let direct = dir.join(name);
    if direct.as_os_str().len() < 100 || !cfg!(target_os = "linux") {
        return call(&direct);
    }
    let dir = std::fs::File::open(dir)?;
    let short = format!("/proc/self/fd/{}/{name}", std::os::fd::AsRawFd::as_raw_fd(&dir));
    call(Path::new(&short))
}
