//! The one HTTP/2 connection to the guest's agent.

use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use boxlite_protocol::guest::guest_client::GuestClient;
use boxlite_protocol::preamble::{self, PreambleError};
use boxlite_protocol::version::SendVersion;
use boxlite_protocol::{MESSAGE_LIMIT_BYTES, transport};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::body::Body;
use tonic::service::interceptor::InterceptedService;

/// Host of every request; never resolved.
const AUTHORITY: &str = "http://boxlite.invalid";

/// How long answers may take to arrive after the agent has said that it ends.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The client of the guest protocol on [`Agent`].
pub(crate) type Client = GuestClient<InterceptedService<Agent, SendVersion>>;

/// The stream to the agent could not be made a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the agent's stream can't be used: {0}")]
    Stream(#[from] std::io::Error),
    #[error(transparent)]
    Preamble(#[from] PreambleError),
    #[error("the agent does not speak HTTP/2: {0}")]
    Http(#[from] hyper::Error),
}

/// A call that failed because the stream did, not because the agent said so.
pub(crate) trait StreamBroke {
    fn stream_broke(&self) -> bool;
}

impl StreamBroke for ConnectError {
    fn stream_broke(&self) -> bool {
        true
    }
}

impl StreamBroke for tonic::Status {
    fn stream_broke(&self) -> bool {
        // What the agent answers comes without a source.
        std::error::Error::source(self).is_some()
    }
}

/// The agent's side of the stream, before HTTP/2.
#[derive(Debug)]
pub(crate) struct Stream(UnixStream);

impl Stream {
    pub(crate) fn new(stream: StdUnixStream) -> std::io::Result<Self> {
        stream.set_nonblocking(true)?;
        UnixStream::from_std(stream).map(Self)
    }

    /// Waits until the agent is there.
    pub(crate) async fn find_agent(mut self) -> Result<Self, ConnectError> {
        preamble::host(&mut self.0).await?;
        Ok(self)
    }

    /// Begins HTTP/2.
    pub(crate) async fn connect(self) -> Result<Agent, ConnectError> {
        let stream = self.0.into_std()?;
        let line = stream.try_clone()?;
        let stream = TokioIo::new(UnixStream::from_std(stream)?);
        let (sender, connection) = transport::client_builder().handshake(stream).await?;
        let answers = TaskTracker::new();
        let unanswered = answers.clone();
        let (ended, lost) = watch::channel(None);
        tokio::spawn(async move {
            let why = match connection.await {
                Ok(()) => "the stream ended".to_owned(),
                Err(error) => describe(&error),
            };
            tracing::info!(why, "the agent's connection ended");
            ended.send_replace(Some(why));
            unanswered.close();
            let answered = tokio::time::timeout(LAST_ANSWERS, unanswered.wait()).await;
            // The agent waits for this: it shows that everything has arrived.
            let hung_up = line.shutdown(Shutdown::Both);
            tracing::debug!(answered = answered.is_ok(), ?hung_up, "hung up");
        });
        Ok(Agent { sender, answers, lost })
    }
}

/// The connection: hands on requests, whoever's they are.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    sender: SendRequest<Body>,
    /// Answers that have not arrived in full.
    answers: TaskTracker,
    lost: watch::Receiver<Option<String>>,
}

impl Agent {
    /// A client that speaks `version`.
    pub(crate) fn client(&self, version: SendVersion) -> Client {
        GuestClient::with_interceptor(self.clone(), version)
            .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
            .max_encoding_message_size(MESSAGE_LIMIT_BYTES)
    }

    /// Waits until the connection has ended, and says why.
    pub(crate) async fn lost(&self) -> String {
        let mut lost = self.lost.clone();
        match lost.wait_for(Option::is_some).await {
            Ok(why) => why.clone().unwrap_or_default(),
            Err(_) => "the stream ended".to_owned(),
        }
    }

    /// Sends one request on a stream of its own. The answer's body and trailers are the
    /// agent's; dropping the future or the body resets the stream.
    pub(crate) async fn send<B>(&mut self, request: http::Request<B>) -> Result<http::Response<Body>, hyper::Error>
    where
        B: hyper::body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let token = self.answers.token();
        self.sender.ready().await?;
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        if let Ok(uri) = format!("{AUTHORITY}{path}").parse() {
            parts.uri = uri;
        }
        parts.headers.remove(http::header::HOST);
        parts.version = http::Version::HTTP_2;
        let request = http::Request::from_parts(parts, Body::new(body));
        let response = self.sender.send_request(request).await?;
        Ok(response.map(|body| Body::new(Answer { body, _token: token })))
    }
}

impl tower::Service<http::Request<Body>> for Agent {
    type Response = http::Response<Body>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut agent = self.clone();
        Box::pin(async move { agent.send(request).await })
    }
}

/// The body of an answer, counted until it is dropped.
#[derive(Debug)]
struct Answer {
    body: Incoming,
    _token: TaskTrackerToken,
}

impl hyper::body::Body for Answer {
    type Data = bytes::Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

/// An error with what is behind it.
pub(crate) fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = error.source();
    }
    text
}
