//! Processes in containers that ask the agent to launch, to enter or to attach.
//!
//! Where nobody has to show who they are, the agent's API would be the way out of any container: to
//! `LAUNCH_CONTAINER`, which runs a command as root on the node, or into somebody else's container. A process in a
//! container of this agent is refused it, unless it shows who it is or `--allow_calls_of_containers` is set; but for
//! what is nested in the container of a custom executor, which has to launch its tasks there.
//!
//! Who asks is told by the kernel: for a Unix socket the process that connected, for a connection from this node the
//! processes that have its other end open. One of which that is not to be told counts as one of a container. Callers of
//! other nodes, and of containers with networks of their own, are not known by it: for those there is authentication.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use dcos_proto::agent::call::Type;
use dcos_proto::mesos::ContainerId;
use dcos_security::Caller;
use dcos_wire::{Peer, PeerAddress, Refusal};
use tokio::sync::Semaphore;

use super::Context;
use crate::containerizer::ContainerizerError;

/// How often a connection, and who asks over it, is looked for.
const LOOKS: usize = 3;

/// Before who asks is looked for again.
const PAUSE: Duration = Duration::from_millis(20);

/// Kernel tables are gone through for so many callers at a time; the others wait.
static LOOKING: Semaphore = Semaphore::const_new(2);

/// Goes on only if `peer` is no process of a container, or of the custom executor that `target` is nested in.
///
/// # Errors
/// 403, which says what to do.
pub(super) async fn check(
    context: &Context,
    caller: &Caller,
    peer: &Peer,
    call: Type,
    target: &ContainerId,
) -> Result<(), Refusal> {
    let gated = matches!(
        call,
        Type::LaunchContainer
            | Type::LaunchNestedContainer
            | Type::LaunchNestedContainerSession
            | Type::AttachContainerInput
            | Type::AttachContainerOutput
    );
    if !gated || context.security.allow_calls_of_containers || caller.principal().is_some() {
        return Ok(());
    }
    let refused = |who: &str| {
        Err(Refusal::forbidden(format!(
            "{} of {who} is refused without credentials: let the agent authenticate its callers \
             (--authenticate_http_readwrite), or give it --allow_calls_of_containers",
            call.as_str_name()
        )))
    };
    let mut asking = asker(context, peer.address).await;
    for _ in 1..LOOKS {
        if asking != Asker::Unknown {
            break;
        }
        // What begins or ends at this moment may not be told yet.
        tokio::time::sleep(PAUSE).await;
        asking = asker(context, peer.address).await;
    }
    match asking {
        Asker::Outside => Ok(()),
        Asker::Inside(root) => {
            let is_its_own = target.parent.is_some() && *target.root_id() == root;
            let asked = root.clone();
            let is_custom = context.handle.ask(move |agent| agent.is_custom(&asked));
            if is_its_own && is_custom.await == Some(true) {
                return Ok(());
            }
            refused(&format!("a process in container {root}"))
        }
        Asker::Unknown => refused("a process of this node that cannot be found"),
    }
}

/// Where who asks is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asker {
    /// In none of our containers.
    Outside,
    /// In this root container, or one nested in it.
    Inside(ContainerId),
    /// Here, and maybe in a container.
    Unknown,
}

async fn asker(context: &Context, address: PeerAddress) -> Asker {
    if address == PeerAddress::Local {
        return Asker::Outside;
    }
    let _looking = LOOKING.acquire().await;
    let (mut containers, mut blind) = (BTreeMap::new(), false);
    let ids = context.containerizer.containers().await;
    let statuses = ids.iter().map(|id| context.containerizer.status(id));
    let statuses = futures::future::join_all(statuses).await;
    for (id, status) in ids.iter().zip(statuses) {
        match status.map(|status| status.executor_pid.map(i32::try_from)) {
            Ok(Some(Ok(pid))) => drop(containers.insert(pid, id.root_id().clone())),
            // What runs nothing yet, or nothing any more, asks for nothing.
            Ok(_) | Err(ContainerizerError::Unknown(_)) => {}
            Err(error) => {
                tracing::warn!(container = %id, %error, "which processes it has is not known");
                blind = true;
            }
        }
    }
    let found = tokio::task::spawn_blocking(move || {
        let pids = match address {
            PeerAddress::Unix { pid, .. } => pid.into_iter().collect(),
            PeerAddress::Tcp(address) => match end_of(address) {
                End::Elsewhere => return Asker::Outside,
                End::Here(pids) => pids,
            },
            _ => return Asker::Unknown,
        };
        match place(&pids, &containers) {
            Asker::Outside if blind => Asker::Unknown,
            found => found,
        }
    });
    found.await.unwrap_or(Asker::Unknown)
}

/// Where processes are, given the first process of each container with its root: inside if one is.
fn place(pids: &BTreeSet<i32>, containers: &BTreeMap<i32, ContainerId>) -> Asker {
    let own = i32::try_from(std::process::id()).unwrap_or_default();
    // What lost its parent in a container comes to whoever made that.
    let makers: BTreeSet<i32> = containers.keys().filter_map(|pid| parent(*pid)).collect();
    let mut found = if pids.is_empty() {
        Asker::Unknown
    } else {
        Asker::Outside
    };
    for pid in pids {
        let mut pid = *pid;
        while pid > 1 && pid != own {
            if let Some(root) = containers.get(&pid) {
                return Asker::Inside(root.clone());
            }
            let above = parent(pid);
            if makers.contains(&pid) || above.is_none() {
                found = Asker::Unknown;
            }
            pid = above.unwrap_or_default();
        }
    }
    found
}

/// The parent of a process, as `proc_pid_stat(5)` tells it.
fn parent(pid: i32) -> Option<i32> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    // The name comes before, in parentheses, and may hold anything.
    text.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// Who has the other end of a connection open.
enum End {
    /// Nobody of this node.
    Elsewhere,
    /// These processes; none if it was closed, or is not to be told.
    Here(BTreeSet<i32>),
}

fn end_of(peer: SocketAddr) -> End {
    let look = || {
        let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
        tables.iter().find_map(|table| {
            let table = fs::read_to_string(table).ok()?;
            table.lines().find_map(|line| Socket::read(line)?.of(peer))
        })
    };
    // A table that changes while it is read may lack what was in it all the time.
    let again = || {
        is_here(peer.ip())
            .then(|| (1..LOOKS).find_map(|_| look()))
            .flatten()
    };
    let socket = look().or_else(again);
    let own = rustix::process::geteuid();
    match socket {
        // What runs in containers of an agent that is not root is the same user.
        Some(socket) if !own.is_root() && socket.user != own.as_raw() => End::Elsewhere,
        Some(socket) => End::Here(holders(socket.inode)),
        None if is_here(peer.ip()) => End::Here(BTreeSet::new()),
        None => End::Elsewhere,
    }
}

/// A line of `/proc/net/tcp`.
struct Socket {
    local: SocketAddr,
    user: u32,
    inode: u64,
}

impl Socket {
    fn read(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        Some(Self {
            local: address(words.get(1)?)?,
            user: words.get(7)?.parse().ok()?,
            inode: words.get(9)?.parse().ok()?,
        })
    }

    /// This one if it has that address, and is not one that listens at it.
    fn of(self, local: SocketAddr) -> Option<Self> {
        let own = SocketAddr::new(self.local.ip().to_canonical(), self.local.port());
        (own == local).then_some(self)
    }
}

/// `0100007F:1F90`: words of 32 bits as they lie in memory, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (number, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(number * 8)?.to_ne_bytes());
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// Processes that have a socket open.
fn holders(inode: u64) -> BTreeSet<i32> {
    let wanted = format!("socket:[{inode}]");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: &i32| {
        let open = fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten();
        let mut links = open
            .flatten()
            .filter_map(|entry| fs::read_link(entry.path()).ok());
        links.any(|link| link.as_os_str() == wanted.as_str())
    };
    // One that was closed has none, and is called 0.
    if inode == 0 {
        BTreeSet::new()
    } else {
        pids.filter(has).collect()
    }
}

/// Whether an address is this node's: what is sent there comes from there. Nothing is sent.
fn is_here(ip: IpAddr) -> bool {
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

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn the_other_end_of_a_connection_is_found() {
        let own = i32::try_from(std::process::id()).unwrap();
        for place in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(place) else {
                continue;
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (_, peer) = listener.accept().unwrap();
            let End::Here(pids) = end_of(peer) else {
                panic!("{peer} is here");
            };
            assert_eq!(pids, BTreeSet::from([own]), "{place}");
            drop(client);
            // Whoever asks and is gone could have been anybody.
            assert!(matches!(end_of(peer), End::Here(pids) if pids.is_empty()));
        }
        assert!(matches!(
            end_of("192.0.2.1:5".parse().unwrap()),
            End::Elsewhere
        ));
    }

    #[test]
    fn processes_are_in_the_container_they_come_from() {
        let mut first = Command::new("sh")
            .args(["-c", "sh -c 'echo $$; sleep 1000' & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 16];
        let count = first.stdout.as_mut().unwrap().read(&mut line).unwrap();
        let below = std::str::from_utf8(&line[..count]).unwrap().trim();
        let below = BTreeSet::from([below.parse().unwrap()]);
        let pid = i32::try_from(first.id()).unwrap();
        let root = ContainerId::root("c");
        let containers = BTreeMap::from([(pid, root.clone())]);
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(place(&below, &containers), Asker::Inside(root));
        assert_eq!(place(&below, &BTreeMap::new()), Asker::Outside);
        assert_eq!(place(&BTreeSet::from([own]), &containers), Asker::Outside);
        assert_eq!(place(&BTreeSet::new(), &containers), Asker::Unknown);
        for pid in below.into_iter().chain([pid]) {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        }
        first.wait().unwrap();
    }
}
