//! Boxes.

use std::ffi::{c_char, c_int};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use boxlite::{BoxHandle, BoxOptions, ListFilter, LogOptions, LogStreamKind, RemoveOptions, Signal};

use crate::client::ClientObject;
use crate::code::boxlite_code_t;
use crate::error::{Failure, boundary, boxlite_error_t};
use crate::execution::ExecObject;
use crate::handle::{self, Object, boxlite_box_t, boxlite_client_t, boxlite_op_t};
use crate::json::{self, AttachOptions, StopOptions};
use crate::op::{self, Outcome, Spec};
use crate::progress::ProgressState;
use crate::pump::Streams;
use crate::stream;
use crate::text::{Out, give, optional, required};

/// A box, and the client that it was had from.
#[derive(Debug)]
pub(crate) struct BoxObject {
    client: Arc<ClientObject>,
    handle: BoxHandle,
}

impl BoxObject {
    pub(crate) fn client(&self) -> &Arc<ClientObject> {
        &self.client
    }

    pub(crate) fn handle(&self) -> &BoxHandle {
        &self.handle
    }

    /// An operation about this box.
    pub(crate) fn spec(&self, operation: &'static str) -> Spec {
        Spec::new(operation).about(self.handle.name())
    }

    /// Fails unless the client is open.
    pub(crate) fn check_open(&self) -> Result<(), Failure> {
        self.client.session().map(drop)
    }
}

fn outcome(client: Arc<ClientObject>, handle: BoxHandle) -> Outcome {
    Outcome::Object(Some(Object::Box(Arc::new(BoxObject { client, handle }))))
}

/// A signal by its number.
pub(crate) fn signal(number: i32) -> Result<Signal, Failure> {
    Signal::new(number).map_err(|error| Failure::argument(error.to_string()))
}

/// `boxlite_box_create`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_create(
    client: boxlite_client_t,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("op", op)?, optional("options_json", options_json)?) };
        let client: Arc<ClientObject> = handle::get(client)?;
        let options: BoxOptions = json::parse("BoxOptions", text.as_deref())?;
        let session = client.session();
        let owner = Arc::clone(&client);
        let progress = Arc::new(ProgressState::default());
        let mut spec = Spec::new("box_create").with_progress(&progress);
        spec.box_name.clone_from(&options.name);
        op::start(&client, spec, out, async move {
            let made = session?.create_with(options, progress.function()).await?;
            Ok(outcome(owner, made))
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_create", error, body) }
}

/// `boxlite_box_get`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_get(
    client: boxlite_client_t,
    id_or_name: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, name) = unsafe { (Out::new("op", op)?, required("id_or_name", id_or_name)?) };
        let client: Arc<ClientObject> = handle::get(client)?;
        let session = client.session();
        let owner = Arc::clone(&client);
        op::start(&client, Spec::new("box_get").about(&name), out, async move {
            let found = session?.get(&name).await?;
            Ok(outcome(owner, found))
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_get", error, body) }
}

/// `boxlite_box_list`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_list(
    client: boxlite_client_t,
    filter_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("op", op)?, optional("filter_json", filter_json)?) };
        let client: Arc<ClientObject> = handle::get(client)?;
        let filter: ListFilter = json::parse("ListFilter", text.as_deref())?;
        let session = client.session();
        op::start(&client, Spec::new("box_list"), out, async move {
            Outcome::json(&session?.list(filter).await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_list", error, body) }
}

/// `boxlite_box_remove`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_remove(
    client: boxlite_client_t,
    id_or_name: *const c_char,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, name, text) = unsafe {
            let out = Out::new("op", op)?;
            (
                out,
                required("id_or_name", id_or_name)?,
                optional("options_json", options_json)?,
            )
        };
        let client: Arc<ClientObject> = handle::get(client)?;
        let options: RemoveOptions = json::parse("RemoveOptions", text.as_deref())?;
        let session = client.session();
        op::start(&client, Spec::new("box_remove").about(&name), out, async move {
            session?.remove(&name, options).await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_remove", error, body) }
}

/// `boxlite_box_rename`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_rename(
    client: boxlite_client_t,
    id_or_name: *const c_char,
    name: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, old, new) = unsafe {
            (
                Out::new("op", op)?,
                required("id_or_name", id_or_name)?,
                required("name", name)?,
            )
        };
        let client: Arc<ClientObject> = handle::get(client)?;
        let session = client.session();
        op::start(&client, Spec::new("box_rename").about(&old), out, async move {
            session?.rename(&old, &new).await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_rename", error, body) }
}

/// `boxlite_box_id`
///
/// # Safety
/// `id` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_id(
    r#box: boxlite_box_t,
    id: *mut *mut c_char,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("id", id) }?;
        let found: Arc<BoxObject> = handle::get(r#box)?;
        out.write(give(found.handle.id()));
        Ok(())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_id", error, body) }
}

/// `boxlite_box_name`
///
/// # Safety
/// `name` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_name(
    r#box: boxlite_box_t,
    name: *mut *mut c_char,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("name", name) }?;
        let found: Arc<BoxObject> = handle::get(r#box)?;
        out.write(give(found.handle.name()));
        Ok(())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_name", error, body) }
}

/// `boxlite_box_start`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_start(
    r#box: boxlite_box_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let open = found.check_open();
        let spec = found.spec("box_start");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            target.handle.start().await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_start", error, body) }
}

/// `boxlite_box_start_attached`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_start_attached(
    r#box: boxlite_box_t,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("op", op)?, optional("options_json", options_json)?) };
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let options: AttachOptions = json::parse("AttachOptions", text.as_deref())?;
        let open = found.check_open();
        let spec = found.spec("box_start_attached");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            let streams = Streams::for_main(&options, target.handle.info().await?.tty)?;
            let execution = target.handle.start_attached(options.into()).await?;
            ExecObject::outcome(&target, execution, streams)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_start_attached", error, body) }
}

/// `boxlite_box_attach`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_attach(
    r#box: boxlite_box_t,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("op", op)?, optional("options_json", options_json)?) };
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let options: AttachOptions = json::parse("AttachOptions", text.as_deref())?;
        let open = found.check_open();
        let spec = found.spec("box_attach");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            let streams = Streams::for_main(&options, target.handle.info().await?.tty)?;
            let execution = target.handle.attach(options.into()).await?;
            ExecObject::outcome(&target, execution, streams)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_attach", error, body) }
}

/// `boxlite_box_stop`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_stop(
    r#box: boxlite_box_t,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("op", op)?, optional("options_json", options_json)?) };
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let options: StopOptions = json::parse("StopOptions", text.as_deref())?;
        let open = found.check_open();
        let spec = found.spec("box_stop");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            target.handle.stop(options.into()).await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_stop", error, body) }
}

/// `boxlite_box_restart`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_restart(
    r#box: boxlite_box_t,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("op", op)?, optional("options_json", options_json)?) };
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let options: StopOptions = json::parse("StopOptions", text.as_deref())?;
        let open = found.check_open();
        let spec = found.spec("box_restart");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            target.handle.restart(options.into()).await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_restart", error, body) }
}

/// `boxlite_box_pause`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_pause(
    r#box: boxlite_box_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let open = found.check_open();
        let spec = found.spec("box_pause");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            target.handle.pause().await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_pause", error, body) }
}

/// `boxlite_box_unpause`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_unpause(
    r#box: boxlite_box_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let open = found.check_open();
        let spec = found.spec("box_unpause");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            target.handle.unpause().await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_unpause", error, body) }
}

/// `boxlite_box_kill`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_kill(
    r#box: boxlite_box_t,
    signal: i32,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let signal = self::signal(signal)?;
        let open = found.check_open();
        let spec = found.spec("box_kill");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            target.handle.kill(signal).await?;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_kill", error, body) }
}

/// `boxlite_box_wait`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_wait(
    r#box: boxlite_box_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let open = found.check_open();
        let spec = found.spec("box_wait");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            Outcome::json(&target.handle.wait().await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_wait", error, body) }
}

/// `boxlite_box_info`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_info(
    r#box: boxlite_box_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let open = found.check_open();
        let spec = found.spec("box_info");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            Outcome::json(&target.handle.info().await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_info", error, body) }
}

/// `boxlite_box_metrics`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_metrics(
    r#box: boxlite_box_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let open = found.check_open();
        let spec = found.spec("box_metrics");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            Outcome::json(&target.handle.metrics().await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_metrics", error, body) }
}

/// `boxlite_box_processes`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_processes(
    r#box: boxlite_box_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let open = found.check_open();
        let spec = found.spec("box_processes");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            Outcome::json(&target.handle.processes().await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_processes", error, body) }
}

/// `boxlite_box_logs`
///
/// # Safety
/// The texts are NULL or C strings; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_box_logs(
    r#box: boxlite_box_t,
    options_json: *const c_char,
    stdout_fd: c_int,
    stderr_fd: c_int,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("op", op)?, optional("options_json", options_json)?) };
        let found: Arc<BoxObject> = handle::get(r#box)?;
        let options: LogOptions = json::parse("LogOptions", text.as_deref())?;
        let outputs = LogOutputs::new(stdout_fd, stderr_fd)?;
        let open = found.check_open();
        let spec = found.spec("box_logs");
        let target = Arc::clone(&found);
        op::start(found.client(), spec, out, async move {
            open?;
            write_logs(&target.handle, options, outputs).await
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("box_logs", error, body) }
}

/// `boxlite_box_free`
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_box_free(r#box: boxlite_box_t) -> boxlite_code_t {
    let body = || {
        handle::remove::<Arc<BoxObject>>(r#box)?.client.forget(r#box);
        Ok(())
    };
    // SAFETY: NULL as the error is always allowed.
    unsafe { boundary("box_free", std::ptr::null_mut(), body) }
}

/// Where the two streams of a log go.
struct LogOutputs {
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

impl LogOutputs {
    fn new(stdout: c_int, stderr: c_int) -> Result<Self, Failure> {
        Ok(Self {
            stdout: stream::taken_output("stdout_fd", stdout)?,
            stderr: stream::taken_output("stderr_fd", stderr)?,
        })
    }
}

async fn write_logs(target: &BoxHandle, options: LogOptions, outputs: LogOutputs) -> Result<Outcome, Failure> {
    let mut log = target.logs(options).await?;
    let mut stdout = outputs.stdout.map(stream::CallersOutput::new).transpose()?;
    let mut stderr = outputs.stderr.map(stream::CallersOutput::new).transpose()?;
    while let Some(entry) = log.next().await {
        let entry = entry?;
        let output = match entry.stream {
            LogStreamKind::Stdout => &mut stdout,
            LogStreamKind::Stderr => &mut stderr,
        };
        if let Some(output) = output {
            output.write(entry.bytes).await?;
        }
    }
    Ok(Outcome::Nothing)
}
