//! The shapes of the documents users send, table by table.

use crate::schema::{Field, Shape, may, must};

const I32: i64 = i32::MAX as i64;
pub(super) const INF: f64 = f64::INFINITY;
pub(super) const TEXT: Shape = Shape::Text(0);
pub(super) const NAME: Shape = Shape::Text(1);
/// `LegacyName` of the original, for ports.
const PORT_NAME: Shape = Shape::Name(usize::MAX, "");
/// `NetworkName` of the original.
const NETWORK_NAME: Shape = Shape::Name(63, "_");
/// `Uri` and `Path` of the original.
const PLACE: Shape = Shape::Within(1024);
pub(super) const COUNT: Shape = Shape::Int(0, I32);
pub(super) const TEXTS: Shape = Shape::List(&TEXT);
pub(super) const LABELS: Shape = Shape::Map(&TEXT);
pub(super) const SCHEME: Shape = Shape::OneOf(&["HTTP", "HTTPS"]);
const PORT_PROTOCOL: Shape = Shape::OneOf(&["tcp", "udp", "udp,tcp"]);

/// A new app.
pub(crate) const APP: Shape = Shape::Object(&app_fields(true));
/// A change to an app.
pub(crate) const APP_UPDATE: Shape = Shape::Object(&app_fields(false));
/// Several new apps.
pub(crate) const APPS: Shape = Shape::List(&APP);
/// Several changes.
pub(crate) const APP_UPDATES: Shape = Shape::List(&APP_UPDATE);

/// A group; deeper levels of groups are checked level by level.
pub(crate) const GROUP: Shape = Shape::Object(&[
    may("id", TEXT),
    may("apps", APPS),
    may("groups", Shape::List(&Shape::Object(&[]))),
    may("dependencies", TEXTS),
    may("scaleBy", Shape::Number(0.0, INF)),
    may("version", Shape::Time),
    may("enforceRole", Shape::Bool),
]);

/// What `PATCH` of a group may change.
pub(crate) const GROUP_PATCH: Shape = Shape::Object(&[may("enforceRole", Shape::Bool)]);

/// Tasks to kill.
pub(crate) const TASK_IDS: Shape = Shape::Object(&[must("ids", TEXTS)]);

const fn app_fields(new: bool) -> [Field; 40] {
    [
        Field {
            name: "id",
            shape: TEXT,
            required: new,
        },
        may("acceptedResourceRoles", TEXTS),
        may("args", TEXTS),
        may("backoffFactor", Shape::Number(1.0, INF)),
        may("backoffSeconds", COUNT),
        may("cmd", NAME),
        may("constraints", Shape::List(&TEXTS)),
        may("container", CONTAINER),
        may("cpus", Shape::Number(0.001, INF)),
        may("dependencies", TEXTS),
        may("disk", Shape::Number(0.0, INF)),
        may("env", Shape::Map(&ENV_VALUE)),
        may("executor", TEXT),
        may("executorResources", EXECUTOR_RESOURCES),
        may("fetch", Shape::List(&FETCH)),
        may("healthChecks", Shape::List(&HEALTH_CHECK)),
        may("check", CHECK),
        may("instances", COUNT),
        may("labels", LABELS),
        may("maxLaunchDelaySeconds", COUNT),
        may("mem", Shape::Number(0.0, INF)),
        may("gpus", COUNT),
        may("ipAddress", IP_ADDRESS),
        may("networks", Shape::List(&NETWORK)),
        may("ports", Shape::List(&Shape::Port)),
        may("portDefinitions", Shape::List(&PORT_DEFINITION)),
        may("readinessChecks", Shape::List(&READINESS)),
        may("resourceLimits", LIMITS),
        may("requirePorts", Shape::Bool),
        may("residency", RESIDENCY),
        may("secrets", Shape::Map(&SECRET)),
        may("taskKillGracePeriodSeconds", COUNT),
        may("upgradeStrategy", UPGRADE),
        may("uris", TEXTS),
        may("user", TEXT),
        may("version", Shape::Time),
        may(
            "killSelection",
            Shape::OneOf(&["YOUNGEST_FIRST", "OLDEST_FIRST"]),
        ),
        may("unreachableStrategy", UNREACHABLE),
        may("tty", Shape::Bool),
        may("role", NAME),
    ]
}

const RESIDENCY: Shape = Shape::Object(&[
    may("relaunchEscalationTimeoutSeconds", Shape::Int(0, i64::MAX)),
    may(
        "taskLostBehavior",
        Shape::OneOf(&["WAIT_FOREVER", "RELAUNCH_AFTER_TIMEOUT"]),
    ),
]);

pub(super) const ENV_VALUE: Shape = Shape::TextOr(&[must("secret", NAME)]);
pub(super) const SECRET: Shape = Shape::Object(&[must("source", NAME)]);
pub(super) const LIMITS: Shape = Shape::Object(&[may("cpus", Shape::Any), may("mem", Shape::Any)]);

pub(super) const UPGRADE: Shape = Shape::Object(&[
    must("maximumOverCapacity", Shape::Number(0.0, 1.0)),
    must("minimumHealthCapacity", Shape::Number(0.0, 1.0)),
]);

pub(super) const UNREACHABLE: Shape = Shape::TextOr(&[
    may("inactiveAfterSeconds", Shape::Int(0, i64::MAX)),
    may("expungeAfterSeconds", Shape::Int(0, i64::MAX)),
]);

pub(super) const EXECUTOR_RESOURCES: Shape = Shape::Object(&[
    may("cpus", Shape::Number(0.1, INF)),
    may("mem", Shape::Number(32.0, INF)),
    may("disk", Shape::Number(10.0, INF)),
]);

pub(super) const FETCH: Shape = Shape::Object(&[
    must("uri", PLACE),
    may("extract", Shape::Bool),
    may("executable", Shape::Bool),
    may("cache", Shape::Bool),
    may("destPath", PLACE),
]);

const HEALTH_CHECK: Shape = Shape::Object(&[
    may("command", Shape::Object(&[must("value", TEXT)])),
    may("gracePeriodSeconds", COUNT),
    may("ignoreHttp1xx", Shape::Bool),
    may("intervalSeconds", COUNT),
    may("maxConsecutiveFailures", COUNT),
    may("path", TEXT),
    may("port", Shape::Port),
    may("portIndex", Shape::Port),
    may(
        "protocol",
        Shape::OneOf(&[
            "HTTP",
            "HTTPS",
            "TCP",
            "COMMAND",
            "MESOS_TCP",
            "MESOS_HTTP",
            "MESOS_HTTPS",
        ]),
    ),
    may("ipProtocol", Shape::OneOf(&["IPv4", "IPv6"])),
    may("timeoutSeconds", COUNT),
    may("delaySeconds", COUNT),
]);

const CHECK: Shape = Shape::Object(&[
    may(
        "http",
        Shape::Object(&[
            may("portIndex", Shape::Port),
            may("port", Shape::Port),
            may("path", TEXT),
            may("scheme", SCHEME),
        ]),
    ),
    may(
        "tcp",
        Shape::Object(&[may("portIndex", Shape::Port), may("port", Shape::Port)]),
    ),
    may(
        "exec",
        Shape::Object(&[must(
            "command",
            Shape::Object(&[may("shell", TEXT), may("argv", TEXTS)]),
        )]),
    ),
    may("intervalSeconds", COUNT),
    may("timeoutSeconds", COUNT),
    may("delaySeconds", COUNT),
]);

const READINESS: Shape = Shape::Object(&[
    may("name", NAME),
    may("protocol", SCHEME),
    may("path", NAME),
    may("portName", PORT_NAME),
    may("intervalSeconds", COUNT),
    may("timeoutSeconds", Shape::Int(1, I32)),
    may(
        "httpStatusCodesForReady",
        Shape::List(&Shape::Int(100, 999)),
    ),
    may("preserveLastResponse", Shape::Bool),
]);

pub(super) const NETWORK: Shape = Shape::Object(&[
    may("name", NETWORK_NAME),
    may(
        "mode",
        Shape::OneOf(&["container", "container/bridge", "host"]),
    ),
    may("labels", LABELS),
]);

const PORT_DEFINITION: Shape = Shape::Object(&[
    may("port", Shape::Port),
    may("labels", LABELS),
    may("name", PORT_NAME),
    may("protocol", PORT_PROTOCOL),
]);

const PORT_MAPPING: Shape = Shape::Object(&[
    may("containerPort", Shape::Port),
    may("hostPort", Shape::Port),
    may("labels", LABELS),
    may("name", PORT_NAME),
    may("protocol", PORT_PROTOCOL),
    may("servicePort", Shape::Port),
    may("networkNames", TEXTS),
]);

const IP_ADDRESS: Shape = Shape::Object(&[
    may(
        "discovery",
        Shape::Object(&[may(
            "ports",
            Shape::List(&Shape::Object(&[
                may("number", Shape::Port),
                must("name", PORT_NAME),
                may("protocol", PORT_PROTOCOL),
                may("labels", LABELS),
            ])),
        )]),
    ),
    may("groups", TEXTS),
    may("labels", LABELS),
    may("networkName", NAME),
]);

const CONTAINER: Shape = Shape::Object(&[
    may("type", Shape::OneOf(&["MESOS", "DOCKER"])),
    may(
        "docker",
        Shape::Object(&[
            may("credential", Shape::Any),
            may("pullConfig", Shape::Object(&[must("secret", TEXT)])),
            may("forcePullImage", Shape::Bool),
            must("image", NAME),
            may("network", Shape::OneOf(&["BRIDGE", "HOST", "NONE", "USER"])),
            may(
                "parameters",
                Shape::List(&Shape::Object(&[must("key", NAME), must("value", TEXT)])),
            ),
            may("portMappings", Shape::List(&PORT_MAPPING)),
            may("privileged", Shape::Bool),
        ]),
    ),
    may(
        "linuxInfo",
        Shape::Object(&[may("seccomp", Shape::Any), may("ipcInfo", Shape::Any)]),
    ),
    may(
        "volumes",
        Shape::List(&Shape::Object(&[
            must("containerPath", NAME),
            may("hostPath", NAME),
            may("persistent", PERSISTENT),
            may("external", EXTERNAL),
            may("secret", NAME),
            may("mode", Shape::OneOf(&["RO", "RW"])),
        ])),
    ),
    may("portMappings", Shape::List(&PORT_MAPPING)),
]);

const EXTERNAL: Shape = Shape::Object(&[
    may("size", Shape::Int(0, I32)),
    may("name", TEXT),
    may("provider", TEXT),
    may("options", Shape::Map(&Shape::Any)),
    may("shared", Shape::Bool),
]);

pub(super) const PERSISTENT: Shape = Shape::Object(&[
    may("type", Shape::OneOf(&["root", "path", "mount"])),
    must("size", Shape::Int(0, I32)),
    may("maxSize", Shape::Int(0, I32)),
    may("profileName", NAME),
    may("constraints", Shape::List(&TEXTS)),
]);
