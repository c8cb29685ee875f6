//! What is written is read back; what a crash leaves is mended or told.

use std::fs;

use dcos_proto::internal::{StatusUpdate, StatusUpdateRecord, status_update_record};
use dcos_proto::mesos::{TaskState, TaskStatus};

use super::*;

fn run() -> Run {
    Run {
        framework: "f".into(),
        executor: "e".into(),
        container: ContainerId::root("c1"),
    }
}

fn agent() -> AgentInfo {
    AgentInfo {
        hostname: "node".to_owned(),
        port: Some(5051),
        id: Some("a1".into()),
        ..AgentInfo::default()
    }
}

fn update(number: u8) -> StatusUpdateRecord {
    StatusUpdateRecord {
        r#type: status_update_record::Type::Update.into(),
        update: Some(StatusUpdate {
            framework_id: "f".into(),
            status: TaskStatus {
                task_id: "t".into(),
                state: TaskState::TaskRunning.into(),
                ..TaskStatus::default()
            },
            uuid: Some(vec![number; 16]),
            ..StatusUpdate::default()
        }),
        uuid: None,
    }
}

fn everything() -> Vec<Write> {
    let framework = FrameworkInfo {
        id: Some("f".into()),
        name: "x".to_owned(),
        ..FrameworkInfo::default()
    };
    let executor = ExecutorInfo {
        executor_id: "e".into(),
        ..ExecutorInfo::default()
    };
    let task = TaskCheckpoint {
        task: TaskInfo {
            task_id: "t".into(),
            ..TaskInfo::default()
        },
        container: Some(ContainerId::root("c1").child("n")),
        group: 3,
    };
    vec![
        Write::Agent(agent()),
        Write::Framework(framework, Some("scheduler@1.2.3.4:5".to_owned())),
        Write::Executor(run(), executor, Some(HostedKind::Default)),
        Write::Task(run(), Box::new(task)),
        Write::Update(run(), "t".into(), Box::new(update(1))),
        Write::Update(run(), "t".into(), Box::new(update(2))),
    ]
}

fn read(work_dir: &std::path::Path) -> Result<State, CheckpointError> {
    Store::open(work_dir).unwrap().read("boot")
}

fn updates_log(work_dir: &std::path::Path) -> std::path::PathBuf {
    paths::task(work_dir, &"a1".into(), &run(), &"t".into()).join("task.updates")
}

#[test]
fn what_is_written_is_read_back() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    assert!(store.read("boot").unwrap().agent.is_none());
    store.apply(&everything()).unwrap();

    let state = read(work_dir.path()).unwrap();
    assert_eq!(state.agent, Some(agent()));
    assert!(!state.rebooted);
    let framework = &state.frameworks[&"f".into()];
    assert_eq!(framework.pid.as_deref(), Some("scheduler@1.2.3.4:5"));
    let executor = &framework.executors[0];
    assert_eq!(executor.hosted, Some(HostedKind::Default));
    let task = &executor.runs[0].tasks[0];
    assert_eq!(task.checkpoint.group, 3);
    assert_eq!(
        task.checkpoint.container,
        Some(ContainerId::root("c1").child("n"))
    );
    assert_eq!(task.updates, [update(1), update(2)]);
    assert_eq!(
        state.containers(),
        BTreeSet::from([ContainerId::root("c1")])
    );

    store.apply(&[Write::Sentinel(run())]).unwrap();
    let state = read(work_dir.path()).unwrap();
    assert!(state.containers().is_empty());
    assert!(
        Store::open(work_dir.path())
            .unwrap()
            .read("other boot")
            .unwrap()
            .rebooted
    );
}

#[test]
fn a_torn_update_is_cut_off_and_the_log_goes_on() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    read(work_dir.path()).unwrap();
    let log = updates_log(work_dir.path());
    let whole = fs::read(&log).unwrap();
    fs::write(&log, &whole[..whole.len() - 5]).unwrap();

    let updates = |state: State| {
        state.frameworks[&"f".into()].executors[0].runs[0].tasks[0]
            .updates
            .clone()
    };
    assert_eq!(updates(read(work_dir.path()).unwrap()), [update(1)]);
    store
        .apply(&[Write::Update(run(), "t".into(), Box::new(update(3)))])
        .unwrap();
    assert_eq!(
        updates(read(work_dir.path()).unwrap()),
        [update(1), update(3)]
    );
}

fn journal_files(work_dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(paths::agent(work_dir, &"a1".into())).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.to_string_lossy().contains("updates.journal."))
        .collect()
}

fn updates_of(state: &State) -> Vec<StatusUpdateRecord> {
    let runs = &state.frameworks[&"f".into()].executors[0].runs;
    runs[0].tasks[0].updates.clone()
}

fn append(store: &mut Store, number: u8) {
    let write = Write::Update(run(), "t".into(), Box::new(update(number)));
    store.apply(&[write]).unwrap();
}

#[test]
fn a_journal_that_was_cut_anywhere_holds_a_prefix() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    for number in 3..6 {
        append(&mut store, number);
    }
    let journal = journal_files(work_dir.path()).remove(0);
    let whole = fs::read(&journal).unwrap();
    let all: Vec<_> = (1..6).map(update).collect();
    for length in (0..=whole.len()).rev().step_by(7) {
        fs::write(&journal, &whole[..length]).unwrap();
        fs::remove_file(updates_log(work_dir.path())).ok();
        let found = updates_of(&read(work_dir.path()).unwrap());
        assert_eq!(found, all[..found.len()], "cut at {length}");
        assert!(length < whole.len() || found.len() == all.len());
        assert_eq!(journal_files(work_dir.path()).len(), 0);
    }
}

#[test]
fn moving_updates_to_their_logs_may_break_off_anywhere() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    append(&mut store, 3);
    let journal = journal_files(work_dir.path()).remove(0);
    let kept = fs::read(&journal).unwrap();
    let all: Vec<_> = (1..4).map(update).collect();
    assert_eq!(updates_of(&read(work_dir.path()).unwrap()), all);
    let log = updates_log(work_dir.path());
    let whole = fs::read(&log).unwrap();
    for length in (0..=whole.len()).step_by(5) {
        // The log was written this far, and the journal is still there.
        fs::write(&log, &whole[..length]).unwrap();
        fs::write(&journal, &kept).unwrap();
        assert_eq!(updates_of(&read(work_dir.path()).unwrap()), all);
        assert_eq!(fs::read(&log).unwrap(), whole, "cut at {length}");
    }
}

#[test]
fn logs_of_earlier_agents_go_on_in_the_journal() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    for number in 3..6 {
        let mut next = Store::open(work_dir.path()).unwrap();
        let before: Vec<_> = (1..number).map(update).collect();
        assert_eq!(updates_of(&next.read("boot").unwrap()), before);
        append(&mut next, number);
    }
}

#[test]
fn a_full_journal_is_settled_beside_the_work() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    let mut large = update(0);
    if let Some(update) = &mut large.update {
        update.status.message = Some("x".repeat(6 << 10));
    }
    for number in 3..40 {
        if let Some(update) = &mut large.update {
            update.uuid = Some(vec![number; 16]);
        }
        let write = Write::Update(run(), "t".into(), Box::new(large.clone()));
        store.apply(&[write]).unwrap();
    }
    // Waits for what goes on beside.
    drop(store);
    assert!(journal_files(work_dir.path()).len() < 2);
    let found = updates_of(&read(work_dir.path()).unwrap());
    let uuids = found.iter().map(|record| {
        let update = record.update.as_ref().unwrap();
        update.uuid.as_ref().unwrap()[0]
    });
    assert_eq!(uuids.collect::<Vec<_>>(), (1..40).collect::<Vec<u8>>());
}

#[test]
fn updates_of_a_deleted_task_are_dropped() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    let deleted = paths::run(work_dir.path(), &"a1".into(), &run());
    fs::remove_dir_all(&deleted).unwrap();
    let state = read(work_dir.path()).unwrap();
    assert!(state.frameworks[&"f".into()].executors[0].runs.is_empty());
    assert!(!deleted.exists());
}

#[test]
fn mesos_9352_deleting_a_sandbox_spares_what_it_links_to() {
    let (work_dir, volumes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let kept = volumes.path().join("kept");
    fs::write(&kept, "data").unwrap();
    let store = Store::open(work_dir.path()).unwrap();
    let sandbox = paths::run(work_dir.path(), &"a1".into(), &run());
    fs::create_dir_all(sandbox.join("below")).unwrap();
    for link in ["volume", "below/volume"] {
        std::os::unix::fs::symlink(volumes.path(), sandbox.join(link)).unwrap();
    }
    store.delete(&sandbox).unwrap();
    assert!(!sandbox.exists());
    assert_eq!(fs::read_to_string(&kept).unwrap(), "data");
    // Nor if the sandbox itself has become a link.
    fs::create_dir_all(sandbox.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(volumes.path(), &sandbox).unwrap();
    let _ = store.delete(&sandbox);
    assert_eq!(fs::read_to_string(&kept).unwrap(), "data");
}

#[test]
fn damage_is_told_with_its_place() {
    let work_dir = tempfile::tempdir().unwrap();
    Store::open(work_dir.path())
        .unwrap()
        .apply(&everything())
        .unwrap();
    let info = work_dir.path().join("meta/slaves/a1/slave.info");
    let text = fs::read_to_string(&info).unwrap().replace("node", "mode");
    fs::write(&info, text).unwrap();
    let error = read(work_dir.path()).unwrap_err();
    let CheckpointError::Damaged { path, source } = error else {
        panic!("{error}")
    };
    assert_eq!((path, source), (info, FormatError::Checksum));
}

#[test]
fn a_forgotten_agent_leaves_its_files() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    store.forget().unwrap();
    assert!(read(work_dir.path()).unwrap().agent.is_none());
    assert_eq!(journal_files(work_dir.path()).len(), 1);
}

#[test]
fn the_last_deleted_run_takes_its_executor_and_framework_along() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    let meta = paths::run(work_dir.path(), &"a1".into(), &run());
    store.delete(&meta).unwrap();
    let agent = work_dir.path().join("meta/slaves/a1");
    assert!(!agent.join("frameworks/f").exists());
    assert!(agent.join("slave.info").exists());
    assert_eq!(read(work_dir.path()).unwrap().agent, Some(self::agent()));
}

#[test]
fn nothing_is_kept_for_nobody() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    let refused = store.apply(&[Write::Sentinel(run())]);
    assert!(matches!(refused, Err(CheckpointError::NoAgent)));
}

#[test]
fn the_last_of_several_facts_in_a_batch_counts() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(dir.path()).unwrap();
    store.read("boot").unwrap();
    let resource = |name: &str| dcos_core::resources::scalar_resource(name, 1.0);
    store
        .apply(&[
            Write::Agent(agent()),
            Write::Resources(vec![resource("one")], Vec::new()),
            Write::Resources(vec![resource("two")], Vec::new()),
        ])
        .unwrap();
    let state = Store::open(dir.path()).unwrap().read("boot").unwrap();
    assert_eq!(state.resources, [resource("two")]);
}
