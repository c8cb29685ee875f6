//! The shapes of documents, as in `jobspec.schema.json` and `schedulespec.schema.json` of Metronome 0.6.

use super::Shape::{Bool, Closed, Int, List, Map, Name, Number, OneOf, Open, Text, TextOr};
use super::{Field, Shape, may, must};

const ANY: i64 = i64::MIN;

const SCHEDULE_FIELDS: &[Field] = &[
    must("id", Name),
    must("cron", Text(0)),
    may("timezone", Text(0)),
    may("startingDeadlineSeconds", Int(1)),
    may("concurrencyPolicy", OneOf(&["ALLOW", "FORBID"])),
    may("enabled", Bool),
    may("missedTriggers", OneOf(&["SKIP", "LATEST", "ALL"])),
];

/// A schedule, alone.
pub(crate) const SCHEDULE: Shape = Open(SCHEDULE_FIELDS);

/// A job.
pub(crate) const JOB: Shape = Closed(&[
    must("id", Name),
    may("description", Text(0)),
    may("dependencies", List(&Open(&[may("id", Name)]))),
    may("labels", Map(&Text(0))),
    may("schedules", List(&SCHEDULE)),
    must("run", RUN),
]);

const RUN: Shape = Closed(&[
    may("args", List(&Text(0))),
    may("artifacts", List(&ARTIFACT)),
    may("cmd", Text(1)),
    must("cpus", Number(0.01)),
    may("gpus", Int(0)),
    must("disk", Number(0.0)),
    may("networks", List(&NETWORK)),
    may("ucr", UCR),
    may("docker", DOCKER),
    may("env", Map(&TextOr(&[may("secret", Text(0))]))),
    may("maxLaunchDelay", Int(1)),
    must("mem", Number(32.0)),
    may("placement", PLACEMENT),
    may("user", Text(0)),
    may("taskKillGracePeriodSeconds", Number(f64::NEG_INFINITY)),
    may("restart", RESTART),
    may("volumes", List(&VOLUME)),
    may("secrets", Map(&Open(&[may("source", Text(0))]))),
]);

const ARTIFACT: Shape = Closed(&[
    must("uri", Text(0)),
    may("executable", Bool),
    may("extract", Bool),
    may("cache", Bool),
]);

const NETWORK: Shape = Closed(&[
    may("name", Text(0)),
    must("mode", OneOf(&["host", "container/bridge", "container"])),
    may("labels", Map(&Text(0))),
]);

const UCR: Shape = Closed(&[
    must(
        "image",
        Closed(&[
            must("id", Text(0)),
            may("kind", OneOf(&["docker", "appc"])),
            may("forcePull", Bool),
        ]),
    ),
    may("privileged", Bool),
]);

const DOCKER: Shape = Closed(&[
    must("image", Text(0)),
    may("forcePullImage", Bool),
    may("privileged", Bool),
    may(
        "parameters",
        List(&Closed(&[must("key", Text(0)), must("value", Text(0))])),
    ),
]);

const PLACEMENT: Shape = Closed(&[may(
    "constraints",
    List(&Closed(&[
        must("attribute", Text(0)),
        must("operator", OneOf(&["IS", "EQ", "LIKE", "UNLIKE"])),
        may("value", Text(0)),
    ])),
)]);

const RESTART: Shape = Closed(&[
    must("policy", OneOf(&["NEVER", "ON_FAILURE"])),
    may("activeDeadlineSeconds", Int(ANY)),
]);

const VOLUME: Shape = Closed(&[
    must("containerPath", Text(1)),
    may("hostPath", Text(1)),
    may("mode", OneOf(&["RO", "RW"])),
    may("secret", Text(1)),
]);
