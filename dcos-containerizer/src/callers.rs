//! Who has the other end of a connection open.
//!
//! An agent that is root looks itself. One that is root only in a user namespace cannot look at processes outside, nor
//! see whose sockets are whose; so it starts a process that stays outside, before it enters, and asks that as well:
//! [`start`], [`serve`]. What is in containers is seen from inside, all else of the same user from outside.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use dcos_launcher::IdMap;

use crate::procfs::{self, Socket};

/// The word that makes a program [`serve`].
pub const CALLERS: &str = "callers";

/// How long whoever looks outside may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a connection, and who asks over it, is looked for: while a table is read what changes in it may hide
/// something else, and what holds a socket between `fork(2)` and `execve(2)` may be gone at the second look.
pub(crate) const LOOKS: usize = 3;

/// Who has the other end of a connection open.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nobody of this node.
    Elsewhere,
    /// These processes; none if it was closed, or is not to be told.
    Here(BTreeSet<u32>),
}

/// The other end of the connection that came from `peer` to `own`.
pub(crate) fn end_of(peer: SocketAddr, own: Option<SocketAddr>) -> End {
    let user = rustix::process::geteuid();
    // What runs in containers of an agent that is not root is the same user.
    let seen = seen(peer, own, |one| user.is_root() || one == user.as_raw());
    let Some(outside) = OUTSIDE.get() else {
        return seen;
    };
    let mut outside = outside.lock().unwrap_or_else(PoisonError::into_inner);
    match (outside.ask(peer, own), seen) {
        // Whose sockets are whose is told truly only there.
        (Ok(End::Here(mut pids)), End::Here(also)) => {
            pids.extend(also);
            End::Here(pids)
        }
        (Ok(End::Elsewhere), _) => End::Elsewhere,
        (Ok(End::Here(_)), End::Elsewhere) => End::Here(BTreeSet::new()),
        (Err(error), _) => {
            tracing::error!(%error, "cannot look who of this node asks: nobody does, until this agent is restarted");
            End::Here(BTreeSet::new())
        }
    }
}

/// The same as this process sees it; `counts` says whose processes may be in containers.
fn seen(peer: SocketAddr, own: Option<SocketAddr>, counts: impl Fn(u32) -> bool) -> End {
    let is_here = is_here(peer.ip());
    let mut ends = Vec::new();
    for _ in 0..LOOKS {
        ends = procfs::sockets(|socket| socket.local == peer && !socket.listens);
        // A port may serve many connections at a time: the other end tells which.
        if let Some(at) = ends.iter().position(|end| Some(end.remote) == own) {
            return end(vec![ends.swap_remove(at)], counts);
        }
        if !is_here {
            break;
        }
    }
    match (ends.is_empty(), is_here) {
        (true, false) => End::Elsewhere,
        (true, true) => End::Here(BTreeSet::new()),
        // Somebody on the way put another address in place of ours: it is one of these.
        (false, _) => end(ends, counts),
    }
}

fn end(mut ends: Vec<Socket>, counts: impl Fn(u32) -> bool) -> End {
    // One that was closed is nobody's.
    ends.retain(|end| end.inode != 0);
    let is_everybodys = ends.is_empty();
    ends.retain(|end| counts(end.user));
    if ends.is_empty() && !is_everybodys {
        return End::Elsewhere;
    }
    let inodes: BTreeSet<u64> = ends.iter().map(|end| end.inode).collect();
    End::Here(if inodes.is_empty() {
        BTreeSet::new()
    } else {
        procfs::holders(|inode| inodes.contains(&inode)).collect()
    })
}

/// Whether an address is this node's: what is sent there comes from there. Nothing is sent.
pub(crate) fn is_here(ip: IpAddr) -> bool {
    let any: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let source = UdpSocket::bind((any, 0)).and_then(|socket| {
        socket.connect((ip, 9))?;
        socket.local_addr()
    });
    // Which device it is of is not known any more.
    let is_link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    ip.is_loopback() || is_link_local || source.is_ok_and(|source| source.ip() == ip)
}

/// Who looks outside of this process' user namespace.
static OUTSIDE: OnceLock<Mutex<Outside>> = OnceLock::new();

#[derive(Debug)]
struct Outside {
    stream: UnixStream,
    said: BufReader<UnixStream>,
    broken: bool,
}

impl Outside {
    fn ask(&mut self, peer: SocketAddr, own: Option<SocketAddr>) -> io::Result<End> {
        if self.broken {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let answer = self.exchange(peer, own);
        // What comes too late is no answer to the next question.
        self.broken = answer.is_err();
        answer
    }

    fn exchange(&mut self, peer: SocketAddr, own: Option<SocketAddr>) -> io::Result<End> {
        let own = own.map_or("-".to_owned(), |own| own.to_string());
        self.stream
            .write_all(format!("{peer} {own}\n").as_bytes())?;
        let mut line = String::new();
        self.said.read_line(&mut line)?;
        End::parse(&line).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }
}

impl End {
    fn text(&self) -> String {
        match self {
            Self::Elsewhere => "elsewhere\n".to_owned(),
            Self::Here(pids) => {
                let words: Vec<_> = pids.iter().map(u32::to_string).collect();
                format!("here {}", words.join(" ")).trim_end().to_owned() + "\n"
            }
        }
    }

    fn parse(line: &str) -> Option<Self> {
        // What was cut off may be half a number.
        let mut words = line.strip_suffix('\n')?.split(' ');
        match words.next()? {
            "elsewhere" => Some(Self::Elsewhere),
            "here" => words
                .map(|pid| pid.parse().ok())
                .collect::<Option<_>>()
                .map(Self::Here),
            _ => None,
        }
    }
}

/// Starts a process that looks from where this one is now, until this one ends; `users` are those that processes of
/// containers will have. `program` calls [`serve`] when its first argument is [`CALLERS`].
pub(crate) fn start(program: &Path, users: &[IdMap]) -> io::Result<()> {
    let (near, far) = UnixStream::pair()?;
    let ranges = users
        .iter()
        .map(|map| format!("{}+{}", map.outside, map.count));
    Command::new(program)
        .arg(CALLERS)
        .args(ranges)
        .stdin(Stdio::from(OwnedFd::from(far)))
        .stdout(Stdio::null())
        // What a terminal sends to this process is not for that one.
        .process_group(0)
        .spawn()?;
    near.set_read_timeout(Some(PATIENCE))?;
    near.set_write_timeout(Some(PATIENCE))?;
    let said = BufReader::new(near.try_clone()?);
    let outside = Outside {
        stream: near,
        said,
        broken: false,
    };
    let _ = OUTSIDE.set(Mutex::new(outside));
    Ok(())
}

/// Looks who has the other ends of connections open until whoever asks is gone; what a program's `main` calls.
///
/// Its standard input is a socket; `args` are the ids of users that count, as `1000+1 100000+65536`: sockets of others
/// are nobody's in a container.
pub fn serve(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let range = |text: OsString| {
        let (first, count) = text.to_str()?.split_once('+')?;
        Some((first.parse::<u32>().ok()?, count.parse::<u32>().ok()?))
    };
    let ranges: Option<Vec<_>> = args.into_iter().map(range).collect();
    match ranges.map(|ranges| answer(&ranges)) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn answer(ranges: &[(u32, u32)]) -> io::Result<()> {
    let counts = |user| {
        let mut ranges = ranges.iter();
        ranges.any(|(first, count)| user >= *first && user - first < *count)
    };
    let mut stream = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    let asked = BufReader::new(stream.try_clone()?);
    for line in asked.lines() {
        let line = line?;
        let (peer, own) = line.split_once(' ').ok_or(io::ErrorKind::InvalidData)?;
        let peer = peer.parse().map_err(io::Error::other)?;
        stream.write_all(seen(peer, own.parse().ok(), counts).text().as_bytes())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood_or_none() {
        for end in [
            End::Elsewhere,
            End::Here(BTreeSet::new()),
            End::Here([1, 23].into()),
        ] {
            assert_eq!(End::parse(&end.text()), Some(end));
        }
        for odd in ["", "here 1", "here x\n", "nowhere\n"] {
            assert_eq!(End::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn sockets_of_others_are_elsewhere() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let _client = std::net::TcpStream::connect(at).unwrap();
        let (_served, peer) = listener.accept().unwrap();
        let own = End::Here([std::process::id()].into());
        assert_eq!(seen(peer, Some(at), |_| true), own);
        assert_eq!(seen(peer, Some(at), |_| false), End::Elsewhere);
    }
}
