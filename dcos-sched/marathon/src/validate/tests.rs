//! Each rule with a document that breaks it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::model::shape;
use crate::normalize::{self, Rules};
use crate::{Error, PathId, Timestamp, schema};

fn rules() -> Rules {
    Rules {
        features: BTreeSet::new(),
        default_network_name: None,
        mesos_bridge_name: "mesos-bridge".to_owned(),
        default_role: "*".to_owned(),
        valid_roles: BTreeSet::from(["*".to_owned(), "dev".to_owned()]),
    }
}

/// Places and words of what is wrong with a document.
fn refused(mut document: Value) -> Vec<(String, String)> {
    let violations = schema::check(&mut document, shape::APP).and_then(|()| {
        let update = serde_json::from_value(document).unwrap();
        normalize::create(update, &PathId::root(), &rules(), Timestamp::default())
    });
    match violations {
        Err(Error::Invalid(violations) | Error::Shape(violations)) => {
            violations.into_iter().map(|v| (v.path, v.error)).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_rule_names_its_place() {
    let table = [
        (json!({"cmd": "run"}), "/id", "error.path.missing"),
        (
            json!({"id": "/a", "cmd": "run", "cpus": -1}),
            "/cpus",
            "error.min",
        ),
        (
            json!({"id": "/a", "cmd": "run", "instances": "x"}),
            "/instances",
            "error.expected.jsnumber",
        ),
        (
            json!({"id": "/a", "cmd": "run",
                "upgradeStrategy": {"minimumHealthCapacity": 1.5, "maximumOverCapacity": 0}}),
            "/upgradeStrategy/minimumHealthCapacity",
            "error.max",
        ),
        (
            json!({"id": "/UPPER", "cmd": "run"}),
            "/id",
            "must fully match regular expression",
        ),
        (
            json!({"id": "/a_b", "cmd": "run"}),
            "/id",
            "must fully match regular expression",
        ),
        (
            json!({"id": "/a/tasks", "cmd": "run"}),
            "/id",
            "reserved keywords: restart, tasks",
        ),
        (json!({"id": "/", "cmd": "run"}), "/", "must not be root"),
        (
            json!({"id": "/a"}),
            "/",
            "must either contain one of 'cmd' or 'args'",
        ),
        (
            json!({"id": "/a", "cmd": "run", "args": ["a"]}),
            "/",
            "must either contain one of",
        ),
        (
            json!({"id": "/a", "cmd": "x"}),
            "/",
            "must not be an empty string",
        ),
        (
            json!({"id": "/a", "container": {}}),
            "/container/docker",
            "not defined",
        ),
        (
            json!({"id": "/a", "cmd": "run", "constraints": [["hostname", "UNIQUE", "a"]]}),
            "/constraints(0)",
            "UNIQUE does not accept a value",
        ),
        (
            json!({"id": "/a", "cmd": "run", "constraints": [["rack", "CLUSTER"], ["a", "MAX_PER"]]}),
            "/constraints(1)",
            "MAX_PER requires an integer value",
        ),
        (
            json!({"id": "/a", "cmd": "run", "constraints": [["a", "LIKE", "("]]}),
            "/constraints(0)",
            "is not a valid regular expression",
        ),
        (
            json!({"id": "/a", "cmd": "run", "constraints": [["a", "NEAR"]]}),
            "/constraints(0)",
            "operator must be one of the following",
        ),
        (
            json!({"id": "/a", "cmd": "run", "healthChecks": [{"portIndex": 1}]}),
            "/healthChecks(0)",
            "Health check port indices must address an element",
        ),
        (
            json!({"id": "/a", "cmd": "run",
                "healthChecks": [{"protocol": "MESOS_TCP"}, {"protocol": "MESOS_HTTP"}]}),
            "/",
            "at most one Mesos health check",
        ),
        (
            json!({"id": "/a", "cmd": "run", "readinessChecks": [{"timeoutSeconds": 40}],
                "portDefinitions": [{"name": "http-api"}]}),
            "/readinessChecks(0)/timeoutSeconds",
            "got 40, expected less than 30",
        ),
        (
            json!({"id": "/a", "cmd": "run", "readinessChecks": [{"portName": "x"}]}),
            "/readinessChecks(0)/portName",
            "No port definition reference for portName x",
        ),
        (
            json!({"id": "/a", "cmd": "run", "instances": 2,
                "labels": {"MARATHON_SINGLE_INSTANCE_APP": "true"}}),
            "/",
            "Single instance app may only have one instance",
        ),
        (
            json!({"id": "/a", "cmd": "run",
                "unreachableStrategy": {"inactiveAfterSeconds": 5, "expungeAfterSeconds": 1}}),
            "/unreachableStrategy",
            "inactiveAfterSeconds must be less",
        ),
        (
            json!({"id": "/a", "cmd": "run", "gpus": 1}),
            "/",
            "Feature gpu_resources is not enabled",
        ),
        (
            json!({"id": "/a", "cmd": "run", "role": "ops"}),
            "/role",
            "got ops, expected one of: *, dev",
        ),
        (
            json!({"id": "/a", "cmd": "run", "acceptedResourceRoles": []}),
            "/acceptedResourceRoles",
            "must not be empty",
        ),
        (
            json!({"id": "/a", "cmd": "run", "acceptedResourceRoles": ["x"], "role": "dev"}),
            "/acceptedResourceRoles",
            "acceptedResourceRoles can only contain * and dev",
        ),
        (
            json!({"id": "/a", "cmd": "run", "secrets": {"a": {"source": "b"}}}),
            "/secrets",
            "Feature secrets is not enabled",
        ),
        (
            json!({"id": "/a", "cmd": "run", "networks": [{"mode": "host"}, {"mode": "host"}]}),
            "/networks",
            "May specify a single host network",
        ),
        (
            json!({"id": "/a", "cmd": "run", "networks": [{"mode": "container"}]}),
            "/networks",
            "Network name must be specified",
        ),
        (
            json!({"id": "/a", "cmd": "run", "portDefinitions": [{"port": 80}, {"port": 80}]}),
            "/portDefinitions",
            "Ports must be unique.",
        ),
        (
            json!({"id": "/a", "cmd": "run", "resourceLimits": {"cpus": 0.5}}),
            "/resourceLimits/cpus",
            "resource limit must be greater than or equal to requested resource (1.0)",
        ),
        (
            json!({"id": "/a", "cmd": "run", "fetch": [{"uri": "a b"}]}),
            "/fetch(0)/uri",
            "URI has",
        ),
        (
            json!({"id": "/a", "cmd": "run", "labels": {"DCOS_MIGRATION_API_VERSION": "v1"}}),
            "/",
            "DCOS_PACKAGE_FRAMEWORK_NAME and DCOS_MIGRATION_API_PATH must be defined",
        ),
    ];
    for (document, path, text) in table {
        let found = refused(document.clone());
        let hit = found.iter().any(|(p, e)| p == path && e.contains(text));
        assert!(hit, "{document}: {found:?}");
    }
}

#[test]
fn volumes_of_drivers_belong_to_one_task() {
    let app = |id: &str, engine: &str, volume: Value| {
        let mut document =
            json!({"id": id, "cmd": "run", "container": {"type": engine, "volumes": [volume]}});
        if engine == "DOCKER" {
            document["container"]["docker"] = json!({"image": "busybox"});
        }
        document
    };
    let volume = |options: Value| {
        json!({"containerPath": "/data", "mode": "RW",
            "external": {"name": "disk", "provider": "dvdi", "options": options}})
    };
    let driver = json!({"dvdi/driver": "rexray"});
    let rules = Rules {
        features: BTreeSet::from(["external_volumes".to_owned()]),
        ..rules()
    };
    let create = |document: Value| {
        let update = normalize::read_app(document.to_string().as_bytes()).unwrap();
        normalize::create(update, &PathId::root(), &rules, Timestamp::default())
    };
    let good = create(app("/a", "MESOS", volume(driver.clone()))).unwrap();
    assert!(good.upgrade_strategy.maximum_over_capacity == 0.0 && good.is_exclusive());
    let mut two = app("/a", "MESOS", volume(driver.clone()));
    two["instances"] = json!(2);
    let mut read_only = volume(driver.clone());
    read_only["mode"] = json!("RO");
    let mut csi = volume(driver.clone());
    csi["external"]["provider"] = json!("csi");
    let mut sized = volume(driver.clone());
    sized["external"]["size"] = json!(1);
    for (document, path, words) in [
        (two, "/", "limited to 1"),
        (
            app("/a", "MESOS", read_only),
            "/container/volumes(0)/mode",
            "expected RW",
        ),
        (
            app("/a", "MESOS", csi),
            "/container/volumes(0)/external/provider",
            "csi is not served",
        ),
        (
            app("/a", "MESOS", volume(json!({}))),
            "/container/volumes(0)/external/options(\"dvdi/driver\")",
            "not defined",
        ),
        (
            app("/a", "DOCKER", sized),
            "/container/volumes(0)/external/size",
            "undefined for Docker",
        ),
        (
            app(
                "/a",
                "DOCKER",
                volume(json!({"dvdi/driver": "rexray", "dvdi/iops": "1"})),
            ),
            "/container/volumes(0)/external/options",
            "must only contain dvdi/driver",
        ),
    ] {
        let Err(Error::Invalid(found)) = create(document.clone()) else {
            panic!("{document}");
        };
        let named = found
            .iter()
            .any(|one| one.path == path && one.error.contains(words));
        assert!(named, "{path} {words}: {found:?}");
    }
    // Without the feature it is refused, whatever it says.
    let closed = refused(app("/a", "MESOS", volume(driver.clone())));
    assert!(
        closed[0]
            .1
            .contains("Feature external_volumes is not enabled"),
        "{closed:?}"
    );
    let mut root = crate::model::RootGroup::default();
    for id in ["/a", "/b"] {
        let app = create(app(id, "MESOS", volume(driver.clone()))).unwrap();
        root.put_app(app, Timestamp::default(), false);
    }
    let Err(Error::Invalid(found)) = super::group::root(&crate::model::RootGroup::default(), &root)
    else {
        panic!("two apps have one volume");
    };
    assert!(
        found[0]
            .error
            .contains("Volume name 'disk' in /b conflicts"),
        "{found:?}"
    );
}
