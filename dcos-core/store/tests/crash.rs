//! A store whose process is killed loses nothing it acknowledged, and damage is never served.
//!
//! `kill -9` needs a process: this test program starts itself again with `WRITER` set, and the copy
//! prints each revision after it was acknowledged.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env, fs,
    io::{BufRead, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use dcos_store::{EmbeddedStore, Fence, StateStore, StoreError, Term, Transaction};

const WRITER: &str = "DCOS_STORE_TEST_WRITER";

fn transaction() -> Transaction {
    Transaction::new(Fence::new("test", Term(1)))
}

/// The copy of this program that is killed; under `cargo test` without the variable it is no test.
#[tokio::test(flavor = "multi_thread")]
async fn writer_process() {
    let Some(path) = env::var_os(WRITER) else {
        return;
    };
    let store = EmbeddedStore::open(path).unwrap();
    let begin = store.scan("").await.unwrap().revision.0;
    let write = |writer: u64| {
        let store = &store;
        async move {
            for round in 0.. {
                let number = begin * 1_000_000 + round;
                let value = format!(
                    "{number}/{}",
                    "x".repeat(usize::try_from(number * 37 % 5000).unwrap())
                );
                let put = transaction().put(format!("{writer}/{}", number % 40), value.clone());
                store
                    .transact(put.put(format!("{writer}/last"), value))
                    .await
                    .unwrap();
                // One line in one call: a kill cannot leave half of it.
                std::io::stdout()
                    .write_all(format!("acknowledged {writer} {number}\n").as_bytes())
                    .unwrap();
            }
        }
    };
    futures::future::join_all((0..4).map(write)).await;
}

#[tokio::test]
async fn kill_9_loses_nothing_acknowledged() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let mut acknowledged = [None::<u64>; 4];
    for round in 0..12_u64 {
        let seen = write_until_killed(&path, Duration::from_millis(5 + round * 17 % 90));
        for (writer, number) in seen {
            acknowledged[writer] = acknowledged[writer].max(Some(number));
        }
        let store = EmbeddedStore::open(&path).unwrap();
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let Some(acknowledged) = acknowledged else {
                continue;
            };
            let last = store.get(&format!("{writer}/last")).await.unwrap().unwrap();
            let text = str::from_utf8(&last.value).unwrap();
            let number: u64 = text.split('/').next().unwrap().parse().unwrap();
            assert!(
                number >= *acknowledged,
                "round {round}: {acknowledged} was lost, {number} is there"
            );
            let twin = store
                .get(&format!("{writer}/{}", number % 40))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(
                (&twin.value, twin.revision),
                (&last.value, last.revision),
                "half a transaction"
            );
        }
    }
    assert!(
        acknowledged.iter().all(Option::is_some),
        "the writers were killed too early to tell"
    );
}

/// Lets a process write, kills it once it has acknowledged something and `after` has passed, and
/// returns what it acknowledged.
fn write_until_killed(path: &Path, after: Duration) -> Vec<(usize, u64)> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["writer_process", "--exact", "--nocapture"])
        .env(WRITER, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut seen = Vec::new();
    let mut read = |line: String| {
        // The first line may follow the words of the test harness on theirs.
        let Some((_, fields)) = line.split_once("acknowledged ") else {
            return false;
        };
        let (writer, number) = fields.split_once(' ').unwrap();
        seen.push((writer.parse().unwrap(), number.parse().unwrap()));
        true
    };
    while !read(
        lines
            .next()
            .expect("the writer acknowledges something")
            .unwrap(),
    ) {}
    let begin = Instant::now();
    while begin.elapsed() < after {
        read(
            lines
                .next()
                .expect("the writer goes on until it is killed")
                .unwrap(),
        );
    }
    child.kill().unwrap();
    // What lies in the pipe was acknowledged before the kill.
    lines.map_while(Result::ok).for_each(|line| {
        read(line);
    });
    child.wait().unwrap();
    seen
}

/// A closed store of 300 entries, and its bytes.
async fn written(path: &Path) -> Vec<u8> {
    let store = EmbeddedStore::open(path).unwrap();
    for number in 0..100_u32 {
        let value = format!("{number:0>200}");
        let put = transaction()
            .put(format!("a/{number}"), value.clone())
            .put(format!("b/{number}"), value.clone());
        store.transact(put.put("last", value)).await.unwrap();
    }
    drop(store);
    fs::read(path).unwrap()
}

/// Opens what was damaged: either it is refused as damage, or everything is there.
async fn refused_or_whole(path: &Path, what: &str) -> bool {
    match EmbeddedStore::open(path) {
        Err(error @ StoreError::Damaged { .. }) => {
            let text = error.to_string();
            assert!(
                text.contains("restore it from a backup"),
                "{what}: no word about what to do: {text}"
            );
            true
        }
        Err(other) => panic!("{what}: expected `Damaged`: {other:?}"),
        Ok(store) => {
            let all = store.scan("").await.unwrap();
            assert_eq!(
                (all.revision.0, all.entries.len()),
                (100, 201),
                "{what}: entries are missing"
            );
            for entry in &all.entries {
                let number = entry.key.split_once('/').map_or("99", |(_, number)| number);
                assert_eq!(
                    entry.value,
                    format!("{number:0>200}"),
                    "{what}: {} is wrong",
                    entry.key
                );
            }
            false
        }
    }
}

#[tokio::test]
async fn a_truncated_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let whole = written(&path).await;
    for length in [0, 1, 100, 4096, 5000, whole.len() / 2, whole.len() - 7] {
        let mark = fs::read(path.with_extension("redb.closed")).unwrap();
        fs::write(&path, &whole[..length]).unwrap();
        assert!(
            refused_or_whole(&path, &format!("cut to {length}")).await,
            "cut to {length}: served"
        );
        fs::write(path.with_extension("redb.closed"), mark).unwrap();
    }
}

#[tokio::test]
async fn flipped_bytes_are_refused_or_harmless() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let whole = written(&path).await;
    let mark = fs::read(path.with_extension("redb.closed")).unwrap();
    let mut refused = 0;
    // The header byte by byte, then samples of all pages.
    let positions = (0..320)
        .step_by(3)
        .chain((320..whole.len()).step_by(whole.len() / 160 + 1));
    for position in positions {
        let mut bytes = whole.clone();
        bytes[position] ^= 0x55;
        fs::write(&path, bytes).unwrap();
        fs::write(path.with_extension("redb.closed"), &mark).unwrap();
        refused += u32::from(refused_or_whole(&path, &format!("byte {position} flipped")).await);
    }
    assert!(refused > 10, "only {refused} flips were noticed");
}

#[tokio::test]
async fn a_restored_backup_is_noticed_until_it_is_meant() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let old = written(&path).await;
    let store = EmbeddedStore::open(&path).unwrap();
    store
        .transact(transaction().put("newer", "x"))
        .await
        .unwrap();
    drop(store);
    fs::write(&path, old).unwrap();
    let refused = EmbeddedStore::open(&path).unwrap_err().to_string();
    assert!(
        refused.contains("if you restored a backup on purpose, remove that file"),
        "{refused}"
    );
    fs::remove_file(path.with_extension("redb.closed")).unwrap();
    assert!(!refused_or_whole(&path, "a backup").await);
}

#[test]
fn a_store_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.redb");
    let _store = EmbeddedStore::open(&path).unwrap();
    assert!(matches!(
        EmbeddedStore::open(&path),
        Err(StoreError::InUse { .. })
    ));
    let missing = EmbeddedStore::open(directory.path().join("missing/state.redb"));
    assert!(
        matches!(missing, Err(StoreError::Open { .. })),
        "{missing:?}"
    );
}
