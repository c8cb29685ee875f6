use std::collections::BTreeMap;

use dcos_proto::mesos::value;
use serde_json::{Value, json};

use super::*;
use crate::Timestamp;
use crate::instance::{Agent, InstanceId};
use crate::normalize::{self, Rules};

fn built(document: &Value, ports: &[Option<u16>]) -> (ExecutorInfo, Vec<TaskInfo>) {
    let rules = Rules {
        features: ["secrets".to_owned()].into(),
        default_network_name: None,
        mesos_bridge_name: "mesos-bridge".into(),
        default_role: "*".into(),
        valid_roles: ["*".to_owned()].into(),
    };
    let pod = normalize::read_pod(document.to_string().as_bytes()).unwrap();
    let app = normalize::pod(pod, &rules, Timestamp::default()).unwrap();
    let agent = Agent {
        id: "agent-1".into(),
        host: "host.local".into(),
        ..Agent::default()
    };
    let id = InstanceId::new(&app.id, "u");
    let instance = Instance::launched(id, &app, agent, ports.to_vec(), Timestamp::default());
    let scalar = |name: &str, value: f64| Resource {
        name: name.into(),
        scalar: Some(value::Scalar { value }),
        ..Resource::default()
    };
    let resources = vec![
        scalar("cpus", app.cpus),
        scalar("mem", app.mem),
        scalar("disk", app.disk),
        Resource {
            name: "ports".into(),
            ..Resource::default()
        },
    ];
    let surroundings = Surroundings {
        framework: Some("f".into()),
        mesos_bridge_name: "mesos-bridge".into(),
        ..Surroundings::default()
    };
    let pod = app.pod.as_deref().unwrap();
    build_pod(&app, pod, &instance, resources, &surroundings)
}

fn amounts(resources: &[Resource]) -> BTreeMap<&str, f64> {
    let scalars = resources.iter().filter_map(|each| {
        let scalar = each.scalar.as_ref()?;
        Some((each.name.as_str(), scalar.value))
    });
    scalars.collect()
}

fn env(task: &TaskInfo) -> BTreeMap<String, Option<String>> {
    let command = task.command.as_ref().unwrap();
    let variables = &command.environment.as_ref().unwrap().variables;
    variables
        .iter()
        .map(|v| (v.name.clone(), v.value.clone()))
        .collect()
}

fn two() -> Value {
    json!({"id": "/g/p", "labels": {"tier": "x"}, "environment": {"A": "pod", "B": "pod"},
        "secrets": {"s": {"source": "/path"}},
        "volumes": [{"name": "tmp"}, {"name": "key", "secret": "s"}, {"name": "etc", "host": "/etc"}],
        "containers": [
            {"name": "web", "exec": {"command": {"shell": "serve"}},
             "resources": {"cpus": 0.5, "mem": 64}, "environment": {"B": "web", "C": {"secret": "s"}},
             "endpoints": [{"name": "http-api", "hostPort": 0}],
             "healthCheck": {"http": {"endpoint": "http-api", "path": "/ok"}},
             "check": {"tcp": {"endpoint": "http-api"}, "intervalSeconds": 30},
             "volumeMounts": [{"name": "tmp", "mountPath": "data"}]},
            {"name": "side", "exec": {"command": {"argv": ["/bin/a", "b"]}},
             "resources": {"cpus": 0.1, "mem": 32, "disk": 3}, "user": "nobody",
             "lifecycle": {"killGracePeriodSeconds": 1.5},
             "check": {"exec": {"command": {"argv": ["/bin/ok", "now"]}}},
             "volumeMounts": [{"name": "key", "mountPath": "k"},
                 {"name": "etc", "mountPath": "e", "readOnly": true}]}]})
}

#[test]
fn each_container_gets_what_it_asked_for_and_the_executor_the_ports() {
    let (executor, tasks) = built(&two(), &[Some(31_000)]);
    assert_eq!(executor.executor_id.value, "instance-g_p.u");
    assert_eq!(executor.r#type(), executor_info::Type::Default);
    assert_eq!(executor.framework_id.unwrap().value, "f");
    assert!(executor.command.is_none());
    assert_eq!(
        amounts(&executor.resources),
        BTreeMap::from([("cpus", 0.1), ("mem", 32.0), ("disk", 10.0)])
    );
    assert!(executor.resources.iter().any(|each| each.name == "ports"));
    let expected = BTreeMap::from([("cpus", 0.5), ("mem", 64.0)]);
    assert_eq!(amounts(&tasks[0].resources), expected);
    let expected = BTreeMap::from([("cpus", 0.1), ("mem", 32.0), ("disk", 3.0)]);
    assert_eq!(amounts(&tasks[1].resources), expected);
    let ids: Vec<_> = tasks
        .iter()
        .map(|task| task.task_id.value.as_str())
        .collect();
    assert_eq!(ids, ["g_p.instance-u.web.1", "g_p.instance-u.side.1"]);
}

#[test]
fn the_environment_says_where_endpoints_are() {
    let (_, tasks) = built(&two(), &[Some(31_000)]);
    let (web, side) = (env(&tasks[0]), env(&tasks[1]));
    let is = |all: &BTreeMap<String, Option<String>>, name: &str, value: &str| {
        assert_eq!(all[name].as_deref(), Some(value), "{name}");
    };
    is(&web, "A", "pod");
    is(&web, "B", "web");
    assert_eq!(web["C"], None, "a secret has no value here");
    is(&side, "B", "pod");
    is(&side, "ENDPOINT_HTTP_API", "31000");
    is(&side, "EP_HOST_HTTP_API", "31000");
    is(&side, "MARATHON_CONTAINER_ID", "side");
    is(&side, "MARATHON_APP_ID", "/g/p");
    is(&side, "MARATHON_APP_LABEL_TIER", "x");
    is(&side, "MESOS_EXECUTOR_ID", "instance-g_p.u");
    is(&side, "HOST", "host.local");
}

#[test]
fn commands_checks_and_volumes() {
    let (_, tasks) = built(&two(), &[Some(31_000)]);
    let command = tasks[1].command.as_ref().unwrap();
    assert_eq!(command.shell, Some(false));
    assert_eq!((command.value.as_ref(), command.arguments.len()), (None, 2));
    assert_eq!(command.user.as_deref(), Some("nobody"));
    let grace = tasks[1].kill_policy.as_ref().unwrap().grace_period;
    assert_eq!(grace.unwrap().nanoseconds, 1_500_000_000);
    let check = tasks[0].health_check.as_ref().unwrap();
    assert_eq!(check.http.as_ref().unwrap().port, 31_000);
    let check = tasks[0].check.as_ref().unwrap();
    assert_eq!(check.tcp.as_ref().unwrap().port, 31_000);
    let times = [check.interval_seconds, check.timeout_seconds];
    assert_eq!(times, [Some(30.0), Some(20.0)]);
    let check = tasks[1].check.as_ref().unwrap();
    let program = &check.command.as_ref().unwrap().command;
    assert_eq!(program.value.as_deref(), Some("/bin/ok"));
    assert_eq!((program.shell, program.arguments.len()), (Some(false), 2));
    let of = |task: &TaskInfo| task.container.as_ref().unwrap().volumes.clone();
    let tmp = of(&tasks[0])[0]
        .source
        .clone()
        .unwrap()
        .sandbox_path
        .unwrap();
    assert_eq!(tmp.path, "volumes/tmp");
    let other = of(&tasks[1]);
    assert!(other[0].source.as_ref().unwrap().secret.is_some());
    assert_eq!(other[1].host_path.as_deref(), Some("/etc"));
    assert_eq!(other[1].mode(), dcos_proto::mesos::volume::Mode::Ro);
}

#[test]
fn containers_share_the_networks_of_the_executor() {
    let (executor, tasks) = built(
        &json!({"id": "/p", "networks": [{"mode": "container", "name": "n"}], "containers": [
            {"name": "a", "endpoints": [{"name": "x", "containerPort": 80, "hostPort": 0,
                "protocol": ["tcp", "udp"]}, {"name": "y", "containerPort": 81}]}]}),
        &[Some(31_000), None],
    );
    let network = &executor.container.unwrap().network_infos[0];
    assert_eq!(network.name.as_deref(), Some("n"));
    let mapped: Vec<_> = network
        .port_mappings
        .iter()
        .map(|mapping| (mapping.host_port, mapping.container_port))
        .collect();
    assert_eq!(mapped, [(31_000, 80), (31_000, 80)]);
    assert!(
        tasks[0]
            .container
            .as_ref()
            .unwrap()
            .network_infos
            .is_empty()
    );
    let ports = &tasks[0]
        .discovery
        .as_ref()
        .unwrap()
        .ports
        .as_ref()
        .unwrap()
        .ports;
    let numbers: Vec<_> = ports.iter().map(|port| port.number).collect();
    assert_eq!(numbers, [31_000, 31_000, 81]);
}
