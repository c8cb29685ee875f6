//! A launcher of another version beneath the universal containerizer.
//!
//! It is a real one behind a door that knows none of our plans, as one of another version does, until it has become
//! another program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod node;
mod until;

use std::collections::VecDeque;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dcos_containerizer::containerizer::{Containerizer, ContainerizerError, Universal};
use dcos_launcher::Client;
use dcos_proto::mesos::ContainerId;
use node::Node;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use until::until;

/// How many upgrades it takes until plans are known.
const KNOWS: usize = 0;
const NEVER: usize = usize::MAX;

/// A launcher with a door in front of it, ended with this value.
struct Former(Arc<Door>);

/// What serves at the door goes on for as long as the test does.
struct Door {
    /// Where the launcher really is.
    behind: PathBuf,
    missing: AtomicUsize,
    upgrades: AtomicUsize,
}

impl Former {
    fn before(node: &Node) -> Self {
        let run = node.dir.path().join("run");
        std::fs::create_dir_all(&run).unwrap();
        let door = Arc::new(Door {
            behind: node.dir.path().join("behind.sock"),
            missing: AtomicUsize::new(KNOWS),
            upgrades: AtomicUsize::new(0),
        });
        let listener = UnixListener::bind(run.join("launcher.sock")).unwrap();
        let serving = Arc::clone(&door);
        std::thread::spawn(move || {
            for agent in listener.incoming() {
                let behind = &serving.behind;
                let held = Client::connect_or_start(behind, &node::launcher(), &[]).unwrap();
                let launcher = UnixStream::connect(behind).unwrap();
                Arc::clone(&serving).serve(agent.unwrap(), launcher);
                drop(held);
            }
        });
        Self(door)
    }

    /// Beneath a containerizer of `node` that runs a container.
    async fn running(node: &Node) -> (Self, Universal, ContainerId) {
        let former = Self::before(node);
        let universal = node.recovered(&[]).await;
        let id = running(node, &universal).await;
        (former, universal, id)
    }

    fn forget_plans(&self, until: usize) {
        self.0.missing.store(until, Ordering::SeqCst);
    }

    fn upgrades(&self) -> usize {
        self.0.upgrades.load(Ordering::SeqCst)
    }
}

impl Drop for Former {
    fn drop(&mut self) {
        if let Ok(client) = Client::connect(&self.0.behind) {
            client.stop().ok();
        }
    }
}

impl Door {
    fn serve(self: Arc<Self>, agent: UnixStream, launcher: UnixStream) {
        let answers = Arc::new(Mutex::new(agent.try_clone().unwrap()));
        let (to_agent, mut from) = (Arc::clone(&answers), launcher.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut header = [0; 5];
            while from.read_exact(&mut header).is_ok() {
                let length = u32::from_le_bytes(header[..4].try_into().unwrap());
                let mut body = vec![0; length as usize];
                from.read_exact(&mut body).unwrap();
                let frame = [&header[..], &body].concat();
                if to_agent.lock().unwrap().write_all(&frame).is_err() {
                    break;
                }
            }
            to_agent.lock().unwrap().shutdown(Shutdown::Both).ok();
        });
        std::thread::spawn(move || {
            self.listen_to(&agent, &launcher, &answers);
            launcher.shutdown(Shutdown::Both).ok();
        });
    }

    /// Hands on what the agent asks for, except what is not known yet.
    fn listen_to(&self, agent: &UnixStream, launcher: &UnixStream, answers: &Mutex<UnixStream>) {
        let (mut bytes, mut fds) = (Vec::new(), VecDeque::new());
        while receive(agent, &mut bytes, &mut fds) {
            while let Some((header, rest)) = bytes.split_first_chunk::<5>() {
                let [a, b, c, d, count] = *header;
                let length = u32::from_le_bytes([a, b, c, d]) as usize;
                if rest.len() < length {
                    break;
                }
                let frame: Vec<u8> = bytes.drain(..5 + length).collect();
                let sent: Vec<OwnedFd> = fds.drain(..usize::from(count)).collect();
                // The kinds of requests.
                let (launch, upgrade) = (frame[13] == 1, frame[13] == 5);
                let missing = self.missing.load(Ordering::SeqCst);
                if launch && missing != KNOWS {
                    let refusal = refusal(&frame[5..13]);
                    answers.lock().unwrap().write_all(&refusal).unwrap();
                    continue;
                }
                if upgrade {
                    self.upgrades.fetch_add(1, Ordering::SeqCst);
                    if missing != NEVER {
                        self.missing.store(KNOWS, Ordering::SeqCst);
                    }
                }
                send(launcher, &frame, &sent);
            }
        }
    }
}

/// What every launcher says to a plan of another version.
fn refusal(sequence: &[u8]) -> Vec<u8> {
    let reason = format!("version {} is not spoken here", dcos_launcher::VERSION);
    let length = |bytes: usize| u32::try_from(bytes).unwrap().to_le_bytes();
    let body = [
        &[1],
        sequence,
        &[6],
        &length(reason.len()),
        reason.as_bytes(),
    ]
    .concat();
    [&length(body.len())[..], &[0], &body].concat()
}

fn receive(socket: &UnixStream, bytes: &mut Vec<u8>, fds: &mut VecDeque<OwnedFd>) -> bool {
    let mut buffer = [0; 16 << 10];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let Ok(received) = recvmsg(socket, &mut slices, &mut control, RecvFlags::CMSG_CLOEXEC) else {
        return false;
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            fds.extend(more);
        }
    }
    bytes.extend_from_slice(&buffer[..received.bytes]);
    received.bytes > 0
}

fn send(mut socket: &UnixStream, frame: &[u8], fds: &[OwnedFd]) {
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&fds));
    let slices = [IoSlice::new(frame)];
    let sent = sendmsg(socket, &slices, &mut control, SendFlags::NOSIGNAL).unwrap();
    socket.write_all(&frame[sent..]).unwrap();
}

/// A container that runs until it is let go; then it ends with 7.
async fn running(node: &Node, universal: &Universal) -> ContainerId {
    let id = ContainerId::root("before");
    let script = "echo $PPID > ready; while [ ! -e go ]; do sleep 0.01; done; exit 7";
    universal.launch(&id, node.task(&id, script)).await.unwrap();
    let ready = node.dir.path().join("sandbox/before/ready");
    until("it runs", || ready.exists()).await;
    id
}

async fn goes_on_to_its_end(node: &Node, universal: &Universal, id: &ContainerId) {
    std::fs::write(node.dir.path().join("sandbox/before/go"), "").unwrap();
    assert_eq!(universal.wait(id).await.unwrap().exit_code(), Some(7));
}

fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit_once(") ").unwrap().1;
    fields.split(' ').nth(1).unwrap().parse().unwrap()
}

async fn refused(node: &Node, universal: &Universal) -> String {
    let id = ContainerId::root("refused");
    let error = universal.launch(&id, node.task(&id, "true")).await;
    let error = error.unwrap_err();
    assert!(
        matches!(error, ContainerizerError::Launch { .. }),
        "{error:?}"
    );
    error.to_string()
}

#[tokio::test]
async fn it_is_upgraded_once_and_nothing_that_runs_is_lost() {
    let node = Node::new("");
    let (former, universal, id) = Former::running(&node).await;
    let status = universal.status(&id).await.unwrap();
    let launcher = parent(status.executor_pid.unwrap());
    let arguments = || std::fs::read_to_string(format!("/proc/{launcher}/cmdline")).unwrap();
    assert!(!arguments().contains("--resume"));

    former.forget_plans(1);
    let ids: Vec<_> = (0..8)
        .map(|n| ContainerId::root(format!("after{n}")))
        .collect();
    let launches = ids
        .iter()
        .map(|id| universal.launch(id, node.task(id, "echo $((6*7))")));
    for launched in futures::future::join_all(launches).await {
        launched.unwrap();
    }
    for id in &ids {
        assert_eq!(universal.wait(id).await.unwrap().exit_code(), Some(0));
        assert_eq!(node.read(id, "stdout"), "42\n");
    }
    assert_eq!(former.upgrades(), 1);
    assert!(
        arguments().contains("--resume"),
        "the same process, another program"
    );
    assert_eq!(universal.status(&id).await.unwrap(), status);
    goes_on_to_its_end(&node, &universal, &id).await;
}

#[tokio::test]
async fn an_end_at_that_moment_is_heard() {
    let node = Node::new("");
    let former = Former::before(&node);
    let universal = node.recovered(&[]).await;
    for round in 0..5 {
        // Before, while or after the launcher becomes another program.
        let ending = ContainerId::root(format!("ending{round}"));
        let script = "while [ ! -e go ]; do :; done; exit 9";
        universal
            .launch(&ending, node.task(&ending, script))
            .await
            .unwrap();
        former.forget_plans(1);
        let go = node.dir.path().join(format!("sandbox/ending{round}/go"));
        let id = ContainerId::root(format!("next{round}"));
        let launch = universal.launch(&id, node.task(&id, "exit 4"));
        let (launched, written) = tokio::join!(launch, tokio::fs::write(go, ""));
        launched.unwrap();
        written.unwrap();
        assert_eq!(universal.wait(&ending).await.unwrap().exit_code(), Some(9));
        assert_eq!(universal.wait(&id).await.unwrap().exit_code(), Some(4));
    }
    assert_eq!(former.upgrades(), 5);
}

#[tokio::test]
async fn what_is_no_launcher_is_never_put_in_its_place() {
    let mut node = Node::new("");
    node.launcher = Path::new("/bin/true").to_owned();
    let (former, universal, id) = Former::running(&node).await;
    former.forget_plans(1);
    for _ in 0..2 {
        let error = refused(&node, &universal).await;
        assert!(error.contains("did not become /bin/true"), "{error}");
        assert!(error.contains("not the launcher of this agent"), "{error}");
        assert!(error.contains("drain the node"), "{error}");
    }
    assert_eq!(former.upgrades(), 0);
    goes_on_to_its_end(&node, &universal, &id).await;
}

#[tokio::test]
async fn one_that_refuses_again_is_left_alone() {
    let node = Node::new("");
    let (former, universal, id) = Former::running(&node).await;
    former.forget_plans(NEVER);
    let error = refused(&node, &universal).await;
    assert!(error.contains("as that it refuses, too"), "{error}");
    assert_eq!(former.upgrades(), 1);
    goes_on_to_its_end(&node, &universal, &id).await;
}
