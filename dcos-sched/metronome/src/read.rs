//! From what users send to jobs and schedules, or to every rule that is broken.
//!
//! Three passes, as in the original, each only if the one before found nothing: the shape ([`crate::schema`]), what
//! single values mean (cron expressions, time zones, kinds of volumes), and rules between them.

mod rules;

use dcos_marathon::Violation;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::Error;
use crate::cron::Cron;
use crate::model::{JobId, JobSpec, ScheduleSpec, Zone};
use crate::schema::{check, tables};

/// Reads a job; `id` is its name if the path of the request says it.
///
/// # Errors
/// [`Error::Invalid`]
pub fn job(mut document: Value, id: Option<&JobId>) -> Result<JobSpec, Error> {
    none(check(&document, tables::JOB))?;
    let mut found = Vec::new();
    let run = &mut document["run"];
    each(&run["volumes"], |at, volume| {
        means_volume(volume, &format!("/run/volumes({at})"), &mut found);
    });
    each(&document["dependencies"], |at, dependency| {
        if dependency.get("id").is_none() {
            fail(
                &mut found,
                format!("/dependencies({at})/id"),
                "error.path.missing",
            );
        }
    });
    for (name, what) in [("env", "secret"), ("secrets", "source")] {
        let entries = document["run"][name].as_object().into_iter().flatten();
        for (key, entry) in entries {
            if entry.is_object() && entry.get(what).is_none() {
                fail(
                    &mut found,
                    format!("/run/{name}/{key}/{what}"),
                    "error.path.missing",
                );
            }
        }
    }
    each(&document["schedules"], |at, schedule| {
        means_schedule(schedule, &format!("/schedules({at})"), &mut found);
    });
    none(found)?;
    truncate(&mut document["run"], "taskKillGracePeriodSeconds");
    let mut job: JobSpec = typed(document)?;
    if let Some(id) = id {
        job.id = id.clone();
    }
    none(rules::job(&job))?;
    Ok(job)
}

/// Reads a schedule; `id` is its name if the path of the request says it.
///
/// # Errors
/// [`Error::Invalid`]
pub fn schedule(document: Value, id: Option<&str>) -> Result<ScheduleSpec, Error> {
    none(check(&document, tables::SCHEDULE))?;
    let mut found = Vec::new();
    means_schedule(&document, "", &mut found);
    none(found)?;
    let mut schedule: ScheduleSpec = typed(document)?;
    if let Some(id) = id {
        id.clone_into(&mut schedule.id);
    }
    none(rules::schedule(&schedule, ""))?;
    Ok(schedule)
}

fn none(violations: Vec<Violation>) -> Result<(), Error> {
    if violations.is_empty() {
        Ok(())
    } else {
        Err(Error::Invalid(violations))
    }
}

/// A document of the right shape can be read, but for numbers beyond all bounds.
fn typed<T: DeserializeOwned>(document: Value) -> Result<T, Error> {
    serde_json::from_value(document).map_err(|error| {
        Error::Invalid(vec![Violation {
            path: String::new(),
            error: error.to_string(),
        }])
    })
}

fn fail(out: &mut Vec<Violation>, path: String, error: impl Into<String>) {
    out.push(Violation {
        path,
        error: error.into(),
    });
}

fn each(list: &Value, mut look: impl FnMut(usize, &Value)) {
    for (at, item) in list.as_array().into_iter().flatten().enumerate() {
        look(at, item);
    }
}

/// Seconds are whole, whatever is sent.
fn truncate(object: &mut Value, key: &str) {
    if let Some(value) = object.get_mut(key)
        && let Some(number) = value.as_f64()
    {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "that is what is meant; casts stop at the bounds"
        )]
        let whole = number as u32;
        *value = whole.into();
    }
}

/// Exactly the keys of one kind of volume, or of the other.
fn means_volume(volume: &Value, path: &str, out: &mut Vec<Violation>) {
    let keys = |volume: &Map<String, Value>| {
        let mut keys: Vec<&str> = volume.keys().map(String::as_str).collect();
        keys.sort_unstable();
        matches!(
            keys.as_slice(),
            ["containerPath", "hostPath", "mode"] | ["containerPath", "secret"]
        )
    };
    if !volume.as_object().is_some_and(keys) {
        let text = format!("expected HostVolume or SecretVolume object but got {volume}");
        fail(out, path.to_owned(), text);
    }
}

fn means_schedule(schedule: &Value, path: &str, out: &mut Vec<Violation>) {
    let text = |key: &str| schedule.get(key).and_then(Value::as_str).map(str::to_owned);
    if let Some(Err(error)) = text("cron").map(|text| text.parse::<Cron>()) {
        fail(out, format!("{path}/cron"), error.to_string());
    }
    if let Some(Err(error)) = text("timezone").map(Zone::try_from) {
        fail(out, format!("{path}/timezone"), error);
    }
}

#[cfg(test)]
mod tests;
