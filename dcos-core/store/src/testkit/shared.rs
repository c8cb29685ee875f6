//! The promises of a store that several processes open.

use futures::future::join;

use super::{commit, next, text, transaction};
use crate::{Fence, Revision, StateStore, StoreError, Term, Transaction};

/// Promises 3, 5 and 6 between two processes: `one` and `other` are two ways into the same store.
///
/// # Panics
/// If the store breaks them.
pub async fn shared(one: &impl StateStore, other: &impl StateStore) {
    seen_at_once(one, other).await;
    raced(one, other).await;
    fenced(one, other).await;
}

async fn seen_at_once(one: &impl StateStore, other: &impl StateStore) {
    let begin = other.scan("").await.expect("reading works").revision;
    let mut watch = other
        .watch("s/", begin)
        .await
        .expect("the present can be watched");
    for round in 0..10 {
        let value = round.to_string();
        let put = transaction().put("s/k", value.clone());
        let written = one.transact(put).await.expect("a plain write works");
        assert_eq!(
            written,
            Revision(begin.0 + round + 1),
            "revisions count for all"
        );
        assert_eq!(
            text(other, "s/k").await,
            Some(value),
            "what was acknowledged to one is read by the other"
        );
        let told = next(&mut watch).await;
        assert_eq!((told.revision, told.changes.len()), (written, 1), "a gap");
    }
    let first = one
        .get("s/k")
        .await
        .expect("reading works")
        .expect("it was written");
    let last = other
        .transact(
            transaction()
                .expect_unchanged("s/k", first.revision)
                .delete("s/k"),
        )
        .await
        .expect("nobody wrote since");
    assert_eq!(next(&mut watch).await, commit(last, &[("s/k", None)]));
}

/// Read-modify-writes of two processes lose nothing.
async fn raced(one: &impl StateStore, other: &impl StateStore) {
    const ROUNDS: u64 = 20;
    async fn count(store: &impl StateStore) {
        for _ in 0..ROUNDS {
            loop {
                let before = store.get("count").await.expect("reading works");
                let number = before
                    .as_ref()
                    .map_or(0, |entry| super::number(&entry.value));
                let increment = transaction().put("count", (number + 1).to_string());
                let increment = match before {
                    None => increment.expect_absent("count"),
                    Some(entry) => increment.expect_unchanged("count", entry.revision),
                };
                match store.transact(increment).await {
                    Ok(_) => break,
                    Err(StoreError::Conflict { .. }) => {}
                    Err(other) => panic!("expected a conflict at worst: {other:?}"),
                }
            }
        }
    }
    join(count(one), count(other)).await;
    let total = text(one, "count").await;
    assert_eq!(
        total,
        Some((2 * ROUNDS).to_string()),
        "increments were lost"
    );
}

/// The deposed may hold any number of handles and know of nothing: it writes nothing.
async fn fenced(one: &impl StateStore, other: &impl StateStore) {
    let of = |term| Transaction::new(Fence::new("leader", Term(term)));
    one.transact(of(1).put("led", "by 1"))
        .await
        .expect("term 1 leads");
    other.transact(of(2)).await.expect("term 2 closes the door");
    let late = one.transact(of(1).put("led", "late")).await;
    assert!(
        matches!(
            late,
            Err(StoreError::Deposed {
                current: Term(2),
                ..
            })
        ),
        "expected term 1 to be deposed: {late:?}"
    );
    assert_eq!(
        text(other, "led").await.as_deref(),
        Some("by 1"),
        "a deposed leader wrote"
    );
}
