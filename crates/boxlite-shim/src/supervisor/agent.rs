//! The one HTTP/2 connection to the guest's agent.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::Shutdown;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use boxlite_protocol::guest::guest_client::GuestClient;
use boxlite_protocol::preamble::{self, PreambleError};
use boxlite_protocol::version::SendVersion;
use boxlite_protocol::{MESSAGE_LIMIT_BYTES, transport};
use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream, SendStream};
use hyper::body::{Body as _, Frame};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
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
    Http(#[from] h2::Error),
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
        let stream = UnixStream::from_std(stream)?;
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
    sender: SendRequest<Bytes>,
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
    /// agent's; dropping the future or the body resets the stream, whatever the agent has
    /// taken of the request.
    pub(crate) async fn send<B>(&mut self, request: http::Request<B>) -> Result<http::Response<Body>, h2::Error>
    where
        B: hyper::body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
    {
        let token = self.answers.token();
        let mut sender = self.sender.clone().ready().await?;
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        if let Ok(uri) = format!("{AUTHORITY}{path}").parse() {
            parts.uri = uri;
        }
        parts.headers.remove(http::header::HOST);
        parts.version = http::Version::HTTP_2;
        let is_empty = body.is_end_stream();
        let (response, stream) = sender.send_request(http::Request::from_parts(parts, ()), is_empty)?;
        let (wanted, unwanted) = oneshot::channel();
        if !is_empty {
            tokio::spawn(hand_on(body, stream, unwanted));
        }
        let response = response.await?;
        Ok(response.map(|body| {
            Body::new(Answer {
                body,
                is_data_over: false,
                _wanted: wanted,
                _token: token,
            })
        }))
    }
}

impl tower::Service<http::Request<Body>> for Agent {
    type Response = http::Response<Body>;
    type Error = h2::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let mut agent = self.clone();
        Box::pin(async move { agent.send(request).await })
    }
}

/// Hands `body` on to `stream` as fast as the agent takes it: one piece is held at a time,
/// and the next is only asked for when it is gone. Ends with the body, with a reset of the
/// stream, or when the answer is `unwanted`, even while the agent takes nothing.
async fn hand_on<B>(body: B, mut stream: SendStream<Bytes>, mut unwanted: oneshot::Receiver<Infallible>)
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut body = std::pin::pin!(body);
    let mut piece = Bytes::new();
    loop {
        let next = poll_fn(|context| {
            if Pin::new(&mut unwanted).poll(context).is_ready() {
                return Poll::Ready(Next::Reset(Reason::CANCEL));
            }
            if stream.poll_reset(context).is_ready() {
                return Poll::Ready(Next::Over);
            }
            if piece.is_empty() {
                return body.as_mut().poll_frame(context).map(Next::Frame);
            }
            stream.poll_capacity(context).map(|room| match room {
                Some(Ok(room)) => Next::Room(room),
                Some(Err(_)) | None => Next::Over,
            })
        });
        let sent = match next.await {
            Next::Over => return,
            Next::Reset(reason) => return stream.send_reset(reason),
            Next::Room(room) => {
                let part = piece.split_to(room.min(piece.len()));
                let is_last = piece.is_empty() && body.is_end_stream();
                let sent = stream.send_data(part, is_last);
                if is_last {
                    return;
                }
                sent
            }
            Next::Frame(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => {
                    piece = data;
                    stream.reserve_capacity(piece.len());
                    Ok(())
                }
                Err(frame) => match frame.into_trailers() {
                    Ok(trailers) => {
                        // A stream that is gone needs none.
                        let _ = stream.send_trailers(trailers);
                        return;
                    }
                    Err(_) => Ok(()),
                },
            },
            Next::Frame(Some(Err(error))) => return stream.send_reset(reason_of(&*error.into())),
            Next::Frame(None) => {
                let _ = stream.send_data(Bytes::new(), true);
                return;
            }
        };
        if sent.is_err() {
            return;
        }
    }
}

/// What comes next for the body of a request.
enum Next<E> {
    /// The agent takes this many bytes.
    Room(usize),
    Frame(Option<Result<Frame<Bytes>, E>>),
    Reset(Reason),
    /// The agent wants no more.
    Over,
}

/// Why the other side's stream was reset.
fn reason_of(error: &(dyn std::error::Error + 'static)) -> Reason {
    let mut error = Some(error);
    while let Some(this) = error {
        if let Some(reason) = this.downcast_ref::<h2::Error>().and_then(h2::Error::reason) {
            return reason;
        }
        error = this.source();
    }
    Reason::CANCEL
}

/// The body of an answer, counted until it is dropped.
#[derive(Debug)]
struct Answer {
    body: RecvStream,
    is_data_over: bool,
    /// Ends the handing on of the request.
    _wanted: oneshot::Sender<Infallible>,
    _token: TaskTrackerToken,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if !self.is_data_over {
            match ready!(self.body.poll_data(context)) {
                Some(Ok(data)) => {
                    // Whoever asks has room for it.
                    self.body.flow_control().release_capacity(data.len())?;
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // The agent wanted no more of the request: its answer is complete.
                Some(Err(error)) if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) => {
                    return Poll::Ready(None);
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.is_data_over = true,
            }
        }
        let trailers = ready!(self.body.poll_trailers(context))?;
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
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
