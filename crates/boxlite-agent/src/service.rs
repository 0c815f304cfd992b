//! The calls of the host, handed to where they are served.

use std::sync::Arc;

use boxlite_protocol::{
    guest::{
        ConfigureRequest, ConfigureResponse, CopyInRequest, CopyInResponse, CopyOutRequest, ExecInput, HelloRequest,
        HelloResponse, MetricsRequest, MetricsResponse, ProcessesRequest, ProcessesResponse, ResizeTerminalRequest,
        ResizeTerminalResponse, SetClockRequest, SetClockResponse, ShutdownRequest, ShutdownResponse,
        SignalExecutionRequest, SignalExecutionResponse, SignalRequest, SignalResponse, StatPathRequest,
        StatPathResponse, guest_server::Guest,
    },
    negotiate,
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    agent::Agent, configure, console::log, copy_in, copy_out, entropy, execution, metrics, processes, shutdown,
    stat_path, sys,
};

/// The guest's side of the protocol.
pub(crate) struct Service {
    agent: Arc<Agent>,
}

impl Service {
    pub(crate) fn new(agent: Arc<Agent>) -> Self {
        Service { agent }
    }

    /// Runs `work` to its end even if the host loses interest in the answer.
    async fn finish<T: Send + 'static>(
        work: impl Future<Output = Result<T, Status>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let answer = tokio::spawn(work).await;
        answer
            .map_err(|error| Status::internal(error.to_string()))?
            .map(Response::new)
    }
}

#[tonic::async_trait]
impl Guest for Service {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloResponse>, Status> {
        let request = request.into_inner();
        let boot = &self.agent.boot;
        Ok(Response::new(HelloResponse {
            protocol: negotiate(request.protocol_min, request.protocol_max)?,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel_release: rustix::system::uname().release().to_string_lossy().into_owned(),
            kernel_us: boot.kernel.as_micros() as u64,
            agent_us: self.agent.serving_after().as_micros() as u64,
        }))
    }

    async fn configure(&self, request: Request<ConfigureRequest>) -> Result<Response<ConfigureResponse>, Status> {
        let agent = Arc::clone(&self.agent);
        Self::finish(async move {
            let result = configure::configure(&agent, request.into_inner()).await;
            if let Err(status) = &result {
                log!("configure: {}", status.message());
            }
            result
        })
        .await
    }

    type ExecStream = execution::OutputStream;

    async fn exec(&self, request: Request<Streaming<ExecInput>>) -> Result<Response<Self::ExecStream>, Status> {
        execution::exec(Arc::clone(&self.agent), request.into_inner())
            .await
            .map(Response::new)
    }

    async fn signal_execution(
        &self,
        request: Request<SignalExecutionRequest>,
    ) -> Result<Response<SignalExecutionResponse>, Status> {
        let SignalExecutionRequest { execution, signal } = request.into_inner();
        let signal = known_signal(signal)?;
        self.agent.execution(execution)?.signal(signal);
        Ok(Response::new(SignalExecutionResponse {}))
    }

    async fn resize_terminal(
        &self,
        request: Request<ResizeTerminalRequest>,
    ) -> Result<Response<ResizeTerminalResponse>, Status> {
        let ResizeTerminalRequest { execution, size } = request.into_inner();
        let size = size.ok_or_else(|| Status::invalid_argument("there is no size"))?;
        self.agent.execution(execution)?.resize(&size);
        Ok(Response::new(ResizeTerminalResponse {}))
    }

    async fn copy_in(&self, request: Request<Streaming<CopyInRequest>>) -> Result<Response<CopyInResponse>, Status> {
        copy_in::copy_in(&self.agent, request.into_inner())
            .await
            .map(Response::new)
    }

    type CopyOutStream = copy_out::TarStream;

    async fn copy_out(&self, request: Request<CopyOutRequest>) -> Result<Response<Self::CopyOutStream>, Status> {
        copy_out::copy_out(&self.agent, request.into_inner())
            .await
            .map(Response::new)
    }

    async fn stat_path(&self, request: Request<StatPathRequest>) -> Result<Response<StatPathResponse>, Status> {
        let state = self.agent.configured()?;
        stat_path::stat(&state, request.into_inner()).await.map(Response::new)
    }

    async fn metrics(&self, _: Request<MetricsRequest>) -> Result<Response<MetricsResponse>, Status> {
        let state = self.agent.configured()?;
        Ok(Response::new(metrics::read(&state)))
    }

    async fn processes(&self, _: Request<ProcessesRequest>) -> Result<Response<ProcessesResponse>, Status> {
        let state = self.agent.configured()?;
        let processes = processes::list(&state)
            .await
            .map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(ProcessesResponse { processes }))
    }

    async fn signal(&self, request: Request<SignalRequest>) -> Result<Response<SignalResponse>, Status> {
        let state = self.agent.configured()?;
        let signal = known_signal(request.into_inner().signal)?;
        if state.live_first().is_none() {
            return Err(Status::failed_precondition("the box has no process 1"));
        }
        shutdown::signal_box(&state, signal);
        Ok(Response::new(SignalResponse {}))
    }

    async fn set_clock(&self, request: Request<SetClockRequest>) -> Result<Response<SetClockResponse>, Status> {
        entropy::set_clock(request.into_inner().unix_time_ns)
            .map_err(|error| Status::internal(format!("set the clock: {error}")))?;
        Ok(Response::new(SetClockResponse {}))
    }

    async fn shutdown(&self, request: Request<ShutdownRequest>) -> Result<Response<ShutdownResponse>, Status> {
        let agent = Arc::clone(&self.agent);
        Self::finish(async move { shutdown::shut_down(&agent, request.into_inner()).await }).await
    }
}

fn known_signal(number: i32) -> Result<rustix::process::Signal, Status> {
    sys::signal(number).ok_or_else(|| Status::invalid_argument(format!("{number} is not a signal")))
}
