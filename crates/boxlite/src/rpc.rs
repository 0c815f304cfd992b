//! From the protocol's types to this crate's.

use boxlite_protocol::guest::{self, exit_status::How};
use tonic::{Code, Status};

use crate::error::{AgentError, ErrorCode, Refusal, RefusalReason};
use crate::exit_status::ExitStatus;

/// The kind of failure that a status stands for.
pub(crate) fn code_of(status: &Status) -> ErrorCode {
    match status.code() {
        Code::NotFound => ErrorCode::NotFound,
        Code::AlreadyExists => ErrorCode::AlreadyExists,
        Code::InvalidArgument | Code::OutOfRange => ErrorCode::InvalidArgument,
        Code::FailedPrecondition | Code::Aborted => ErrorCode::InvalidState,
        Code::ResourceExhausted => ErrorCode::ResourceExhausted,
        Code::DeadlineExceeded => ErrorCode::Timeout,
        Code::Cancelled => ErrorCode::Cancelled,
        Code::Unimplemented => ErrorCode::Unsupported,
        _ => ErrorCode::Engine,
    }
}

/// What a status says, with what caused it on this side.
pub(crate) fn message_of(status: &Status) -> String {
    let mut message = if status.message().is_empty() {
        status.code().description().to_owned()
    } else {
        status.message().to_owned()
    };
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    message
}

/// The error of a call that was answered with `status`.
pub(crate) fn call_error(operation: &'static str, status: &Status) -> AgentError {
    AgentError::Call {
        operation,
        code: code_of(status),
        message: message_of(status),
    }
}

/// How a process ended; `None` if the message does not say.
pub(crate) fn exit_status(status: &guest::ExitStatus) -> Option<ExitStatus> {
    let ended = match status.how? {
        How::Code(code) => ExitStatus::from_code(code),
        How::Signal(signal) => ExitStatus::from_signal(signal),
    };
    Some(
        ended
            .with_out_of_memory(status.out_of_memory)
            .with_output_cut(status.output_cut),
    )
}

/// Why a process was not started.
pub(crate) fn refusal(refused: guest::ExecRefused) -> Refusal {
    use guest::exec_refused::Reason;
    Refusal {
        reason: match refused.reason() {
            Reason::NotFound => RefusalReason::NotFound,
            Reason::NotExecutable => RefusalReason::NotExecutable,
            Reason::NoSuchUser => RefusalReason::NoSuchUser,
            Reason::NoSuchGroup => RefusalReason::NoSuchGroup,
            Reason::WorkingDir => RefusalReason::WorkingDir,
            Reason::Invalid => RefusalReason::Invalid,
            Reason::Resources => RefusalReason::Resources,
            Reason::NotRunning => RefusalReason::NotRunning,
            Reason::Unspecified => RefusalReason::Other,
        },
        message: refused.message,
        errno: refused.errno,
    }
}

pub(crate) fn terminal_size(size: crate::TerminalSize) -> guest::TerminalSize {
    guest::TerminalSize {
        rows: u32::from(size.rows),
        columns: u32::from(size.columns),
    }
}
