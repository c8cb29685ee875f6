//! The shape of a pod's document.

use super::shape::{
    COUNT, ENV_VALUE, EXECUTOR_RESOURCES, FETCH, INF, LABELS, LIMITS, NAME, NETWORK, SCHEME,
    SECRET, TEXT, TEXTS, UNREACHABLE,
};
use crate::schema::{Shape, may, must};

/// A pod.
pub(crate) const POD: Shape = Shape::Object(&[
    must("id", TEXT),
    may("labels", LABELS),
    may("version", Shape::Time),
    may("user", NAME),
    may("environment", Shape::Map(&ENV_VALUE)),
    must("containers", Shape::List(&CONTAINER)),
    may("secrets", Shape::Map(&SECRET)),
    may("volumes", Shape::List(&VOLUME)),
    may("networks", Shape::List(&NETWORK)),
    may(
        "scaling",
        Shape::Object(&[
            may("kind", Shape::OneOf(&["fixed"])),
            may("instances", COUNT),
        ]),
    ),
    may("scheduling", SCHEDULING),
    may("executorResources", EXECUTOR_RESOURCES),
    may("role", NAME),
    may("legacySharedCgroups", Shape::Bool),
    may("linuxInfo", LINUX),
]);

/// The instances to kill.
pub(crate) const INSTANCES: Shape = TEXTS;

const LINUX: Shape = Shape::Object(&[may("seccomp", Shape::Any), may("ipcInfo", Shape::Any)]);

const COMMAND: Shape = Shape::Object(&[may("shell", NAME), may("argv", TEXTS)]);

const EXEC: Shape = Shape::Object(&[
    must("command", COMMAND),
    may("overrideEntrypoint", Shape::Bool),
]);

const CONTAINER: Shape = Shape::Object(&[
    must("name", NAME),
    may("exec", EXEC),
    may(
        "resources",
        Shape::Object(&[
            may("cpus", Shape::Number(0.0, INF)),
            may("mem", Shape::Number(0.0, INF)),
            may("disk", Shape::Number(0.0, INF)),
            may("gpus", COUNT),
        ]),
    ),
    may("resourceLimits", LIMITS),
    may("endpoints", Shape::List(&ENDPOINT)),
    may(
        "image",
        Shape::Object(&[
            must("kind", Shape::OneOf(&["DOCKER"])),
            must("id", NAME),
            may("pullConfig", Shape::Object(&[must("secret", TEXT)])),
            may("forcePull", Shape::Bool),
            may("labels", LABELS),
        ]),
    ),
    may("environment", Shape::Map(&ENV_VALUE)),
    may("user", NAME),
    may("healthCheck", HEALTH_CHECK),
    may("check", CHECK),
    may("volumeMounts", Shape::List(&MOUNT)),
    may("artifacts", Shape::List(&FETCH)),
    may("labels", LABELS),
    may(
        "lifecycle",
        Shape::Object(&[may("killGracePeriodSeconds", Shape::Number(0.0, INF))]),
    ),
    may("linuxInfo", LINUX),
    may("tty", Shape::Bool),
]);

const ENDPOINT: Shape = Shape::Object(&[
    must("name", NAME),
    may("containerPort", Shape::Port),
    may("hostPort", Shape::Port),
    may("protocol", Shape::List(&Shape::OneOf(&["tcp", "udp"]))),
    may("labels", LABELS),
    may("networkNames", TEXTS),
]);

const HEALTH_CHECK: Shape = Shape::Object(&[
    may("http", ENDPOINT_CHECK),
    may("tcp", ENDPOINT_CHECK),
    may("exec", EXEC),
    may("gracePeriodSeconds", COUNT),
    may("intervalSeconds", COUNT),
    may("maxConsecutiveFailures", COUNT),
    may("timeoutSeconds", COUNT),
    may("delaySeconds", COUNT),
]);

const CHECK: Shape = Shape::Object(&[
    may("http", ENDPOINT_CHECK),
    may("tcp", ENDPOINT_CHECK),
    may("exec", EXEC),
    may("intervalSeconds", COUNT),
    may("timeoutSeconds", COUNT),
    may("delaySeconds", COUNT),
]);

const ENDPOINT_CHECK: Shape = Shape::Object(&[
    must("endpoint", NAME),
    may("path", NAME),
    may("scheme", SCHEME),
]);

const MOUNT: Shape = Shape::Object(&[
    must("name", NAME),
    must("mountPath", NAME),
    may("readOnly", Shape::Bool),
]);

const VOLUME: Shape = Shape::Object(&[
    must("name", NAME),
    may("host", NAME),
    may("secret", NAME),
    may("persistent", super::shape::PERSISTENT),
]);

const SCHEDULING: Shape = Shape::Object(&[
    may(
        "backoff",
        Shape::Object(&[
            may("backoff", Shape::Number(0.0, INF)),
            may("backoffFactor", Shape::Number(1.0, INF)),
            may("maxLaunchDelay", Shape::Number(0.0, 2_147_483_647.0)),
        ]),
    ),
    may(
        "upgrade",
        Shape::Object(&[
            may("maximumOverCapacity", Shape::Number(0.0, 1.0)),
            may("minimumHealthCapacity", Shape::Number(0.0, 1.0)),
        ]),
    ),
    may(
        "placement",
        Shape::Object(&[
            may(
                "constraints",
                Shape::List(&Shape::Object(&[
                    must("fieldName", NAME),
                    must("operator", NAME),
                    may("value", TEXT),
                ])),
            ),
            may("acceptedResourceRoles", TEXTS),
        ]),
    ),
    may(
        "killSelection",
        Shape::OneOf(&["YOUNGEST_FIRST", "OLDEST_FIRST"]),
    ),
    may("unreachableStrategy", UNREACHABLE),
]);
