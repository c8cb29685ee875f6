//! The system calls that `rustix` does not offer, and the only unsafe code of the crate.

#![expect(
    unsafe_code,
    reason = "raw system calls, each with its argument; nothing else is here"
)]

use std::ffi::{CStr, CString};
use std::io;
use std::mem::{self, MaybeUninit};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{WaitOptions, wait};

/// Which of the two processes a [`clone`] returned in.
pub(crate) enum Cloned {
    Parent(i32),
    Child,
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Clones this process like `fork(2)`, with new namespaces and right into a cgroup; with `CLONE_PARENT` as a child of its
/// parent.
pub(crate) fn clone(flags: i32, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Cloned> {
    // SAFETY: all zeroes is a valid clone_args, of nothing special.
    let mut args: libc::clone_args = unsafe { mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned());
    if flags & libc::CLONE_PARENT == 0 {
        // Else it has the signal that this process has.
        args.exit_signal = u64::from(libc::SIGCHLD.cast_unsigned());
    }
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: `args` is a valid clone_args of the size given and outlives the call. Without
    // CLONE_VM the child has its own copy of the memory, and the process has a single thread
    // (checked by `main`), so no lock can be held by a thread that the child lacks.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, mem::size_of_val(&args)) };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent(
            i32::try_from(pid).expect("process ids are 22 bits"),
        )),
    }
}

/// Clones this process, which waits until `child` has executed a program or ended the clone. Its id.
///
/// A clone that is `borrowing` uses the memory of this process instead of a copy: what it changes there stays.
/// Descriptors, directory and credentials are its own in any case. `child` is not to return.
pub(crate) fn clone_waiting(borrowing: bool, mut child: &mut dyn FnMut()) -> io::Result<i32> {
    extern "C" fn begin(child: *mut libc::c_void) -> libc::c_int {
        // SAFETY: the argument given to `clone` below, whose owner waits meanwhile.
        unsafe { (*child.cast::<&mut dyn FnMut()>())() };
        exit(127)
    }
    /// Only what is used of it takes memory; what grows into its lowest part ends the clone.
    const STACK: usize = 1 << 20;
    const GUARD: usize = 1 << 16;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
    // SAFETY: a new mapping wherever the kernel likes it.
    let stack = unsafe { libc::mmap(ptr::null_mut(), STACK, libc::PROT_NONE, flags, -1, 0) };
    if stack == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the part of that mapping above the guard.
    check(unsafe { libc::mprotect(stack.byte_add(GUARD), STACK - GUARD, access) })?;
    let memory = if borrowing { libc::CLONE_VM } else { 0 };
    let flags = memory | libc::CLONE_VFORK | libc::SIGCHLD;
    let argument = ptr::from_mut(&mut child).cast();
    // SAFETY: the stack grows down from the mapping's end, is the clone's alone and outlives it: CLONE_VFORK
    // holds this process up until the clone has let go of the memory. Nothing else runs in this memory (one
    // thread, checked by `main`), and an init has blocked all signals, so that no handler does either.
    let pid = unsafe { libc::clone(begin, stack.byte_add(STACK), flags, argument) };
    let cloned = check(pid);
    // SAFETY: nobody uses that mapping any more.
    unsafe { libc::munmap(stack, STACK) };
    cloned.map(|()| pid)
}

/// Ends this process without running anything that its parent has registered.
pub(crate) fn exit(code: i32) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// Collects a child that has ended, its id and wait status; `None` if none has, or there are none.
pub(crate) fn reap() -> Option<(i32, i32)> {
    let (pid, status) = wait(WaitOptions::NOHANG).ok()??;
    Some((pid.as_raw_nonzero().get(), status.as_raw()))
}

/// Replaces the program of this process; returns only if that failed.
pub(crate) fn execute(program: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        let strings = strings.iter().map(|string| string.as_ptr());
        strings.chain([ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer, and their strings outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

fn all_signals() -> libc::sigset_t {
    let mut set = MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: `set` is valid for writes; sigfillset initialises it entirely.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        set.assume_init()
    }
}

fn mask(how: i32, set: &libc::sigset_t) {
    // SAFETY: `set` is initialised; the old mask is not asked for.
    unsafe { libc::sigprocmask(how, set, ptr::null_mut()) };
}

/// Blocks all signals for this process; they wait for [`take_signal`] or a [`signal_fd`].
pub(crate) fn block_signals() {
    mask(libc::SIG_BLOCK, &all_signals());
}

/// Gives all signals their default meaning and lets them through, for a program to start with.
pub(crate) fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: setting a default disposition runs no code; numbers that cannot be set fail.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    mask(libc::SIG_UNBLOCK, &all_signals());
}

/// Waits for the next blocked signal; its number, or `None` after `milliseconds`.
pub(crate) fn take_signal(milliseconds: Option<u32>) -> Option<i32> {
    let timeout = milliseconds.map(|milliseconds| libc::timespec {
        tv_sec: i64::from(milliseconds / 1000),
        tv_nsec: i64::from(milliseconds % 1000) * 1_000_000,
    });
    let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
    let set = all_signals();
    // SAFETY: `set` is initialised, `timeout` null or valid; the details are not asked for.
    let signal = unsafe { libc::sigtimedwait(&raw const set, ptr::null_mut(), timeout) };
    (signal > 0).then_some(signal)
}

/// A descriptor that is readable when a blocked signal waits.
pub(crate) fn signal_fd() -> io::Result<OwnedFd> {
    let set = all_signals();
    // SAFETY: `set` is initialised; -1 asks for a new descriptor.
    owned(unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) })
}

/// Takes possession of a descriptor that the program before this one left open.
pub(crate) fn inherited(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only looks at the number.
    check(unsafe { libc::fcntl(fd, libc::F_GETFD) })?;
    owned(fd)
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    check(fd)?;
    // SAFETY: the descriptor is open (just made, or checked) and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Closes all descriptors from `first` to `last`, whoever thinks to own them.
///
/// Only for a process that uses none of them any more and never returns to code that might.
pub(crate) fn close_range(first: u32, last: u32) {
    // SAFETY: numbers only; that nobody uses them is the caller's promise.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
}

/// Makes descriptor `number` the same as `fd`, whatever it was before.
pub(crate) fn move_to(fd: BorrowedFd<'_>, number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: numbers only; that nobody uses `number` any more is the caller's promise, who is
    // about to become another program.
    owned(unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) })
}

/// Gives this process namespaces of its own (`CLONE_NEW*`).
pub(crate) fn unshare(namespaces: i32) -> io::Result<()> {
    // SAFETY: unsharing namespaces touches no memory, and no descriptors.
    check(unsafe { libc::unshare(namespaces) })
}

/// Sets attributes (`MOUNT_ATTR_*`) of a mount and of all that are mounted in it, its propagation
/// unless that is 0, and the user namespace that maps its ids.
pub(crate) fn set_mount_attributes(
    mount: BorrowedFd<'_>,
    set: u64,
    propagation: u64,
    ids: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attributes = libc::mount_attr {
        attr_set: set,
        attr_clr: 0,
        propagation,
        userns_fd: 0,
    };
    if set & libc::MOUNT_ATTR_NOATIME != 0 {
        attributes.attr_clr = libc::MOUNT_ATTR__ATIME;
    }
    if let Some(ids) = ids {
        attributes.attr_set |= libc::MOUNT_ATTR_IDMAP;
        attributes.userns_fd = u64::from(ids.as_raw_fd().cast_unsigned());
    }
    // SAFETY: the path is empty and ends with NUL; `attributes` is of the size given and only read.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | libc::AT_RECURSIVE,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    check(i32::try_from(done).unwrap_or(-1))
}

/// Brings the device `lo` of this network namespace up.
pub(crate) fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: all zeroes is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    request.ifr_name[0] = b'l'.cast_signed();
    request.ifr_name[1] = b'o'.cast_signed();
    request.ifr_ifru.ifru_flags = i16::try_from(libc::IFF_UP).expect("IFF_UP is 1");
    // SAFETY: `request` is a valid ifreq for the duration of the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw mut request) })
}

/// Sets a limit of this process; the numbers are those of the kernel.
pub(crate) fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` is valid for reads; process 0 is this one; the old limit is not asked for.
    check(unsafe { libc::prlimit64(0, resource, &raw const limit, ptr::null_mut()) })
}

/// Installs a seccomp program; an instruction is a `sock_filter` read as a little-endian number.
pub(crate) fn install_filter(instructions: &[u64]) -> io::Result<()> {
    const { assert!(cfg!(target_endian = "little") && size_of::<libc::sock_filter>() == 8) };
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: instructions.as_ptr().cast_mut().cast(),
    };
    let (what, mode) = (libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER);
    // SAFETY: `program` points at `len` instructions that outlive the call and are only read.
    check(unsafe { libc::prctl(what, mode, &raw const program, 0, 0) })
}

/// Where the heap begins; 0 where that is not known.
static HEAP: AtomicUsize = AtomicUsize::new(0);

/// Notes where the heap begins: where it is [forgotten](forget_heap) `/proc` is a container's, if there is one.
pub(crate) fn note_heap() {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let heap = maps.lines().find(|line| line.ends_with("[heap]"));
    let start = heap.and_then(|line| usize::from_str_radix(line.split_once('-')?.0, 16).ok());
    HEAP.store(start.unwrap_or(0), Ordering::Relaxed);
}

/// Gives back the memory of the heap.
///
/// Only for a process that from now on allocates nothing and uses nothing that was allocated.
pub(crate) fn forget_heap() {
    let start = HEAP.load(Ordering::Relaxed);
    // SAFETY: 0 changes nothing; the other is a number to compare with.
    let (end, local) = unsafe { (libc::sbrk(0).addr(), libc::__errno_location().addr()) };
    // A program that is linked statically keeps there what is in use always.
    if 0 < start && start < end && !(start..end).contains(&local) {
        let heap = ptr::with_exposed_provenance_mut(start);
        // SAFETY: private memory of this process, which reads as zeros afterwards. That nobody looks at it any more
        // is the caller's promise.
        unsafe { libc::madvise(heap, end - start, libc::MADV_DONTNEED) };
    }
}

fn check(outcome: i32) -> io::Result<()> {
    let done = outcome != -1;
    done.then_some(()).ok_or_else(io::Error::last_os_error)
}
