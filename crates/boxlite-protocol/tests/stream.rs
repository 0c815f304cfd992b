//! A client and a server of the schema on one stream, as shim and agent use it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics has failed")]

use std::{pin::Pin, time::Duration};

use boxlite_protocol::{
    PROTOCOL_MAX, PROTOCOL_MIN, guest,
    guest::{exec_input::Input, exec_output::Output, guest_client::GuestClient, guest_server::GuestServer, *},
    negotiate, preamble, transport,
    version::{METADATA_KEY, RequireVersion, SendVersion},
};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming};

type OutputStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers Hello, and Exec by echoing stdin.
struct Echo;

#[tonic::async_trait]
impl guest::guest_server::Guest for Echo {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(HelloResponse {
            protocol: negotiate(request.protocol_min, request.protocol_max)?,
            ..Default::default()
        }))
    }
    type ExecStream = OutputStream<ExecOutput>;
    async fn exec(&self, request: Request<Streaming<ExecInput>>) -> Result<Response<Self::ExecStream>, Status> {
        let output = request.into_inner().map(|input| {
            let output = match input?.input {
                Some(Input::Stdin(bytes)) => Output::Stdout(bytes),
                Some(Input::CloseStdin(_)) => Output::Exited(ExitStatus::from_code(0)),
                _ => Output::Started(ExecStarted { pid: 7, execution: 1 }),
            };
            Ok(ExecOutput { output: Some(output) })
        });
        Ok(Response::new(Box::pin(output)))
    }
    async fn configure(&self, _: Request<ConfigureRequest>) -> Result<Response<ConfigureResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn copy_in(&self, _: Request<Streaming<CopyInRequest>>) -> Result<Response<CopyInResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    type CopyOutStream = OutputStream<CopyOutResponse>;
    async fn copy_out(&self, _: Request<CopyOutRequest>) -> Result<Response<Self::CopyOutStream>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn stat_path(&self, _: Request<StatPathRequest>) -> Result<Response<StatPathResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn metrics(&self, _: Request<MetricsRequest>) -> Result<Response<MetricsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn processes(&self, _: Request<ProcessesRequest>) -> Result<Response<ProcessesResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn signal_execution(
        &self,
        _: Request<guest::SignalExecutionRequest>,
    ) -> Result<Response<guest::SignalExecutionResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn resize_terminal(
        &self,
        _: Request<guest::ResizeTerminalRequest>,
    ) -> Result<Response<guest::ResizeTerminalResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn signal(&self, _: Request<SignalRequest>) -> Result<Response<SignalResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn set_clock(&self, _: Request<SetClockRequest>) -> Result<Response<SetClockResponse>, Status> {
        Err(Status::unimplemented(""))
    }
    async fn shutdown(&self, _: Request<ShutdownRequest>) -> Result<Response<ShutdownResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

fn routes() -> tonic::service::Routes {
    tonic::service::Routes::new(GuestServer::with_interceptor(Echo, RequireVersion::default()))
}

async fn agent_side<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(mut stream: S) {
    preamble::agent(&mut stream).await.unwrap();
    // The host's end may go away in the middle of anything.
    let _ = transport::serve(stream, routes()).await;
}

async fn connected() -> tonic::transport::Channel {
    let (mut host, agent): (DuplexStream, DuplexStream) = tokio::io::duplex(16 * 1024);
    // What an earlier connection left behind, with half a preamble at its end.
    host.write_all(b"PRI * HTTP/2.0\r\n\xffBOX").await.unwrap();
    tokio::spawn(agent_side(agent));
    preamble::host(&mut host).await.unwrap();
    transport::client_over(host).await.unwrap()
}

fn start() -> ExecInput {
    ExecInput {
        input: Some(Input::Start(ExecStart::default())),
    }
}

#[tokio::test]
async fn calls_and_streams_after_garbage_and_preamble() {
    let channel = connected().await;
    let mut client = GuestClient::with_interceptor(channel.clone(), SendVersion::hello());
    let hello = client
        .hello(HelloRequest {
            protocol_min: PROTOCOL_MIN,
            protocol_max: PROTOCOL_MAX + 9,
            host_version: String::new(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(hello.protocol, PROTOCOL_MAX);

    let mut client = GuestClient::with_interceptor(channel, SendVersion::negotiated(hello.protocol));
    let (send, receive) = tokio::sync::mpsc::channel(4);
    send.send(start()).await.unwrap();
    let mut output = client.exec(ReceiverStream::new(receive)).await.unwrap().into_inner();
    let message = output.message().await.unwrap().unwrap();
    assert_eq!(
        message.output,
        Some(Output::Started(ExecStarted { pid: 7, execution: 1 }))
    );
    let bytes = Bytes::from(vec![0xa5; boxlite_protocol::STDIN_CHUNK_BYTES]);
    for _ in 0..20 {
        send.send(ExecInput {
            input: Some(Input::Stdin(bytes.clone())),
        })
        .await
        .unwrap();
        let message = output.message().await.unwrap().unwrap();
        assert_eq!(message.output, Some(Output::Stdout(bytes.clone())));
    }
    drop(send);
    assert_eq!(output.message().await.unwrap(), None);
}

#[tokio::test]
async fn stalled_streams_do_not_stall_the_connection() {
    let channel = connected().await;
    let mut client = GuestClient::with_interceptor(channel, SendVersion::default());
    let chunk = Bytes::from(vec![1; boxlite_protocol::STDIN_CHUNK_BYTES]);
    let mut stalled = Vec::new();
    for _ in 0..50 {
        let (send, receive) = tokio::sync::mpsc::channel(64);
        send.send(start()).await.unwrap();
        for _ in 0..32 {
            send.send(ExecInput {
                input: Some(Input::Stdin(chunk.clone())),
            })
            .await
            .unwrap();
        }
        // Nobody reads the echo: its window and the way back fill up.
        stalled.push((send, client.exec(ReceiverStream::new(receive)).await.unwrap()));
    }
    let hello = client.hello(HelloRequest {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        host_version: String::new(),
    });
    tokio::time::timeout(Duration::from_secs(30), hello)
        .await
        .expect("a call beside 50 stalled streams is answered")
        .unwrap();
}

#[tokio::test]
async fn other_versions_are_refused() {
    let channel = connected().await;
    let request = || HelloRequest {
        protocol_min: PROTOCOL_MIN,
        protocol_max: PROTOCOL_MAX,
        host_version: String::new(),
    };

    let mut newer = GuestClient::with_interceptor(channel.clone(), SendVersion::negotiated(PROTOCOL_MAX + 1));
    let status = newer.hello(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("another release"), "{status}");

    let status = GuestClient::new(channel.clone()).hello(request()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains(METADATA_KEY), "{status}");

    let mut client = GuestClient::with_interceptor(channel, SendVersion::hello());
    let status = client
        .hello(HelloRequest {
            protocol_min: PROTOCOL_MAX + 1,
            protocol_max: PROTOCOL_MAX + 3,
            host_version: String::new(),
        })
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn calls_fail_when_the_stream_ends() {
    let (mut host, mut agent) = tokio::io::duplex(4096);
    let serving = tokio::spawn(async move {
        preamble::agent(&mut agent).await.unwrap();
    });
    preamble::host(&mut host).await.unwrap();
    serving.await.unwrap();
    let failed = match transport::client_over(host).await {
        Err(_) => true,
        Ok(channel) => GuestClient::with_interceptor(channel, SendVersion::default())
            .metrics(MetricsRequest {})
            .await
            .is_err(),
    };
    assert!(failed);
}

#[tokio::test]
async fn sockets_work_at_any_path_length() {
    let root = tempfile::tempdir().unwrap();
    for length in [1, 120] {
        let dir = root.path().join("d".repeat(length)).join("e".repeat(length));
        std::fs::create_dir_all(&dir).unwrap();
        let listener = transport::bind_unix(&dir, "shim.sock").unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let _ = transport::serve(stream, routes()).await;
        });
        let channel = transport::channel_unix(&dir, "shim.sock").await.unwrap();
        let status = GuestClient::with_interceptor(channel, SendVersion::default())
            .metrics(MetricsRequest {})
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::Unimplemented);
        server.abort();
        assert!(dir.join("shim.sock").exists());
    }
    let error = transport::connect_unix(root.path(), "nobody").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    for name in ["", "a/b", "..", &"x".repeat(65)] {
        let error = transport::bind_unix(root.path(), name).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
}
