//! A store in an engine keeps its promises as long as the engine keeps its own, also while connections and
//! answers are lost.

use std::time::Duration;

use dcos_store::{
    Fence, Medium, MemoryMedium, ReplicatedStore, StateStore, StoreError, Term, Transaction,
    testkit,
};

#[tokio::test]
async fn it_keeps_its_promises() {
    testkit::all(async || ReplicatedStore::open(MemoryMedium::new())).await;
    let medium = MemoryMedium::new();
    testkit::durable(async || ReplicatedStore::open(medium.clone())).await;
    let medium = MemoryMedium::new();
    let open = || ReplicatedStore::open(medium.clone());
    testkit::shared(&open(), &open()).await;
}

#[tokio::test(start_paused = true)]
async fn it_keeps_them_while_connections_and_answers_are_lost() {
    let flaky = || {
        let medium = MemoryMedium::new();
        medium.fail_often();
        medium
    };
    testkit::all(async || ReplicatedStore::open(flaky())).await;
    // Which of two goes first is chance.
    for _ in 0..20 {
        let medium = flaky();
        let open = || ReplicatedStore::open(medium.clone());
        testkit::shared(&open(), &open()).await;
    }
}

fn put(key: &str, value: impl Into<bytes::Bytes>) -> Transaction {
    Transaction::new(Fence::new("test", Term(1))).put(key, value)
}

#[tokio::test(start_paused = true)]
async fn the_log_is_shortened_and_what_it_said_stays_true() {
    let medium = MemoryMedium::new();
    let store = ReplicatedStore::open(medium.clone());
    let late = ReplicatedStore::open(medium.clone());
    let value = vec![7u8; 200_000];
    for round in 0..40 {
        store
            .transact(put(&format!("k{}", round % 3), value.clone()))
            .await
            .unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let kept = medium
        .names()
        .iter()
        .filter(|name| name.starts_with("log-"))
        .count();
    assert!(kept < 20, "{kept} of 40 records are kept");
    let bases = medium
        .names()
        .iter()
        .filter(|name| name.starts_with("base-"))
        .count();
    assert!(bases <= 4, "{:?}", medium.names());
    for reader in [&store, &late, &ReplicatedStore::open(medium.clone())] {
        let all = reader.scan("").await.unwrap();
        assert_eq!((all.revision.0, all.entries.len()), (40, 3));
        assert!(all.entries.iter().all(|entry| entry.value == value));
    }
    // Fences live in the base too.
    let deposed = Transaction::new(Fence::new("test", Term(0))).put("k0", "late");
    let fresh = ReplicatedStore::open(medium);
    assert!(matches!(
        fresh.transact(deposed).await,
        Err(StoreError::Deposed { .. })
    ));
}

#[tokio::test]
async fn a_transaction_may_be_larger_than_a_page() {
    let medium = MemoryMedium::new();
    let store = ReplicatedStore::open(medium.clone());
    let mut large = put("k0", vec![0; 900_000]);
    for key in 1..8 {
        large = large.put(format!("k{key}"), vec![key; 900_000]);
    }
    store.transact(large).await.unwrap();
    let other = ReplicatedStore::open(medium);
    let all = other.scan("").await.unwrap();
    assert_eq!((all.revision.0, all.entries.len()), (1, 8));
    assert!(all.entries[3].value.iter().all(|byte| *byte == 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_store_or_a_later_one_is_refused() {
    let medium = MemoryMedium::new();
    medium.swap(None, "nonsense".into(), None).await.unwrap();
    let store = ReplicatedStore::open(medium);
    let refused = store.get("k").await.unwrap_err().to_string();
    assert!(
        refused.contains("damaged") || refused.contains("format"),
        "{refused}"
    );
}
