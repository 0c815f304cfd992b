//! From rows and exit records to what callers see.

use boxlite_machine::{PortForward, Protocol as MachineProtocol};
use boxlite_shim::{EngineExitRecord, ExitReason, ExitRecord, MainStatus, StartFailureCode, StartMode};
use boxlite_store::{BoxRecord, EndedRun, Home, RecordedError, RecordedExit, RecordedState};
use serde::{Deserialize, Serialize};

use crate::config::BoxConfig;
use crate::error::{Diagnosis, ErrorCode, StateError};
use crate::exit_status::ExitStatus;
use crate::info::{BoxInfo, BoxState, JailInfo, MissingMeasure, PublishedPort, RunInfo, StageTiming};
use crate::options::Protocol;

/// What a row keeps of a start, beside its own columns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct StartDetails {
    pub(crate) mode: String,
    pub(crate) cold_reason: Option<String>,
    pub(crate) engine_version: String,
    pub(crate) engine_pid: Option<u32>,
    pub(crate) accelerator_evidence: Vec<String>,
    pub(crate) agent_version: String,
    pub(crate) kernel_release: String,
    pub(crate) stages: Vec<StageTiming>,
    pub(crate) warnings: Vec<String>,
    pub(crate) jail: JailInfo,
}

impl StartDetails {
    /// What a supervisor said when its box was up.
    pub(crate) fn of(ready: &boxlite_shim::Ready, launch_us: u64) -> Self {
        let timings = &ready.timings;
        let mut stages = vec![("launch", launch_us), ("prepare", timings.prepare_us)];
        if timings.failed_warm_us > 0 {
            stages.push(("failed_warm", timings.failed_warm_us));
        }
        stages.extend([("jail", timings.jail_us), ("engine", timings.engine_us)]);
        stages.extend(match ready.start_mode {
            StartMode::Warm => [("restore", timings.boot_us), ("agent", timings.hello_us)],
            StartMode::Cold => [
                ("kernel", timings.boot_us.saturating_sub(timings.agent_us)),
                ("agent", timings.agent_us.saturating_add(timings.hello_us)),
            ],
        });
        stages.extend([("configure", timings.configure_us), ("main", timings.main_us)]);
        Self {
            mode: ready.start_mode.as_str().to_owned(),
            cold_reason: ready.cold_reason.clone(),
            engine_version: ready.engine_version.clone(),
            engine_pid: Some(ready.engine_pid),
            accelerator_evidence: ready.accelerator_evidence.clone(),
            agent_version: ready.agent_version.clone(),
            kernel_release: ready.kernel_release.clone(),
            stages: stages
                .into_iter()
                .map(|(stage, duration_us)| StageTiming {
                    stage: stage.to_owned(),
                    duration_us,
                })
                .collect(),
            warnings: ready.warnings.clone(),
            jail: jail_info(&ready.jail),
        }
    }
}

pub(crate) fn jail_info(report: &boxlite_machine::JailReport) -> JailInfo {
    JailInfo {
        applied: report.applied.iter().map(ToString::to_string).collect(),
        missing: report
            .missing
            .iter()
            .map(|missing| MissingMeasure {
                what: missing.what.to_string(),
                why: missing.why.clone(),
            })
            .collect(),
    }
}

pub(crate) fn published_port(port: &PortForward) -> PublishedPort {
    PublishedPort {
        host_ip: port.host_ip,
        host: port.host_port,
        guest: port.guest_port,
        protocol: match port.protocol {
            MachineProtocol::Tcp => Protocol::Tcp,
            MachineProtocol::Udp => Protocol::Udp,
        },
    }
}

pub(crate) fn state(state: RecordedState) -> BoxState {
    match state {
        RecordedState::Created => BoxState::Created,
        RecordedState::Starting => BoxState::Starting,
        RecordedState::Running => BoxState::Running,
        RecordedState::Paused => BoxState::Paused,
        RecordedState::Stopping => BoxState::Stopping,
        RecordedState::Stopped => BoxState::Stopped,
        RecordedState::Failed => BoxState::Failed,
    }
}

/// The configuration that a row keeps.
pub(crate) fn config(record: &BoxRecord) -> Result<BoxConfig, StateError> {
    BoxConfig::deserialize(&record.config).map_err(|source| StateError::Row {
        what: "configuration",
        id: record.name.clone(),
        source,
    })
}

pub(crate) fn exit_status(exit: &RecordedExit) -> ExitStatus {
    let status = match exit.status {
        boxlite_store::ExitStatus::Code(code) => ExitStatus::from_code(code),
        boxlite_store::ExitStatus::Signal(signal) => ExitStatus::from_signal(signal),
    };
    status.with_out_of_memory(exit.oom_killed)
}

pub(crate) fn diagnosis(error: &RecordedError) -> Diagnosis {
    Diagnosis {
        code: match error.code.as_str() {
            "supervisor_lost" => ErrorCode::Engine,
            code => serde_json::from_value(code.into()).unwrap_or(ErrorCode::Internal),
        },
        message: error.message.clone(),
        hint: error.hint.clone(),
        evidence: error.evidence.clone(),
    }
}

/// Everything that a row says about a box.
pub(crate) fn info(home: &Home, record: BoxRecord) -> Result<BoxInfo, StateError> {
    let config = config(&record)?;
    let details: Option<StartDetails> = record
        .start
        .as_ref()
        .and_then(|start| StartDetails::deserialize(start).ok());
    let ports = record
        .ports
        .as_ref()
        .filter(|_| record.state.is_live())
        .and_then(|ports| Vec::<PublishedPort>::deserialize(ports).ok())
        .unwrap_or_else(|| requested_ports(&config));
    let run = record.run_id.as_ref().map(|run_id| RunInfo {
        run_id: run_id.clone(),
        engine: record.engine.as_ref().map(|engine| match &details {
            Some(details) => format!("{engine} {}", details.engine_version),
            None => engine.clone(),
        }),
        accelerator: record.accelerator.clone(),
        accelerator_evidence: details
            .as_ref()
            .map(|details| details.accelerator_evidence.clone())
            .unwrap_or_default(),
        start_mode: details.as_ref().map(|details| details.mode.clone()),
        cold_reason: details.as_ref().and_then(|details| details.cold_reason.clone()),
        stages: details
            .as_ref()
            .map(|details| details.stages.clone())
            .unwrap_or_default(),
        warnings: details
            .as_ref()
            .map(|details| details.warnings.clone())
            .unwrap_or_default(),
        agent_version: details.as_ref().map(|details| details.agent_version.clone()),
        kernel_release: details.as_ref().map(|details| details.kernel_release.clone()),
        shim_pid: record.shim_pid,
        // Known while it runs; afterwards the number may be anybody's.
        engine_pid: record
            .shim_pid
            .and(details.as_ref())
            .and_then(|details| details.engine_pid),
    });
    Ok(BoxInfo {
        directory: home.box_dir(&record.id),
        hostname: config.hostname(record.id.as_str()),
        id: record.id.as_str().to_owned(),
        name: record.name,
        image: record.image_reference.unwrap_or_else(|| config.options.image.clone()),
        image_digest: record
            .image_digest
            .map(|digest| digest.as_str().to_owned())
            .unwrap_or_default(),
        platform: config.platform,
        state: state(record.state),
        created_at_ms: unsigned(record.created_at_ms),
        started_at_ms: record.started_at_ms.map(unsigned),
        finished_at_ms: record.finished_at_ms.map(unsigned),
        exit_status: record.exit.as_ref().map(exit_status),
        error: record.error.as_ref().map(diagnosis),
        cpus: config.options.cpus,
        memory_mib: config.options.memory_mib,
        disk_mib: config.options.disk_mib,
        command: config.args,
        env: config.env,
        working_dir: config.working_dir,
        user: config.user,
        stop_signal: config.stop_signal.to_string(),
        stop_timeout_ms: config.options.stop_timeout_ms,
        tty: config.options.tty,
        stdin_open: config.options.stdin_open,
        detached: record.detached,
        auto_remove: record.auto_remove,
        mounts: config.options.mounts,
        ports,
        network: config.options.network,
        labels: config.labels,
        engine: config.options.engine,
        run,
        jail: details.map(|details| details.jail),
    })
}

fn requested_ports(config: &BoxConfig) -> Vec<PublishedPort> {
    config
        .options
        .ports
        .iter()
        .map(|port| PublishedPort {
            host_ip: port.host_ip.unwrap_or(std::net::Ipv4Addr::LOCALHOST.into()),
            host: port.host,
            guest: port.guest,
            protocol: port.protocol,
        })
        .collect()
}

fn unsigned(time_ms: i64) -> u64 {
    u64::try_from(time_ms).unwrap_or(0)
}

/// Understands the record that a supervisor leaves, for the store.
pub(crate) fn parse_exit_record(bytes: &[u8]) -> Result<EndedRun, String> {
    let record: ExitRecord = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    Ok(ended_run(record))
}

fn ended_run(record: ExitRecord) -> EndedRun {
    let exit = record.main.map(|main| RecordedExit {
        status: match main.status {
            MainStatus::Code(code) => boxlite_store::ExitStatus::Code(code),
            MainStatus::Signal(signal) => boxlite_store::ExitStatus::Signal(signal),
        },
        oom_killed: main.out_of_memory,
    });
    let killed = || {
        Some(RecordedExit {
            status: boxlite_store::ExitStatus::Signal(9),
            oom_killed: false,
        })
    };
    let (exit, error) = match record.reason {
        ExitReason::MainExited | ExitReason::Stopped | ExitReason::ParentGone | ExitReason::GuestPoweredOff => {
            (exit, None)
        }
        ExitReason::Killed => (exit.or_else(killed), None),
        ExitReason::EngineDied { stderr, console } => {
            let how = match record.engine {
                Some(EngineExitRecord::Code(code)) => format!(" (exit code {code})"),
                Some(EngineExitRecord::Signal(signal)) => format!(" (signal {signal})"),
                None => String::new(),
            };
            let error = RecordedError {
                code: ErrorCode::Engine.as_str().to_owned(),
                message: format!("the engine ended on its own{how}"),
                hint: Some("start the box again; if it happens again, see boxlite doctor".to_owned()),
                evidence: stderr.into_iter().chain(console).collect(),
            };
            (exit, Some(error))
        }
        ExitReason::GuestPanicked { console } => {
            let error = RecordedError {
                code: ErrorCode::Engine.as_str().to_owned(),
                message: "the guest's kernel panicked".to_owned(),
                hint: Some("start the box again, with more memory if it ran out of it".to_owned()),
                evidence: console,
            };
            (exit, Some(error))
        }
        ExitReason::AgentLost { error, console } => {
            let error = RecordedError {
                code: ErrorCode::Engine.as_str().to_owned(),
                message: format!("the guest's agent was lost: {error}"),
                hint: Some("start the box again, with more memory if it ran out of it".to_owned()),
                evidence: console,
            };
            (exit, Some(error))
        }
        ExitReason::StartFailed(failure) => {
            let error = RecordedError {
                code: failure_code(failure.code).as_str().to_owned(),
                message: match &failure.cause {
                    Some(cause) => format!("{}: {failure}; likely cause: {cause}", failure.stage),
                    None => format!("{}: {failure}", failure.stage),
                },
                hint: failure.hint,
                evidence: failure.evidence,
            };
            (exit, Some(error))
        }
    };
    EndedRun {
        run_id: record.run_id,
        exit,
        error,
        finished_at_ms: record.finished_at_ms,
    }
}

/// The code of a start that failed.
pub(crate) fn failure_code(code: StartFailureCode) -> ErrorCode {
    use StartFailureCode as Code;
    match code {
        Code::InvalidConfig | Code::VolumeUnusable | Code::CommandNotExecutable | Code::CommandRefused => {
            ErrorCode::InvalidArgument
        }
        Code::CommandNotFound => ErrorCode::NotFound,
        Code::JailIncomplete | Code::AcceleratorUnusable => ErrorCode::Unsupported,
        Code::PortInUse => ErrorCode::ResourceExhausted,
        Code::GuestSilent => ErrorCode::Timeout,
        Code::Interrupted => ErrorCode::Cancelled,
        Code::Internal => ErrorCode::Internal,
        Code::EngineNotFound
        | Code::EngineUnusable
        | Code::FileUnusable
        | Code::EngineFailed
        | Code::KernelPanicked
        | Code::ProtocolMismatch
        | Code::ConfigureFailed => ErrorCode::Engine,
    }
}

#[cfg(test)]
mod tests {
    use boxlite_shim::MainExit;

    use super::*;

    fn exit_record(reason: ExitReason, main: Option<MainExit>) -> ExitRecord {
        ExitRecord {
            run_id: "run".to_owned(),
            main,
            reason,
            finished_at_ms: 5,
            engine: Some(EngineExitRecord::Signal(9)),
        }
    }

    #[test]
    fn ends_in_order_have_no_error() {
        let code = MainExit {
            status: MainStatus::Code(3),
            out_of_memory: false,
        };
        for (reason, main, expected) in [
            (ExitReason::MainExited, Some(code), Some(ExitStatus::from_code(3))),
            (ExitReason::Stopped, None, None),
            (ExitReason::ParentGone, None, None),
            (ExitReason::Killed, None, Some(ExitStatus::from_signal(9))),
        ] {
            let bytes = serde_json::to_vec(&exit_record(reason.clone(), main)).unwrap();
            let ended = parse_exit_record(&bytes).unwrap();
            assert_eq!(ended.error, None, "{reason:?}");
            assert_eq!(ended.exit.as_ref().map(exit_status), expected, "{reason:?}");
            assert_eq!(ended.finished_at_ms, 5);
        }
    }

    #[test]
    fn failures_keep_their_evidence() {
        let ended = ended_run(exit_record(
            ExitReason::EngineDied {
                stderr: vec!["qemu: oops".to_owned()],
                console: vec!["[ 1.0] x".to_owned()],
            },
            None,
        ));
        let error = diagnosis(&ended.error.unwrap());
        assert_eq!(error.code, ErrorCode::Engine);
        assert!(error.message.contains("signal 9"), "{}", error.message);
        assert_eq!(error.evidence, ["qemu: oops", "[ 1.0] x"]);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        assert!(parse_exit_record(b"{}").is_err());
        assert!(parse_exit_record(b"").is_err());
    }
}
