//! A tree as the original writes it, encoded with code generated from its own schema (`dcos-marathon`'s
//! `src/migrate/testdata/make.py`).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dcos_marathon::engine::Machine as _;
use dcos_marathon::instance::Condition;

use super::*;

const TREE: &str = include_str!("testdata/metronome-0.6.tree");

fn tree() -> Nodes {
    let nodes = TREE.lines().map(|line| {
        let (path, data) = line.split_once('\t').unwrap();
        (path.to_owned(), Bytes::from(STANDARD.decode(data).unwrap()))
    });
    nodes.collect()
}

fn now() -> Time {
    Time::from_secs(1_700_000_000)
}

fn imported(options: Options) -> (JobScheduler, Report) {
    recovered(&tree(), options)
}

fn recovered(nodes: &Nodes, options: Options) -> (JobScheduler, Report) {
    let import = import(nodes, options, now()).unwrap();
    let rows = import
        .rows
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_slice()));
    let core = JobScheduler::recover(Arc::new(Config::default()), Seed::new(1), now(), rows);
    (core.unwrap(), import.report)
}

fn notes(report: &Report, fate: Fate) -> Vec<String> {
    let notes = report.notes.iter().filter(|note| note.fate == fate);
    notes
        .map(|note| format!("{}: {}", note.what, note.why))
        .collect()
}

#[test]
fn jobs_are_shown_as_they_were() {
    let (core, report) = imported(Options::default());
    let view = core.view(now());
    let job = view.jobs.get(&JobId::from("prod.backup")).unwrap();
    let shown = serde_json::to_value(&*job.spec).unwrap();
    let expected = serde_json::json!({
        "id": "prod.backup",
        "description": "every night",
        "dependencies": [],
        "labels": {"team": "db"},
        "schedules": [{
            "id": "nightly", "cron": "30 2 * * *", "timezone": "Europe/Berlin", "startingDeadlineSeconds": 900,
            "concurrencyPolicy": "FORBID", "enabled": true,
        }],
        "run": {
            "cpus": 0.1, "mem": 32, "disk": 0, "gpus": 0, "cmd": "true", "user": "nobody",
            "env": {"A": "1", "PW": {"secret": "pw"}},
            "secrets": {"pw": {"source": "/backup/pw"}},
            "placement": {"constraints": [
                {"attribute": "rack", "operator": "LIKE", "value": "a.*"},
                {"attribute": "os", "operator": "IS", "value": "linux"},
            ]},
            "artifacts": [{"uri": "https://example.com/b.tgz", "extract": true, "executable": false, "cache": true}],
            "maxLaunchDelay": 3600,
            "ucr": {"image": {"id": "busybox", "kind": "docker", "forcePull": true}, "privileged": false},
            "volumes": [
                {"containerPath": "/mnt", "hostPath": "/srv", "mode": "RO"},
                {"containerPath": "/pw", "secret": "pw"},
            ],
            "restart": {"policy": "ON_FAILURE", "activeDeadlineSeconds": 120},
            "taskKillGracePeriodSeconds": 7,
            "networks": [{"mode": "container", "name": "dcos"}],
        },
    });
    assert_eq!(shown, expected);
    let report_job = view.jobs.get(&JobId::from("report")).unwrap();
    assert_eq!(
        report_job.spec.dependencies[0].id,
        JobId::from("prod.backup")
    );

    let progress = &job.progress;
    assert_eq!((progress.success_count, progress.failure_count), (7, 2));
    assert_eq!(
        progress.last_success_at.unwrap().to_string(),
        "2021-03-02T11:30:00.500Z"
    );
    assert_eq!(
        (job.history.successful.len(), job.history.failed.len()),
        (1, 1)
    );
    assert_eq!(
        progress.newest.as_ref().unwrap().id,
        RunId::from("20210303120000qWeRt")
    );
    let taken = BTreeMap::from([
        ("ended runs", 2),
        ("framework id", 1),
        ("instances", 1),
        ("jobs", 2),
        ("runs under way", 2),
    ]);
    assert_eq!(report.taken, taken);
}

#[test]
fn runs_go_on_and_those_that_wait_are_launched() {
    let (core, report) = imported(Options::default());
    let view = core.view(now());
    let run = |job: &str| {
        view.jobs
            .get(&JobId::from(job))
            .unwrap()
            .runs
            .values()
            .next()
            .cloned()
            .unwrap()
    };
    let goes_on = run("prod.backup");
    let instance = goes_on.instance.as_ref().unwrap();
    assert_eq!(
        (goes_on.status, instance.condition),
        (RunStatus::Active, Condition::Running)
    );
    assert!(goes_on.tasks.contains_key(&instance.task_id));
    assert_eq!(instance.app, goes_on.key().path());
    let waits = run("report");
    assert!(waits.waits() && waits.status == RunStatus::Starting);
    assert_eq!(report.losses(), 0);
}

#[test]
fn with_a_new_framework_no_run_is_repeated() {
    let (core, report) = imported(Options {
        new_framework: true,
    });
    let view = core.view(now());
    assert!(
        view.jobs
            .get(&JobId::from("prod.backup"))
            .unwrap()
            .runs
            .is_empty()
    );
    assert_eq!(view.jobs.get(&JobId::from("report")).unwrap().runs.len(), 1);
    let left = notes(&report, Fate::Left);
    assert!(
        left.iter()
            .any(|note| note.contains("a run is not repeated")),
        "{left:#?}"
    );
}

/// A node as the original writes it.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(bytes = "vec", tag = "3")]
    value: Vec<u8>,
}

/// Changes the run of `prod.backup` and the document of its instance.
fn with_backup(
    change: impl FnOnce(&mut words::JobRun),
    document: impl FnOnce(&mut serde_json::Value),
) -> Nodes {
    let mut nodes = tree();
    let (path, data) = nodes
        .iter()
        .find(|(path, _)| path.starts_with("state/job-runs/prod.backup/"))
        .map(|(path, data)| (path.clone(), data.clone()))
        .unwrap();
    let mut run = words::JobRun::decode(entry(&data).unwrap().as_slice()).unwrap();
    change(&mut run);
    let value = run.encode_to_vec();
    nodes.insert(path, Bytes::from(Entry { value }.encode_to_vec()));
    let (_, data) = nodes
        .iter_mut()
        .find(|(path, _)| path.starts_with("state/instance/"))
        .unwrap();
    let mut instance = serde_json::from_slice(data).unwrap();
    document(&mut instance);
    *data = Bytes::from(instance.to_string());
    nodes
}

fn backups(core: &JobScheduler) -> Vec<Arc<Run>> {
    let view = core.view(now());
    let job = view.jobs.get(&JobId::from("prod.backup")).unwrap();
    job.runs.values().cloned().collect()
}

#[test]
fn a_run_between_two_attempts_is_launched_again() {
    let scheduled = |instance: &mut serde_json::Value| {
        instance["state"]["condition"] = "Scheduled".into();
        instance["tasksMap"] = serde_json::json!({});
    };
    // `JobRunTask.Status`: 6 has ended well, 7 has failed.
    let noted = |status| move |run: &mut words::JobRun| run.tasks[0].status = status;
    for new_framework in [false, true] {
        let options = Options { new_framework };
        let (core, report) = recovered(&with_backup(noted(7), scheduled), options);
        let [run] = &backups(&core)[..] else {
            panic!("{:#?}", report.notes)
        };
        assert!(run.waits());
        let tasks: Vec<_> = run.tasks.values().map(|task| task.status).collect();
        assert_eq!(tasks, [TaskState::Failed]);
        let (core, _) = recovered(&with_backup(noted(6), scheduled), options);
        assert_eq!(backups(&core), []);
    }
    let once = |run: &mut words::JobRun| {
        noted(7)(run);
        run.job = Some(words::JobSpec {
            run: run.job.take().and_then(|job| job.run).map(|mut run| {
                run.restart = None;
                run
            }),
            id: "prod.backup".to_owned(),
            ..words::JobSpec::default()
        });
    };
    let (core, report) = recovered(&with_backup(once, scheduled), Options::default());
    assert_eq!(backups(&core), []);
    let left = notes(&report, Fate::Left);
    let told = left.iter().any(|note| note.contains("not there any more"));
    assert!(told, "{left:#?}");
}

#[test]
fn with_a_new_framework_no_run_is_repeated_whose_task_was_not_heard_of_yet() {
    let starting = |run: &mut words::JobRun| {
        run.status = 2;
        run.tasks.clear();
    };
    let provisioned =
        |instance: &mut serde_json::Value| instance["state"]["condition"] = "Provisioned".into();
    let nodes = with_backup(starting, provisioned);
    let new_framework = true;
    let (core, report) = recovered(&nodes, Options { new_framework });
    assert_eq!(backups(&core), []);
    let left = notes(&report, Fate::Left);
    let told = left
        .iter()
        .any(|note| note.contains("prod.backup") && note.contains("a run is not repeated"));
    assert!(told, "{left:#?}");
    let (core, _) = recovered(&nodes, Options::default());
    assert!(backups(&core)[0].instance.is_some());
}

#[test]
fn what_cannot_be_taken_over_is_told_and_stops_nothing_else() {
    let (_, report) = imported(Options::default());
    let left = notes(&report, Fate::Left);
    for parts in [
        ["job broken", "cron"],
        ["history of job gone", "no such job"],
    ] {
        let found = left
            .iter()
            .any(|note| parts.iter().all(|part| note.contains(part)));
        assert!(found, "{parts:?} in {left:#?}");
    }
    let mut nodes = tree();
    nodes.retain(|path, _| !path.starts_with("state/job-specs"));
    let error = super::import(&nodes, Options::default(), now()).unwrap_err();
    assert!(matches!(error, MigrateError::NotThere(_)), "{error}");
}

#[test]
fn a_job_too_large_to_run_is_told() {
    let mut nodes = tree();
    let (_, data) = nodes
        .iter_mut()
        .find(|(path, _)| path.starts_with("state/job-specs/prod.backup"))
        .unwrap();
    let mut spec = words::JobSpec::decode(entry(data).unwrap().as_slice()).unwrap();
    spec.description = Some("x".repeat(1_000_000));
    let value = spec.encode_to_vec();
    *data = Bytes::from(Entry { value }.encode_to_vec());
    let (core, report) = recovered(&nodes, Options::default());
    let view = core.view(now());
    let job = view.jobs.get(&JobId::from("prod.backup")).unwrap();
    assert!(job.too_large.is_some());
    let changed = notes(&report, Fate::Changed);
    let told = changed
        .iter()
        .any(|note| note.starts_with("job prod.backup") && note.contains("never runs"));
    assert!(told, "{changed:#?}");
}
