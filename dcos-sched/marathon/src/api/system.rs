//! `/config` and `/logging`: how this process was set up, and how much it logs.
//!
//! The original shows the configuration of its actor system and the loggers of its classes. Here these are the
//! settings of this Marathon, and one logger, `ROOT`: levels are those of the process, as `/logging/toggle` of master
//! and agent changes them.

use std::time::Duration;

use axum::response::Response;
use dcos_core::verbosity;
use serde_json::{Value, json};

use super::request::Request;
use super::{Reply, info, json_of};
use crate::Error;
use crate::schema::{self, Shape, may, must};
use crate::shell::Mailbox;

/// What a level means here: the one the process was started with is shown as INFO.
const LEVELS: [(&str, u32); 3] = [("INFO", 0), ("DEBUG", 1), ("TRACE", 3)];

const CHANGE: Shape = Shape::Object(&[
    must(
        "level",
        Shape::OneOf(&["trace", "debug", "info", "warn", "error"]),
    ),
    must("logger", Shape::Text(1)),
    may("durationSeconds", Shape::Int(1, i32::MAX as i64)),
]);

/// How long a change of level without a duration holds. The original's holds until the next one; a forgotten one fills the
/// disk.
const WITHOUT_DURATION: Duration = Duration::from_hours(1);

/// What is said where the log is shared with others.
const SHARED: &str = "This Marathon shares its process, and so its log, with others: tell the master, by a call of type \
                      SET_LOGGING_LEVEL to /api/v1 or by /logging/toggle";

pub(super) fn config(mailbox: &Mailbox) -> Response {
    json_of(&json!({"marathon": info::settings(mailbox)}))
}

pub(super) fn loggers() -> Response {
    let level = verbosity::level();
    let shown = LEVELS.iter().find(|(_, most)| level <= *most);
    json_of(&json!({"ROOT": shown.map_or("TRACE", |(name, _)| name)}))
}

/// Logs more for a while.
pub(super) fn change(mailbox: &Mailbox, request: &Request) -> Reply {
    if mailbox.config().log_is_shared {
        return Err(Error::Unprocessable(SHARED.to_owned()));
    }
    let change: Value = schema::parse(&request.body, CHANGE)?;
    let logger = change["logger"].as_str().unwrap_or_default();
    if !logger.eq_ignore_ascii_case("ROOT") {
        let text = format!("There is no logger '{logger}', only ROOT, the whole process");
        return Err(Error::invalid("/logger", text));
    }
    let level = change["level"].as_str().unwrap_or_default();
    let known = LEVELS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(level));
    let Some((_, level)) = known else {
        let text = format!("Level {level} is less than what the process was started with");
        return Err(Error::invalid("/level", text));
    };
    let seconds = change["durationSeconds"].as_u64();
    dcos_wire::logging::raise(
        *level,
        seconds.map_or(WITHOUT_DURATION, Duration::from_secs),
    );
    Ok(json_of(&change))
}
