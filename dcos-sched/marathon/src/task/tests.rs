//! Tasks of apps, as Mesos gets them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::instance::{Agent, Condition, Goal, InstanceId};
use crate::{PathId, Timestamp};

fn task(document: Value, ports: &[Option<u16>]) -> TaskInfo {
    let app: App = serde_json::from_value(document).unwrap();
    let id = InstanceId::new(&app.id, "u");
    let instance = Instance {
        task_id: id.task(1),
        id,
        app: app.id.clone(),
        version: app.version,
        config_version: app.version,
        role: "*".into(),
        goal: Goal::Running,
        agent: Agent {
            id: "agent-1".into(),
            host: "host.local".into(),
            ..Agent::default()
        },
        condition: Condition::Provisioned,
        since: Timestamp::default(),
        staged_at: Timestamp::default(),
        started_at: None,
        ports: ports.to_vec(),
        addresses: Vec::new(),
        healthy: None,
        kill: false,
        unreachable_strategy: crate::model::UnreachableStrategy::default(),
        health: Vec::new(),
        ready: None,
        check_result: None,
        tasks: Vec::new(),
        reservation: None,
        tree: None,
    };
    build(&app, &instance, Vec::new(), &Surroundings::default())
}

fn env(task: &TaskInfo) -> BTreeMap<String, String> {
    let command = task.command.as_ref().unwrap();
    let variables = command
        .environment
        .iter()
        .flat_map(|environment| &environment.variables);
    variables
        .map(|v| (v.name.clone(), v.value.clone().unwrap()))
        .collect()
}

#[test]
fn the_environment_of_a_host_networked_app() {
    let task = task(
        json!({"id": "/prod/db", "cmd": "run it", "cpus": 0.5, "env": {"A": "b"},
            "labels": {"my.label": "x"}, "networks": [{"mode": "host"}],
            "portDefinitions": [{"port": 10000, "name": "http"}, {"port": 0}],
            "version": "2020-01-31T12:00:00.000Z"}),
        &[Some(31000), Some(31001)],
    );
    let expected = [
        ("A", "b"),
        ("HOST", "host.local"),
        ("MARATHON_APP_ENFORCE_GROUP_ROLE", "FALSE"),
        ("MARATHON_APP_ID", "/prod/db"),
        ("MARATHON_APP_LABELS", "MY_LABEL"),
        ("MARATHON_APP_LABEL_MY_LABEL", "x"),
        ("MARATHON_APP_RESOURCE_CPUS", "0.5"),
        ("MARATHON_APP_RESOURCE_DISK", "0.0"),
        ("MARATHON_APP_RESOURCE_GPUS", "0"),
        ("MARATHON_APP_RESOURCE_MEM", "128.0"),
        ("MARATHON_APP_VERSION", "2020-01-31T12:00:00.000Z"),
        ("MESOS_TASK_ID", "prod_db.instance-u._app.1"),
        ("PORT", "31000"),
        ("PORT0", "31000"),
        ("PORT1", "31001"),
        ("PORTS", "31000,31001"),
        ("PORT_10000", "31000"),
        ("PORT_31001", "31001"),
        ("PORT_HTTP", "31000"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(env(&task), BTreeMap::from(expected));
    assert_eq!(task.name, "db.prod");
    assert_eq!(
        task.command.as_ref().unwrap().value.as_deref(),
        Some("run it")
    );
    assert_eq!(task.container, None);
    let ports = task.discovery.unwrap().ports.unwrap().ports;
    let ports: Vec<_> = ports
        .iter()
        .map(|port| (port.number, port.name.as_deref()))
        .collect();
    assert_eq!(ports, [(31000, Some("http")), (31001, None)]);
}

#[test]
fn words_need_no_shell() {
    let task = task(json!({"id": "/a", "args": ["/bin/true", "-x"]}), &[]);
    let command = task.command.unwrap();
    assert_eq!(command.shell, Some(false));
    assert_eq!(command.value.as_deref(), Some("/bin/true"));
    assert_eq!(command.arguments, ["/bin/true", "-x"]);
}

#[test]
fn bridged_containers_map_ports() {
    let task = task(
        json!({"id": "/a", "networks": [{"mode": "container/bridge"}],
            "container": {"type": "DOCKER", "docker": {"image": "nginx"}, "portMappings": [
                {"containerPort": 80, "hostPort": 0}, {"containerPort": 0, "hostPort": 0}]}}),
        &[Some(31000), Some(31001)],
    );
    let docker = task.container.as_ref().unwrap().docker.as_ref().unwrap();
    let mapped: Vec<_> = docker
        .port_mappings
        .iter()
        .map(|m| (m.host_port, m.container_port))
        .collect();
    assert_eq!(mapped, [(31000, 80), (31001, 31001)]);
    assert_eq!(env(&task)["PORT_80"], "31000");
    assert_eq!(
        docker.parameters[0].value,
        "MESOS_TASK_ID=a.instance-u._app.1"
    );
}

#[test]
fn health_checks_the_executor_performs_go_with_the_task() {
    let task = task(
        json!({"id": "/a", "cmd": "run", "networks": [{"mode": "host"}],
            "portDefinitions": [{"port": 0}],
            "healthChecks": [{"protocol": "HTTP"}, {"protocol": "MESOS_HTTP", "path": "/ok",
                "portIndex": 0, "maxConsecutiveFailures": 2}]}),
        &[Some(31000)],
    );
    let check = task.health_check.unwrap();
    assert_eq!(check.consecutive_failures, Some(2));
    let http = check.http.unwrap();
    assert_eq!((http.port, http.path.as_deref()), (31000, Some("/ok")));
}

#[test]
fn volumes_of_drivers_are_named_with_their_options() {
    let external = |options: serde_json::Value| {
        json!({"id": "/a", "cmd": "run", "container": {"type": "MESOS", "volumes": [
            {"containerPath": "/data", "mode": "RW", "external": {"size": 5, "name": "disk", "provider": "dvdi",
                "options": options}}]}})
    };
    let document = external(
        json!({"dvdi/driver": "rexray", "dvdi/size": "1", "dvdi/iops": " 9 ", "other": "x"}),
    );
    let task = task(document, &[]);
    let volume = &task.container.unwrap().volumes[0];
    let source = volume
        .source
        .as_ref()
        .unwrap()
        .docker_volume
        .as_ref()
        .unwrap();
    assert_eq!(
        (source.driver.as_deref(), source.name.as_str()),
        (Some("rexray"), "disk")
    );
    let options = &source.driver_options.as_ref().unwrap().parameter;
    let options: Vec<_> = options
        .iter()
        .map(|one| (one.key.as_str(), one.value.as_str()))
        .collect();
    assert_eq!(options, [("iops", "9"), ("size", "5")]);
}

#[test]
fn ids_read_back() {
    assert_eq!(PathId::from_safe("prod_db"), PathId::from("/prod/db"));
}
