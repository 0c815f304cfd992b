//! Clients.

use std::collections::{BTreeMap, HashSet};
use std::ffi::{c_char, c_int};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use boxlite::{Client, PruneOptions};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::code::boxlite_code_t;
use crate::error::{Failure, boundary, boxlite_error_t};
use crate::handle::{self, Object, boxlite_client_t, boxlite_op_t};
use crate::json::{self, ClientOptions};
use crate::op::{self, Op, Outcome, Spec};
use crate::pipe::Event;
use crate::text::{Out, optional};
use crate::{boxes::BoxObject, execution::ExecObject, runtime};

#[derive(Debug)]
enum Phase {
    New,
    Opening,
    Open(Client),
    Closing,
}

/// A client with what belongs to it.
#[derive(Debug)]
pub(crate) struct ClientObject {
    options: ClientOptions,
    phase: Mutex<Phase>,
    /// Cancelled when closing begins.
    closing: CancellationToken,
    /// Operations, and what keeps executions alive.
    tasks: TaskTracker,
    /// Handles that are freed with it; `None` once it is freed.
    children: Mutex<Option<HashSet<u64>>>,
    completions: Completions,
}

impl ClientObject {
    fn new(options: ClientOptions) -> Result<Self, Failure> {
        let event = Event::new().map_err(|error| Failure::system("making the completion descriptor", error))?;
        Ok(Self {
            options,
            phase: Mutex::new(Phase::New),
            closing: CancellationToken::new(),
            tasks: TaskTracker::new(),
            children: Mutex::new(Some(HashSet::new())),
            completions: Completions(Mutex::new(Queue {
                ended: BTreeMap::new(),
                next_place: 0,
                event: Some(event),
            })),
        })
    }

    fn phase(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn children(&self) -> MutexGuard<'_, Option<HashSet<u64>>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    pub(crate) fn completions(&self) -> &Completions {
        &self.completions
    }

    /// The library's client, if it is open.
    pub(crate) fn session(&self) -> Result<Client, Failure> {
        match &*self.phase() {
            Phase::Open(client) => Ok(client.clone()),
            Phase::New | Phase::Opening => {
                Err(Failure::state("the client is not open: boxlite_client_open() opens it"))
            }
            Phase::Closing => Err(Failure::closed()),
        }
    }

    /// Gives something its handle, which is freed with this client.
    pub(crate) fn adopt(&self, object: Object) -> Result<u64, Failure> {
        let mut children = self.children();
        let Some(children) = children.as_mut() else {
            return Err(Failure::state("this client handle was freed"));
        };
        let handle = handle::insert(object)?;
        children.insert(handle);
        Ok(handle)
    }

    pub(crate) fn forget(&self, handle: u64) {
        if let Some(children) = self.children().as_mut() {
            children.remove(&handle);
        }
    }

    async fn open(self: Arc<Self>) -> Result<Outcome, Failure> {
        match &mut *self.phase() {
            phase @ Phase::New => *phase = Phase::Opening,
            Phase::Opening | Phase::Open(_) => {
                return Err(Failure::state("the client is open, or being opened, already"));
            }
            Phase::Closing => return Err(Failure::closed()),
        }
        let opening = Opening(&self);
        let client = self.options.clone().builder().build().await?;
        opening.succeed(client)?;
        Ok(Outcome::Nothing)
    }

    /// Begins to close; gives what there is to close.
    fn begin_close(&self) -> Result<Option<Client>, Failure> {
        let before = std::mem::replace(&mut *self.phase(), Phase::Closing);
        self.closing.cancel();
        match before {
            Phase::Open(client) => Ok(Some(client)),
            Phase::New | Phase::Opening => Ok(None),
            Phase::Closing => Err(Failure::closed()),
        }
    }

    async fn finish_close(&self, client: Option<Client>) {
        self.tasks.close();
        self.tasks.wait().await;
        if let Some(client) = client {
            client.close().await;
        }
    }

    /// What freeing its handle does.
    fn discard(self: &Arc<Self>) {
        let children = self.children().take().unwrap_or_default();
        self.completions.close();
        for handle in children {
            // Another thread may have been faster.
            if let Ok(found) = handle::remove::<Arc<Op>>(handle) {
                found.discard();
            } else if let Ok(found) = handle::remove::<Arc<ExecObject>>(handle) {
                found.release();
            } else {
                let _ = handle::remove::<Arc<BoxObject>>(handle);
            }
        }
        if let (Ok(Some(client)), Ok(runtime)) = (self.begin_close(), runtime::get()) {
            let owner = Arc::clone(self);
            runtime.spawn(async move { owner.finish_close(Some(client)).await });
        }
    }
}

/// A client that goes back to being new unless its opening succeeds.
struct Opening<'a>(&'a ClientObject);

impl Opening<'_> {
    fn succeed(self, client: Client) -> Result<(), Failure> {
        match &mut *self.0.phase() {
            phase @ Phase::Opening => {
                *phase = Phase::Open(client);
                Ok(())
            }
            _ => Err(Failure::closed()),
        }
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let phase @ Phase::Opening = &mut *self.0.phase() {
            *phase = Phase::New;
        }
    }
}

#[derive(Debug)]
struct Queue {
    /// Operations that have ended and that nobody took, in the order of their ends.
    ended: BTreeMap<u64, boxlite_op_t>,
    next_place: u64,
    /// `None` once the client is freed.
    event: Option<Event>,
}

/// The ends of operations, announced on a descriptor.
#[derive(Debug)]
pub(crate) struct Completions(Mutex<Queue>);

impl Completions {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces that an operation has ended; gives its place in the queue.
    pub(crate) fn announce(&self, op: boxlite_op_t) -> Option<u64> {
        let mut queue = self.lock();
        let place = queue.next_place;
        queue.event.as_ref()?.raise();
        queue.next_place += 1;
        queue.ended.insert(place, op);
        Some(place)
    }

    /// Takes back what was announced.
    pub(crate) fn withdraw(&self, place: u64) {
        let mut queue = self.lock();
        queue.ended.remove(&place);
        queue.settle();
    }

    fn take(&self) -> boxlite_op_t {
        let mut queue = self.lock();
        let first = queue.ended.pop_first().map_or(0, |(_, op)| op);
        queue.settle();
        first
    }

    fn close(&self) {
        let mut queue = self.lock();
        queue.event = None;
        queue.ended.clear();
    }

    fn number(&self) -> Result<c_int, Failure> {
        match &self.lock().event {
            Some(event) => Ok(event.number()),
            None => Err(Failure::state("this client handle was freed")),
        }
    }
}

impl Queue {
    fn settle(&self) {
        if self.ended.is_empty()
            && let Some(event) = &self.event
        {
            event.clear();
        }
    }
}

/// `boxlite_client_new`
///
/// # Safety
/// `options_json` is NULL or a C string; `client` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_client_new(
    options_json: *const c_char,
    client: *mut boxlite_client_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("client", client)?, optional("options_json", options_json)?) };
        let options = json::parse("ClientOptions", text.as_deref())?;
        out.write(handle::insert(Object::Client(Arc::new(ClientObject::new(options)?)))?);
        Ok(())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("client_new", error, body) }
}

/// `boxlite_client_open`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_client_open(
    client: boxlite_client_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let client: Arc<ClientObject> = handle::get(client)?;
        op::start(&client, Spec::new("client_open"), out, Arc::clone(&client).open())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("client_open", error, body) }
}

/// `boxlite_client_close`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_client_close(
    client: boxlite_client_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let client: Arc<ClientObject> = handle::get(client)?;
        let session = client.begin_close();
        let owner = Arc::clone(&client);
        let spec = Spec {
            stops: false,
            ..Spec::new("client_close")
        };
        op::start(&client, spec, out, async move {
            owner.finish_close(session?).await;
            Ok(Outcome::Nothing)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("client_close", error, body) }
}

/// `boxlite_client_free`
#[unsafe(no_mangle)]
pub extern "C" fn boxlite_client_free(client: boxlite_client_t) -> boxlite_code_t {
    let body = || {
        handle::remove::<Arc<ClientObject>>(client)?.discard();
        Ok(())
    };
    // SAFETY: NULL as the error is always allowed.
    unsafe { boundary("client_free", std::ptr::null_mut(), body) }
}

/// `boxlite_client_completion_fd`
///
/// # Safety
/// `fd` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_client_completion_fd(
    client: boxlite_client_t,
    fd: *mut c_int,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("fd", fd) }?;
        out.write(handle::get::<Arc<ClientObject>>(client)?.completions.number()?);
        Ok(())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("client_completion_fd", error, body) }
}

/// `boxlite_client_next_completion`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_client_next_completion(
    client: boxlite_client_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        out.write(handle::get::<Arc<ClientObject>>(client)?.completions.take());
        Ok(())
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("client_next_completion", error, body) }
}

/// `boxlite_client_info`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_client_info(
    client: boxlite_client_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let client: Arc<ClientObject> = handle::get(client)?;
        let session = client.session();
        op::start(&client, Spec::new("client_info"), out, async move {
            Outcome::json(&session?.info().await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("client_info", error, body) }
}

/// `boxlite_client_doctor`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_client_doctor(
    client: boxlite_client_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let client: Arc<ClientObject> = handle::get(client)?;
        let is_closed = client.closing.is_cancelled();
        let builder = client.options.clone().builder();
        op::start(&client, Spec::new("client_doctor"), out, async move {
            if is_closed {
                return Err(Failure::closed());
            }
            Outcome::json(&Client::doctor_for(builder).await)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("client_doctor", error, body) }
}

/// `boxlite_client_disk_usage`
///
/// # Safety
/// `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_client_disk_usage(
    client: boxlite_client_t,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let out = unsafe { Out::new("op", op) }?;
        let client: Arc<ClientObject> = handle::get(client)?;
        let session = client.session();
        op::start(&client, Spec::new("client_disk_usage"), out, async move {
            Outcome::json(&session?.disk_usage().await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("client_disk_usage", error, body) }
}

/// `boxlite_client_prune`
///
/// # Safety
/// `options_json` is NULL or a C string; `op` and `error` are NULL or valid for writing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn boxlite_client_prune(
    client: boxlite_client_t,
    options_json: *const c_char,
    op: *mut boxlite_op_t,
    error: *mut *mut boxlite_error_t,
) -> boxlite_code_t {
    let body = || {
        // SAFETY: this function's own contract.
        let (out, text) = unsafe { (Out::new("op", op)?, optional("options_json", options_json)?) };
        let client: Arc<ClientObject> = handle::get(client)?;
        let options: PruneOptions = json::parse("PruneOptions", text.as_deref())?;
        let session = client.session();
        op::start(&client, Spec::new("client_prune"), out, async move {
            Outcome::json(&session?.prune(options).await?)
        })
    };
    // SAFETY: this function's own contract.
    unsafe { boundary("client_prune", error, body) }
}
