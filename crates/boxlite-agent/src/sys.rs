//! The system calls that no safe wrapper covers. Everything unsafe of the agent is here.

use std::{
    ffi::{CStr, CString, c_int, c_ulong},
    io,
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr,
};

use tokio::io::{Interest, ReadBuf, unix::AsyncFd};

/// Into the control group whose descriptor is given (clone(2)); libc's constant is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Which side of a [`fork`] this is.
pub(crate) enum Fork {
    /// The new process.
    Child,
    /// The agent, with the child's number in the agent's PID namespace and a pidfd.
    Parent(i32, OwnedFd),
}

/// Copies this process (clone3(2)), optionally as the first process of a new PID
/// namespace, and into the control group of an open directory.
///
/// Like fork(2), without the C library's handlers: the agent has one thread, so that
/// no lock of another can be left held in the child.
pub(crate) fn fork(new_pid_namespace: bool, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Fork> {
    let mut pidfd: RawFd = -1;
    let mut flags = libc::CLONE_PIDFD as u64;
    if new_pid_namespace {
        flags |= libc::CLONE_NEWPID as u64;
    }
    if cgroup.is_some() {
        flags |= CLONE_INTO_CGROUP;
    }
    // SAFETY: clone_args is a struct of integers, for which zeros are valid.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags;
    arguments.pidfd = ptr::from_mut(&mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = cgroup.map_or(0, |fd| fd.as_raw_fd() as u64);
    // SAFETY: without CLONE_VM the child has its own copy of memory and goes on from here
    // on the same stack; `arguments` and `pidfd` live across the call. The process has one
    // thread, so that memory is in a consistent state.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_ref(&arguments),
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Fork::Child),
        pid => {
            // SAFETY: CLONE_PIDFD put a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Fork::Parent(pid as i32, pidfd))
        }
    }
}

/// Has the C library take memory from the kernel in pieces of `bytes`, now and later, and keep
/// it (mallopt(3)).
pub(crate) fn take_memory_ahead(bytes: c_int) {
    // SAFETY: both parameters take any number; no other thread allocates meanwhile.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, bytes);
        libc::mallopt(libc::M_TRIM_THRESHOLD, c_int::MAX);
    }
    // Together more than what can be free by now, so that the kernel is asked; each less than
    // what would get a mapping of its own.
    drop(std::hint::black_box(
        [const { 100 << 10 }; 4].map(Vec::<u8>::with_capacity),
    ));
}

/// Watches `fd`, which must not block, for being ready.
pub(crate) fn watch(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd gives the same open descriptor for as long as it lives, and the
    // AsyncFd owns it.
    Ok(unsafe { AsyncFd::register_with_interest(fd, interest) }?)
}

/// Reads into the unfilled part of `buffer` (read(2)) without clearing it before, which
/// would be done again for every page of a port; 0 is the end.
pub(crate) fn read_into(fd: impl AsFd, buffer: &mut ReadBuf<'_>) -> io::Result<usize> {
    // SAFETY: nothing uninitialised is written into it.
    let unfilled = unsafe { buffer.unfilled_mut() };
    let (read, _) = rustix::io::read(fd, unfilled)?;
    let count = read.len();
    // SAFETY: these are the bytes that rustix gave back as initialised.
    unsafe { buffer.assume_init(count) };
    buffer.advance(count);
    Ok(count)
}

/// Ends this process at once: no destructor and no handler of the parent's runs.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: _exit(2) takes any number and does not return.
    unsafe { libc::_exit(code) }
}

/// Becomes the program at `path` (execve(2)); returns only the error.
pub(crate) fn execute(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| {
        strings
            .iter()
            .map(|string| string.as_ptr())
            .chain([ptr::null()])
            .collect::<Vec<_>>()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer, and they and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Gives this process new namespaces (unshare(2)) of the kinds in `flags` (`CLONE_NEW…`).
pub(crate) fn unshare(flags: c_int) -> io::Result<()> {
    // SAFETY: no CLONE_FILES and no CLONE_VM: what this process has stays as it is.
    check(unsafe { libc::unshare(flags) })
}

/// Undoes what the Rust runtime and tokio changed about signals: no signal is blocked
/// and none is ignored.
pub(crate) fn reset_signals() {
    // SAFETY: the set is initialised by sigemptyset before it is used; SIG_DFL is valid for
    // SIGPIPE, the only signal that the runtime ignores.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &set, ptr::null_mut());
    }
}

/// The signal with this Linux number, named or not (1 to 64).
pub(crate) fn signal(number: i32) -> Option<rustix::process::Signal> {
    // SAFETY: the numbers are valid. Those that the C library keeps for itself are only
    // unsafe to send to a program's own threads; the agent sends signals to others.
    (1..=64)
        .contains(&number)
        .then(|| unsafe { rustix::process::Signal::from_raw_unchecked(number) })
}

/// What process 1 of an idle box does: waits for the orphans, for ever.
pub(crate) fn reap_forever() -> ! {
    // SAFETY: the sets are initialised before they are used, and the calls take null
    // pointers for what is not wanted.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &all, ptr::null_mut());
        let mut child = std::mem::zeroed();
        libc::sigemptyset(&mut child);
        libc::sigaddset(&mut child, libc::SIGCHLD);
        loop {
            while libc::waitpid(-1, ptr::null_mut(), libc::WNOHANG) > 0 {}
            libc::sigwaitinfo(&child, ptr::null_mut());
        }
    }
}

/// Closes every descriptor but those in `keep`.
pub(crate) fn close_all_except(keep: &[RawFd]) {
    let mut keep = keep.to_vec();
    keep.sort_unstable();
    keep.dedup();
    let mut first: u32 = 0;
    for fd in keep {
        let fd = fd as u32;
        if fd > first {
            close_range(first, fd - 1, 0);
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX, 0);
}

/// Marks every descriptor from `first` on to be closed by execve(2).
pub(crate) fn close_on_exec_from(first: u32) {
    close_range(first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
}

fn close_range(first: u32, last: u32, flags: libc::c_uint) {
    // SAFETY: only called in a forked child, which uses none of the closed descriptors again
    // and ends with exit or execute, which run no destructors.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
}

/// Makes `fd` the descriptor `number` of this process (dup3(2), stays open across execve).
pub(crate) fn place_fd(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == number {
        // SAFETY: changes a flag of an open descriptor.
        return check(unsafe { libc::fcntl(number, libc::F_SETFD, 0) });
    }
    // SAFETY: only used for 0, 1 and 2 in a forked child, where no object owns them.
    match unsafe { libc::dup2(fd.as_raw_fd(), number) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Shows `text` as this process's command line.
pub(crate) fn set_command_line(text: &CStr) -> io::Result<()> {
    // The kernel shows what is in anonymous memory, not what is in a file that is mapped.
    let text: &'static CStr = Box::leak(text.to_owned().into_boxed_c_str());
    let bytes = text.to_bytes_with_nul();
    let start = bytes.as_ptr() as c_ulong;
    let end = start + bytes.len() as c_ulong;
    // The kernel wants start <= end after each of the two calls, and the arguments that it
    // put on the stack are above every text.
    for (option, address) in [(libc::PR_SET_MM_ARG_START, start), (libc::PR_SET_MM_ARG_END, end)] {
        // SAFETY: the text is static; the kernel only reads it, for /proc/PID/cmdline.
        check(unsafe { libc::prctl(libc::PR_SET_MM, option, address, 0, 0) })?;
    }
    Ok(())
}

/// Mixes `bytes` into the kernel's random number generator, counts them as entropy, and
/// makes it start anew from its pool (random(4)).
pub(crate) fn add_entropy(random: impl AsFd, bytes: &[u8]) -> io::Result<()> {
    const RNDADDENTROPY: c_ulong = 0x4008_5203;
    const RNDRESEEDCRNG: c_ulong = 0x5207;
    let size = i32::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let bits = size.checked_mul(8).ok_or(io::ErrorKind::InvalidInput)?;
    // struct rand_pool_info { int entropy_count; int buf_size; __u32 buf[]; }
    let mut info = Vec::with_capacity(8 + bytes.len());
    info.extend_from_slice(&bits.to_ne_bytes());
    info.extend_from_slice(&size.to_ne_bytes());
    info.extend_from_slice(bytes);
    let fd = random.as_fd().as_raw_fd();
    // SAFETY: the kernel reads 8 bytes and then buf_size bytes, all of which are in `info`;
    // it needs no alignment to copy from user memory. The second call has no argument.
    unsafe {
        check(libc::ioctl(fd, RNDADDENTROPY as _, info.as_ptr()))?;
        check(libc::ioctl(fd, RNDRESEEDCRNG as _))
    }
}

/// One change to a network interface (netdevice(7)) or the routes (route(7)).
#[derive(Debug, Clone, Copy)]
pub(crate) enum InterfaceChange {
    /// Brings it up.
    Up,
    /// Brings it down, which forgets its routes.
    Down,
    /// Sets its Ethernet address; virtio's may be up.
    Mac([u8; 6]),
    /// Sets its IPv4 address.
    Address(Ipv4Addr),
    /// Sets its IPv4 netmask.
    Netmask(Ipv4Addr),
}

/// Applies `change` to the interface `name`; `socket` is any IPv4 socket.
pub(crate) fn change_interface(socket: impl AsFd, name: &str, change: InterfaceChange) -> io::Result<()> {
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: ifreq is a struct of integers and a union of such, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as _;
    }
    let number = match change {
        InterfaceChange::Up | InterfaceChange::Down => {
            // SAFETY: SIOCGIFFLAGS fills in the flags of the named interface; reading that
            // member is fine then.
            unsafe {
                check(libc::ioctl(fd, libc::SIOCGIFFLAGS as _, &mut request))?;
                let flags = request.ifr_ifru.ifru_flags & !(libc::IFF_UP as i16);
                let up = matches!(change, InterfaceChange::Up);
                request.ifr_ifru.ifru_flags = if up { flags | libc::IFF_UP as i16 } else { flags };
            }
            libc::SIOCSIFFLAGS
        }
        InterfaceChange::Mac(mac) => {
            let mut address = libc::sockaddr {
                sa_family: libc::ARPHRD_ETHER,
                sa_data: [0; 14],
            };
            for (to, from) in address.sa_data.iter_mut().zip(mac) {
                *to = from as _;
            }
            request.ifr_ifru.ifru_hwaddr = address;
            libc::SIOCSIFHWADDR
        }
        InterfaceChange::Address(address) => {
            request.ifr_ifru.ifru_addr = socket_address(address);
            libc::SIOCSIFADDR
        }
        InterfaceChange::Netmask(mask) => {
            request.ifr_ifru.ifru_netmask = socket_address(mask);
            libc::SIOCSIFNETMASK
        }
    };
    // SAFETY: each of these requests reads an ifreq, whose member for it was set above.
    check(unsafe { libc::ioctl(fd, number as _, &request) })
}

/// Sends everything that no other route takes to `gateway`; `socket` is any IPv4 socket.
pub(crate) fn add_default_route(socket: impl AsFd, gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: rtentry is a struct of integers, pointers and sockaddrs; zeros are valid for all.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    // SAFETY: SIOCADDRT reads an rtentry; its device name is null, which means any.
    check(unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCADDRT as _, &route) })
}

/// An IPv4 address in the form of a `sockaddr`: family, two bytes of port, the address.
fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let mut data = [0; 14];
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from as _;
    }
    libc::sockaddr {
        sa_family: libc::AF_INET as _,
        sa_data: data,
    }
}

fn check(result: c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
