//! `/v1/jobs/{id}/schedules`.

use axum::body::Body;
use axum::response::Response;
use dcos_marathon::api::json_with;
use dcos_marathon::api::request::Request;
use http::StatusCode;

use super::jobs::known;
use super::{Mailbox, Reply, document, now, ok, render};
use crate::Error;
use crate::model::JobId;
use crate::read;

pub(super) fn list(mailbox: &Mailbox, id: &JobId) -> Reply {
    let job = known(mailbox, id)?;
    Ok(ok(&render::schedules(&job.spec, now())))
}

pub(super) fn show(mailbox: &Mailbox, id: &JobId, schedule: &str) -> Reply {
    let job = known(mailbox, id)?;
    let found = job.spec.schedules.iter().find(|one| one.id == schedule);
    let found = found.ok_or_else(|| Error::UnknownSchedule(schedule.to_owned()))?;
    Ok(ok(&render::schedule(found, now())))
}

pub(super) async fn add(mailbox: &Mailbox, request: &Request, id: JobId) -> Reply {
    let schedule = read::schedule(document(request)?, None)?;
    let added = mailbox.request(move |core, now| core.add_schedule(now, &id, schedule));
    let added = added.await??;
    Ok(json_with(
        StatusCode::CREATED,
        &render::schedule(&added, now()),
    ))
}

pub(super) async fn update(
    mailbox: &Mailbox,
    request: &Request,
    id: JobId,
    schedule: &str,
) -> Reply {
    let schedule = read::schedule(document(request)?, Some(schedule))?;
    let changed = mailbox.request(move |core, now| core.update_schedule(now, &id, schedule));
    let changed = changed.await??;
    Ok(ok(&render::schedule(&changed, now())))
}

pub(super) async fn remove(mailbox: &Mailbox, id: JobId, schedule: String) -> Reply {
    let removed = mailbox.request(move |core, now| core.remove_schedule(now, &id, &schedule));
    removed.await??;
    Ok(Response::new(Body::empty()))
}
