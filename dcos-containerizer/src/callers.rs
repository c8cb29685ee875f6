//! Who has the other end of a connection open.
//!
//! An agent that is root looks itself. One that is root only in a user namespace cannot look at processes outside, nor
//! see whose sockets are whose; so it starts a process that stays outside, before it enters, and asks that as well:
//! [`start`], [`serve`]. What is in containers is seen from inside, all else of the same user from outside.
//!
//! That process only watches over another, which looks: nothing limits what tasks take, and whatever the kernel kills
//! for want of memory begins anew, outside still. Questions and answers are numbered lines, so that a late answer is
//! taken for none to a later question.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use dcos_launcher::IdMap;

use crate::procfs::{self, Socket};

/// The word that makes a program [`serve`].
pub const CALLERS: &str = "callers";

/// The word that makes a program look itself, not watch over one that does.
const LOOKING: &str = "look";

/// What is answered if a question may have been lost.
const LOST: &str = "lost";

/// How long whoever looks outside may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many questions may be under way: few enough that what is written never waits for who reads.
const MOST_ASKED: u64 = 8;

/// How long it takes until one that could not be started is started again.
const PAUSE: Duration = Duration::from_millis(500);

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
    /// That cannot be told now.
    Untold,
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
        (Ok(End::Here(_)), _) => End::Here(BTreeSet::new()),
        (Ok(End::Untold) | Err(_), _) => End::Untold,
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
    /// The number of the last question.
    asked: u64,
    /// That of the last one that was answered.
    answered: u64,
    /// Nobody is there any more.
    gone: bool,
}

/// A line that was said.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Answer(u64, End),
    Lost,
}

impl Outside {
    fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            said: BufReader::new(stream.try_clone()?),
            stream,
            asked: 0,
            answered: 0,
            gone: false,
        })
    }

    fn ask(&mut self, peer: SocketAddr, own: Option<SocketAddr>) -> io::Result<End> {
        if self.gone {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let answer = self.exchange(peer, own);
        if let Err(error) = &answer {
            let is_late = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
            self.gone = !is_late.contains(&error.kind());
            if self.gone {
                tracing::error!(%error, "cannot look who of this node asks: all are refused until this agent is restarted");
            } else {
                tracing::warn!("who of this node asks was not found out in time");
            }
        }
        answer
    }

    fn exchange(&mut self, peer: SocketAddr, own: Option<SocketAddr>) -> io::Result<End> {
        let begin = Instant::now();
        let own = own.map_or("-".to_owned(), |own| own.to_string());
        while self.asked - self.answered >= MOST_ASKED {
            self.hear(begin)?;
        }
        loop {
            self.asked += 1;
            let line = format!("{} {peer} {own}\n", self.asked);
            self.stream.write_all(line.as_bytes())?;
            // Once more if it was lost.
            while self.answered < self.asked {
                match self.hear(begin)? {
                    Some(end) if self.answered == self.asked => return Ok(end),
                    _ => {}
                }
            }
        }
    }

    /// Takes in one line.
    fn hear(&mut self, begin: Instant) -> io::Result<Option<End>> {
        if begin.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut line = String::new();
        if self.said.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // What is neither is the end of a line whose begin came too late.
        Ok(match Said::parse(&line) {
            Some(Said::Answer(number, end)) if number <= self.asked => {
                self.answered = self.answered.max(number);
                Some(end).filter(|_| number == self.asked)
            }
            Some(Said::Lost) => {
                self.answered = self.asked;
                None
            }
            _ => None,
        })
    }
}

impl Said {
    fn parse(line: &str) -> Option<Self> {
        // What was cut off may be half a number.
        let line = line.strip_suffix('\n')?;
        if line == LOST {
            return Some(Self::Lost);
        }
        let (number, end) = line.split_once(' ')?;
        Some(Self::Answer(number.parse().ok()?, End::parse(end)?))
    }
}

impl End {
    fn text(&self) -> String {
        match self {
            Self::Elsewhere => "elsewhere".to_owned(),
            Self::Here(pids) => {
                let words: Vec<_> = pids.iter().map(u32::to_string).collect();
                format!("here {}", words.join(" ")).trim_end().to_owned()
            }
            Self::Untold => "untold".to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        match words.next()? {
            "elsewhere" => Some(Self::Elsewhere),
            "here" => words
                .map(|pid| pid.parse().ok())
                .collect::<Option<_>>()
                .map(Self::Here),
            "untold" => Some(Self::Untold),
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
    let _ = OUTSIDE.set(Mutex::new(Outside::new(near)?));
    Ok(())
}

/// Looks who has the other ends of connections open until whoever asks is gone; what a program's `main` calls.
///
/// Its standard input is a socket; `args` are the ids of users that count, as `1000+1 100000+65536`: sockets of others
/// are nobody's in a container. It starts itself again, with [`LOOKING`] before them, and whenever that one was killed.
pub fn serve(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let Some((_, args)) = args.split_first().filter(|(first, _)| *first == LOOKING) else {
        return watch(&args);
    };
    let range = |text: &OsString| {
        let (first, count) = text.to_str()?.split_once('+')?;
        Some((first.parse::<u32>().ok()?, count.parse::<u32>().ok()?))
    };
    let ranges: Option<Vec<_>> = args.iter().map(range).collect();
    match ranges.map(|ranges| answer(&ranges)) {
        Some(Ok(())) => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

/// Has one that looks at any time, until whoever asks is gone.
fn watch(args: &[OsString]) -> ExitCode {
    loop {
        // The program as it was begun: there may be another of that name now.
        let ended = Command::new("/proc/self/exe")
            .args([CALLERS, LOOKING])
            .args(args)
            .stdout(Stdio::null())
            .status();
        if ended.as_ref().is_ok_and(ExitStatus::success) {
            return ExitCode::SUCCESS;
        }
        if !ended.is_ok_and(|status| status.signal().is_some()) {
            std::thread::sleep(PAUSE);
        }
        let told = io::stdin().as_fd().try_clone_to_owned();
        let told = told
            .and_then(|stream| UnixStream::from(stream).write_all(format!("{LOST}\n").as_bytes()));
        if told.is_err() {
            return ExitCode::FAILURE;
        }
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
        let mut words = line.split(' ');
        let (Some(number), Some(peer), Some(own)) = (words.next(), words.next(), words.next())
        else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let peer = peer.parse().map_err(io::Error::other)?;
        let end = seen(peer, own.parse().ok(), counts).text();
        stream.write_all(format!("{number} {end}\n").as_bytes())?;
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
            let line = format!("7 {}\n", end.text());
            assert_eq!(Said::parse(&line), Some(Said::Answer(7, end)));
        }
        assert_eq!(Said::parse("lost\n"), Some(Said::Lost));
        for odd in [
            "",
            "1 here 1",
            "1 here x\n",
            "1 nowhere\n",
            "here 1\n",
            "1\n",
        ] {
            assert_eq!(Said::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_late_answer_is_none_to_the_next_question_and_a_lost_one_is_asked_again() {
        let (near, far) = UnixStream::pair().unwrap();
        let mut outside = Outside::new(near).unwrap();
        let mut asked = BufReader::new(far.try_clone().unwrap()).lines();
        let say = move |text: &str| (&far).write_all(text.as_bytes()).unwrap();
        let peer = "127.0.0.1:5".parse().unwrap();
        // One that nobody answers in time.
        let soon = Some(Duration::from_millis(1));
        outside.said.get_ref().set_read_timeout(soon).unwrap();
        outside.ask(peer, None).unwrap_err();
        outside.said.get_ref().set_read_timeout(None).unwrap();
        let mut next = || asked.next().unwrap().unwrap();
        assert_eq!(next(), "1 127.0.0.1:5 -");

        let other = std::thread::spawn(move || {
            let answers = [outside.ask(peer, Some(peer)), outside.ask(peer, None)];
            (answers.map(Result::unwrap), outside)
        });
        assert_eq!(next(), "2 127.0.0.1:5 127.0.0.1:5");
        say("1 here 9\n2 elsewhere\n");
        assert_eq!(next(), "3 127.0.0.1:5 -");
        say("lost\n");
        assert_eq!(next(), "4 127.0.0.1:5 -");
        say("4 here 8\n");
        let (answers, mut outside) = other.join().unwrap();
        assert_eq!(answers, [End::Elsewhere, End::Here([8].into())]);
        drop((asked, say));
        assert!(outside.ask(peer, None).is_err() && outside.gone);
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
