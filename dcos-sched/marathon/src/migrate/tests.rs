//! A tree as the original writes it, encoded with code generated from its own schema (`testdata/make.py`).

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::mesos::{TaskState, TaskStatus};
use dcos_proto::scheduler::{Event, call, event};
use dcos_store::{Election, MemoryElection, MemoryStore, StateStore};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::*;
use crate::api::render;
use crate::core::{Input, View};
use crate::instance::{Condition, Goal};

const TREE: &str = include_str!("testdata/marathon-1.11.tree");
const UUID: &str = "0f0e0d0c-0000-11eb-8000-00000000000";

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

fn imported(nodes: &Nodes, options: Options) -> (Core, Report) {
    let import = import(nodes, options, now()).unwrap();
    let rows = import
        .rows
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_slice()));
    let core = Core::recover(Arc::new(Config::default()), Seed::new(1), now(), rows).unwrap();
    (core, import.report)
}

fn notes(report: &Report, fate: Fate) -> Vec<String> {
    let notes = report.notes.iter().filter(|note| note.fate == fate);
    notes
        .map(|note| format!("{}: {}", note.what, note.why))
        .collect()
}

fn definition(core: &Core, id: &str) -> Value {
    let view = core.view(now());
    let app = view.root.app(&PathId::from(id)).unwrap();
    render::definition(app)
}

fn known(view: &View, id: &str) -> Option<Instance> {
    let id = InstanceId::from(id.to_owned());
    let app = view.instances.get(&id.app())?;
    app.get(&id).map(|instance| (**instance).clone())
}

#[test]
fn apps_are_shown_as_they_were() {
    let (core, _) = imported(&tree(), Options::default());
    let web = definition(&core, "/prod/web");
    for (field, expected) in [
        ("cmd", json!("serve")),
        ("user", json!("nobody")),
        ("instances", json!(2)),
        (
            "env",
            json!({"MODE": "fast", "PASSWORD": {"secret": "password"}}),
        ),
        ("secrets", json!({"password": {"source": "/prod/password"}})),
        ("labels", json!({"HAPROXY_GROUP": "external"})),
        (
            "constraints",
            json!([["hostname", "UNIQUE"], ["rack", "GROUP_BY", "2"]]),
        ),
        ("taskKillGracePeriodSeconds", json!(20)),
        ("dependencies", json!(["/prod/db"])),
        ("maxLaunchDelaySeconds", json!(300)),
        ("version", json!("2021-03-03T12:00:00.123Z")),
        (
            "versionInfo",
            json!({"lastScalingAt": "2021-03-03T12:00:00.123Z", "lastConfigChangeAt": "2021-03-02T11:30:00.500Z"}),
        ),
        (
            "portDefinitions",
            json!([
                {"port": 10001, "protocol": "tcp", "name": "http", "labels": {"VIP_0": "/web:80"}},
                {"port": 10002, "protocol": "udp"},
            ]),
        ),
    ] {
        assert_eq!(web[field], expected, "{field} in {web:#}");
    }
    let check = &web["healthChecks"][0];
    assert_eq!(
        (&check["protocol"], &check["path"]),
        (&json!("MESOS_HTTP"), &json!("/health"))
    );
    assert_eq!(
        web["readinessChecks"][0]["httpStatusCodesForReady"],
        json!([200, 204])
    );
    assert_eq!(web["fetch"][0]["cache"], json!(true));

    let docker = definition(&core, "/docker");
    assert_eq!(docker["args"], json!(["nginx", "-g", "daemon off;"]));
    assert_eq!(docker["killSelection"], json!("OLDEST_FIRST"));
    assert_eq!(docker["networks"], json!([{"mode": "container/bridge"}]));
    assert_eq!(
        docker["resourceLimits"],
        json!({"cpus": 1.0, "mem": "unlimited"})
    );
    assert_eq!(docker["check"]["exec"]["command"]["shell"], json!("true"));
    let container = &docker["container"];
    assert_eq!(
        container["docker"]["parameters"],
        json!([{"key": "hostname", "value": "web"}])
    );
    assert_eq!(container["portMappings"][0]["servicePort"], json!(10010));
    assert_eq!(container["volumes"][0]["mode"], json!("RO"));

    let db = definition(&core, "/prod/db");
    assert_eq!(db["unreachableStrategy"], json!("disabled"));
    assert_eq!(
        db["container"]["volumes"][0]["persistent"]["size"],
        json!(64)
    );
    assert_eq!(db["role"], json!("prod"));
}

#[test]
fn groups_pods_versions_and_failures_are_taken_over() {
    let (core, report) = imported(&tree(), Options::default());
    let view = core.view(now());
    let group = |id: &str| view.root.groups[&PathId::from(id)].clone();
    assert_eq!(group("/pods").enforce_role, Some(true));
    assert!(group("/pods").dependencies.contains(&PathId::from("/prod")));
    assert_eq!(group("/prod").enforce_role, Some(false));
    let pod = view.root.app(&PathId::from("/pods/two")).unwrap();
    assert_eq!((pod.is_pod(), pod.instances), (true, 2));
    assert_eq!(pod.config_version().to_string(), "2021-03-02T11:30:00.500Z");
    let web = PathId::from("/prod/web");
    let versions = view.history.versions(&web);
    assert_eq!(versions.len(), 3);
    let first = "2021-03-01T10:00:00.000Z".parse().unwrap();
    assert_eq!(
        view.history.spec(&web, first).unwrap().cmd.as_deref(),
        Some("serve --old")
    );
    let second = "2021-03-02T11:30:00.5Z".parse().unwrap();
    let before = view.history.root_at(&view.root, second).unwrap();
    assert_eq!(before.app(&web).unwrap().instances, 1);
    let oldest = view.history.root_at(&view.root, first).unwrap();
    assert!(oldest.app(&PathId::from("/docker")).is_none());
    let failure = &view.failures[&PathId::from("/docker")];
    assert_eq!(
        (failure.state.as_str(), failure.message.as_str()),
        ("TASK_FAILED", "exit 1")
    );
    let taken = BTreeMap::from([
        ("apps", 3),
        ("deployments", 1),
        ("framework id", 1),
        ("groups", 2),
        ("instances", 3),
        ("last failures", 1),
        ("pods", 1),
        ("versions of apps and pods", 7),
        ("versions of the tree", 2),
    ]);
    assert_eq!(report.taken, taken);
}

#[test]
fn what_runs_goes_on() {
    let (mut core, _) = imported(&tree(), Options::default());
    let view = core.view(now());
    assert_eq!(
        view.framework_id.as_deref(),
        Some("9a1cc5b1-0000-0000-0000-000000000000-0001")
    );
    let instance = |id: &str| known(&view, id).unwrap().clone();
    let web = instance(&format!("prod_web.instance-{UUID}1"));
    assert_eq!(web.condition, Condition::Running);
    assert_eq!(web.ports, [Some(31000), Some(31001)]);
    assert_eq!(
        (web.agent.host.as_str(), web.agent.field("rack")),
        ("10.0.0.7", Some("a"))
    );
    assert_eq!(
        (web.healthy, web.addresses.as_slice()),
        (Some(true), &["10.0.0.7".to_owned()][..])
    );
    assert_eq!(web.config_version.to_string(), "2021-03-02T11:30:00.500Z");
    let pod = instance(&format!("pods_two.instance-{UUID}4"));
    assert_eq!((pod.tasks.len(), pod.condition), (2, Condition::Running));
    assert_eq!(pod.ports, [Some(31007)]);
    let db = instance(&format!("prod_db.marathon-{UUID}3"));
    let kept = db.reservation.unwrap();
    assert_eq!(
        (kept.incarnation, kept.confirmed, db.goal),
        (4, true, Goal::Running)
    );
    assert_eq!(
        kept.volumes[0].persistence_id,
        format!("prod_db#data#{UUID}9")
    );

    // The master speaks of what runs; nothing of it is killed, and what is missing is launched.
    let subscribed = event::Subscribed {
        framework_id: "9a1cc5b1-0000-0000-0000-000000000000-0001"
            .to_owned()
            .into(),
        ..event::Subscribed::default()
    };
    let tell = |core: &mut Core, event: Event| core.handle(now(), Input::Event(Box::new(event)));
    let event = Event {
        r#type: Some(event::Type::Subscribed.into()),
        subscribed: Some(subscribed),
        ..Event::default()
    };
    tell(&mut core, event);
    for task in [
        format!("prod_web.instance-{UUID}1._app.1"),
        format!("prod_db.{UUID}3.4"),
        format!("pods_two.instance-{UUID}4.web.1"),
        format!("pods_two.instance-{UUID}4.log.1"),
    ] {
        let status = TaskStatus {
            task_id: task.into(),
            state: TaskState::TaskRunning.into(),
            agent_id: Some("agent-1".to_owned().into()),
            ..TaskStatus::default()
        };
        let event = Event {
            r#type: Some(event::Type::Update.into()),
            update: Some(event::Update { status }),
            ..Event::default()
        };
        tell(&mut core, event);
    }
    let batch = core.take(now());
    let kills = batch
        .calls
        .iter()
        .filter(|call| call.r#type() == call::Type::Kill);
    assert_eq!(kills.count(), 0);
    let waiting = core.waiting();
    let count = |id: &str| waiting.get(&PathId::from(id)).copied();
    assert_eq!(count("/docker"), Some(1));
    // The pod is scaled by the next step of the deployment, since its group depends on the other.
    assert_eq!(
        (count("/prod/web"), count("/prod/db"), count("/pods/two")),
        (Some(1), None, None)
    );
    assert_eq!(core.view(now()).deployments.len(), 1);
}

#[test]
fn what_cannot_be_taken_over_is_told_and_stops_nothing_else() {
    let (core, report) = imported(&tree(), Options::default());
    assert!(
        core.view(now())
            .root
            .app(&PathId::from("/legacy"))
            .is_none()
    );
    let left = notes(&report, Fate::Left);
    let has = |all: &[String], parts: [&str; 2]| {
        let found = all
            .iter()
            .any(|note| parts.iter().all(|part| note.contains(part)));
        assert!(found, "{parts:?} in {all:#?}");
    };
    has(&left, ["service /legacy", "provider csi is not served"]);
    has(&left, ["service /broken", "invalid varint"]);
    let lost = notes(&report, Fate::Lost);
    has(&lost, [&format!("legacy.instance-{UUID}5"), "it is killed"]);
    has(
        &lost,
        [&format!("docker.instance-{UUID}7"), "volumes are destroyed"],
    );
    assert_eq!(report.losses(), 2);
    let changed = notes(&report, Fate::Changed);
    assert!(
        changed.len() == 1 && changed[0].starts_with("app /prod/web: its secrets"),
        "{changed:#?}"
    );
}

#[test]
fn a_new_framework_starts_everything_anew_and_touches_nothing_that_runs() {
    let (core, report) = imported(
        &tree(),
        Options {
            new_framework: true,
        },
    );
    assert_eq!(core.view(now()).framework_id, None);
    assert_eq!(core.waiting()[&PathId::from("/prod/web")], 2);
    assert_eq!(report.losses(), 0);
    let left = notes(&report, Fate::Left);
    assert!(
        left.iter()
            .any(|note| note.contains("4 instances: they stay with the old framework")),
        "{left:#?}"
    );
}

#[test]
fn without_the_frameworks_id_nothing_that_runs_is_launched_twice_unasked() {
    const NODE: &str = "state/framework-id/";
    let path = tree().into_keys().find(|path| path.starts_with(NODE));
    let path = path.unwrap();
    let damaged = b"\x0a\xff\xff".as_slice();
    for data in [None, Some(damaged), Some(b"".as_slice()), Some(b"\x0a\x00")] {
        let mut nodes = tree();
        nodes.remove(&path);
        nodes.extend(data.map(|data| (path.clone(), Bytes::from_static(data))));
        let error = import(&nodes, Options::default(), now()).unwrap_err();
        // One of them cannot be read.
        let five = matches!(error, MigrateError::NoFramework { instances: 5, .. });
        assert!(five, "{data:?}: {error}");
        let anew = Options {
            new_framework: true,
        };
        assert_eq!(imported(&nodes, anew).0.view(now()).framework_id, None);
        // Where nothing runs, a new framework is what there is.
        nodes.retain(|path, _| !path.starts_with("state/instance/"));
        let (core, _) = imported(&nodes, Options::default());
        assert_eq!(core.view(now()).framework_id, None);
    }
}

/// The tree without deployments, in which an instance is of another version.
fn of_version(instance: &str, version: &str) -> Nodes {
    let mut nodes = tree();
    nodes.retain(|path, _| !path.starts_with("state/deployment/"));
    let name = format!("/{instance}");
    let found = nodes.iter_mut().find(|(path, _)| path.ends_with(&name));
    let (_, data) = found.unwrap();
    let mut document: Value = serde_json::from_slice(data).unwrap();
    document["runSpecVersion"] = json!(version);
    *data = Bytes::from(document.to_string());
    nodes
}

#[test]
fn an_instance_whose_version_the_original_dropped_is_scaled_with_its_app_not_replaced() {
    let web = PathId::from("/prod/web");
    let (name, changed) = (
        format!("prod_web.instance-{UUID}1"),
        "2021-03-02T11:30:00.500Z",
    );
    // Between the last change of its configuration and the newest version, and before both.
    for (version, since, restarts) in [
        ("2021-03-02T20:00:00.000Z", changed, false),
        ("2021-03-01T20:00:00.000Z", "2021-03-01T20:00:00.000Z", true),
    ] {
        let (core, _) = imported(&of_version(&name, version), Options::default());
        let instance = known(&core.view(now()), &name).unwrap();
        assert_eq!(instance.version.to_string(), version);
        assert_eq!(instance.config_version.to_string(), since);
        let plan = core.dry_run(now(), |scope| {
            let mut root = scope.copy();
            let app = (**root.app(&web).unwrap()).clone();
            root.put_app(
                App {
                    instances: 5,
                    ..app
                },
                root.version,
                false,
            );
            Ok(root)
        });
        let plan = plan.unwrap().to_json().to_string();
        assert_eq!(plan.contains("RestartApplication"), restarts, "{plan}");
        assert_eq!(plan.contains("ScaleApplication"), !restarts, "{plan}");
    }
}

#[test]
fn a_pod_whose_instances_are_of_a_version_the_original_dropped_is_told() {
    let version = "2021-03-02T20:00:00.000Z";
    let nodes = of_version(&format!("pods_two.instance-{UUID}4"), version);
    let (_, report) = imported(&nodes, Options::default());
    let changed = notes(&report, Fate::Changed);
    let told = changed
        .iter()
        .any(|note| note.starts_with("pod /pods/two") && note.contains(version));
    assert!(told, "{changed:#?}");
}

#[test]
fn a_deployment_whose_beginning_is_gone_is_left() {
    let mut nodes = tree();
    nodes.retain(|path, _| !path.contains("group/2/root/"));
    let (core, report) = imported(&nodes, Options::default());
    assert!(core.view(now()).deployments.is_empty());
    let left = notes(&report, Fate::Left);
    assert!(
        left.iter()
            .any(|note| note.starts_with("deployment 5ed4c0c5")),
        "{left:#?}"
    );
}

#[test]
fn a_deployment_that_hangs_in_the_air_takes_no_other_along() {
    let mut nodes = tree();
    let (path, data) = nodes
        .iter()
        .find(|(path, _)| path.starts_with("state/deployment/"))
        .map(|(path, data)| (path.clone(), data.clone()))
        .unwrap();
    let known = words::DeploymentPlan::decode(data.clone()).unwrap();
    // That of the first tree there was.
    let other = words::DeploymentPlan {
        id: "other".to_owned(),
        target: "2021-03-01T10:00:00.000Z".to_owned(),
    };
    let folder = path.rsplit_once('/').unwrap().0;
    nodes.insert(format!("{folder}/other"), other.encode_to_vec().into());
    let (core, report) = imported(&nodes, Options::default());
    let view = core.view(now());
    let ids: Vec<_> = view
        .deployments
        .iter()
        .map(|one| one.plan.id.as_str())
        .collect();
    assert_eq!(ids, [known.id.as_str()]);
    assert_eq!(report.taken["deployments"], 1);
    let left = notes(&report, Fate::Left);
    let told = left
        .iter()
        .any(|note| note.starts_with("deployment other") && note.contains("replaces"));
    assert!(told, "{left:#?}");
}

#[test]
fn a_value_that_explodes_is_refused() {
    let packed = |length: u64| {
        let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
        std::io::copy(&mut std::io::repeat(0).take(length), &mut packer).unwrap();
        let entry = words::StoreEntry {
            value: packer.finish().unwrap(),
            compressed: true,
        };
        entry.encode_to_vec()
    };
    assert_eq!(entry(&packed(1 << 20)), Ok(vec![0; 1 << 20]));
    let refused = entry(&packed(LARGEST + 1)).unwrap_err();
    assert!(refused.contains("more than"), "{refused}");
}

#[test]
fn only_what_is_known_is_read() {
    let mut nodes = tree();
    let version = "state/internal:storage:version".to_owned();
    // The same entry, of version 19.100.
    let old = STANDARD
        .decode("ChhpbnRlcm5hbDpzdG9yYWdlOnZlcnNpb24SAhgBGgQIExBk")
        .unwrap();
    nodes.insert(version.clone(), Bytes::from(old));
    let error = import(&nodes, Options::default(), now())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("19.100.0") && error.contains("Marathon 1.11"),
        "{error}"
    );
    nodes.remove(&version);
    let error = import(&nodes, Options::default(), now()).unwrap_err();
    assert!(matches!(error, MigrateError::NotThere(_)), "{error}");
}

#[test]
fn services_that_run_are_seen() {
    let mut nodes = tree();
    assert_eq!(running(&nodes), 0);
    nodes.insert(
        "leader-curator/_c_0-latch-0000000000".to_owned(),
        Bytes::new(),
    );
    assert_eq!(running(&nodes), 1);
}

#[tokio::test]
async fn rows_are_written_once_and_over_nothing_else() {
    let (store, election) = (MemoryStore::new(), MemoryElection::new());
    let leadership = election.campaign(Bytes::new()).await.unwrap();
    let rows = import(&tree(), Options::default(), now()).unwrap().rows;
    let fence = leadership.fence();
    let write = async |rows: &BTreeMap<_, _>, overwrite| {
        write(&store, &fence, "marathon/", rows, overwrite).await
    };
    assert_eq!(write(&rows, false).await.unwrap(), Written::All(None));
    let there = store.scan("marathon/").await.unwrap();
    let there: BTreeMap<_, _> = there
        .entries
        .iter()
        .map(|row| (row.key.to_string(), row.value.to_vec()))
        .collect();
    assert_eq!(there, rows);
    let revision = store.scan("").await.unwrap().revision;
    assert_eq!(write(&rows, false).await.unwrap(), Written::Nothing);
    assert_eq!(store.scan("").await.unwrap().revision, revision);

    let mut other = rows.clone();
    other.retain(|key, _| !key.contains("docker"));
    let error = write(&other, false).await.unwrap_err();
    assert!(
        matches!(error, WriteError::Occupied(count) if count == rows.len()),
        "{error}"
    );
    assert_eq!(store.scan("").await.unwrap().revision, revision);
    let Written::All(Some(replaced)) = write(&other, true).await.unwrap() else {
        panic!("something was there");
    };
    let before: usize = replaced.rows.values().sum();
    assert_eq!((before, replaced.rows["framework"]), (rows.len(), 1));
    let framework = replaced.framework.clone().unwrap();
    assert!(replaced.to_string().contains(&framework), "{replaced}");
    assert_eq!(
        store.scan("marathon/").await.unwrap().entries.len(),
        other.len()
    );

    // One that broke off: no Marathon starts with it, and the next attempt makes it whole.
    let half = dcos_store::Transaction::new(fence.clone()).put("marathon/import-under-way", "\"\"");
    store.transact(half).await.unwrap();
    let there = store.scan("marathon/").await.unwrap();
    let there = there.entries.iter().map(|row| (&*row.key, &*row.value));
    let refused = Core::recover(Arc::new(Config::default()), Seed::new(1), now(), there);
    assert!(matches!(refused, Err(RecoverError::Unknown(_))));
    assert_eq!(write(&rows, false).await.unwrap(), Written::All(None));
    assert_eq!(
        store.scan("marathon/").await.unwrap().entries.len(),
        rows.len()
    );
}

#[tokio::test]
async fn rows_no_store_takes_cost_nothing_that_is_there() {
    let (store, election) = (MemoryStore::new(), MemoryElection::new());
    let leadership = election.campaign(Bytes::new()).await.unwrap();
    let fence = leadership.fence();
    let mut rows = import(&tree(), Options::default(), now()).unwrap().rows;
    let written = write(&store, &fence, "marathon/", &rows, false).await;
    assert_eq!(written.unwrap(), Written::All(None));
    let revision = store.scan("").await.unwrap().revision;
    rows.retain(|key, _| !key.contains("docker"));
    let (last, _) = rows.last_key_value().unwrap();
    let large = vec![b' '; dcos_store::MAX_VALUE_BYTES];
    let rows = |more: &[u8]| {
        let mut rows = rows.clone();
        rows.insert(format!("{last}~"), [&large, more].concat());
        rows
    };
    let error = write(&store, &fence, "marathon/", &rows(b" "), true).await;
    assert!(matches!(error, Err(WriteError::Unfit(_))), "{error:?}");
    assert_eq!(store.scan("").await.unwrap().revision, revision);
    let written = write(&store, &fence, "marathon/", &rows(b""), true).await;
    assert!(matches!(written, Ok(Written::All(Some(_)))), "{written:?}");
}
