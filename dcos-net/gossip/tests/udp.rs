//! Members on real sockets, with real key files.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dcos_gossip::{
    About, Gossip, GossipError, KeysError, Kind, LookUp, Membership as _, Presence, REVIEW,
    Resolver, Setup, System, View,
};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);

fn key(folder: &Path, name: &str, line: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, line).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path
}

fn setup(keys: PathBuf, join: &[SocketAddr], memory: Option<PathBuf>) -> Setup {
    let local: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let join = join.iter().map(ToString::to_string).collect();
    Setup {
        listen: local,
        address: local,
        keys,
        about: About::new(Kind::Agent, local.ip()),
        join: watch::channel(join).1,
        memory,
        resolver: Arc::new(System),
        review: REVIEW,
    }
}

struct Running {
    address: SocketAddr,
    view: View,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(setup: Setup) -> Self {
        let gossip = Gossip::bind(setup).await.unwrap();
        let (address, view, stop) = (gossip.address(), gossip.view(), CancellationToken::new());
        let task = tokio::spawn(gossip.run(stop.clone()));
        Self {
            address,
            view,
            stop,
            task,
        }
    }

    async fn sees(&self, other: SocketAddr, presence: Presence) {
        let mut members = self.view.watch();
        let seen = members.wait_for(|members| {
            let member = members.get(&other);
            member.is_some_and(|member| member.presence == presence && member.about.is_some())
        });
        timeout(PATIENCE, seen).await.unwrap().unwrap();
    }

    async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

/// 32 bytes.
const KEY: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
const OTHER: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";

#[tokio::test]
async fn members_find_each_other_leave_and_come_back_by_memory() {
    let folder = tempfile::tempdir().unwrap();
    let keys = key(folder.path(), "keys", KEY);
    let memory = folder.path().join("members.json");
    let one = Running::start(setup(keys.clone(), &[], None)).await;
    let two = Running::start(setup(keys.clone(), &[one.address], None)).await;
    let three = setup(keys.clone(), &[one.address], Some(memory.clone()));
    let three = Running::start(three).await;
    for running in [&one, &two, &three] {
        for other in [&one, &two, &three] {
            running.sees(other.address, Presence::Alive).await;
        }
    }
    let gone = three.address;
    three.stop().await;
    one.sees(gone, Presence::Left).await;
    two.sees(gone, Presence::Left).await;
    // It joins nobody, and was told of both.
    let mut again = setup(keys, &[], Some(memory));
    (again.listen, again.address) = (gone, gone);
    let again = Running::start(again).await;
    again.sees(two.address, Presence::Alive).await;
    one.sees(gone, Presence::Alive).await;
    for running in [one, two, again] {
        assert_eq!(running.view.counters().strangers, 0);
        running.stop().await;
    }
}

#[tokio::test]
async fn who_has_another_key_is_not_heard() {
    let folder = tempfile::tempdir().unwrap();
    let one = Running::start(setup(key(folder.path(), "one", KEY), &[], None)).await;
    let other = key(folder.path(), "other", OTHER);
    let two = Running::start(setup(other, &[one.address], None)).await;
    let heard = async {
        while one.view.counters().strangers == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, heard).await.unwrap();
    assert_eq!(one.view.watch().borrow().len(), 1);
    assert_eq!(
        (one.view.counters().sent, two.view.counters().received),
        (0, 0)
    );
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn keys_that_others_can_read_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let keys = key(folder.path(), "keys", KEY);
    std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Gossip::bind(setup(keys, &[], None)).await.unwrap_err();
    let open = matches!(
        refused,
        GossipError::Keys(KeysError::Open { mode: 0o644, .. })
    );
    assert!(open, "{refused}");
}

/// One that knows a name once, and never answers again.
#[derive(Debug)]
struct Hangs {
    knows: SocketAddr,
    asked: AtomicUsize,
}

impl Resolver for Hangs {
    fn look_up(&self, name: String) -> LookUp {
        assert_eq!(name, "leader.example.com:62501");
        if self.asked.fetch_add(1, Ordering::Relaxed) > 0 {
            return Box::pin(std::future::pending());
        }
        let found = vec![self.knows];
        Box::pin(async move { Ok(found) })
    }
}

#[tokio::test]
async fn who_waits_for_a_name_still_answers_and_says_good_bye() {
    let folder = tempfile::tempdir().unwrap();
    let keys = key(folder.path(), "keys", KEY);
    let one = Running::start(setup(keys.clone(), &[], None)).await;
    let resolver = Arc::new(Hangs {
        knows: one.address,
        asked: AtomicUsize::new(0),
    });
    let name = "leader.example.com:62501".to_owned();
    let two = Running::start(Setup {
        join: watch::channel(vec![name]).1,
        resolver: Arc::clone(&resolver) as Arc<dyn Resolver>,
        review: Duration::from_millis(10),
        ..setup(keys, &[], None)
    })
    .await;
    two.sees(one.address, Presence::Alive).await;
    let until = |done: &dyn Fn() -> bool| {
        let done = done();
        async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            done
        }
    };
    let hangs = || resolver.asked.load(Ordering::Relaxed) > 1;
    let before = async { while !until(&hangs).await {} };
    timeout(PATIENCE, before).await.unwrap();
    let heard = one.view.counters().received;
    let more = || one.view.counters().received >= heard + 10;
    timeout(PATIENCE, async { while !until(&more).await {} })
        .await
        .unwrap();
    one.sees(two.address, Presence::Alive).await;
    let gone = two.address;
    two.stop().await;
    one.sees(gone, Presence::Left).await;
    one.stop().await;
}
