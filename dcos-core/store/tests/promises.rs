//! Every store and election of this crate keeps its promises, and each function of the kit notices a
//! store that does not.

use std::{future::Future, sync::Arc};

use async_trait::async_trait;
use dcos_store::{
    Check, Commit, Election, EmbeddedStore, Entry, Fence, MemoryElection, MemoryStore, Revision,
    SingleElection, Snapshot, StateStore, StoreError, Term, Transaction, Watch, testkit,
};
use futures::StreamExt;

#[tokio::test]
async fn memory_store_keeps_its_promises() {
    testkit::all(async || MemoryStore::new()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embedded_store_keeps_its_promises() {
    let directory = tempfile::tempdir().unwrap();
    let number = std::sync::atomic::AtomicU32::new(0);
    testkit::all(async || {
        let number = number.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        EmbeddedStore::open(directory.path().join(format!("{number}.redb"))).unwrap()
    })
    .await;
    let path = directory.path().join("durable.redb");
    testkit::durable(async || EmbeddedStore::open(&path).unwrap()).await;
}

#[tokio::test]
async fn elections_keep_their_promises() {
    let election = MemoryElection::new();
    testkit::election(&election, &election.clone()).await;

    let directory = tempfile::tempdir().unwrap();
    let single = || SingleElection::new(directory.path(), "master");
    testkit::election(&single(), &single()).await;
    // Another process would begin like this: terms go on. (One may go to a campaign nobody waited for.)
    let leadership = single().campaign("again".into()).await.unwrap();
    assert!(leadership.term() >= Term(3));
}

#[tokio::test]
async fn a_damaged_term_is_not_guessed() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("master.term"), "seven").unwrap();
    let election = SingleElection::new(directory.path(), "master");
    let refused = election
        .campaign("me".into())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("does not hold a term: write into it a number"),
        "{refused}"
    );
}

#[tokio::test]
async fn the_deposed_learns_it_and_its_writes_fail() {
    let (election, store) = (MemoryElection::new(), MemoryStore::new());
    let old = election.campaign("old".into()).await.unwrap();
    election.depose();
    old.lost().await;
    let new = election.campaign("new".into()).await.unwrap();
    store.transact(Transaction::new(new.fence())).await.unwrap();
    let late = store
        .transact(Transaction::new(old.fence()).put("k", "late"))
        .await;
    assert!(matches!(late, Err(StoreError::Deposed { .. })));
    drop(old);
    assert!(
        !new.lost_token().is_cancelled(),
        "the deposed took the office with it"
    );
}

#[tokio::test]
async fn a_late_watcher_is_told_so() {
    let store = MemoryStore::with_history(4);
    let put = |value: u32| {
        store.transact(Transaction::new(Fence::new("test", Term(1))).put("k", value.to_string()))
    };
    let mut watch = store.watch("", Revision::ZERO).await.unwrap();
    for value in 0..4 {
        put(value).await.unwrap();
    }
    for revision in 1..=4 {
        assert_eq!(
            watch.next().await.unwrap().unwrap().revision,
            Revision(revision)
        );
    }
    for value in 0..5 {
        put(value).await.unwrap();
    }
    let told = watch.next().await.unwrap();
    assert!(
        matches!(
            told,
            Err(StoreError::Compacted {
                oldest: Revision(5),
                ..
            })
        ),
        "{told:?}"
    );
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_closed_store_refuses_and_ends_its_watches() {
    let store = MemoryStore::new();
    let mut watch = store.watch("", Revision::ZERO).await.unwrap();
    store.close();
    assert!(watch.next().await.is_none());
    assert!(matches!(store.get("k").await, Err(StoreError::Closed)));
}

/// The ways in which [`Broken`] breaks its word.
#[derive(Clone, Copy, Debug)]
enum Flaw {
    WritesBeforeChecking,
    ForgetsUnchanged,
    IgnoresChecks,
    SkipsRevisions,
    ScansWithoutOrder,
    IgnoresTerms,
    DropsEverySecondCommit,
    StartsWatchesLate,
    TruncatesValues,
}

/// A store with one flaw.
#[derive(Debug)]
struct Broken {
    inner: MemoryStore,
    flaw: Flaw,
}

impl Broken {
    fn new(flaw: Flaw) -> Self {
        Self {
            inner: MemoryStore::new(),
            flaw,
        }
    }
}

#[async_trait]
impl StateStore for Broken {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn scan(&self, prefix: &str) -> Result<Snapshot, StoreError> {
        let mut snapshot = self.inner.scan(prefix).await?;
        if matches!(self.flaw, Flaw::ScansWithoutOrder) {
            snapshot.entries.reverse();
        }
        Ok(snapshot)
    }

    async fn transact(&self, mut transaction: Transaction) -> Result<Revision, StoreError> {
        match self.flaw {
            Flaw::WritesBeforeChecking => {
                let unchecked = Transaction {
                    checks: Vec::new(),
                    ..transaction.clone()
                };
                self.inner.transact(unchecked).await?;
            }
            Flaw::ForgetsUnchanged => {
                transaction
                    .checks
                    .retain(|check| !matches!(check, Check::Unchanged(..)));
            }
            Flaw::IgnoresChecks => transaction.checks.clear(),
            Flaw::SkipsRevisions => {
                self.inner
                    .transact(Transaction::new(transaction.fence.clone()).put("z", ""))
                    .await?;
            }
            Flaw::IgnoresTerms => transaction.fence = Fence::new("all", Term(1)),
            Flaw::TruncatesValues => {
                for write in &mut transaction.writes {
                    if let dcos_store::Write::Put(_, value) = write {
                        value.truncate(1 << 16);
                    }
                }
            }
            _ => {}
        }
        self.inner.transact(transaction).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, StoreError> {
        let from = match self.flaw {
            Flaw::StartsWatchesLate => self.inner.scan("").await?.revision,
            _ => from,
        };
        let watch = self.inner.watch(prefix, from).await?;
        match self.flaw {
            Flaw::DropsEverySecondCommit => {
                let kept = |told: &Result<Commit, StoreError>| {
                    std::future::ready(told.as_ref().is_ok_and(|commit| commit.revision.0 % 2 == 0))
                };
                Ok(Watch::new(watch.filter(kept)))
            }
            _ => Ok(watch),
        }
    }
}

/// Whether the check notices the flaw.
async fn notices(check: impl Future<Output = ()> + Send + 'static) -> bool {
    tokio::spawn(check)
        .await
        .is_err_and(|error| error.is_panic())
}

#[tokio::test(start_paused = true)]
async fn each_function_of_the_kit_bites() {
    macro_rules! rejects {
        ($($promise:ident: $flaw:ident),+ $(,)?) => {$(
            let broken = Arc::new(Broken::new(Flaw::$flaw));
            let noticed = notices(async move { testkit::$promise(&*broken).await }).await;
            assert!(noticed, "`{}` accepts a store that {:?}", stringify!($promise), Flaw::$flaw);
        )+};
    }
    rejects! {
        atomic: WritesBeforeChecking,
        checked: ForgetsUnchanged,
        linearizable: IgnoresChecks,
        one_revision_a_transaction: SkipsRevisions,
        consistent_scans: ScansWithoutOrder,
        fenced: IgnoresTerms,
        watched_without_gaps: DropsEverySecondCommit,
        watched_from_the_past: StartsWatchesLate,
        bounded: TruncatesValues,
    }
    assert!(
        notices(testkit::durable(async || MemoryStore::new())).await,
        "`durable` accepts amnesia"
    );
    let (one, other) = (MemoryElection::new(), MemoryElection::new());
    assert!(
        notices(async move { testkit::election(&one, &other).await }).await,
        "two leaders"
    );
}
