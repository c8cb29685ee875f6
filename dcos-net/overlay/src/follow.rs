//! The stream of what the leading master tells of the overlays, and the reports that answer it.

use std::ops::ControlFlow::{self, Break, Continue};
use std::time::Duration;

use dcos_wire::tls::Ssl;
use dcos_wire::{Client, ClientError, Heard, Masters, Records, Refusal};
use http::StatusCode;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::news::SILENCE;
use crate::{News, Registration, Report};

/// The networks of a large cluster come as one record.
const LARGEST: usize = 1 << 28;
/// How long a master that cannot be reached is left alone, at first and at last.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("registering with the master's overlays")]
    Register(#[source] ClientError),
    #[error("reading what the master tells of overlays")]
    Read(#[source] ClientError),
    #[error("the master ended the stream")]
    Over,
    #[error("the master was silent for {SILENCE:?}")]
    Silent,
    #[error("the master sent what is no news")]
    Garbled(#[source] serde_json::Error),
    #[error("the master does not know this agent any more")]
    Forgotten,
}

/// One who follows a master.
pub(crate) struct Follower<R> {
    pub(crate) masters: Masters,
    pub(crate) client: Client,
    /// What it registers with, now.
    pub(crate) registration: R,
    /// How it is; nothing before it knows anything.
    pub(crate) reports: watch::Receiver<Option<Report>>,
}

impl<R: Fn() -> Registration> Follower<R> {
    /// Sends `news` what the leading master tells, for ever; ends when nobody listens.
    pub(crate) async fn follow(self, news: mpsc::Sender<News>) {
        let (this, news) = (&self, &news);
        let listen = move |leader, heard| this.listen(leader, news, heard);
        self.masters.clone().follow(BACKOFF, listen).await;
    }

    /// Listens to one master; breaks off when nobody listens to us.
    async fn listen(
        &self,
        leader: String,
        news: &mpsc::Sender<News>,
        heard: Heard,
    ) -> ControlFlow<(), Ended> {
        let base = format!("{}://{leader}/overlay-master/agents", Ssl::scheme());
        let (url, asked) = (format!("{base}/register"), (self.registration)());
        let answer = match self.client.post_json(&url, &asked).await {
            Ok(answer) => answer.success().await,
            Err(error) => Err(error),
        };
        let records = match answer {
            Ok(answer) => answer.records(LARGEST),
            Err(error) => {
                if is_refusal(&error) {
                    let reason = dcos_core::error::chain(&error).to_string();
                    tracing::warn!(leader, reason, "the master has no overlays for this agent");
                }
                return Continue(Ended::Register(error));
            }
        };
        let every = watch::Sender::new(None);
        let reporting = self.report(base, every.subscribe());
        tokio::select! {
            ended = read(records, news, &every, heard) => ended,
            ended = reporting => Continue(ended),
        }
    }

    /// Reports whenever something changes, and as often as the master wants.
    async fn report(&self, base: String, mut every: watch::Receiver<Option<Duration>>) -> Ended {
        let told = every.wait_for(Option::is_some).await;
        let every = told.ok().and_then(|every| *every).unwrap_or(SILENCE);
        let mut reports = self.reports.clone();
        let url = format!("{base}/report");
        loop {
            let report = reports.borrow_and_update().clone();
            if let Some(report) = report {
                let answer = match self.client.post_json(&url, &report).await {
                    Ok(answer) => answer.success().await.map(drop),
                    Err(error) => Err(error),
                };
                match answer {
                    Err(ClientError::Refused { source, .. }) if is_not_found(&source) => {
                        return Ended::Forgotten;
                    }
                    // Whether the master is there, the stream knows.
                    Err(error) => tracing::debug!(%error, "reporting to the master"),
                    Ok(()) => {}
                }
            }
            let changed = timeout(every, reports.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                std::future::pending::<()>().await;
            }
        }
    }
}

fn is_refusal(error: &ClientError) -> bool {
    let ClientError::Refused { source, .. } = error else {
        return false;
    };
    source.status != StatusCode::SERVICE_UNAVAILABLE
}

fn is_not_found(refusal: &Refusal) -> bool {
    refusal.status == StatusCode::NOT_FOUND
}

async fn read(
    mut records: Records,
    news: &mpsc::Sender<News>,
    every: &watch::Sender<Option<Duration>>,
    heard: Heard,
) -> ControlFlow<(), Ended> {
    loop {
        let record = match timeout(SILENCE, records.next()).await {
            Ok(Ok(Some(record))) => record,
            Ok(Ok(None)) => return Continue(Ended::Over),
            Ok(Err(error)) => return Continue(Ended::Read(error)),
            Err(_) => return Continue(Ended::Silent),
        };
        let told: News = match serde_json::from_slice(record.as_ref()) {
            Ok(told) => told,
            Err(error) => return Continue(Ended::Garbled(error)),
        };
        heard.note();
        if let News::All { report_ms, .. } = &told {
            every.send_replace(Some(Duration::from_millis(*report_ms)));
        }
        if news.send(told).await.is_err() {
            return Break(());
        }
    }
}
