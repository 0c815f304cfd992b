//! The box's socket: the supervisor's own calls, and the agent's, handed on.

use std::convert::Infallible;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::sync::Arc;
use std::time::Duration;

use boxlite_protocol::transport;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::service::Routes;
use tower::ServiceExt as _;

use super::agent::{Agent, describe};

/// Where the agent's calls begin.
const GUEST_PREFIX: &str = "/boxlite.guest.v1.Guest/";

/// Serves the socket, in tasks, until [`Server::close`].
#[derive(Debug)]
pub(crate) struct Server {
    accepting: tokio::task::JoinHandle<JoinSet<()>>,
    closing: watch::Sender<bool>,
}

impl Server {
    /// `own` answers the supervisor's calls; the agent's go to `agent` once there is one.
    pub(crate) fn spawn(
        listener: StdUnixListener,
        own: Routes,
        agent: watch::Receiver<Option<Agent>>,
    ) -> std::io::Result<Self> {
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let (closing, closed) = watch::channel(false);
        let accepting = tokio::spawn(accept(listener, Arc::new(Router { own, agent }), closed));
        Ok(Self { accepting, closing })
    }

    /// Takes no more calls, waits until the answers to those that have been taken are
    /// delivered, but not longer than `patience` without a change of `delivered`.
    pub(crate) async fn close(self, patience: Duration, mut delivered: watch::Receiver<u64>) {
        self.closing.send_replace(true);
        let drained = async {
            if let Ok(mut connections) = self.accepting.await {
                while connections.join_next().await.is_some() {}
            }
        };
        tokio::pin!(drained);
        let mut watched = true;
        loop {
            tokio::select! {
                biased;
                () = &mut drained => return,
                changed = delivered.changed(), if watched => watched = changed.is_ok(),
                () = tokio::time::sleep(patience) => break,
            }
        }
        tracing::warn!("clients did not take their last answers");
    }
}

async fn accept(listener: UnixListener, router: Arc<Router>, mut closing: watch::Receiver<bool>) -> JoinSet<()> {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = closed(&mut closing) => return connections,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(serve(stream, Arc::clone(&router), closing.clone()));
            }
            Err(error) => {
                // Out of descriptors: those who are connected need them more.
                tracing::warn!(%error, "can't take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn closed(closing: &mut watch::Receiver<bool>) {
    // A sender that is gone has closed too.
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn serve(stream: UnixStream, router: Arc<Router>, mut closing: watch::Receiver<bool>) {
    let service = hyper::service::service_fn(move |request| {
        let router = Arc::clone(&router);
        async move { Ok::<_, Infallible>(router.answer(request).await) }
    });
    let connection = transport::server_builder().serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let served = tokio::select! {
        served = &mut connection => served,
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(error = describe(&error), "a client's connection ended");
    }
}

/// Who answers a request.
#[derive(Debug)]
struct Router {
    own: Routes,
    agent: watch::Receiver<Option<Agent>>,
}

impl Router {
    async fn answer(&self, request: http::Request<Incoming>) -> http::Response<Body> {
        if request.uri().path().starts_with(GUEST_PREFIX) {
            return self.hand_on(request).await;
        }
        match self.own.clone().oneshot(request.map(Body::new)).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// The agent's answer, stream by stream: reading one slowly stalls only that one, and
    /// a reset on one side is a reset on the other.
    async fn hand_on(&self, request: http::Request<Incoming>) -> http::Response<Body> {
        let agent = self.agent.borrow().clone();
        let Some(mut agent) = agent else {
            return tonic::Status::unavailable("the box is not running yet, or not any more").into_http();
        };
        match agent.send(request).await {
            Ok(response) => response,
            Err(error) => {
                let why = describe(&error);
                tonic::Status::unavailable(format!("the box's agent did not answer: {why}")).into_http()
            }
        }
    }
}
