use super::*;
use dcos_proto::json::{self, Dialect};
use dcos_proto::mesos::TaskInfo;
use serde_json::{Value, json};

/// The shape of a task as a scheduler writes it.
fn shape(container: &Value, command: &Value) -> Result<Shape, String> {
    let task = json!({
        "name": "t", "task_id": {"value": "t"}, "agent_id": {"value": "a"},
        "container": container, "command": command,
        "resources": [
            {"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5}},
            {"name": "mem", "type": "SCALAR", "scalar": {"value": 64}},
            {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31000, "end": 31001}]}},
        ],
    });
    let task: TaskInfo = json::from_value(&task, Dialect::V1).unwrap();
    let environment = [
        ("PATH", DEFAULT_PATH),
        ("LIBPROCESS_IP", "10.0.0.1"),
        ("A", "b"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = ContainerConfig {
        command: task.command,
        container: task.container,
        resources: task.resources,
        environment: environment.into(),
        directory: "/work/sandbox".into(),
        ..ContainerConfig::default()
    };
    let settings = Settings {
        sandbox_directory: "/mnt/mesos/sandbox".into(),
        dns: serde_json::from_value(json!([
            {"network_mode": "BRIDGE", "dns": {"nameservers": ["9.9.9.9"]}},
            {"network_mode": "USER", "dns": {"nameservers": ["8.8.8.8"]}},
            {"network_mode": "USER", "network_name": "n", "dns": {"search": ["x"]}},
        ]))
        .unwrap(),
        memory: 1 << 34,
        ..Settings::default()
    };
    Shape::new("mesos-c", &config, &settings)
}

fn docker(docker: &Value) -> Value {
    json!({"type": "DOCKER", "docker": docker})
}

#[test]
fn a_shell_command_replaces_the_entry_point() {
    let image = docker(&json!({"image": "i"}));
    let shell = shape(&image, &json!({"value": "echo hi"})).unwrap();
    assert_eq!(
        shell.body.entrypoint.as_deref(),
        Some(&["/bin/sh".to_owned()][..])
    );
    assert_eq!(
        shell.body.cmd.as_deref(),
        Some(&["-c".to_owned(), "echo hi".to_owned()][..])
    );
    let words = shape(
        &image,
        &json!({"shell": false, "value": "a", "arguments": ["b"]}),
    )
    .unwrap();
    assert_eq!(words.body.entrypoint, None);
    assert_eq!(
        words.body.cmd.as_deref(),
        Some(&["a".to_owned(), "b".to_owned()][..])
    );
    let own = shape(&image, &json!({"shell": false})).unwrap();
    assert_eq!(own.body.cmd, None);
    assert!(
        shape(&image, &json!({})).is_err(),
        "a shell without a command"
    );
}

#[test]
fn the_environment_is_that_of_a_docker_task() {
    let host = shape(&docker(&json!({"image": "i"})), &json!({"value": "x"})).unwrap();
    let names: Vec<_> = host.environment.keys().map(String::as_str).collect();
    let expected = [
        "A",
        "LIBPROCESS_IP",
        "MESOS_CONTAINER_NAME",
        "MESOS_DIRECTORY",
        "MESOS_SANDBOX",
    ];
    assert_eq!(names, expected, "the image's own PATH is not hidden");
    let bridge = json!({"image": "i", "network": "BRIDGE"});
    let command = json!({"value": "x", "environment": {"variables": [{"name": "PATH", "value": DEFAULT_PATH}]}});
    let bridge = shape(&docker(&bridge), &command).unwrap();
    assert!(!bridge.environment.contains_key("LIBPROCESS_IP"));
    assert!(
        bridge.environment.contains_key("PATH"),
        "the task asked for it"
    );
}

#[test]
fn ports_are_published_only_where_they_were_given() {
    let mapping = |network: &str, port: u32| {
        let mappings = json!([{"host_port": port, "container_port": 80, "protocol": "udp,tcp"}]);
        let docker = docker(&json!({"image": "i", "network": network, "port_mappings": mappings}));
        shape(&docker, &json!({"value": "x"}))
    };
    let bridge = mapping("BRIDGE", 31000).unwrap();
    let bindings = bridge.host.port_bindings.unwrap();
    assert_eq!(
        bindings["80/udp"].as_ref().unwrap()[0].host_port.as_deref(),
        Some("31000")
    );
    assert!(bindings.contains_key("80/tcp"));
    assert_eq!(
        bridge.host.dns.as_deref(),
        Some(&["9.9.9.9".to_owned()][..])
    );
    assert_eq!(
        mapping("BRIDGE", 32000).unwrap_err(),
        "Port [32000] not included in resources"
    );
    assert!(
        mapping("HOST", 31000)
            .unwrap_err()
            .contains("only supported for bridge")
    );
}

#[test]
fn user_networks_have_a_name_and_their_name_servers() {
    let user = |networks: Value| {
        let container = json!({"type": "DOCKER", "docker": {"image": "i", "network": "USER"},
            "network_infos": networks});
        shape(&container, &json!({"value": "x"}))
    };
    assert_eq!(
        user(json!([])).unwrap_err(),
        "No network info found in container info"
    );
    assert_eq!(
        user(json!([{}])).unwrap_err(),
        "No network name found in network info"
    );
    let named = user(json!([{"name": "n"}])).unwrap();
    assert_eq!(named.host.network_mode.as_deref(), Some("n"));
    assert_eq!(
        named.host.dns_search.as_deref(),
        Some(&["x".to_owned()][..])
    );
    let other = user(json!([{"name": "o"}])).unwrap();
    assert_eq!(other.host.dns.as_deref(), Some(&["8.8.8.8".to_owned()][..]));
}

#[test]
fn volumes_are_those_of_the_original() {
    let volumes = |volumes: Value| {
        let container = json!({"type": "DOCKER", "docker": {"image": "i"}, "volumes": volumes});
        shape(&container, &json!({"value": "x"}))
    };
    let shape = volumes(json!([
        {"container_path": "/a", "host_path": "/h", "mode": "RO"},
        {"container_path": "b", "host_path": "/h", "mode": "RW"},
        {"container_path": "/c", "host_path": "rel", "mode": "RW"},
        {"container_path": "/d", "mode": "RW", "source": {"type": "DOCKER_VOLUME",
            "docker_volume": {"name": "v", "driver": "rexray"}}},
    ]))
    .unwrap();
    let expected = [
        "/work/sandbox:/mnt/mesos/sandbox:rw",
        "/h:/a:ro",
        "/h:/mnt/mesos/sandbox/b:rw",
        "/work/sandbox/rel:/c:rw",
    ];
    assert_eq!(shape.host.binds.unwrap(), expected);
    let mount = &shape.host.mounts.unwrap()[0];
    assert_eq!(mount.source.as_deref(), Some("v"));
    let driver = mount
        .volume_options
        .as_ref()
        .unwrap()
        .driver_config
        .as_ref()
        .unwrap();
    assert_eq!(driver.name.as_deref(), Some("rexray"));
    let relative = json!([{"container_path": "b", "host_path": "a", "mode": "RW"}]);
    assert!(
        volumes(relative)
            .unwrap_err()
            .contains("of a volume are relative")
    );
    let escape = json!([{"container_path": "/b", "host_path": "../../etc", "mode": "RW"}]);
    assert!(
        volumes(escape)
            .unwrap_err()
            .contains("leads out of the sandbox")
    );
}

#[test]
fn a_wrong_parameter_is_named() {
    let with = |key: &str, value: &str| {
        let parameters = json!([{"key": key, "value": value}]);
        let docker = docker(&json!({"image": "i", "parameters": parameters}));
        shape(&docker, &json!({"value": "x"})).map(|shape| shape.to_body())
    };
    let error = with("frobnicate", "1").unwrap_err();
    assert!(
        error.starts_with("docker parameter `frobnicate`: there is no such option"),
        "{error}"
    );
    let error = with("memory", "lots").unwrap_err();
    assert!(
        error.starts_with("docker parameter `memory`: `lots` is not an amount"),
        "{error}"
    );
    assert_eq!(with("user", "7").unwrap().user.as_deref(), Some("7"));
    let aliased = with("network-alias", "me").unwrap();
    let endpoints = aliased.networking_config.unwrap().endpoints_config.unwrap();
    assert_eq!(
        endpoints["host"].aliases.as_deref(),
        Some(&["me".to_owned()][..])
    );
}
