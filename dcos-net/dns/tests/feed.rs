//! What a node tells its name server: what the leading master tells, or what it told last.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dcos_core::time::Time;
use dcos_dns::{Feed, MasterList};
use dcos_net::{Keeping, Origin, Snapshot};
use dcos_proto::json::{self, Dialect};
use dcos_proto::master::response::GetState;
use dcos_wire::Told;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

fn event(text: &str) -> Told {
    Told::Event(Arc::new(
        json::from_slice(text.as_bytes(), Dialect::V1).unwrap(),
    ))
}

fn subscribed(tasks: &str) -> Told {
    event(&format!(
        r#"{{"type": "SUBSCRIBED", "subscribed": {{"get_state": {{
          "get_agents": {{"agents": [{{"agent_info": {{"id": {{"value": "S0"}}, "hostname": "h"}}, "active": true,
            "version": "1.11.0", "pid": "slave(1)@10.0.0.7:5051"}}]}},
          "get_frameworks": {{"frameworks": [{{"framework_info": {{"id": {{"value": "f"}}, "user": "root",
            "name": "marathon", "hostname": "10.0.0.1"}}, "active": true, "connected": true, "recovered": false}}]}},
          "get_tasks": {{"tasks": [{tasks}]}}}}}}}}"#
    ))
}

fn task(id: &str) -> String {
    format!(
        r#"{{"name": "{id}", "task_id": {{"value": "{id}"}}, "framework_id": {{"value": "f"}},
          "agent_id": {{"value": "S0"}}, "state": "TASK_RUNNING"}}"#
    )
}

fn added(id: &str) -> Told {
    let task = task(id);
    event(&format!(
        r#"{{"type": "TASK_ADDED", "task_added": {{"task": {task}}}}}"#
    ))
}

fn names(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.tasks.iter().map(|task| &*task.name).collect()
}

fn keeping(memory: &Path) -> Keeping {
    Keeping::new(memory.to_owned(), Origin::default())
}

/// A feed with a memory, and what it is told by.
fn feed(memory: &Path) -> (mpsc::Sender<Told>, watch::Receiver<Arc<Snapshot>>) {
    let masters = MasterList::Fixed(
        ["10.0.0.2", "10.0.0.1"]
            .map(|ip| ip.parse().unwrap())
            .into(),
    );
    let (mut feed, published) = Feed::new(masters, Some(keeping(memory)));
    let (sender, mut news) = mpsc::channel(16);
    tokio::spawn(async move { feed.follow(&mut news, &CancellationToken::new()).await });
    (sender, published)
}

/// What is published once these tasks are.
async fn until(published: &mut watch::Receiver<Arc<Snapshot>>, tasks: &[&str]) -> Snapshot {
    let waited = published.wait_for(|snapshot| names(snapshot) == tasks);
    let waited = timeout(Duration::from_secs(60), waited).await;
    Snapshot::clone(&waited.unwrap().unwrap())
}

#[tokio::test]
async fn what_a_master_told_is_told_without_it_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("state");
    let (master, mut published) = feed(&memory);
    // Before anybody leads.
    assert_eq!(published.borrow().masters.len(), 2);
    // A name that nobody has keeps nothing up.
    let nobody = Told::Leader("no-such-name.invalid:5050".into());
    master.send(nobody).await.unwrap();
    let (heed, mut heeded) = mpsc::channel(1);
    let asked = Told::Asked(["10.0.0.2".parse().unwrap()].into(), heed);
    master.send(asked).await.unwrap();
    assert_eq!(
        timeout(Duration::from_secs(60), heeded.recv()).await,
        Ok(None)
    );
    master
        .send(Told::Leader("10.0.0.1:5050".into()))
        .await
        .unwrap();
    master.send(subscribed(&task("db"))).await.unwrap();
    let told = until(&mut published, &["db"]).await;
    assert_eq!(told.leader, "10.0.0.1:5050".parse().ok());
    assert_eq!(told.masters.len(), 2);
    master.send(added("web")).await.unwrap();
    let told = until(&mut published, &["db", "web"]).await;

    // Nobody tells anything any more.
    drop(master);
    timeout(Duration::from_secs(60), async {
        while published.changed().await.is_ok() {}
    })
    .await
    .unwrap();
    assert_eq!(**published.borrow(), told);

    let (master, mut published) = feed(&memory);
    // What is kept may be some seconds old, but is a whole.
    let kept = published.wait_for(|snapshot| !snapshot.tasks.is_empty());
    let kept = Snapshot::clone(
        &timeout(Duration::from_secs(60), kept)
            .await
            .unwrap()
            .unwrap(),
    );
    assert_eq!((kept.leader, &kept.masters), (told.leader, &told.masters));
    assert_eq!(names(&kept)[0], "db");
    // Another leader knows better.
    master
        .send(Told::Leader("10.0.0.2:5050".into()))
        .await
        .unwrap();
    master.send(subscribed(&task("other"))).await.unwrap();
    let told = until(&mut published, &["other"]).await;
    assert_eq!(told.leader, "10.0.0.2:5050".parse().ok());
}

#[tokio::test]
async fn what_a_leader_kept_is_told_by_whoever_begins_while_nobody_leads() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("state");
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let masters = MasterList::Fixed([at("10.0.0.1:1").ip(), at("10.0.0.2:1").ip()].into());
    let (mut leading, _) = Feed::new(masters, Some(keeping(&memory)));
    let Told::Event(event) = subscribed(&task("db")) else {
        panic!("an event")
    };
    let known = event.subscribed.clone().unwrap().get_state.unwrap();
    let state = move || {
        let agents = [("S0".to_owned(), at("10.0.0.7:5051"))];
        let frameworks = known.get_frameworks.unwrap().frameworks.into_iter();
        let frameworks = frameworks.map(|framework| framework.framework_info);
        dcos_net::state_of(agents, frameworks, known.get_tasks.unwrap().tasks)
    };
    assert!(leading.is_idle());
    leading.keep(at("10.0.0.1:5050"), state);
    assert!(!leading.is_idle());
    leading.changed().await;

    let (_master, mut published) = feed(&memory);
    let told = until(&mut published, &["db"]).await;
    assert_eq!(told.leader, Some(at("10.0.0.1:5050")));
    assert_eq!(told.masters.len(), 2);
    assert_eq!(told.agents[0].ip, at("10.0.0.7:5051").ip());
}

#[tokio::test]
async fn what_could_not_be_kept_is_once_it_can_though_nothing_happens_and_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("names/state");
    std::fs::write(folder.path().join("names"), "").unwrap();
    let (master, mut published) = feed(&memory);
    let leader = Told::Leader("10.0.0.1:5050".into());
    master.send(leader).await.unwrap();
    master.send(subscribed(&task("db"))).await.unwrap();
    until(&mut published, &["db"]).await;
    // At least once that was in vain.
    tokio::time::sleep(Duration::from_millis(500)).await;
    std::fs::remove_file(folder.path().join("names")).unwrap();
    let known = || dcos_net::Remembered::read(&std::fs::read(&memory).ok()?).ok();
    let wait = async {
        while known().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(60), wait).await.unwrap();
    // Nobody tells anything any more, sooner than that is kept by itself.
    master.send(added("web")).await.unwrap();
    drop(master);
    timeout(Duration::from_secs(60), async {
        while published.changed().await.is_ok() {}
    })
    .await
    .unwrap();
    assert_eq!(known().unwrap().tasks.len(), 2);
}

/// As the time of the test goes on.
fn clock() -> Time {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    Time::from_secs(1_000_000) + BEGIN.get_or_init(Instant::now).elapsed()
}

#[tokio::test(start_paused = true)]
async fn that_nothing_changed_is_noted_by_who_was_told_it_and_by_who_leads() {
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("state");
    let timed = |max_age| Keeping {
        clock,
        max_age: Duration::from_secs(max_age),
        ..keeping(&memory)
    };
    let written = || {
        let file = std::fs::read(&memory).ok()?;
        Some(dcos_net::Remembered::read(&file).ok()?.written)
    };
    let begin = |max_age| {
        let masters = MasterList::Fixed(["10.0.0.1".parse().unwrap()].into());
        let (mut feed, published) = Feed::new(masters, Some(timed(max_age)));
        let (sender, mut news) = mpsc::channel(16);
        let following =
            tokio::spawn(async move { feed.follow(&mut news, &CancellationToken::new()).await });
        (sender, published, following)
    };
    let (master, mut published, following) = begin(100);
    let leader = Told::Leader("10.0.0.1:5050".into());
    master.send(leader).await.unwrap();
    master.send(subscribed(&task("db"))).await.unwrap();
    until(&mut published, &["db"]).await;
    // What is written takes real time, in which that of the test stands still.
    for _ in 0..600 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let begin = std::time::Instant::now();
        while written().is_none_or(|written| clock() - written > Duration::from_secs(60)) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", written());
            tokio::task::yield_now().await;
        }
    }
    // Killed. What is only remembered grows older.
    following.abort();
    let (_master, mut published, following) = begin(100);
    until(&mut published, &["db"]).await;
    following.abort();
    let last = written();
    tokio::time::sleep(Duration::from_secs(101)).await;
    assert_eq!(written(), last);
    let (master, published, following) = begin(100);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(names(&published.borrow()).is_empty());
    drop(master);
    following.await.unwrap();

    // Who leads has to have kept all before.
    let masters = MasterList::Fixed(BTreeSet::new());
    let (mut leading, _) = Feed::new(masters, Some(timed(100)));
    assert!(!leading.still());
    assert_eq!(written(), last);
    let own = "10.0.0.1:5050".parse().unwrap();
    leading.keep(own, || dcos_net::state_of([], [], []));
    assert!(!leading.changed().await);
    let kept = written().unwrap();
    tokio::time::sleep(Feed::STILL).await;
    assert!(leading.still() && !leading.changed().await);
    assert_eq!(written().unwrap() - kept, Feed::STILL);
    // It does not grow for ever.
    let mut is_kept = true;
    for _ in 0..10_000 {
        tokio::time::sleep(Feed::STILL).await;
        is_kept = leading.still();
        if !is_kept {
            break;
        }
        leading.changed().await;
    }
    assert!(!is_kept);
    leading.keep(own, || dcos_net::state_of([], [], []));
    leading.changed().await;
    assert!(std::fs::metadata(&memory).unwrap().len() < 1000 && leading.still());
    // The last is kept at the end, if there is any.
    tokio::time::resume();
    let last = Some(move || dcos_net::state_of([("S0".to_owned(), own)], [], []));
    leading.finish(own, last).await;
    let known = dcos_net::Remembered::read(&std::fs::read(&memory).unwrap()).unwrap();
    assert_eq!(known.agents.len(), 1);
}

/// A write that takes as long as a disk that hangs.
#[tokio::test]
async fn names_and_who_asks_for_masters_wait_for_no_disk_and_what_was_told_last_is_kept_at_the_end()
{
    let folder = tempfile::tempdir().unwrap();
    let memory = folder.path().join("state");
    let keeping = Keeping::new(memory.clone(), Origin::default());
    let (mut feed, mut published) = Feed::new(MasterList::Fixed([].into()), Some(keeping));
    let (hangs, hanging) = std::sync::mpsc::channel::<()>();
    feed.keep("10.0.0.1:5050".parse().unwrap(), move || {
        // Until nobody holds the other end.
        let _ = hanging.recv();
        GetState::default()
    });
    let (master, mut news) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let over = stop.clone();
    let following = tokio::spawn(async move { feed.follow(&mut news, &over).await });
    let leader = Told::Leader("10.0.0.1:5050".into());
    master.send(leader).await.unwrap();
    master.send(subscribed(&task("db"))).await.unwrap();
    until(&mut published, &["db"]).await;
    // A failover.
    let (heed, mut heeded) = mpsc::channel(1);
    master.send(Told::Asked([].into(), heed)).await.unwrap();
    let heeded = timeout(Duration::from_secs(60), heeded.recv()).await;
    assert_eq!(heeded, Ok(None));
    master.send(added("web")).await.unwrap();
    until(&mut published, &["db", "web"]).await;
    assert!(!memory.exists());
    stop.cancel();
    tokio::task::yield_now().await;
    drop(hangs);
    following.await.unwrap();
    let kept = dcos_net::Remembered::read(&std::fs::read(&memory).unwrap()).unwrap();
    assert_eq!(kept.tasks.len(), 2);
}
