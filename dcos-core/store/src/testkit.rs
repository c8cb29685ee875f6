//! The promises of [`StateStore`] and [`Election`] as functions, one each.
//!
//! Call them from the tests of an implementation. Each takes a store nothing was written to, and panics with what
//! was expected if the promise is broken. [`all`] runs every one that needs no reopening.
//!
//! ```
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! use dcos_store::{MemoryElection, MemoryStore, testkit};
//!
//! testkit::all(async || MemoryStore::new()).await;
//! let election = MemoryElection::new();
//! testkit::election(&election, &election.clone()).await;
//! # });
//! ```

mod shared;

use std::time::Duration;

use futures::future::join_all;
use tokio::time::timeout;

use crate::{
    Change, Commit, Election, Fence, MAX_KEY_BYTES, MAX_VALUE_BYTES, Revision, StateStore,
    StoreError, Term, Transaction, Watch,
};

pub use shared::shared;

/// How long the kit waits for what must come: far longer than any store takes, so that only a
/// broken promise runs into it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs every promise but [`durable`], each with a store of its own.
pub async fn all<S: StateStore>(fresh: impl AsyncFn() -> S) {
    atomic(&fresh().await).await;
    checked(&fresh().await).await;
    linearizable(&fresh().await).await;
    one_revision_a_transaction(&fresh().await).await;
    consistent_scans(&fresh().await).await;
    fenced(&fresh().await).await;
    watched_without_gaps(&fresh().await).await;
    watched_from_the_past(&fresh().await).await;
    bounded(&fresh().await).await;
}

/// An open transaction of the kit: term 1 of the office `kit`.
fn transaction() -> Transaction {
    Transaction::new(Fence::new("kit", Term(1)))
}

/// The value at `key` as text, for comparing.
async fn text(store: &impl StateStore, key: &str) -> Option<String> {
    let entry = store.get(key).await.expect("reading works")?;
    Some(String::from_utf8(entry.value.to_vec()).expect("the kit writes text"))
}

/// Promise 1: a transaction happens whole or not at all.
///
/// # Panics
/// If the store breaks it.
pub async fn atomic(store: &impl StateStore) {
    let refused = transaction().put("a", "1").expect_absent("b").put("c", "1");
    store
        .transact(transaction().put("b", "0"))
        .await
        .expect("a plain write works");
    let refused = store.transact(refused).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict { .. })),
        "expected a conflict: {refused:?}"
    );
    assert_eq!(text(store, "a").await, None, "a refused transaction wrote");
    assert_eq!(text(store, "c").await, None, "a refused transaction wrote");

    let whole = transaction().put("a", "2").delete("b").put("c", "2");
    store.transact(whole).await.expect("nothing forbids it");
    let now = (
        text(store, "a").await,
        text(store, "b").await,
        text(store, "c").await,
    );
    assert_eq!(
        now,
        (Some("2".into()), None, Some("2".into())),
        "a transaction happened in part"
    );
}

/// Promise 1, closer: each check holds exactly when it says, and a conflict names the culprit.
///
/// # Panics
/// If the store breaks it.
pub async fn checked(store: &impl StateStore) {
    let first = store
        .transact(transaction().expect_absent("k").put("k", "1"))
        .await;
    let first = first.expect("the key is absent");
    let second = store
        .transact(transaction().expect_unchanged("k", first).put("k", "2"))
        .await;
    let second = second.expect("the key is unchanged");
    for (stale, why) in [
        (transaction().expect_absent("k"), "the key exists"),
        (
            transaction().expect_unchanged("k", first),
            "the key was written since",
        ),
        (
            transaction().expect_unchanged("k", Revision(second.0 + 1)),
            "no such revision",
        ),
    ] {
        match store.transact(stale.put("k", "3")).await {
            Err(StoreError::Conflict { key, found }) => {
                assert_eq!(
                    (key.as_str(), found),
                    ("k", Some(second)),
                    "a conflict names the culprit"
                );
            }
            other => panic!("expected a conflict since {why}: {other:?}"),
        }
    }
    match store
        .transact(transaction().expect_unchanged("gone", first).put("k", "3"))
        .await
    {
        Err(StoreError::Conflict { found: None, .. }) => {}
        other => panic!("expected a conflict since the key never was: {other:?}"),
    }
    assert_eq!(
        text(store, "k").await.as_deref(),
        Some("2"),
        "a refused transaction wrote"
    );
}

/// Promise 3: concurrent read-modify-writes lose nothing, and what is acknowledged is read.
///
/// # Panics
/// If the store breaks it.
pub async fn linearizable(store: &impl StateStore) {
    const WRITERS: u64 = 8;
    const ROUNDS: u64 = 16;
    join_all((0..WRITERS).map(|_| async {
        for _ in 0..ROUNDS {
            loop {
                let before = store.get("counter").await.expect("reading works");
                tokio::task::yield_now().await;
                let count = before.as_ref().map_or(0, |entry| number(&entry.value));
                let increment = transaction().put("counter", (count + 1).to_string());
                let increment = match before {
                    None => increment.expect_absent("counter"),
                    Some(entry) => increment.expect_unchanged("counter", entry.revision),
                };
                match store.transact(increment).await {
                    Ok(_) => {
                        let read = text(store, "counter").await.expect("it was written");
                        assert!(
                            number(read.as_bytes()) > count,
                            "an acknowledged write is not read"
                        );
                        break;
                    }
                    Err(StoreError::Conflict { .. }) => tokio::task::yield_now().await,
                    Err(other) => panic!("expected a conflict at worst: {other:?}"),
                }
            }
        }
    }))
    .await;
    let count = text(store, "counter").await;
    assert_eq!(
        count,
        Some((WRITERS * ROUNDS).to_string()),
        "increments were lost"
    );
}

fn number(text: &[u8]) -> u64 {
    str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok())
        .expect("the kit writes numbers")
}

/// Promise 4: revisions count the transactions that changed something, and entries carry them.
///
/// # Panics
/// If the store breaks it.
pub async fn one_revision_a_transaction(store: &impl StateStore) {
    let begin = store.scan("").await.expect("reading works").revision;
    let both = store
        .transact(transaction().put("a", "1").put("b", "1"))
        .await
        .expect("it works");
    assert_eq!(
        both,
        Revision(begin.0 + 1),
        "a transaction makes one revision"
    );
    for key in ["a", "b"] {
        let entry = store
            .get(key)
            .await
            .expect("reading works")
            .expect("it was written");
        assert_eq!(
            entry.revision, both,
            "an entry carries the revision of its transaction"
        );
    }
    let nothing = store
        .transact(transaction().delete("never"))
        .await
        .expect("it works");
    let empty = store
        .transact(transaction().expect_unchanged("a", both))
        .await
        .expect("it works");
    assert_eq!(
        (nothing, empty),
        (both, both),
        "what changes nothing makes no revision"
    );
    let next = store
        .transact(transaction().put("a", "1"))
        .await
        .expect("it works");
    assert_eq!(
        next,
        Revision(both.0 + 1),
        "putting the same value is a change"
    );
    let seen = store.scan("").await.expect("reading works").revision;
    assert_eq!(seen, next, "a scan says the revision of the store");
}

/// Promise 3 for scans: ordered, exact about the prefix, and true at one revision.
///
/// # Panics
/// If the store breaks it.
pub async fn consistent_scans(store: &impl StateStore) {
    let keys = ["a", "a/1", "a/10", "a/2", "a0", "b"];
    for key in keys.iter().rev() {
        store
            .transact(transaction().put(*key, "x"))
            .await
            .expect("a plain write works");
    }
    for (prefix, expected) in [
        ("", &keys[..]),
        ("a/", &keys[1..4]),
        ("a", &keys[..5]),
        ("a/1", &keys[1..3]),
        ("c", &[]),
    ] {
        let found = store.scan(prefix).await.expect("reading works").entries;
        let found: Vec<&str> = found.iter().map(|entry| &*entry.key).collect();
        assert_eq!(
            found, expected,
            "a scan of `{prefix}` is exact and in order"
        );
    }

    let write = async {
        for round in 0..50 {
            let value = round.to_string();
            let pair = transaction()
                .put("pair/left", value.clone())
                .put("pair/right", value);
            store.transact(pair).await.expect("a plain write works");
        }
    };
    let read = async {
        for _ in 0..200 {
            let pair = store.scan("pair/").await.expect("reading works").entries;
            assert!(
                pair.len() != 1 && pair.windows(2).all(|two| two[0].value == two[1].value),
                "a scan saw half a transaction"
            );
            tokio::task::yield_now().await;
        }
    };
    futures::future::join(write, read).await;
}

/// Promise 5: a deposed leader writes nothing, from the first transaction of its successor on.
///
/// # Panics
/// If the store breaks it.
pub async fn fenced(store: &impl StateStore) {
    let at = |term| Transaction::new(Fence::new("kit", Term(term)));
    store
        .transact(at(1).put("k", "first"))
        .await
        .expect("the first leader writes");
    store
        .transact(at(3))
        .await
        .expect("an empty transaction of a later term works");
    for deposed in [1, 2] {
        match store.transact(at(deposed).put("k", "late")).await {
            Err(StoreError::Deposed {
                office,
                term,
                current,
            }) => {
                assert_eq!(
                    (office.as_str(), term, current),
                    ("kit", Term(deposed), Term(3))
                );
            }
            other => panic!("expected term {deposed} to be deposed: {other:?}"),
        }
    }
    assert_eq!(
        text(store, "k").await.as_deref(),
        Some("first"),
        "a deposed leader wrote"
    );

    // A refused transaction raises no fence.
    let refused = store.transact(at(4).expect_absent("k")).await;
    assert!(
        matches!(refused, Err(StoreError::Conflict { .. })),
        "expected a conflict: {refused:?}"
    );
    store
        .transact(at(3).put("k", "third"))
        .await
        .expect("term 3 still leads");
    let other = Transaction::new(Fence::new("other", Term(1)));
    store
        .transact(other.put("k", "other"))
        .await
        .expect("offices are independent");
}

/// Promise 6: each transaction that touches the prefix arrives once, in order, undivided.
///
/// # Panics
/// If the store breaks it.
pub async fn watched_without_gaps(store: &impl StateStore) {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 25;
    store
        .transact(transaction().put("w/before", "x"))
        .await
        .expect("a plain write works");
    let begin = store.scan("w/").await.expect("reading works").revision;
    let mut watch = store
        .watch("w/", begin)
        .await
        .expect("the present can be watched");

    let mixed = transaction()
        .put("w/a", "1")
        .put("elsewhere", "1")
        .put("w/b", "1");
    let mixed = store.transact(mixed).await.expect("it works");
    let expected = [("w/a", Some("1")), ("w/b", Some("1"))];
    assert_eq!(
        next(&mut watch).await,
        commit(mixed, &expected),
        "only the prefix, undivided"
    );
    store
        .transact(transaction().put("elsewhere", "2"))
        .await
        .expect("it works");
    let deleted = store
        .transact(transaction().delete("w/a"))
        .await
        .expect("it works");
    assert_eq!(
        next(&mut watch).await,
        commit(deleted, &[("w/a", None)]),
        "deletions are told"
    );

    let write = join_all((0..WRITERS).map(|writer| async move {
        for round in 0..ROUNDS {
            let put = transaction().put(format!("w/{writer}"), round.to_string());
            store.transact(put).await.expect("a plain write works");
        }
    }));
    let read = async {
        let mut last = deleted;
        let mut rounds = [0; WRITERS];
        for _ in 0..WRITERS * ROUNDS {
            let told = next(&mut watch).await;
            assert!(
                told.revision > last,
                "{told:?} came after {last}: out of order, or twice"
            );
            last = told.revision;
            let [change] = &told.changes[..] else {
                panic!("one change each: {told:?}")
            };
            let writer: usize = change.key[2..]
                .parse()
                .expect("the kit numbers its writers");
            assert_eq!(
                change.value.as_deref(),
                Some(rounds[writer].to_string().as_bytes()),
                "a gap"
            );
            rounds[writer] += 1;
        }
    };
    futures::future::join(write, read).await;
}

/// Promise 6: a watch from an earlier revision first tells what followed it, or says that it cannot.
///
/// # Panics
/// If the store breaks it.
pub async fn watched_from_the_past(store: &impl StateStore) {
    let first = store
        .transact(transaction().put("p/0", "0"))
        .await
        .expect("it works");
    let mut revisions = Vec::new();
    for round in 1..=20 {
        let put = transaction().put(format!("p/{round}"), round.to_string());
        revisions.push(store.transact(put).await.expect("it works"));
    }
    let mut watch = match store.watch("p/", first).await {
        Ok(watch) => watch,
        Err(StoreError::Compacted { asked, oldest }) => {
            assert!(
                asked == first && oldest > first,
                "compacted at {oldest}, asked for {asked}"
            );
            return;
        }
        Err(other) => panic!("expected a watch or `Compacted`: {other:?}"),
    };
    for revision in revisions {
        assert_eq!(
            next(&mut watch).await.revision,
            revision,
            "a gap after an earlier revision"
        );
    }
}

async fn next(watch: &mut Watch) -> Commit {
    let told = timeout(PATIENCE, watch.next())
        .await
        .expect("a change is told in time");
    told.expect("the watch goes on")
        .expect("the watch keeps up")
}

fn commit(revision: Revision, changes: &[(&str, Option<&'static str>)]) -> Commit {
    let change = |&(key, value): &(&str, Option<&'static str>)| Change {
        key: key.into(),
        value: value.map(Into::into),
    };
    Commit {
        revision,
        changes: changes.iter().map(change).collect(),
    }
}

/// The bounds of keys and values: the largest fit and come back whole, larger ones are refused.
///
/// # Panics
/// If the store breaks it.
pub async fn bounded(store: &impl StateStore) {
    let (key, value) = ("k".repeat(MAX_KEY_BYTES), vec![0xA5; MAX_VALUE_BYTES]);
    store
        .transact(transaction().put(&key, value.clone()))
        .await
        .expect("the largest fits");
    let entry = store
        .get(&key)
        .await
        .expect("reading works")
        .expect("it was written");
    assert!(entry.value == value, "a large value comes back whole");
    store
        .transact(transaction().put("empty", ""))
        .await
        .expect("a value may be empty");
    assert_eq!(
        text(store, "empty").await.as_deref(),
        Some(""),
        "empty is not absent"
    );
    for (invalid, what) in [
        (transaction().put("", "x"), "an empty key"),
        (transaction().put(key + "k", "x"), "a long key"),
        (transaction().put("nul\0", "x"), "a NUL in a key"),
        (
            transaction().put("large", vec![0; MAX_VALUE_BYTES + 1]),
            "a large value",
        ),
        (
            transaction().put("twice", "1").delete("twice"),
            "a key written twice",
        ),
    ] {
        let refused = store.transact(invalid).await;
        assert!(
            matches!(refused, Err(StoreError::Invalid { .. })),
            "expected {what} to be refused: {refused:?}"
        );
    }
}

/// Promise 2: what was acknowledged is there after reopening, with its revisions and its fences.
///
/// `open` opens the same store each time; the one before was dropped then.
///
/// # Panics
/// If the store breaks it.
pub async fn durable<S: StateStore>(open: impl AsyncFn() -> S) {
    let fence = |term| Transaction::new(Fence::new("kit", Term(term)));
    let store = open().await;
    store
        .transact(fence(5).put("a", "1").put("b", "1"))
        .await
        .expect("it works");
    store
        .transact(fence(5).put("a", "2"))
        .await
        .expect("it works");
    store
        .transact(fence(5).delete("b"))
        .await
        .expect("it works");
    let before = store.scan("").await.expect("reading works");
    drop(store);

    let store = open().await;
    let after = store.scan("").await.expect("reading works");
    assert_eq!(
        after, before,
        "what was acknowledged is there after reopening"
    );
    let late = store.transact(fence(4).put("a", "late")).await;
    assert!(
        matches!(late, Err(StoreError::Deposed { .. })),
        "the fence outlives the process: {late:?}"
    );
    let begin = Revision(before.revision.0 - 1);
    match store.watch("", begin).await {
        Err(StoreError::Compacted { oldest, .. }) => assert!(oldest <= after.revision),
        Ok(mut watch) => assert_eq!(
            next(&mut watch).await,
            commit(before.revision, &[("b", None)])
        ),
        Err(other) => panic!("expected a watch or `Compacted`: {other:?}"),
    }
    let next = store
        .transact(fence(5).put("c", "1"))
        .await
        .expect("it goes on");
    assert_eq!(
        next,
        Revision(before.revision.0 + 1),
        "revisions go on where they were"
    );
}

/// The promises of [`Election`]; `one` and `other` are two ways into the same election, without a leader.
///
/// # Panics
/// If the election breaks them.
pub async fn election(one: &impl Election, other: &impl Election) {
    let mut observer = one.observe();
    let first = timeout(PATIENCE, one.campaign("one".into()))
        .await
        .expect("nobody else leads");
    let first = first.expect("the election is held");
    let seen = observer
        .borrow_and_update()
        .clone()
        .expect("the leader is seen");
    assert_eq!(
        (seen.term, &seen.candidate[..]),
        (first.term(), &b"one"[..]),
        "the leader is told"
    );

    let mut candidates = other.candidates();
    let second = other.campaign("other".into());
    let second = timeout(Duration::from_millis(300), second).await;
    assert!(second.is_err(), "two lead at once: {second:?}");
    assert!(
        !first.lost_token().is_cancelled(),
        "a mere candidate took the office"
    );

    // The dropped campaign above withdrew its candidate: otherwise the next would wait for ever.
    let lost = first.lost_token();
    let resign = async {
        tokio::task::yield_now().await;
        drop(first);
    };
    let campaign = timeout(PATIENCE, other.campaign("other".into()));
    let (second, ()) = futures::future::join(campaign, resign).await;
    let second = second
        .expect("resigning lets the next in")
        .expect("the election is held");
    assert!(lost.is_cancelled(), "a resigned leadership is lost");
    assert!(
        second.term() > seen.term,
        "terms grow: {} after {}",
        second.term(),
        seen.term
    );
    let seen = other
        .observe()
        .borrow()
        .clone()
        .expect("the leader is seen");
    assert_eq!(&seen.candidate[..], b"other", "the new leader is told");
    // Whoever lost may be told of for as long as it could be elected again.
    let first = |all: &Vec<bytes::Bytes>| all.first().is_some_and(|one| &one[..] == b"other");
    let told = timeout(PATIENCE, candidates.wait_for(first)).await;
    let told = told.expect("the leader is the first candidate");
    drop(told.expect("the election goes on"));
    drop(second);
    let nobody = timeout(PATIENCE, candidates.wait_for(Vec::is_empty)).await;
    let nobody = nobody.expect("who resigned stands no more");
    drop(nobody.expect("the election goes on"));
}

/// The promise of [`Ensemble::withdrawn`](crate::Ensemble::withdrawn), for servers that let a session last a minute.
/// Must be called outside a runtime.
///
/// # Panics
/// If a process that has waited for it, and ends, leaves candidates behind.
#[cfg(feature = "ensemble")]
pub fn withdrawal(ensemble: crate::Ensemble) {
    let ensemble = ensemble.session_timeout(PATIENCE * 3);
    let process = || tokio::runtime::Runtime::new().expect("a runtime");
    let first = process();
    first.block_on(async {
        let election = ensemble.election("master");
        let mut candidates = election.candidates();
        let leadership = timeout(PATIENCE, election.campaign("one".into())).await;
        let leadership = leadership.expect("nobody else leads");
        let standing = tokio::spawn(async move { election.campaign("two".into()).await });
        let both = candidates.wait_for(|all| all.len() == 2);
        drop(timeout(PATIENCE, both).await.expect("both stand"));
        drop(leadership);
        standing.abort();
        let _ = standing.await;
        let withdrawn = timeout(PATIENCE, ensemble.withdrawn()).await;
        withdrawn.expect("who was dropped is withdrawn");
    });
    first.shutdown_background();
    process().block_on(async {
        let election = ensemble.election("master");
        let next = timeout(PATIENCE, election.campaign("three".into())).await;
        let next = next.expect("who has withdrawn is in nobody's way");
        next.expect("the election is held");
    });
}
