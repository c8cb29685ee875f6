//! State and election on real servers of `ZooKeeper` and etcd: the promises of the kit, also while a server dies.
#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "a skipped test says why")]

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use cluster_tests::servers::{Kind, Place, Servers};
use dcos_proto::mesos::MasterInfo;
use dcos_store::{
    Election, Ensemble, Fence, StateStore, StoreError, Term, Transaction, electorate, testkit,
};

/// A busy machine keeps sessions that are as long.
const SESSION: Duration = Duration::from_secs(10);

/// A new path of the ensemble each time.
fn fresh(servers: &Servers) -> Ensemble {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let path = format!("/test/{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    let ensemble = Ensemble::parse(&servers.url(&path)).unwrap();
    ensemble.session_timeout(SESSION)
}

/// The store behind the box, since the kit wants to know its type.
#[derive(Debug)]
struct Boxed(std::sync::Arc<dyn StateStore>);

#[async_trait::async_trait]
impl StateStore for Boxed {
    async fn get(&self, key: &str) -> Result<Option<dcos_store::Entry>, StoreError> {
        self.0.get(key).await
    }

    async fn scan(&self, prefix: &str) -> Result<dcos_store::Snapshot, StoreError> {
        self.0.scan(prefix).await
    }

    async fn transact(&self, transaction: Transaction) -> Result<dcos_store::Revision, StoreError> {
        self.0.transact(transaction).await
    }

    async fn watch(
        &self,
        prefix: &str,
        from: dcos_store::Revision,
    ) -> Result<dcos_store::Watch, StoreError> {
        self.0.watch(prefix, from).await
    }
}

#[derive(Debug)]
struct Elected(std::sync::Arc<dyn Election>);

#[async_trait::async_trait]
impl Election for Elected {
    async fn campaign(
        &self,
        candidate: bytes::Bytes,
    ) -> Result<dcos_store::Leadership, dcos_store::ElectionError> {
        self.0.campaign(candidate).await
    }

    fn observe(&self) -> tokio::sync::watch::Receiver<Option<dcos_store::Leader>> {
        self.0.observe()
    }

    fn candidates(&self) -> tokio::sync::watch::Receiver<Vec<bytes::Bytes>> {
        self.0.candidates()
    }
}

async fn promises(kind: Kind) {
    if let Some(why) = kind.missing() {
        println!("skipped: {why}");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let places = [Place::here(), Place::here(), Place::here()];
    let mut servers = Servers::start(kind, &places, directory.path())
        .await
        .unwrap();

    testkit::all(async || Boxed(fresh(&servers).store())).await;
    let one = fresh(&servers);
    testkit::durable(async || Boxed(one.store())).await;
    let one = fresh(&servers);
    testkit::shared(&Boxed(one.store()), &Boxed(one.store())).await;
    for office in ["master", "marathon"] {
        let one = fresh(&servers);
        let election = || Elected(one.election(office));
        testkit::election(&election(), &election()).await;
    }
    leader_is_known_and_replaced(&fresh(&servers)).await;
    a_server_may_die(&mut servers).await;
}

/// What a framework or an agent sees of an election, and how soon.
async fn leader_is_known_and_replaced(ensemble: &Ensemble) {
    let info = |id: &str| {
        let json =
            format!(r#"{{"id":"{id}","ip":16777343,"port":5050,"pid":"master@127.0.0.1:5050"}}"#);
        bytes::Bytes::from(json)
    };
    let (mut seen, mut standing) = electorate(ensemble);
    let (one, other) = (ensemble.election("master"), ensemble.election("master"));
    let first = one.campaign(info("one")).await.unwrap();
    let second = tokio::spawn(async move { other.campaign(info("other")).await.unwrap() });
    let known = seen
        .wait_for(Option::is_some)
        .await
        .unwrap()
        .clone()
        .unwrap();
    assert_eq!((known.id.as_str(), known.port), ("one", 5050));
    assert!(first.lease().holds());
    let ids = |all: &std::sync::Arc<Vec<MasterInfo>>| -> Vec<String> {
        all.iter().map(|info| info.id.clone()).collect()
    };
    let both = standing.wait_for(|all| ids(all) == ["one", "other"]).await;
    drop(both.unwrap());
    // Confirmed again and again, it holds for longer than a session.
    tokio::time::sleep(SESSION + Duration::from_secs(2)).await;
    assert!(first.lease().holds() && !second.is_finished());
    let begin = Instant::now();
    drop(first);
    let second = second.await.unwrap();
    seen.wait_for(|seen| seen.as_ref().is_some_and(|info| info.id == "other"))
        .await
        .unwrap();
    println!(
        "a resigned leader is replaced and the next one known after {:?}",
        begin.elapsed()
    );
    assert!(begin.elapsed() < SESSION, "nobody waits for its end");
    assert!(second.lease().holds());
    let left = standing.wait_for(|all| ids(all) == ["other"]).await;
    drop(left.unwrap());
}

/// With one of three servers gone, writes go on, leaders stay, and nothing is lost.
async fn a_server_may_die(servers: &mut Servers) {
    // On a busy machine servers may need 20 s to agree on a leader of theirs.
    let ensemble = fresh(servers).session_timeout(Duration::from_secs(40));
    let leadership = ensemble
        .election("master")
        .campaign("{}".into())
        .await
        .unwrap();
    let store = ensemble.store();
    let put = |key: u32| Transaction::new(leadership.fence()).put(format!("k{key:03}"), "x");
    for key in 0..30 {
        match key {
            5 => servers.kill(0),
            12 => servers.start_member(0).unwrap(),
            18 => servers.wait().await.unwrap(),
            20 => servers.kill(1),
            _ => {}
        }
        // Whether it was done is not known then; done twice it is the same.
        while let Err(error) = store.transact(put(key)).await {
            let unknown = matches!(error, StoreError::Uncertain { .. });
            assert!(unknown && leadership.lease().holds(), "{error}");
        }
    }
    assert!(
        leadership.lease().holds(),
        "the leader was lost with a server"
    );
    let other = ensemble.store();
    assert_eq!(other.scan("k").await.unwrap().entries.len(), 30);
    let deposed = Transaction::new(Fence::new("master", Term(0))).put("late", "x");
    assert!(matches!(
        other.transact(deposed).await,
        Err(StoreError::Deposed { .. })
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn zookeeper_keeps_its_promises() {
    promises(Kind::ZooKeeper).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_keeps_its_promises() {
    promises(Kind::Etcd).await;
}
