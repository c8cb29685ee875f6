//! bpf(2), as far as programs at `connect()` need it, and the number of a network namespace.
//! The layouts are those of `linux/bpf.h`; what they leave out is zero to the kernel.

#![expect(
    unsafe_code,
    reason = "the calls of bpf(2) and one of getsockopt(2), and nothing else"
)]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const BTF_LOAD: libc::c_int = 18;
const MAP_LOOKUP_BATCH: libc::c_int = 24;
const MAP_UPDATE_BATCH: libc::c_int = 26;
const MAP_DELETE_BATCH: libc::c_int = 27;
const LINK_CREATE: libc::c_int = 28;

const MAP_TYPE_HASH: u32 = 1;
const MAP_TYPE_SK_STORAGE: u32 = 24;
/// Memory is taken as entries come.
const F_NO_PREALLOC: u32 = 1;
const PROG_TYPE_CGROUP_SOCK_ADDR: u32 = 18;

/// Entries that are read at once; a bucket of a map has to fit.
const CHUNK: usize = 4096;

fn fd(file: &impl AsRawFd) -> u32 {
    file.as_raw_fd().cast_unsigned()
}

fn address<T>(of: *const T) -> u64 {
    of.addr() as u64
}

fn length(of: usize) -> io::Result<u32> {
    u32::try_from(of).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// One call.
///
/// # Safety
/// `attribute` is what this command wants, and what it points at is as long as it says there, may be read, and written
/// where the command writes, until the call returns.
unsafe fn bpf<T>(command: libc::c_int, attribute: &mut T) -> io::Result<i32> {
    // SAFETY: the pointer is valid for as many bytes as are told; the rest is the caller's promise.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attribute),
            size_of::<T>(),
        )
    };
    match i32::try_from(done) {
        Ok(done) if done >= 0 => Ok(done),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The same, of a command that makes something.
///
/// # Safety
/// As of [`bpf`], and the command answers with a new descriptor.
unsafe fn made<T>(command: libc::c_int, attribute: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attribute) }?;
    // SAFETY: the call has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[derive(Default)]
#[repr(C)]
struct Create {
    kind: u32,
    key: u32,
    value: u32,
    most: u32,
    flags: u32,
    inner: u32,
    numa_node: u32,
    name: [u8; 16],
    interface: u32,
    btf: u32,
    btf_key: u32,
    btf_value: u32,
}

#[repr(C)]
struct Batch {
    from: u64,
    to: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// A map of the kernel. Its keys have `K` bytes, its values `V`.
#[derive(Debug)]
pub(super) struct Map<const K: usize, const V: usize>(OwnedFd);

impl<const K: usize, const V: usize> Map<K, V> {
    /// A new one for `most` entries, without any.
    pub(super) fn hash(name: &str, most: u32) -> io::Result<Self> {
        let mut create = Create {
            kind: MAP_TYPE_HASH,
            key: length(K)?,
            value: length(V)?,
            most,
            flags: F_NO_PREALLOC,
            name: padded(name),
            ..Create::default()
        };
        // SAFETY: these are a map's properties, without pointers.
        unsafe { made(MAP_CREATE, &mut create) }.map(Self)
    }

    /// Writes entries, whether or not they are there.
    pub(super) fn put(&self, entries: &[([u8; K], [u8; V])]) -> io::Result<()> {
        let keys: Vec<[u8; K]> = entries.iter().map(|(key, _)| *key).collect();
        let values: Vec<[u8; V]> = entries.iter().map(|(_, value)| *value).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let mut batch = self.batch(keys.len())?;
        batch.keys = address(keys.as_ptr());
        batch.values = address(values.as_ptr());
        // SAFETY: both lists have as many entries as is said, each as long as the map's, and are only read.
        unsafe { bpf(MAP_UPDATE_BATCH, &mut batch) }.map(drop)
    }

    /// Takes entries away, all of which are there.
    pub(super) fn remove(&self, keys: &[[u8; K]]) -> io::Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut batch = self.batch(keys.len())?;
        batch.keys = address(keys.as_ptr());
        // SAFETY: the list has as many keys as is said, each as long as the map's, and is only read.
        unsafe { bpf(MAP_DELETE_BATCH, &mut batch) }.map(drop)
    }

    /// All that is there.
    pub(super) fn list(&self) -> io::Result<Vec<([u8; K], [u8; V])>> {
        let mut found = Vec::new();
        let (mut keys, mut values) = (vec![[0; K]; CHUNK], vec![[0; V]; CHUNK]);
        let (mut from, mut to) = ([0_u32; 2], [0_u32; 2]);
        let mut is_first = true;
        loop {
            let mut batch = self.batch(CHUNK)?;
            batch.from = if is_first { 0 } else { address(from.as_ptr()) };
            batch.to = address(to.as_mut_ptr());
            batch.keys = address(keys.as_mut_ptr());
            batch.values = address(values.as_mut_ptr());
            // SAFETY: there is room for as many keys and values as is said, each as long as the map's; the place where
            // it went on from and the one where it goes on have the four bytes that hash maps want.
            let read = unsafe { bpf(MAP_LOOKUP_BATCH, &mut batch) };
            is_first = false;
            let count = usize::try_from(batch.count).unwrap_or(CHUNK).min(CHUNK);
            let is_end = match read {
                Ok(_) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => true,
                Err(error) => return Err(error),
            };
            let pairs = keys.iter().zip(&values).take(count);
            found.extend(pairs.map(|(key, value)| (*key, *value)));
            if is_end {
                return Ok(found);
            }
            from = to;
        }
    }

    fn batch(&self, count: usize) -> io::Result<Batch> {
        Ok(Batch {
            from: 0,
            to: 0,
            keys: 0,
            values: 0,
            count: length(count)?,
            map: self.number(),
            element_flags: 0,
            flags: 0,
        })
    }

    /// The same map for somebody else.
    pub(super) fn share(&self) -> io::Result<Self> {
        self.0.try_clone().map(Self)
    }

    /// Its descriptor, as programs name it.
    pub(super) fn number(&self) -> u32 {
        fd(&self.0)
    }
}

impl<const V: usize> Map<4, V> {
    /// What sockets carry until they are closed: one value each.
    pub(super) fn of_sockets(name: &str) -> io::Result<Self> {
        let btf = describe(length(V)?)?;
        let mut create = Create {
            kind: MAP_TYPE_SK_STORAGE,
            key: 4,
            value: length(V)?,
            flags: F_NO_PREALLOC,
            name: padded(name),
            btf: fd(&btf),
            btf_key: 1,
            btf_value: 2,
            ..Create::default()
        };
        // SAFETY: these are a map's properties, without pointers.
        unsafe { made(MAP_CREATE, &mut create) }.map(Self)
    }
}

fn padded(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    for (to, from) in padded[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    padded
}

#[repr(C)]
struct Describe {
    bytes: u64,
    log: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    /// The kernel writes it, since 6.4.
    log_true_size: u32,
}

/// The types that a map of sockets has to have: the first a number for a socket, the second as large as a value.
fn describe(value: u32) -> io::Result<OwnedFd> {
    let names = b"\0int\0peer\0";
    let (int, structure) = (1 << 24, 4 << 24);
    let types = [1, int, 4, 32, 5, structure, value];
    let types_size = length(size_of_val(&types))?;
    let header = [24, 0, types_size, types_size, length(names.len())?];
    let mut bytes = vec![];
    bytes.extend(0xeb9f_u16.to_ne_bytes());
    bytes.extend([1, 0]);
    for word in header.iter().chain(&types) {
        bytes.extend(word.to_ne_bytes());
    }
    bytes.extend(names);
    let mut describe = Describe {
        bytes: address(bytes.as_ptr()),
        log: 0,
        size: length(bytes.len())?,
        log_size: 0,
        log_level: 0,
        log_true_size: 0,
    };
    // SAFETY: the bytes are as many as is said, and only read.
    unsafe { made(BTF_LOAD, &mut describe) }
}

#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach: u32,
}

/// Loads a program that is to be asked about addresses at `attach`. An error has the kernel's last words in it.
pub(super) fn load(attach: u32, instructions: &[u64]) -> io::Result<OwnedFd> {
    let mut log = vec![0_u8; 64 << 10];
    let mut load = Load {
        kind: PROG_TYPE_CGROUP_SOCK_ADDR,
        count: length(instructions.len())?,
        instructions: address(instructions.as_ptr()),
        license: address(c"Apache-2.0".as_ptr()),
        log_level: 0,
        log_size: 0,
        log: 0,
        version: 0,
        flags: 0,
        name: padded("dcos_l4lb"),
        interface: 0,
        attach,
    };
    // SAFETY: the instructions are as many as is said, the licence ends with zero, and both are only read.
    let error = match unsafe { made(PROG_LOAD, &mut load) } {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    load.log_level = 1;
    load.log_size = length(log.len())?;
    load.log = address(log.as_mut_ptr());
    // SAFETY: as before; there are as many bytes for the log as is said.
    if let Ok(program) = unsafe { made(PROG_LOAD, &mut load) } {
        return Ok(program);
    }
    let said = CStr::from_bytes_until_nul(&log).unwrap_or_default();
    let said = said.to_string_lossy();
    let last = said.trim().lines().rev().take(3).collect::<Vec<_>>();
    Err(io::Error::new(
        error.kind(),
        format!("{error}: {}", last.join("; ")),
    ))
}

#[repr(C)]
struct Link {
    program: u32,
    target: u32,
    attach: u32,
    flags: u32,
}

// Each is as large as its fields are together: padding has bytes that nobody wrote, and the kernel refuses an attribute
// with anything but zero behind what it knows.
const _: () = {
    assert!(size_of::<Create>() == 11 * 4 + 16);
    assert!(size_of::<Batch>() == 6 * 8 + 2 * 4);
    assert!(size_of::<Describe>() == 2 * 8 + 4 * 4);
    assert!(size_of::<Load>() == 3 * 8 + 8 * 4 + 16);
    assert!(size_of::<Link>() == 4 * 4);
};

/// Has a program asked for all processes of a cgroup and those below, until what is given back is closed.
pub(super) fn link(program: &OwnedFd, cgroup: BorrowedFd<'_>, attach: u32) -> io::Result<OwnedFd> {
    let mut link = Link {
        program: fd(program),
        target: fd(&cgroup),
        attach,
        flags: 0,
    };
    // SAFETY: the attribute has no pointers.
    unsafe { made(LINK_CREATE, &mut link) }
}

/// The number of the network namespace that a socket is in: no other has it until the kernel starts again.
pub(super) fn namespace(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut number = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).unwrap_or_default();
    // SAFETY: the number has as many bytes as is said, and both may be written.
    let done = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut number).cast(),
            &raw mut length,
        )
    };
    if done < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(number)
}
