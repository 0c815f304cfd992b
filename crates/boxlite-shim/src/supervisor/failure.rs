//! Failed starts, put into words: what failed, why, and what to do.

use boxlite_machine::accelerator::ChooseError;
use boxlite_machine::qemu::{EngineExit, FileRole, GuestStop, ProbeError, StartError};
use boxlite_protocol::guest::{ExecRefused, exec_refused::Reason};
use boxlite_shim::{Stage, StartFailure, StartFailureCode};

use super::agent::{ConnectError, describe};
use super::console::Console;
use super::guest_text;

fn failure(stage: Stage, code: StartFailureCode, message: String) -> StartFailure {
    StartFailure {
        stage,
        code,
        message,
        evidence: Vec::new(),
        cause: None,
        hint: None,
    }
}

pub(crate) fn internal(stage: Stage, what: &str, error: &dyn std::error::Error) -> StartFailure {
    failure(
        stage,
        StartFailureCode::Internal,
        format!("{what}: {}", describe(error)),
    )
}

pub(crate) fn no_engine(error: &ProbeError) -> StartFailure {
    let code = match error {
        ProbeError::NotFound { .. } => StartFailureCode::EngineNotFound,
        _ => StartFailureCode::EngineUnusable,
    };
    StartFailure {
        hint: Some(error.hint()),
        ..failure(Stage::Prepare, code, describe(error))
    }
}

pub(crate) fn no_accelerator(error: &ChooseError) -> StartFailure {
    StartFailure {
        hint: Some("leave the choice to boxlite, or say BOXLITE_ACCEL=tcg".to_owned()),
        ..failure(Stage::Prepare, StartFailureCode::AcceleratorUnusable, describe(error))
    }
}

pub(crate) fn not_started(error: &StartError) -> StartFailure {
    use StartFailureCode as Code;
    let message = describe(error);
    let hinted = |stage, code, hint: &str| StartFailure {
        hint: Some(hint.to_owned()),
        ..failure(stage, code, message.clone())
    };
    match error {
        StartError::Invalid(_) => failure(Stage::Prepare, Code::InvalidConfig, message),
        StartError::File { role, .. } => match role {
            FileRole::Kernel | FileRole::Initramfs => hinted(
                Stage::Prepare,
                Code::FileUnusable,
                "the guest bundle is not whole: boxlite doctor says which one is used",
            ),
            FileRole::Memory | FileRole::State => hinted(
                Stage::Prepare,
                Code::FileUnusable,
                "remove the template: boxlite template rm",
            ),
            FileRole::Rootfs => hinted(Stage::Prepare, Code::FileUnusable, "pull the image again"),
            FileRole::Disk => hinted(
                Stage::Prepare,
                Code::FileUnusable,
                "the box's disk is gone: remove the box",
            ),
        },
        StartError::Share { .. } => failure(Stage::Prepare, Code::VolumeUnusable, message),
        StartError::JailIncomplete { .. } => hinted(
            Stage::Jail,
            Code::JailIncomplete,
            "allow it on this host, or start the box without strict security",
        ),
        StartError::Jail { failure: step } => match step.step {
            boxlite_machine::jail::process::Step::Volumes => failure(Stage::Jail, Code::VolumeUnusable, message),
            _ => failure(Stage::Jail, Code::EngineFailed, message),
        },
        StartError::PortInUse {
            protocol, host_port, ..
        } => hinted(
            Stage::Engine,
            Code::PortInUse,
            &format!("see who has it (ss -lp, {protocol}, :{host_port}), or publish another port"),
        ),
        StartError::PortRefused { .. } => failure(Stage::Engine, Code::InvalidConfig, message),
        StartError::EngineExited { stderr, .. } => StartFailure {
            evidence: stderr.clone(),
            cause: engine_cause(stderr),
            ..failure(Stage::Engine, Code::EngineFailed, message)
        },
        StartError::Control(_) => failure(Stage::Engine, Code::EngineFailed, message),
        _ => failure(Stage::Engine, Code::Internal, message),
    }
}

fn engine_cause(stderr: &[String]) -> Option<String> {
    let says = |text: &str| stderr.iter().any(|line| line.contains(text));
    if says("Cannot allocate memory") || says("cannot set up guest memory") {
        Some("the host has not enough memory for this box".to_owned())
    } else if says("KVM") && says("ermission denied") {
        Some("this user may not use /dev/kvm".to_owned())
    } else {
        None
    }
}

/// The jail or the engine did not answer.
pub(crate) fn engine_silent(timeout_ms: u64) -> StartFailure {
    StartFailure {
        cause: Some("the host may be overloaded".to_owned()),
        hint: Some("try again with a longer --start-timeout".to_owned()),
        ..failure(
            Stage::Engine,
            StartFailureCode::GuestSilent,
            format!("the engine did not answer within {timeout_ms} ms"),
        )
    }
}

/// The engine ended while the guest started.
pub(crate) fn engine_ended(stage: Stage, exit: &EngineExit, stderr: Vec<String>, console: &Console) -> StartFailure {
    if exit.reason == Some(GuestStop::Panicked) || console.panic().is_some() {
        return panicked(stage, console);
    }
    let message = match exit.reason {
        Some(GuestStop::PoweredOff | GuestStop::Reset) => "the guest powered off while it started".to_owned(),
        _ => format!("the engine ended while the guest started ({})", exit.status),
    };
    StartFailure {
        cause: engine_cause(&stderr),
        evidence: stderr.into_iter().chain(console.last_lines()).collect(),
        ..failure(stage, StartFailureCode::EngineFailed, message)
    }
}

pub(crate) fn panicked(stage: Stage, console: &Console) -> StartFailure {
    let line = console.panic().unwrap_or_default();
    let out_of_memory = line.contains("Out of memory") || line.contains("out of memory");
    StartFailure {
        evidence: console.last_lines(),
        cause: Some(
            if out_of_memory {
                "the box has too little memory"
            } else {
                "the guest bundle's kernel and agent do not belong together, or the engine has a fault"
            }
            .to_owned(),
        ),
        hint: Some(
            if out_of_memory {
                "give the box more memory (--memory)"
            } else {
                "run `boxlite doctor`; with a bundle of your own (BOXLITE_BUNDLE_DIR), try without it"
            }
            .to_owned(),
        ),
        ..failure(
            stage,
            StartFailureCode::KernelPanicked,
            "the guest's kernel panicked".to_owned(),
        )
    }
}

/// Nothing moved for `silent_ms`.
pub(crate) fn silent(stage: Stage, silent_ms: u128, console: &Console) -> StartFailure {
    let evidence = console.last_lines();
    let cause = if *console.bytes().borrow() == 0 && stage <= Stage::Kernel {
        "the guest's kernel did not say a word: the accelerator may not work, or the kernel is not one for this engine"
    } else {
        "the host may be overloaded"
    };
    StartFailure {
        evidence,
        cause: Some(cause.to_owned()),
        hint: Some("try again with a longer --start-timeout, or with BOXLITE_ACCEL=tcg".to_owned()),
        ..failure(
            stage,
            StartFailureCode::GuestSilent,
            format!("nothing moved for {silent_ms} ms"),
        )
    }
}

pub(crate) fn no_connection(stage: Stage, error: &ConnectError, console: &Console) -> StartFailure {
    StartFailure {
        evidence: console.last_lines(),
        ..failure(stage, StartFailureCode::Internal, describe(error))
    }
}

/// Hello or Configure failed.
pub(crate) fn refused_by_agent(stage: Stage, status: &tonic::Status, console: &Console) -> StartFailure {
    let code = match (status.code(), stage) {
        (tonic::Code::FailedPrecondition, Stage::Agent) => StartFailureCode::ProtocolMismatch,
        (_, Stage::Configure) => StartFailureCode::ConfigureFailed,
        _ => StartFailureCode::Internal,
    };
    let hint = (code == StartFailureCode::ProtocolMismatch)
        .then(|| "boxlite and its guest bundle are from different releases: unset BOXLITE_BUNDLE_DIR".to_owned());
    StartFailure {
        evidence: console.last_lines(),
        hint,
        ..failure(stage, code, guest_text::message(status.message()))
    }
}

pub(crate) fn main_refused(refused: &ExecRefused) -> StartFailure {
    let code = match refused.reason() {
        Reason::NotFound => StartFailureCode::CommandNotFound,
        Reason::NotExecutable => StartFailureCode::CommandNotExecutable,
        _ => StartFailureCode::CommandRefused,
    };
    failure(Stage::Main, code, guest_text::message(&refused.message))
}

pub(crate) fn interrupted(stage: Stage, why: &str) -> StartFailure {
    failure(
        stage,
        StartFailureCode::Interrupted,
        format!("the start was ended: {why}"),
    )
}
