//! Deprecated documents beside the canonical ones they stand for.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::model::shape;
use crate::schema;

pub(crate) fn rules() -> Rules {
    Rules {
        features: BTreeSet::new(),
        default_network_name: Some("dcos".to_owned()),
        mesos_bridge_name: "mesos-bridge".to_owned(),
        default_role: "*".to_owned(),
        valid_roles: BTreeSet::from(["*".to_owned()]),
    }
}

fn app(mut document: Value) -> Result<App, Error> {
    schema::check(&mut document, shape::APP)?;
    create(
        from_value(document)?,
        &PathId::root(),
        &rules(),
        Timestamp::from_millis(0),
    )
}

#[test]
fn a_small_app_gets_all_defaults() {
    let app = app(json!({"id": "sleep", "cmd": "sleep 1000"})).unwrap();
    assert_eq!(
        serde_json::to_value(&app).unwrap(),
        json!({
            "id": "/sleep", "cmd": "sleep 1000", "backoffFactor": 1.15, "backoffSeconds": 1,
            "cpus": 1, "mem": 128, "disk": 0, "gpus": 0, "executor": "", "instances": 1,
            "labels": {}, "maxLaunchDelaySeconds": 300, "networks": [{"mode": "host"}],
            "portDefinitions": [{"port": 0, "name": "default", "protocol": "tcp"}],
            "requirePorts": false, "killSelection": "YOUNGEST_FIRST", "role": "*",
            "upgradeStrategy": {"maximumOverCapacity": 1, "minimumHealthCapacity": 1},
            "unreachableStrategy": {"inactiveAfterSeconds": 0, "expungeAfterSeconds": 0},
            "version": "1970-01-01T00:00:00.000Z",
        })
    );
}

#[test]
fn deprecated_fields_become_canonical_ones() {
    let legacy = app(json!({
        "id": "/web", "uris": ["http://a/b.tgz", "http://a/c"],
        "container": {"docker": {"image": "nginx", "network": "BRIDGE",
            "portMappings": [{"containerPort": 80, "servicePort": 9000}]}},
        "healthChecks": [{"protocol": "HTTP"}],
    }));
    let canonical = app(json!({
        "id": "/web",
        "fetch": [{"uri": "http://a/b.tgz"}, {"uri": "http://a/c", "extract": false}],
        "networks": [{"mode": "container/bridge"}],
        "container": {"type": "DOCKER", "docker": {"image": "nginx"},
            "portMappings": [{"containerPort": 80, "hostPort": 0, "servicePort": 9000}]},
        "healthChecks": [{"protocol": "HTTP", "portIndex": 0}],
    }));
    assert_eq!(legacy.unwrap(), canonical.unwrap());
}

#[test]
fn an_address_for_each_container() {
    let legacy = app(json!({
        "id": "/web", "cmd": "serve",
        "ipAddress": {"discovery": {"ports": [{"number": 80, "name": "http"}]}},
    }));
    let canonical = app(json!({
        "id": "/web", "cmd": "serve", "networks": [{"name": "dcos"}],
        "container": {"type": "MESOS", "portMappings": [{"containerPort": 80, "name": "http"}]},
    }));
    assert_eq!(legacy.unwrap(), canonical.unwrap());
}

#[test]
fn ports_become_port_definitions() {
    let legacy = app(json!({"id": "/a", "cmd": "run", "ports": [80, 0], "requirePorts": true}));
    let canonical = app(json!({
        "id": "/a", "cmd": "run", "portDefinitions": [{"port": 80}, {"port": 0}],
        "requirePorts": true
    }));
    assert_eq!(legacy.unwrap(), canonical.unwrap());
}

#[test]
fn an_update_keeps_what_it_does_not_name() {
    let before = app(json!({"id": "/g/a", "cmd": "run", "env": {"A": "1", "B": "2"}})).unwrap();
    let change: AppUpdate =
        serde_json::from_value(json!({"env": {"C": "3"}, "dependencies": ["../b"]})).unwrap();
    let after = update(&before, change, &rules(), Timestamp::from_millis(1)).unwrap();
    assert_eq!(after.cmd, before.cmd);
    assert_eq!(after.env.len(), 1);
    assert_eq!(after.dependencies, [PathId::from("/b")]);
    assert!(!after.same_config(&before));
    let scaled: AppUpdate = serde_json::from_value(json!({"instances": 5})).unwrap();
    let scaled = update(&before, scaled, &rules(), Timestamp::from_millis(1)).unwrap();
    assert!(scaled.same_config(&before), "{scaled:?}");
}

#[test]
fn both_ways_at_once_are_refused() {
    for (document, text) in [
        (
            json!({"id": "/a", "networks": [{"mode": "host"}],
                "container": {"docker": {"image": "a", "network": "HOST"}}}),
            "must not specify both container.docker.network and networks",
        ),
        (
            json!({"id": "/a", "cmd": "run", "ports": [1], "portDefinitions": [{"port": 2}]}),
            "cannot specify both ports and port definitions",
        ),
        (
            json!({"id": "/a", "cmd": "run", "uris": ["http://a"], "fetch": [{"uri": "http://b"}]}),
            "may not be set in conjunction with fetch",
        ),
    ] {
        let error = app(document).unwrap_err();
        assert!(error.body().to_string().contains(text), "{error:?}");
    }
}

/// Documents that look like apps, with fields that are right, nearly right, or something else.
fn documents() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        // Three decimals, which is what Mesos computes with.
        (-2_000..70_000_000_i32).prop_map(|n| Value::from(f64::from(n) / 1000.0)),
        "[a-z/.*_-]{0,12}".prop_map(Value::from),
        prop::sample::select(vec![
            "host",
            "container",
            "container/bridge",
            "BRIDGE",
            "USER",
            "HTTP",
            "MESOS_TCP",
            "COMMAND",
            "DOCKER",
            "MESOS",
            "hostname",
            "UNIQUE",
            "GROUP_BY",
            "LIKE",
            "(",
            "disabled",
            "udp,tcp",
            "unlimited",
            "/a/../b",
            "http://a/b.tgz",
        ])
        .prop_map(Value::from),
    ];
    let names = prop::sample::select(vec![
        "id",
        "cmd",
        "args",
        "container",
        "docker",
        "image",
        "network",
        "networks",
        "portMappings",
        "portDefinitions",
        "ports",
        "port",
        "hostPort",
        "containerPort",
        "name",
        "mode",
        "type",
        "healthChecks",
        "protocol",
        "portIndex",
        "command",
        "value",
        "constraints",
        "uris",
        "fetch",
        "uri",
        "ipAddress",
        "discovery",
        "number",
        "volumes",
        "containerPath",
        "hostPath",
        "env",
        "secret",
        "secrets",
        "source",
        "labels",
        "instances",
        "cpus",
        "upgradeStrategy",
        "version",
        "unreachableStrategy",
        "resourceLimits",
        "mem",
        "readinessChecks",
        "check",
        "exec",
        "role",
        "dependencies",
        "acceptedResourceRoles",
        "groups",
        "apps",
        "scaleBy",
        "enforceRole",
    ]);
    let node = leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(names.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    });
    (node, any::<bool>()).prop_map(|(mut document, complete)| {
        if let (Value::Object(fields), true) = (&mut document, complete) {
            fields.entry("id").or_insert_with(|| json!("/a"));
            fields.entry("cmd").or_insert_with(|| json!("run it"));
        }
        document
    })
}

proptest! {
    #[test]
    fn whatever_is_sent_is_taken_or_refused(document in documents()) {
        let body = document.to_string();
        drop(read_group(body.as_bytes()));
        let Ok(update) = read_app(body.as_bytes()) else { return Ok(()) };
        let moment = Timestamp::from_millis(0);
        let Ok(app) = create(update, &PathId::root(), &rules(), moment) else { return Ok(()) };
        // What was taken is complete: written, read and normalised again it is the same.
        let written = serde_json::to_vec(&app).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<App>(&written).unwrap(), &app);
        let again = create(read_app(&written).unwrap(), &PathId::root(), &rules(), moment);
        prop_assert_eq!(again.unwrap(), app);
    }
}
