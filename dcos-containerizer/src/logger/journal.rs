//! journald's own protocol: an entry is a datagram of fields, or a sealed file if it is too large for one.
//!
//! Source: systemd's `docs/JOURNAL_NATIVE_PROTOCOL.md`; what journald takes of a field is in `journal_field_valid`.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr,
};

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

/// How long an entry waits for one that is busy.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest name of a field.
const LONGEST: usize = 64;

/// A journald, whether it runs or not: each entry is sent to whoever listens there by then.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    socket: UnixDatagram,
    /// Why the last entry was refused, until one is taken: that is said once.
    refused: AtomicI32,
}

/// What became of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// It is journald's.
    Taken,
    /// journald has more than it can take; nothing was sent.
    Busy,
    /// Nobody listens; nothing was sent.
    Away,
    /// It can never be sent; the log says why.
    Refused,
}

impl Journal {
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            path: path.to_owned(),
            socket,
            refused: AtomicI32::new(0),
        })
    }

    /// Sends an entry; blocks for a second at most.
    pub(super) fn send(&self, entry: &[u8]) -> Sent {
        let sent = self.socket.send_to(entry, &self.path).map(drop);
        let sent = sent.or_else(|error| match Errno::from_io_error(&error) {
            Some(Errno::MSGSIZE | Errno::NOBUFS) => self.send_file(entry),
            _ => Err(error),
        });
        let Err(error) = sent else {
            self.refused.store(0, Ordering::Relaxed);
            return Sent::Taken;
        };
        outcome(&error).unwrap_or_else(|| {
            let number = error.raw_os_error().unwrap_or(-1);
            if self.refused.swap(number, Ordering::Relaxed) != number {
                let length = entry.len();
                tracing::warn!(%error, length, "lines are not sent to the journal");
            }
            Sent::Refused
        })
    }

    fn send_file(&self, entry: &[u8]) -> io::Result<()> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create(c"journal-entry", flags)?);
        file.write_all(entry)?;
        // Otherwise it is not believed to stay as it is.
        let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
        fcntl_add_seals(&file, seals)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [file.as_fd()];
        assert!(
            control.push(SendAncillaryMessage::ScmRights(&fds)),
            "there is room for one"
        );
        let address = SocketAddrUnix::new(&*self.path)?;
        sendmsg_addr(
            &self.socket,
            &address,
            &[] as &[IoSlice<'_>],
            &mut control,
            SendFlags::NOSIGNAL,
        )?;
        Ok(())
    }
}

/// What an error means that may pass; none for one that does not.
fn outcome(error: &io::Error) -> Option<Sent> {
    match Errno::from_io_error(error)? {
        Errno::AGAIN | Errno::INTR | Errno::NOBUFS => Some(Sent::Busy),
        // This process, or the node, has no room now.
        Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOSPC | Errno::TOOMANYREFS => {
            Some(Sent::Busy)
        }
        Errno::NOENT | Errno::CONNREFUSED | Errno::NOTDIR | Errno::ACCESS => Some(Sent::Away),
        _ => None,
    }
}

/// Adds a field to an entry. One that journald would leave out is left out.
pub(super) fn add(entry: &mut Vec<u8>, name: &str, value: &[u8]) {
    if !is_name(name) {
        return;
    }
    entry.extend(name.as_bytes());
    if value.contains(&b'\n') {
        entry.push(b'\n');
        entry.extend((value.len() as u64).to_le_bytes());
    } else {
        entry.push(b'=');
    }
    entry.extend(value);
    entry.push(b'\n');
}

/// Whether journald takes a field of this name from a client.
fn is_name(name: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(known)
        && !name.starts_with(|first: char| first == '_' || first.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_written_as_journald_reads_them() {
        let mut entry = Vec::new();
        add(&mut entry, "MESSAGE", b"a = b");
        add(&mut entry, "TWO_LINES", b"a\nb");
        for unknown in [
            "",
            "_PID",
            "1ST",
            "lower",
            "A.B",
            "A=B",
            "A\nB",
            &"A".repeat(65),
        ] {
            add(&mut entry, unknown, b"x");
        }
        add(&mut entry, "LAST", b"");
        let expected = b"MESSAGE=a = b\nTWO_LINES\n\x03\0\0\0\0\0\0\0a\nb\nLAST=\n";
        assert_eq!(entry, expected);
    }

    #[test]
    fn what_has_no_room_now_is_sent_later() {
        let of = |errno: Errno| outcome(&errno.into());
        for passing in [Errno::AGAIN, Errno::MFILE, Errno::NFILE, Errno::NOMEM] {
            assert_eq!(of(passing), Some(Sent::Busy), "{passing}");
        }
        assert_eq!(of(Errno::NOENT), Some(Sent::Away));
        assert_eq!(of(Errno::PERM), None);
    }

    #[test]
    fn who_does_not_listen_is_away_and_who_does_not_read_is_busy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let journal = Journal::new(&path).unwrap();
        assert_eq!(journal.send(b"A=1\n"), Sent::Away);
        let listener = UnixDatagram::bind(&path).unwrap();
        let mut taken = 0;
        while journal.send(b"A=1\n") == Sent::Taken {
            taken += 1;
        }
        assert!(taken > 0);
        drop(listener);
        assert_eq!(journal.send(b"A=1\n"), Sent::Away);
        // Another one takes over.
        std::fs::remove_file(&path).unwrap();
        let listener = UnixDatagram::bind(&path).unwrap();
        assert_eq!(journal.send(b"A=2\n"), Sent::Taken);
        let mut buffer = [0; 16];
        let length = listener.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"A=2\n");
    }
}
