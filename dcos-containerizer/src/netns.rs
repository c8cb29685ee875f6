//! Network namespaces: made, held by a file, and entered for a moment.
//!
//! A thread is in one network namespace. So what has to happen in another one happens on a
//! short-lived thread of its own; a socket made there stays there, wherever it is used.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketType, recv, send, socket};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

/// The network namespace of this thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// Does `work` in the network namespace that `namespace` is a handle of.
///
/// Whoever no longer waits does not end the work.
pub(crate) async fn within<T: Send + 'static>(
    namespace: File,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    on_a_thread(move || {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        work()
    })
    .await
}

/// Makes a network namespace with a loopback device, held by the new file `handle`.
pub(crate) async fn make(handle: PathBuf) -> io::Result<()> {
    on_a_thread(move || {
        #[expect(
            deprecated,
            reason = "only sharing of file descriptors makes it unsafe"
        )]
        rustix::thread::unshare(UnshareFlags::NEWNET)?;
        raise_loopback()?;
        File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&handle)?;
        Ok(mount_bind(OWN, &handle)?)
    })
    .await
}

/// Whether `handle` holds a network namespace; after a restart of the host it is a mere file.
pub(crate) fn is_held(handle: &Path) -> bool {
    let device = |path: &Path| rustix::fs::stat(path).map(|stat| stat.st_dev);
    device(handle).is_ok_and(|found| device(Path::new(OWN)) == Ok(found))
}

/// Lets go of what `handle` holds, and removes it.
pub(crate) fn remove(handle: &Path) -> io::Result<()> {
    if is_held(handle) {
        unmount(handle, UnmountFlags::DETACH)?;
    }
    match std::fs::remove_file(handle) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// On a thread of its own: it is in the wrong namespace afterwards, and ends.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("netns".into())
        .spawn(move || sender.send(work()).ok())?;
    receiver.await.map_err(|_| io::ErrorKind::Interrupted)?
}

/// Brings `lo` of this thread's namespace up: `RTM_NEWLINK` of rtnetlink(7) for device 1.
fn raise_loopback() -> io::Result<()> {
    const NEW_LINK: u32 = 16;
    const REQUEST_AND_ACKNOWLEDGE: u32 = 0x5;
    const UP: u32 = 1;
    // Type and flags are halves of one word, in the machine's order.
    let kind = if cfg!(target_endian = "little") {
        NEW_LINK | REQUEST_AND_ACKNOWLEDGE << 16
    } else {
        NEW_LINK << 16 | REQUEST_AND_ACKNOWLEDGE
    };
    let (length, sequence, sender, family, device) = (32, 1, 0, 0, 1);
    let words: [u32; 8] = [length, kind, sequence, sender, family, device, UP, UP];
    let request: Vec<u8> = words.into_iter().flat_map(u32::to_ne_bytes).collect();
    let netlink: OwnedFd = socket(AddressFamily::NETLINK, SocketType::RAW, None)?;
    send(&netlink, &request, SendFlags::empty())?;
    let mut answer = [0_u8; 256];
    let (_, length) = recv(&netlink, &mut answer[..], RecvFlags::empty())?;
    // A header of 16 bytes, then the error.
    let error = answer[..length].get(16..).and_then(<[u8]>::first_chunk);
    match error.map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_namespace_lives_as_long_as_its_handle() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: making network namespaces needs root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let handle = folder.path().join("ns");
        make(handle.clone()).await.unwrap();
        assert!(is_held(&handle));
        let devices = within(File::open(&handle).unwrap(), || {
            // Loopback answers: it is up.
            std::net::UdpSocket::bind("127.0.0.1:0")?.connect("127.0.0.1:9")?;
            std::fs::read_to_string("/proc/thread-self/net/dev")
        });
        let devices = devices.await.unwrap();
        assert_eq!(devices.lines().count(), 3, "two headers and lo: {devices}");
        remove(&handle).unwrap();
        assert!(!handle.exists() && !is_held(&handle));
        remove(&handle).unwrap();
    }
}
