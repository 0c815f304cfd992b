//! One run of one box, from its launch to its exit record.

mod agent;
mod console;
mod end;
mod failure;
mod guest_text;
mod main_process;
mod metrics;
mod pause;
mod publish;
mod requests;
mod run;
mod server;
mod service;
mod start;
mod status;
mod warm;

use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use boxlite_protocol::guest::{ExitStatus, exit_status::How};
use boxlite_protocol::shim::shim_server::ShimServer;
use boxlite_protocol::version::RequireVersion;
use boxlite_protocol::{MESSAGE_LIMIT_BYTES, transport};
use boxlite_shim::{
    EngineExitRecord, ExitReason, ExitRecord, LaunchConfig, MainExit, MainStatus, SOCKET_NAME, Stage, StartEvent,
    StartFailure,
};
use tokio::sync::{mpsc, watch};

pub(crate) use agent::describe;

use main_process::{MainProcess, Phase};
use publish::Publish;
use requests::Requests;
use server::Server;
use service::{Outcome, Service};
use start::Start;
use status::Status;

/// How long clients may not read and yet be waited for with their last answers. The box is
/// free for others meanwhile.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a run ended, before it is written down.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) reason: ExitReason,
    pub(crate) killed: bool,
    pub(crate) engine: Option<std::process::ExitStatus>,
}

impl End {
    fn start_failed(failure: StartFailure) -> Self {
        Self {
            reason: ExitReason::StartFailed(Box::new(failure)),
            killed: false,
            engine: None,
        }
    }
}

/// Runs the box of `config` until it has ended and everybody knows.
pub(crate) async fn supervise(
    config: LaunchConfig,
    status_pipe: Option<OwnedFd>,
    parent: Option<OwnedFd>,
    lock: Option<OwnedFd>,
    began: Instant,
) -> ExitCode {
    let mut status = Status::new(status_pipe, began);
    let publish = Publish::new();
    let main = config
        .main
        .as_ref()
        .map(|_| Arc::new(MainProcess::new(config.keep_stdin_open)));
    let mut clients = None;
    let end = match open(&config, &publish, main.as_ref(), parent, began) {
        Ok((server, mut requests)) => {
            let end = live(&config, &mut status, &publish, main.as_ref(), &mut requests).await;
            clients = Some((server, requests));
            end
        }
        Err(error) => {
            let failure = failure::internal(Stage::Prepare, "the box's socket can't be opened", &error);
            End::start_failed(failure)
        }
    };
    publish.agent(None);
    publish.engine(None);
    if let Some(main) = &main {
        main.give_up("the machine is gone");
    }
    let recorded = record(&config, &end, main.as_deref());
    if config.remove_disk_on_exit
        && let Some(disk) = &config.machine.disk
        && let Err(error) = std::fs::remove_file(&disk.file)
    {
        tracing::warn!(%error, "the disk of a box that is to be removed is still there");
    }
    publish.outcome(Outcome {
        exit: main.as_ref().and_then(|main| exit_of(&main.phase())),
        killed: end.killed,
    });
    if let ExitReason::StartFailed(failure) = end.reason {
        tracing::error!(stage = %failure.stage, "{failure}");
        // Nobody reads it any more when the box was up and its main process did not start.
        status.finish(&StartEvent::Failed(failure));
    }
    if clients.is_some()
        && let Err(error) = std::fs::remove_file(config.box_dir.join(SOCKET_NAME))
    {
        tracing::warn!(%error, "the box's socket is still there");
    }
    drop(lock);
    let delivered = main
        .as_ref()
        .map_or_else(|| watch::channel(0).1, |main| main.delivered());
    if let Some((server, mut requests)) = clients {
        tokio::select! {
            () = server.close(PATIENCE, delivered) => {}
            request = requests.next() => tracing::info!(?request, "clients are not waited for"),
        }
    }
    tracing::info!("the supervisor ends");
    if recorded { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Opens what clients and signals come in by.
fn open(
    config: &LaunchConfig,
    publish: &Publish,
    main: Option<&Arc<MainProcess>>,
    parent: Option<OwnedFd>,
    began: Instant,
) -> std::io::Result<(Server, Requests)> {
    ExitRecord::remove(&config.box_dir)?;
    // The box's lock is ours, so whoever listened there is gone.
    match std::fs::remove_file(config.box_dir.join(SOCKET_NAME)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = transport::bind_unix(&config.box_dir, SOCKET_NAME)?;
    let (commands, receiver) = mpsc::unbounded_channel();
    let service = Service {
        box_id: config.box_id.clone(),
        run_id: config.run_id.clone(),
        began,
        main: main.cloned(),
        commands,
        stage: publish.watch_stage(),
        engine_pid: publish.watch_engine(),
        agent: publish.watch_agent(),
        outcome: publish.watch_outcome(),
    };
    let service = ShimServer::new(service)
        .max_decoding_message_size(MESSAGE_LIMIT_BYTES)
        .max_encoding_message_size(MESSAGE_LIMIT_BYTES);
    let service = tonic::service::interceptor::InterceptedService::new(service, RequireVersion::default());
    let own = tonic::service::Routes::new(service);
    let server = Server::spawn(listener, own, publish.watch_agent())?;
    Ok((server, Requests::new(receiver, parent)?))
}

/// Starts the box and runs it to its end.
async fn live(
    config: &LaunchConfig,
    status: &mut Status,
    publish: &Publish,
    main: Option<&Arc<MainProcess>>,
    requests: &mut Requests,
) -> End {
    let mut start = Start {
        config,
        status,
        publish,
        main,
        stage: Stage::Prepare,
        machine: None,
        console: None,
    };
    let mut released = false;
    let mut interrupted = None;
    let started = {
        let run = start.run();
        tokio::pin!(run);
        loop {
            tokio::select! {
                biased;
                started = &mut run => break Some(started),
                request = requests.next() => match run::interruption(request) {
                    None => released = true,
                    Some(why) => {
                        interrupted = Some(why);
                        break None;
                    }
                }
            }
        }
    };
    let started = started.unwrap_or_else(|| Err(failure::interrupted(start.stage, interrupted.unwrap_or_default())));
    let (machine, console) = (start.machine.take(), start.console.take());
    match (started, machine, console) {
        (Ok(up), Some(machine), Some(console)) => {
            publish.agent(Some(up.agent.clone()));
            publish.stage(boxlite_protocol::shim::status_response::Stage::Running);
            tracing::info!(timings = ?up.ready.timings, jail = ?up.ready.jail, "the box is up");
            status.finish(&StartEvent::Ready(Box::new(up.ready)));
            if let Some(template) = &up.template
                && let Err(error) = crate::template::make_in_background(template)
            {
                tracing::warn!(%error, "no template is made");
            }
            let running = run::Running {
                config,
                publish,
                main,
                requests,
                agent: up.agent,
                machine,
                console,
                is_paused: false,
            };
            running.run(released).await
        }
        (started, machine, _) => {
            let engine = match machine {
                Some(machine) => end::kill(machine).await,
                None => None,
            };
            let failure = started
                .err()
                .unwrap_or_else(|| failure::interrupted(Stage::Prepare, "it has no machine"));
            End {
                engine,
                ..End::start_failed(failure)
            }
        }
    }
}

/// Writes the exit record; without one the box counts as crashed.
fn record(config: &LaunchConfig, end: &End, main: Option<&MainProcess>) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let record = ExitRecord {
        run_id: config.run_id.clone(),
        main: main.and_then(|main| exit_of(&main.phase())).and_then(main_exit),
        reason: end.reason.clone(),
        finished_at_ms: i64::try_from(now.as_millis()).unwrap_or(i64::MAX),
        engine: end.engine.and_then(engine_exit),
    };
    tracing::info!(?record, "the box has ended");
    match record.write(&config.box_dir) {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(%error, "the exit record can't be written");
            false
        }
    }
}

fn exit_of(phase: &Phase) -> Option<ExitStatus> {
    match phase {
        Phase::Exited(status) => Some(*status),
        _ => None,
    }
}

fn main_exit(status: ExitStatus) -> Option<MainExit> {
    Some(MainExit {
        status: match status.how? {
            How::Code(code) => MainStatus::Code(code),
            How::Signal(signal) => MainStatus::Signal(signal),
        },
        out_of_memory: status.out_of_memory,
    })
}

fn engine_exit(status: std::process::ExitStatus) -> Option<EngineExitRecord> {
    use std::os::unix::process::ExitStatusExt as _;
    status
        .code()
        .map(EngineExitRecord::Code)
        .or_else(|| status.signal().map(EngineExitRecord::Signal))
}
