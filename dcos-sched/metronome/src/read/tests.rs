use proptest::prelude::*;
use serde_json::json;

use super::*;

fn with(changes: &[(&str, Value)]) -> Value {
    let mut document =
        json!({"id": "a.b", "run": {"cpus": 1, "mem": 32, "disk": 0, "cmd": "true"}});
    for (path, value) in changes {
        let (parent, key) = path.rsplit_once('/').unwrap();
        document.pointer_mut(parent).unwrap()[key] = value.clone();
    }
    document
}

fn errors(document: Value) -> Vec<(String, String)> {
    match job(document, None) {
        Err(Error::Invalid(found)) => found.into_iter().map(|v| (v.path, v.error)).collect(),
        other => panic!("{other:?}"),
    }
}

/// The only thing wrong with a job with this change.
fn check_one(path: &str, value: Value, place: &str, error: &str) {
    let found = errors(with(&[(path, value)]));
    assert_eq!(found, [(place.to_owned(), error.to_owned())]);
}

#[test]
fn defaults_and_what_is_returned_otherwise_than_sent() {
    let sent = with(&[
        (
            "/run/placement",
            json!({"constraints": [{"attribute": "rack", "operator": "EQ", "value": "2"}]}),
        ),
        ("/run/taskKillGracePeriodSeconds", json!(2.7)),
        (
            "/schedules",
            json!([{"id": "s", "cron": "*/1 * * * *", "what": "ever"}]),
        ),
    ]);
    let read = serde_json::to_value(job(sent, None).unwrap()).unwrap();
    assert_eq!(
        read,
        json!({
            "id": "a.b", "dependencies": [], "labels": {},
            "schedules": [{"id": "s", "cron": "* * * * *", "timezone": "UTC", "startingDeadlineSeconds": 900,
                           "concurrencyPolicy": "ALLOW", "enabled": true}],
            "run": {"cpus": 1, "mem": 32, "disk": 0, "gpus": 0, "cmd": "true", "env": {},
                    "placement": {"constraints": [{"attribute": "rack", "operator": "IS", "value": "2"}]},
                    "artifacts": [], "maxLaunchDelay": 3600, "volumes": [], "restart": {"policy": "NEVER"},
                    "taskKillGracePeriodSeconds": 2, "secrets": {}, "networks": []},
        })
    );
}

#[test]
fn shapes() {
    let text = "Additional properties are not allowed, but found properties unknown.";
    check_one("/unknown", json!(1), "", text);
    check_one("/run/unknown", json!(1), "/run", text);
    check_one(
        "/run/cpus",
        json!(0.001),
        "/run/cpus",
        "0.001 is smaller than required minimum value of 0.01.",
    );
    check_one(
        "/run/mem",
        json!(31),
        "/run/mem",
        "31 is smaller than required minimum value of 32.",
    );
    check_one(
        "/run/cmd",
        json!(""),
        "/run/cmd",
        "'' does not match minimum length of 1.",
    );
    check_one(
        "/run/cmd",
        json!(5),
        "/run/cmd",
        "Wrong type. Expected string, was integer.",
    );
    check_one(
        "/run/gpus",
        json!(0.5),
        "/run/gpus",
        "Wrong type. Expected integer, was number.",
    );
    check_one(
        "/description",
        Value::Null,
        "/description",
        "Wrong type. Expected string, was null.",
    );
    check_one(
        "/run/placement",
        json!({"constraints": [{"attribute": "hostname", "operator": "UNIQUE"}]}),
        "/run/placement/constraints(0)/operator",
        "Instance is invalid enum value.",
    );
    assert_eq!(
        errors(json!({"id": "-", "run": {"mem": 32, "disk": 0}}))[1],
        ("/run".to_owned(), "Property cpus missing.".to_owned())
    );
    for good in ["a", "a-b", "a--b", "0.1.x"] {
        job(with(&[("/id", json!(good))]), None).unwrap();
    }
    for bad in ["", "A", "a.", ".a", "a..b", "-a", "a-", "/a", "a_b"] {
        assert_eq!(errors(with(&[("/id", json!(bad))]))[0].0, "/id", "{bad}");
    }
}

#[test]
fn meanings() {
    let schedule = |cron: &str, zone: &str| json!([{"id": "s", "cron": cron, "timezone": zone}]);
    check_one(
        "/schedules",
        schedule("0 0 31 2 *", "UTC"),
        "/schedules(0)/cron",
        "Can not read cron expression \"0 0 31 2 *\"",
    );
    check_one(
        "/schedules",
        schedule("0 0 * * *", "Rome"),
        "/schedules(0)/timezone",
        "No time zone found with this id: \"Rome\"",
    );
    check_one(
        "/dependencies",
        json!([{}]),
        "/dependencies(0)/id",
        "error.path.missing",
    );
    let found = errors(with(&[(
        "/run/volumes",
        json!([{"containerPath": "/a", "hostPath": "/b"}]),
    )]));
    assert_eq!(found[0].0, "/run/volumes(0)");
    assert!(
        found[0]
            .1
            .starts_with("expected HostVolume or SecretVolume object but got {")
    );
}

#[test]
fn rules() {
    let image = json!({"image": "x"});
    let ucr = json!({"image": {"id": "x"}});
    let mut nothing = with(&[]);
    nothing["run"].as_object_mut().unwrap().remove("cmd");
    let one = |document, place: &str, error: &str| {
        assert_eq!(errors(document), [(place.to_owned(), error.to_owned())]);
    };
    one(
        nothing,
        "/run",
        "Cmd, Docker or UCR image must be specified",
    );
    one(
        with(&[("/run/docker", image.clone()), ("/run/ucr", ucr.clone())]),
        "/run",
        "Either Docker or UCR should be provided, but not both",
    );
    one(
        with(&[("/run/docker", image.clone()), ("/run/gpus", json!(1))]),
        "/run/gpus",
        "GPUs are not supported with Docker",
    );
    one(
        with(&[
            ("/run/docker", image.clone()),
            ("/run/secrets", json!({"s": {"source": "/s"}})),
            (
                "/run/volumes",
                json!([{"containerPath": "/a", "secret": "s"}]),
            ),
        ]),
        "/run/volumes",
        "File based secrets are only supported by UCR",
    );
    check_one(
        "/run/env",
        json!({"A": {"secret": "s"}}),
        "/run",
        "The following secrets are referenced, but undefined: s. Please add them to the secrets field.",
    );
    check_one(
        "/run/secrets",
        json!({"s": {"source": "/s"}}),
        "/run",
        "The following secrets are defined, but not referenced: s. Please remove them from the secrets field.",
    );
    let hasty = json!({"id": "s", "cron": "* * * * *", "startingDeadlineSeconds": 59});
    check_one(
        "/schedules",
        json!([hasty]),
        "/schedules(0)/startingDeadline",
        "got 59 seconds, expected 1 minute or more",
    );
    let schedule = json!({"id": "s", "cron": "* * * * *"});
    check_one(
        "/schedules",
        json!([schedule, schedule]),
        "/schedules",
        "has size 2, expected 1 or less",
    );
    check_one(
        "/dependencies",
        json!([{"id": "x"}, {"id": "x"}]),
        "/dependencies",
        "has double entries",
    );
    one(
        with(&[
            ("/schedules", json!([schedule])),
            ("/dependencies", json!([{"id": "x"}])),
        ]),
        "/",
        "Jobs may not have both dependencies and schedules specified",
    );
}

#[test]
fn rules_of_networks() {
    let network = |mode: &str| json!({"mode": mode});
    let named = |name: &str| json!({"mode": "container", "name": name});
    let of = |docker: bool, networks: Value| {
        let container = if docker {
            ("/run/docker", json!({"image": "x"}))
        } else {
            ("/run/ucr", json!({"image": {"id": "x"}}))
        };
        let found = match job(with(&[container, ("/run/networks", networks)]), None) {
            Err(Error::Invalid(found)) => found,
            other => {
                other.unwrap();
                Vec::new()
            }
        };
        found
            .into_iter()
            .map(|violation| violation.error)
            .collect::<Vec<_>>()
    };
    assert!(of(false, json!([named("a"), named("b")])).is_empty());
    assert!(of(true, json!([network("container/bridge")])).is_empty());
    assert_eq!(
        of(true, json!([named("a"), named("b")])),
        ["Docker does not allow specification of multiple networks"]
    );
    assert_eq!(
        of(false, json!([named("a"), named("a")])),
        ["network names must be unique"]
    );
    assert_eq!(
        of(false, json!([network("container")])),
        ["must not be empty for container networks"]
    );
    assert_eq!(of(false, json!([network("host"), named("a")])).len(), 2);
    check_one(
        "/run/networks",
        json!([named("a")]),
        "/run/networks",
        "Only containers may join container or bridge networks",
    );
}

/// Anything that could stand in a job.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z*/ 0-9]{0,9}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        let key = prop::sample::select(vec![
            "id",
            "run",
            "cpus",
            "cron",
            "secret",
            "source",
            "image",
            "mode",
            "name",
            "uri",
            "containerPath",
            "policy",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((key.prop_map(str::to_owned), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

const PLACES: [&str; 26] = [
    "/id",
    "/description",
    "/dependencies",
    "/labels",
    "/schedules",
    "/run",
    "/run/cpus",
    "/run/mem",
    "/run/disk",
    "/run/gpus",
    "/run/cmd",
    "/run/args",
    "/run/user",
    "/run/env",
    "/run/placement",
    "/run/artifacts",
    "/run/maxLaunchDelay",
    "/run/docker",
    "/run/ucr",
    "/run/volumes",
    "/run/restart",
    "/run/taskKillGracePeriodSeconds",
    "/run/secrets",
    "/run/networks",
    "/other",
    "/run/other",
];

proptest! {
    #[test]
    fn whatever_stands_anywhere_is_read_or_refused(place in prop::sample::select(PLACES.to_vec()), value in anything()) {
        if let Ok(read) = job(with(&[(place, value)]), None) {
            // What was accepted is accepted again, and stays what it is.
            let shown = serde_json::to_value(&read).unwrap();
            prop_assert_eq!(job(shown.clone(), None), Ok(read.clone()));
            let row: JobSpec = serde_json::from_value(shown).unwrap();
            prop_assert_eq!(row, read);
        }
    }
}
