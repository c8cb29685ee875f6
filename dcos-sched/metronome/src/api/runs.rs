//! `/v1/jobs/{id}/runs`: those that go on; those that ended are in the job's history.

use dcos_marathon::api::json_with;
use http::StatusCode;

use super::jobs::known;
use super::{Mailbox, Reply, ok, render};
use crate::Error;
use crate::model::{JobId, RunId};

pub(super) fn list(mailbox: &Mailbox, id: &JobId) -> Reply {
    Ok(ok(&render::runs(&*known(mailbox, id)?)))
}

/// An unknown job's runs are unknown runs.
pub(super) fn show(mailbox: &Mailbox, id: &JobId, run: &str) -> Reply {
    let run = RunId::from(run);
    let view = mailbox.view();
    let found = view.jobs.get(id).and_then(|job| job.runs.get(&run));
    let found = found.ok_or_else(|| Error::UnknownRun(id.clone(), run.clone()))?;
    Ok(ok(&render::run(found)))
}

pub(super) async fn start(mailbox: &Mailbox, id: JobId) -> Reply {
    let started = mailbox.request(move |core, now| core.start(now, &id));
    let run = started.await??;
    Ok(json_with(StatusCode::CREATED, &render::run(&run)))
}

pub(super) async fn stop(mailbox: &Mailbox, id: JobId, run: &str) -> Reply {
    let run = RunId::from(run);
    let stopped = mailbox.request(move |core, now| core.stop(now, &id, &run));
    let run = stopped.await??;
    Ok(ok(&render::run(&run)))
}
