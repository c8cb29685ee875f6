//! `/v1/jobs`, and `/v0/scheduled-jobs` where it differs.

use std::sync::Arc;

use dcos_marathon::api::json_with;
use dcos_marathon::api::list;
use dcos_marathon::api::request::Request;
use http::StatusCode;

use super::render::{self, Embeds};
use super::{Mailbox, Reply, bad_request, document, now, ok};
use crate::Error;
use crate::model::{Job, JobId, JobSpec};
use crate::read;

/// `embed`, several times or with commas.
fn embeds(request: &Request) -> Result<Embeds, Error> {
    let mut embeds = Embeds::default();
    let names = request.params("embed").flat_map(|list| list.split(','));
    for name in names.filter(|name| !name.is_empty()) {
        match name {
            "activeRuns" => embeds.active_runs = true,
            "history" => embeds.history = true,
            "historySummary" => embeds.summary = true,
            // They are always there.
            "schedules" => {}
            _ => {
                let known = "activeRuns, schedules, history, historySummary";
                let text = format!("Unknown embed options. Valid options are: {known}");
                return Err(bad_request(text));
            }
        }
    }
    Ok(embeds)
}

pub(super) fn known(mailbox: &Mailbox, id: &JobId) -> Result<Arc<Job>, Error> {
    let job = mailbox.view().jobs.get(id).cloned();
    job.ok_or_else(|| Error::UnknownJob(id.clone()))
}

pub(super) fn list(mailbox: &Mailbox, request: &Request) -> Reply {
    let (embeds, now) = (embeds(request)?, now());
    let view = mailbox.view();
    let jobs: Vec<Arc<Job>> = view.jobs.values().cloned().collect();
    Ok(list::list(jobs, move |job| render::job(job, embeds, now)))
}

pub(super) fn show(mailbox: &Mailbox, request: &Request, id: &JobId) -> Reply {
    let embeds = embeds(request)?;
    let job = known(mailbox, id)?;
    Ok(ok(&render::job(&job, embeds, now())))
}

pub(super) async fn create(mailbox: &Mailbox, request: &Request) -> Reply {
    let job = read::job(document(request)?, None)?;
    let spec = mailbox
        .request(move |core, now| core.create(now, job))
        .await??;
    Ok(json_with(StatusCode::CREATED, &render::spec(&spec, now())))
}

/// Changes a job, but not its schedules.
pub(super) async fn update(mailbox: &Mailbox, request: &Request, id: JobId) -> Reply {
    let job = read::job(document(request)?, Some(&id))?;
    change(mailbox, id, move |before| JobSpec {
        schedules: before.schedules.clone(),
        ..job
    })
    .await
}

/// Changes a job with its schedules.
pub(super) async fn replace(mailbox: &Mailbox, request: &Request, id: JobId) -> Reply {
    let job = read::job(document(request)?, Some(&id))?;
    change(mailbox, id, move |_| job).await
}

async fn change(
    mailbox: &Mailbox,
    id: JobId,
    change: impl FnOnce(&JobSpec) -> JobSpec + Send + 'static,
) -> Reply {
    let changed = mailbox.request(move |core, now| {
        core.update(now, &id, |before| {
            let spec = change(before);
            if !spec.schedules.is_empty() && !spec.dependencies.is_empty() {
                let text = "Jobs may not have both dependencies and schedules specified";
                return Err(Error::Unprocessable(text.to_owned()));
            }
            Ok(spec)
        })
    });
    let spec = changed.await??;
    Ok(ok(&render::spec(&spec, now())))
}

pub(super) async fn delete(mailbox: &Mailbox, request: &Request, id: JobId) -> Reply {
    let stop = request.flag("stopCurrentJobRuns", false);
    let deleted = mailbox.request(move |core, now| core.delete(now, &id, stop));
    let spec = deleted.await??;
    Ok(ok(&render::spec(&spec, now())))
}
