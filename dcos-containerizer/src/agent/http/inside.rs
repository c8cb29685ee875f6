//! Processes in containers that ask the agent to launch, to enter or to attach.
//!
//! Where nobody has to show who they are, the agent's API would be the way out of any container: to
//! `LAUNCH_CONTAINER`, which runs a command as root on the node, or into somebody else's container. A process in a
//! container of this agent is refused it, unless it shows who it is or `--allow_calls_of_containers` is set; but for
//! what is nested in the container of a custom executor, which has to launch its tasks there.
//!
//! Who asks is told by the kernel: for a Unix socket the process that connected, for a connection from this node the
//! processes that have its other end open. What descends from a container's first process is in that container; what
//! descends from whoever makes containers, and from no first process, is in one that begins or ends just now. Whoever is
//! not to be told counts as one of a container. Callers of other nodes, and of containers with networks of their own,
//! are not known by it: for those there is authentication.

use std::collections::BTreeSet;

use dcos_proto::agent::call::Type;
use dcos_proto::mesos::ContainerId;
use dcos_security::{Caller, Principal};
use dcos_wire::{Peer, PeerAddress, Refusal};
use tokio::sync::Semaphore;

use super::Context;
use crate::callers::{End, LOOKS, end_of, is_here};
use crate::containerizer::Origins;
use crate::procfs::Process;

/// Kernel tables are gone through for so many callers at a time.
static LOOKING: Semaphore = Semaphore::const_new(2);

/// So many callers of this node may wait for that and for whoever runs containers; others are told to come again.
static WAITING: Semaphore = Semaphore::const_new(64);

/// Whether what `who` shows is enough for `target`: a name, or the token of the executor that it is nested in.
fn shows(who: &Principal, target: &ContainerId) -> bool {
    let is_its_own = || who.claims.get("cid") == Some(&target.root_id().value);
    who.value.is_some() || (target.parent.is_some() && is_its_own())
}

/// Goes on only if `peer` is no process of a container, or of the custom executor that `target` is nested in.
///
/// # Errors
/// 403, which says what to do; 503 where the same call may do at once.
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
    let is_known = caller.principal().is_some_and(|who| shows(who, target));
    if !gated || context.security.allow_calls_of_containers || is_known {
        return Ok(());
    }
    let refused = |who: &str| {
        Err(Refusal::forbidden(format!(
            "{} of {who} is refused without credentials: let the agent authenticate its callers \
             (--authenticate_http_readwrite), or give it --allow_calls_of_containers",
            call.as_str_name()
        )))
    };
    match asker(peer, context.containerizer.origins()).await? {
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
        Asker::Between => Err(Refusal::unavailable(format!(
            "{} of a process in a container that begins or ends at this moment; try again",
            call.as_str_name()
        ))),
        Asker::Unknown => refused("a process of this node that cannot be found"),
        Asker::Untold => Err(Refusal::unavailable(
            "who of this node asks was not found out; try again",
        )),
    }
}

/// Where who asks is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asker {
    /// In none of our containers.
    Outside,
    /// In this root container, or one nested in it.
    Inside(ContainerId),
    /// In a container that begins or ends at this moment.
    Between,
    /// Here, and maybe in a container.
    Unknown,
    /// Whoever is to find out did not, this time.
    Untold,
}

/// Finds who asks; where containers come from is asked only if it is somebody of this node.
async fn asker(peer: &Peer, origins: impl Future<Output = Origins>) -> Result<Asker, Refusal> {
    let (address, own_address) = (peer.address, peer.own_address);
    match address {
        PeerAddress::Local => return Ok(Asker::Outside),
        PeerAddress::Tcp(address) => {
            let elsewhere =
                move || !is_here(address.ip()) && end_of(address, own_address) == End::Elsewhere;
            if look(elsewhere).await == Some(true) {
                return Ok(Asker::Outside);
            }
        }
        _ => {}
    }
    let busy =
        |_| Refusal::unavailable("too many callers of this node ask who they are; try again");
    let _waiting = WAITING.try_acquire().map_err(busy)?;
    let origins = origins.await;
    let once = move || match address {
        PeerAddress::Unix { pid, .. } => {
            let pid = pid.and_then(|pid| u32::try_from(pid).ok());
            place(&pid.into_iter().collect(), &origins)
        }
        PeerAddress::Tcp(address) => match end_of(address, own_address) {
            End::Elsewhere => Asker::Outside,
            End::Here(pids) => place(&pids, &origins),
            End::Untold => Asker::Untold,
        },
        _ => Asker::Unknown,
    };
    let looks = move || {
        let mut looks = (0..LOOKS).map(|_| once());
        looks.find(|found| *found != Asker::Unknown)
    };
    let found = look(looks).await;
    Ok(found.flatten().unwrap_or(Asker::Unknown))
}

/// Goes through kernel tables when it is its turn.
async fn look<T: Send + 'static>(through: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let _looking = LOOKING.acquire().await;
    tokio::task::spawn_blocking(through).await.ok()
}

/// Where processes are: inside if one is.
fn place(pids: &BTreeSet<u32>, origins: &Origins) -> Asker {
    let own = std::process::id();
    // What lost its parent in a container comes to whoever made that.
    let parents = origins.first.keys().filter_map(|pid| parent(*pid));
    let makers: BTreeSet<u32> = origins.makers.iter().copied().chain(parents).collect();
    let is_told = !origins.hidden || pids.iter().all(|pid| *pid == own);
    let mut found = if is_told && !pids.is_empty() {
        Asker::Outside
    } else {
        Asker::Unknown
    };
    for pid in pids {
        let mut pid = *pid;
        while pid > 1 && pid != own {
            if let Some(id) = origins.first.get(&pid) {
                return Asker::Inside(id.root_id().clone());
            }
            let above = parent(pid);
            if above.is_none() {
                found = Asker::Unknown;
            } else if makers.contains(&pid) && found == Asker::Outside {
                found = Asker::Between;
            }
            pid = above.unwrap_or_default();
        }
    }
    found
}

fn parent(pid: u32) -> Option<u32> {
    Process::read(pid).map(|process| process.parent)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;
    use std::net::SocketAddr;
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    use rustix::net::{AddressFamily, SocketType, bind, connect, socket, sockopt};

    use super::*;

    #[test]
    fn a_token_without_a_name_is_good_for_what_is_nested_in_its_container() {
        let id = |value: &str, parent: Option<ContainerId>| ContainerId {
            value: value.to_owned(),
            parent: parent.map(Box::new),
        };
        let own = id("own", None);
        let nested = id("task", Some(own.clone()));
        let token = Principal {
            value: None,
            claims: [("cid".to_owned(), "own".to_owned())].into(),
        };
        assert!(shows(&token, &nested));
        assert!(shows(&token, &id("check", Some(nested.clone()))));
        assert!(!shows(&token, &own));
        assert!(!shows(&token, &id("own", Some(id("other", None)))));
        let person = Principal {
            value: Some("ops".to_owned()),
            claims: [].into(),
        };
        assert!(shows(&person, &own));
    }

    /// A connection to `to` from `from`, a port that others may use at the same time.
    fn connected(from: SocketAddr, to: SocketAddr) -> TcpStream {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        bind(&socket, &from).unwrap();
        connect(&socket, &to).unwrap();
        TcpStream::from(socket)
    }

    fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn the_other_end_of_a_connection_is_found() {
        let own = End::Here(BTreeSet::from([std::process::id()]));
        for place in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(place) else {
                continue;
            };
            let at = listener.local_addr().unwrap();
            let client = TcpStream::connect(at).unwrap();
            let (served, peer) = listener.accept().unwrap();
            assert_eq!(end_of(peer, Some(at)), own, "{place}");
            drop(client);
            // Whoever asks and is gone could have been anybody, and its line of the table is root's.
            assert_eq!(end_of(peer, Some(at)), End::Here(BTreeSet::new()));
            drop(served);
        }
        let elsewhere = end_of("192.0.2.1:5".parse().unwrap(), None);
        assert_eq!(elsewhere, End::Elsewhere);
    }

    #[test]
    fn a_port_is_no_connection() {
        let ((first, one), (second, other)) = (listener(), listener());
        let client = connected("127.0.0.1:0".parse().unwrap(), one);
        let (served, peer) = first.accept().unwrap();
        // Another process goes on with it, as if it had connected.
        let mut heir = Command::new("sleep")
            .arg("1000")
            .stdin(std::os::fd::OwnedFd::from(client))
            .spawn()
            .unwrap();
        // From the same port: the four addresses together are another connection.
        let own = connected(peer, other);
        let (also_served, same) = second.accept().unwrap();
        assert_eq!(same, peer);
        let (us, it) = (std::process::id(), heir.id());
        assert_eq!(end_of(peer, Some(one)), End::Here(BTreeSet::from([it])));
        assert_eq!(end_of(peer, Some(other)), End::Here(BTreeSet::from([us])));
        // Behind a translation it is one of them, and not known which.
        let both = End::Here(BTreeSet::from([us, it]));
        assert_eq!(end_of(peer, Some("198.51.100.7:1".parse().unwrap())), both);
        heir.kill().unwrap();
        heir.wait().unwrap();
        // The one that was closed says nothing of the other.
        assert_eq!(end_of(peer, Some(other)), End::Here(BTreeSet::from([us])));
        assert_eq!(end_of(peer, Some(one)), End::Here(BTreeSet::new()));
        drop((own, served, also_served));
    }

    #[tokio::test]
    async fn who_calls_from_another_node_waits_for_no_containerizer() {
        let mut peer = Peer {
            address: PeerAddress::Tcp("192.0.2.1:5".parse().unwrap()),
            own_address: None,
            certificates: std::sync::Arc::default(),
        };
        let hangs = std::future::pending::<Origins>;
        assert_eq!(asker(&peer, hangs()).await.unwrap(), Asker::Outside);
        // Nor is it behind those who do.
        let _all = WAITING.acquire_many(64).await.unwrap();
        assert_eq!(asker(&peer, hangs()).await.unwrap(), Asker::Outside);
        peer.address = PeerAddress::Unix {
            pid: None,
            uid: 0,
            gid: 0,
        };
        assert_eq!(asker(&peer, hangs()).await.unwrap_err().status, 503);
    }

    #[test]
    fn processes_are_in_the_container_they_come_from() {
        let mut first = Command::new("sh")
            .args(["-c", "sh -c 'echo $$; exec sleep 1000' & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = [0; 16];
        let count = first.stdout.as_mut().unwrap().read(&mut line).unwrap();
        let below = std::str::from_utf8(&line[..count]).unwrap().trim();
        let below = BTreeSet::from([below.parse().unwrap()]);
        let root = ContainerId::root("c");
        let none = Origins::default();
        let known = Origins {
            first: BTreeMap::from([(first.id(), root.child("n"))]),
            ..none.clone()
        };
        let making = Origins {
            makers: BTreeSet::from([first.id()]),
            ..none.clone()
        };
        let hidden = Origins {
            hidden: true,
            ..none.clone()
        };
        let own = BTreeSet::from([std::process::id()]);
        assert_eq!(place(&below, &known), Asker::Inside(root));
        assert_eq!(place(&below, &none), Asker::Outside);
        // In a container that is not known yet, or no longer.
        assert_eq!(place(&below, &making), Asker::Between);
        assert_eq!(place(&below, &hidden), Asker::Unknown);
        assert_eq!(place(&own, &known), Asker::Outside);
        assert_eq!(place(&BTreeSet::new(), &known), Asker::Unknown);
        for pid in below.into_iter().chain([first.id()]) {
            let pid = i32::try_from(pid)
                .ok()
                .and_then(rustix::process::Pid::from_raw);
            rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::KILL).unwrap();
        }
        first.wait().unwrap();
    }
}
