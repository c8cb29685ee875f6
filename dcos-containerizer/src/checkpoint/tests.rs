//! What is written is read back; what a crash leaves is mended or told.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

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

fn read(work_dir: &Path) -> Result<State, CheckpointError> {
    Store::open(work_dir).unwrap().read("boot")
}

fn agent_directory(work_dir: &Path) -> PathBuf {
    paths::agent(work_dir, &"a1".into())
}

/// The files of the journal, oldest first.
fn journal_files(work_dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(agent_directory(work_dir)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    let number = |path: &PathBuf| {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix("journal.")?.parse::<u64>().ok()
    };
    files.retain(|path| number(path).is_some());
    files.sort_by_key(number);
    files
}

/// The updates of the task, if it is known.
fn updates_of(state: &State) -> Vec<StatusUpdateRecord> {
    let frameworks = state.frameworks.values();
    let mut executors = frameworks.flat_map(|framework| &framework.executors);
    let run = executors.next().and_then(|executor| executor.runs.first());
    let task = run.and_then(|run| run.tasks.first());
    task.map(|task| task.updates.clone()).unwrap_or_default()
}

fn append(store: &mut Store, number: u8) {
    let write = Write::Update(run(), "t".into(), Box::new(update(number)));
    store.apply(&[write]).unwrap();
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
fn a_journal_that_was_cut_anywhere_holds_a_prefix() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    for number in 3..6 {
        append(&mut store, number);
    }
    let journal = journal_files(work_dir.path()).remove(0);
    let whole = fs::read(&journal).unwrap();
    let written = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let all: Vec<_> = (1..6).map(update).collect();
    for length in (0..=written).rev().step_by(7) {
        fs::write(&journal, &whole[..length]).unwrap();
        let found = updates_of(&read(work_dir.path()).unwrap());
        assert_eq!(found, all[..found.len()], "cut at {length}");
        assert!(length < written || found.len() == all.len());
    }
}

#[test]
fn what_a_crash_left_is_passed_over_and_the_next_agent_goes_on() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    append(&mut store, 3);
    for number in 4..7 {
        // Its last batch is torn.
        let journal = journal_files(work_dir.path()).pop().unwrap();
        let mut left = fs::read(&journal).unwrap();
        let written = left.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        left.truncate(written - 5);
        fs::write(&journal, &left).unwrap();
        let mut next = Store::open(work_dir.path()).unwrap();
        let before: Vec<_> = (1..number - 1).map(update).collect();
        assert_eq!(updates_of(&next.read("boot").unwrap()), before);
        append(&mut next, number - 1);
        append(&mut next, number);
    }
}

#[test]
fn damage_in_the_middle_of_a_journal_is_told_with_its_place() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    append(&mut store, 3);
    let journal = journal_files(work_dir.path()).remove(0);
    let mut damaged = fs::read(&journal).unwrap();
    damaged[200] ^= 1;
    fs::write(&journal, damaged).unwrap();
    let error = read(work_dir.path()).unwrap_err();
    let CheckpointError::Damaged { path, source } = error else {
        panic!("{error}")
    };
    assert_eq!((path, source), (journal, FormatError::Checksum));
}

#[test]
fn a_name_that_is_free_again_may_be_used_again() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    let task = everything().remove(3);
    // Told twice while it runs.
    store.apply(std::slice::from_ref(&task)).unwrap();
    let found = updates_of(&read(work_dir.path()).unwrap());
    assert_eq!(found, [update(1), update(2)]);
    let mut end = update(3);
    end.update.as_mut().unwrap().status.state = TaskState::TaskFinished.into();
    let acknowledged = StatusUpdateRecord {
        r#type: status_update_record::Type::Ack.into(),
        update: None,
        uuid: Some(vec![3; 16]),
    };
    for record in [end, acknowledged] {
        let write = Write::Update(run(), "t".into(), Box::new(record));
        store.apply(&[write]).unwrap();
    }
    store.apply(&[task]).unwrap();
    assert_eq!(updates_of(&read(work_dir.path()).unwrap()), []);
}

#[test]
fn of_a_deleted_launch_nothing_is_left_whatever_comes_late() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    store
        .apply(&[Write::Sentinel(run()), Write::Deleted(run())])
        .unwrap();
    append(&mut store, 3);
    let state = read(work_dir.path()).unwrap();
    assert!(state.frameworks[&"f".into()].executors.is_empty());
}

/// A run whose executor and update are large, so that journals fill up.
fn large(number: u32) -> [Write; 4] {
    let run = Run {
        framework: format!("f{}", number % 3).into(),
        executor: format!("e{}", number % 7).into(),
        container: ContainerId::root(format!("c{number}")),
    };
    let framework = FrameworkInfo {
        id: Some(run.framework.clone()),
        name: format!("told before {number}"),
        ..FrameworkInfo::default()
    };
    let executor = ExecutorInfo {
        executor_id: run.executor.clone(),
        name: Some("x".repeat(2 << 10)),
        ..ExecutorInfo::default()
    };
    let task = TaskCheckpoint {
        task: TaskInfo {
            task_id: "t".into(),
            ..TaskInfo::default()
        },
        container: None,
        group: number.into(),
    };
    let record = Box::new(update(u8::try_from(number % 250).unwrap()));
    [
        Write::Framework(framework, None),
        Write::Executor(run.clone(), executor, None),
        Write::Task(run.clone(), Box::new(task)),
        Write::Update(run, "t".into(), record),
    ]
}

fn run_of(writes: &[Write; 4]) -> Run {
    match &writes[1] {
        Write::Executor(run, ..) => run.clone(),
        _ => unreachable!("the second is the executor"),
    }
}

/// Containers and groups of their tasks, of all frameworks with one.
fn groups(state: &State) -> BTreeMap<String, (String, u64, usize)> {
    let mut found = BTreeMap::new();
    for framework in state.frameworks.values() {
        for run in framework.executors.iter().flat_map(|it| &it.runs) {
            let [task] = &run.tasks[..] else {
                panic!("{run:?}")
            };
            let what = (
                framework.info.name.clone(),
                task.checkpoint.group,
                task.updates.len(),
            );
            found.insert(run.container.value.clone(), what);
        }
    }
    found
}

#[test]
fn a_journal_takes_as_much_room_as_what_is_left() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&[Write::Agent(agent())]).unwrap();
    for number in 0..400 {
        let writes = large(number);
        store.apply(&writes).unwrap();
        // Every fiftieth stays.
        if number % 50 != 0 {
            store.apply(&[Write::Deleted(run_of(&writes))]).unwrap();
        }
        if number % 40 == 39 {
            // Waits for what goes on beside, which may take as long as all of this on a busy machine.
            drop(store);
            store = Store::open(work_dir.path()).unwrap();
            store.read("boot").unwrap();
        }
    }
    drop(store);
    let found = groups(&read(work_dir.path()).unwrap());
    let numbers: BTreeSet<u64> = found.values().map(|(_, group, _)| *group).collect();
    assert_eq!(numbers, (0..400).step_by(50).collect());
    // The last word on each framework counts.
    let names: BTreeSet<_> = found.values().map(|(name, ..)| name.as_str()).collect();
    let last = ["told before 397", "told before 398", "told before 399"];
    assert_eq!(names, BTreeSet::from(last));
    assert!(found.values().all(|(.., updates)| *updates == 1));
    let sizes = journal_files(work_dir.path()).into_iter();
    let size: u64 = sizes.map(|path| fs::metadata(path).unwrap().len()).sum();
    // 400 of them took 1.2 MB.
    assert!(size < 300 << 10, "{size}");
}

#[test]
fn an_executor_that_goes_on_fills_no_disk() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    let task = |id: &str| {
        let task = TaskInfo {
            task_id: id.into(),
            name: "x".repeat(1 << 10),
            ..TaskInfo::default()
        };
        let task = TaskCheckpoint {
            task,
            container: None,
            group: 0,
        };
        Write::Task(run(), Box::new(task))
    };
    let told = |id: &str, state: TaskState| {
        let mut record = update(7);
        let status = &mut record.update.as_mut().unwrap().status;
        status.task_id = id.into();
        status.state = state.into();
        Write::Update(run(), id.into(), Box::new(record))
    };
    let acknowledged = |id: &str| {
        let record = StatusUpdateRecord {
            r#type: status_update_record::Type::Ack.into(),
            update: None,
            uuid: Some(vec![7; 16]),
        };
        Write::Update(run(), id.into(), Box::new(record))
    };
    let finished = TaskState::TaskFinished;
    store
        .apply(&[task("open"), told("open", TaskState::TaskRunning)])
        .unwrap();
    store
        .apply(&[task("told"), told("told", finished)])
        .unwrap();
    for number in 0..2000 {
        let id = &number.to_string();
        let writes = [task(id), told(id, finished), acknowledged(id)];
        store.apply(&writes).unwrap();
        if number % 100 == 99 {
            // Waits for what goes on beside.
            drop(store);
            store = Store::open(work_dir.path()).unwrap();
            store.read("boot").unwrap();
        }
    }
    drop(store);
    // What goes on, what nobody has acknowledged, and the newest of what is over are there.
    let state = read(work_dir.path()).unwrap();
    let tasks = &state.frameworks[&"f".into()].executors[0].runs[0].tasks;
    let ids: BTreeSet<_> = tasks
        .iter()
        .map(|it| it.checkpoint.task.task_id.to_string())
        .collect();
    let expected = ["t", "open", "told"].map(str::to_owned).into_iter();
    let expected: BTreeSet<_> = expected
        .chain((1800..2000).map(|it| it.to_string()))
        .collect();
    assert!(
        ids.is_superset(&expected),
        "{:?}",
        expected.difference(&ids)
    );
    let told = tasks
        .iter()
        .find(|it| it.checkpoint.task.task_id.as_str() == "told");
    assert_eq!(told.unwrap().updates.len(), 1);
    let sizes = journal_files(work_dir.path()).into_iter();
    let size: u64 = sizes.map(|path| fs::metadata(path).unwrap().len()).sum();
    // All of them took 3 MB; 200 are 300 KB.
    assert!(size < 900 << 10, "{size}");
}

#[test]
fn many_short_lives_leave_few_files() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    for number in 3..80 {
        // As a life that is killed leaves it; what it wrote anew beside is waited for.
        drop(store);
        store = Store::open(work_dir.path()).unwrap();
        store.read("boot").unwrap();
        append(&mut store, number);
    }
    drop(store);
    let files = journal_files(work_dir.path());
    assert!(files.len() <= 17, "{files:?}");
    let private =
        |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777 == 0o600;
    assert!(files.iter().all(private));
    let found = updates_of(&read(work_dir.path()).unwrap());
    assert_eq!(found, (1..80).map(update).collect::<Vec<_>>());
}

#[test]
fn writing_a_journal_anew_may_break_off_anywhere() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&[Write::Agent(agent())]).unwrap();
    let mut kept = BTreeMap::new();
    let mut number = 0;
    // Until some files became one.
    while journal_files(work_dir.path())
        .first()
        .is_none_or(|it| it.ends_with("journal.1"))
    {
        for path in journal_files(work_dir.path()) {
            // It may be gone by now.
            if let Ok(bytes) = fs::read(&path) {
                kept.insert(path, bytes);
            }
        }
        let writes = large(number);
        store.apply(&writes).unwrap();
        if number % 5 != 0 {
            store.apply(&[Write::Deleted(run_of(&writes))]).unwrap();
        }
        number += 1;
    }
    drop(store);
    let expected = groups(&read(work_dir.path()).unwrap());
    // Those that it stands for are there still.
    let first = journal_files(work_dir.path()).remove(0);
    for (path, bytes) in &kept {
        if *path != first && !path.exists() {
            fs::write(path, bytes).unwrap();
        }
    }
    assert_eq!(groups(&read(work_dir.path()).unwrap()), expected);
    // The next attempt had begun.
    fs::write(
        agent_directory(work_dir.path()).join("journal.90.new"),
        "dcos-che",
    )
    .unwrap();
    assert_eq!(groups(&read(work_dir.path()).unwrap()), expected);
}

/// A work directory as the version before this one left it.
fn of_the_version_before(work_dir: &Path) {
    let place = |below: &str| {
        let path = agent_directory(work_dir).join("frameworks/f").join(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    };
    let file = |below: &str, contents: &str| {
        let contents = serde_json::from_str(contents).unwrap();
        fs::write(place(below), format::file(&contents)).unwrap();
    };
    Store::open(work_dir)
        .unwrap()
        .apply(&[Write::Agent(agent())])
        .unwrap();
    file(
        "framework.info",
        r#"{"framework_info": {"user": "u", "name": "x", "id": {"value": "f"}}, "pid": "scheduler@1.2.3.4:5"}"#,
    );
    file(
        "executors/e/executor.info",
        r#"{"executor_info": {"executor_id": {"value": "e"}}, "hosted": "default"}"#,
    );
    fs::write(place("executors/e/runs/c0/executor.sentinel"), "").unwrap();
    file(
        "executors/e/runs/c1/libprocess.pid",
        r#"{"pid": "e@1.2.3.4:6"}"#,
    );
    file(
        "executors/e/runs/c1/adopted",
        r#"{"pid": 77, "generated": true}"#,
    );
    file(
        "executors/e/runs/c1/tasks/t/task.info",
        r#"{"task_info": {"name": "t", "task_id": {"value": "t"}, "agent_id": {"value": "a1"}},
            "container_id": {"value": "n", "parent": {"value": "c1"}}, "group": 3}"#,
    );
    let line = |number| {
        let line = dcos_proto::json::to_string(&update(number), dcos_proto::json::Dialect::V1);
        line.into_bytes()
    };
    let text = |number| String::from_utf8(line(number)).unwrap();
    let mut log = format::log_head().to_vec();
    log.extend(format::log_line(&text(1)));
    log.extend(format::log_line(&text(2)));
    // It was being written when the agent died.
    log.extend(&format::log_line(&text(9))[..30]);
    fs::write(place("executors/e/runs/c1/tasks/t/task.updates"), log).unwrap();
    let task = "/frameworks/f/executors/e/runs/c1/tasks/t";
    let body = format!("{task}\n{}\n{}\n", text(2), text(3));
    let journal = format!("dcos-checkpoint-journal 1\n{}", batches::batch(&body));
    fs::write(agent_directory(work_dir).join("updates.journal.4"), journal).unwrap();
}

#[test]
fn what_the_version_before_left_is_taken_up() {
    let work_dir = tempfile::tempdir().unwrap();
    of_the_version_before(work_dir.path());
    let check = |state: State, updates: &[u8]| {
        let framework = &state.frameworks[&"f".into()];
        assert_eq!(framework.pid.as_deref(), Some("scheduler@1.2.3.4:5"));
        let [executor] = &framework.executors[..] else {
            panic!("{framework:?}")
        };
        assert_eq!(executor.hosted, Some(HostedKind::Default));
        let [ended, run] = &executor.runs[..] else {
            panic!("{executor:?}")
        };
        assert!(ended.ended.is_some() && run.ended.is_none());
        assert_eq!(run.pid.as_deref(), Some("e@1.2.3.4:6"));
        assert_eq!(run.adopted.unwrap().pid, 77);
        let task = &run.tasks[0];
        assert_eq!(task.checkpoint.group, 3);
        let nested = ContainerId::root("c1").child("n");
        assert_eq!(task.checkpoint.container, Some(nested));
        let expected: Vec<_> = updates.iter().copied().map(update).collect();
        assert_eq!(task.updates, expected);
    };
    let mut store = Store::open(work_dir.path()).unwrap();
    check(store.read("boot").unwrap(), &[1, 2, 3]);
    let directory = agent_directory(work_dir.path());
    assert!(!directory.join("frameworks").exists());
    assert!(!directory.join("updates.journal.4").exists());
    append(&mut store, 4);
    check(read(work_dir.path()).unwrap(), &[1, 2, 3, 4]);
    // The journal was there, the old files were not gone yet; something is in the way of putting them aside.
    of_the_version_before(work_dir.path());
    fs::write(directory.join("former.0"), "").unwrap();
    check(read(work_dir.path()).unwrap(), &[1, 2, 3, 4]);
    assert!(!directory.join("frameworks").exists());
}

#[test]
fn what_the_version_before_did_in_between_is_kept() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    // Two launches of this version, one of an executor that the version before launches again.
    store.apply(&everything()).unwrap();
    let other = Run {
        executor: "other".into(),
        container: ContainerId::root("c9"),
        ..run()
    };
    let executor = ExecutorInfo {
        executor_id: "other".into(),
        ..ExecutorInfo::default()
    };
    let launched = Write::Executor(other, executor, None);
    store.apply(&[launched]).unwrap();
    of_the_version_before(work_dir.path());
    let runs = agent_directory(work_dir.path()).join("frameworks/f/executors/e/runs");
    fs::rename(runs.join("c1"), runs.join("c2")).unwrap();

    for _ in 0..2 {
        let state = read(work_dir.path()).unwrap();
        let known: BTreeSet<_> = state.containers().iter().map(ToString::to_string).collect();
        assert_eq!(known, BTreeSet::from(["c2", "c9"].map(str::to_owned)));
        let executors = &state.frameworks[&"f".into()].executors;
        let of = |name: &str| {
            executors
                .iter()
                .find(|it| it.info.executor_id.as_str() == name)
        };
        let runs = &of("e").unwrap().runs;
        let names: Vec<_> = runs
            .iter()
            .map(|run| run.container.value.as_str())
            .collect();
        assert_eq!(names, ["c0", "c2"]);
        assert_eq!(runs[1].tasks[0].updates.len(), 2);
        assert!(!agent_directory(work_dir.path()).join("frameworks").exists());
    }
    // The journal goes on behind it.
    let mut store = Store::open(work_dir.path()).unwrap();
    store.read("boot").unwrap();
    let ended = Run {
        container: ContainerId::root("c2"),
        ..run()
    };
    store.apply(&[Write::Sentinel(ended)]).unwrap();
    let state = read(work_dir.path()).unwrap();
    assert_eq!(
        state.containers(),
        BTreeSet::from([ContainerId::root("c9")])
    );
}

#[test]
fn what_is_launched_beside_a_deletion_has_its_place() {
    let work_dir = tempfile::tempdir().unwrap();
    let store = Store::open(work_dir.path()).unwrap();
    let path = work_dir.path().to_owned();
    let (tell, told) = std::sync::mpsc::channel::<PathBuf>();
    let deleting = std::thread::spawn(move || {
        let store = Store::open(path).unwrap();
        for sandbox in told {
            store.delete(&sandbox).unwrap();
        }
    });
    for number in 0..500 {
        let run = Run {
            container: ContainerId::root(format!("c{number}")),
            ..run()
        };
        let key = crate::agent::ExecutorKey {
            framework: run.framework.clone(),
            executor: run.executor.clone(),
        };
        let sandbox = paths::sandbox(work_dir.path(), &"a1".into(), &key, &run.container);
        store.point_to(&"a1".into(), &run).unwrap();
        let made = crate::containerizer::sandbox::make(&sandbox, None).unwrap();
        assert!(made.is_dir(), "{number}");
        tell.send(sandbox).unwrap();
    }
    drop(tell);
    deleting.join().unwrap();
}

fn sandbox(work_dir: &Path) -> PathBuf {
    let run = run();
    let key = crate::agent::ExecutorKey {
        framework: run.framework,
        executor: run.executor,
    };
    paths::sandbox(work_dir, &"a1".into(), &key, &run.container)
}

#[test]
fn mesos_9352_deleting_a_sandbox_spares_what_it_links_to() {
    let (work_dir, volumes) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let kept = volumes.path().join("kept");
    fs::write(&kept, "data").unwrap();
    let store = Store::open(work_dir.path()).unwrap();
    let sandbox = sandbox(work_dir.path());
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
fn the_last_deleted_sandbox_takes_the_directories_above_along() {
    let work_dir = tempfile::tempdir().unwrap();
    let mut store = Store::open(work_dir.path()).unwrap();
    store.apply(&everything()).unwrap();
    let sandbox = sandbox(work_dir.path());
    fs::create_dir_all(&sandbox).unwrap();
    assert!(sandbox.parent().unwrap().join("latest").is_dir());
    store.delete(&sandbox).unwrap();
    let agents = work_dir.path().join("slaves/a1");
    assert!(!agents.join("frameworks").exists());
    assert!(agents.exists());
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
