//! The transport of frameworks that run in the master's process: channels instead of HTTP.

use async_trait::async_trait;
use dcos_proto::scheduler::Call;
use tokio::sync::mpsc;

use super::shell::{Command, MasterHandle, MasterStopped, Sink};
use super::{Reader, Reply};
use crate::sdk::{SchedulerTransport, Subscription, TransportError};
use crate::why::{Explanations, Question};

/// Events that wait for a framework in this process. One that falls further behind is treated as
/// disconnected, like a client over HTTP, and subscribes again.
const WAITING: usize = 64 * 1024;

#[async_trait]
impl SchedulerTransport for MasterHandle {
    async fn subscribe(&self, call: Call) -> Result<Subscription, TransportError> {
        let (sender, events) = mpsc::channel(WAITING);
        let sink = Some(Sink::Channel(sender));
        match self.perform(None, call, sink).await? {
            Reply::Subscribed { stream_id } => Ok(Subscription { stream_id, events }),
            Reply::Refused { status: 503, text } => Err(TransportError::NotReady { reason: text }),
            Reply::Refused { status, text } => Err(TransportError::Refused {
                status,
                reason: text,
            }),
            Reply::Accepted | Reply::Done => Err(TransportError::NotSubscribed),
        }
    }

    async fn call(&self, stream_id: &str, call: Call) -> Result<(), TransportError> {
        match self.perform(Some(stream_id.to_owned()), call, None).await? {
            Reply::Refused { status: 503, text } => Err(TransportError::NotReady { reason: text }),
            Reply::Refused { status: 403, .. } => Err(TransportError::NotSubscribed),
            Reply::Refused { status, text } => Err(TransportError::Refused {
                status,
                reason: text,
            }),
            Reply::Accepted | Reply::Done | Reply::Subscribed { .. } => Ok(()),
        }
    }

    async fn why(&self, question: &Question) -> Result<Explanations, TransportError> {
        let Question {
            framework_id,
            role,
            wish,
        } = question.clone();
        let asked =
            self.ask(|answer| Command::Explain(framework_id, role, wish, Reader::Inside, answer));
        let answer = asked.await.map_err(unreachable)?;
        serde_json::from_value(answer).map_err(|error| TransportError::Refused {
            status: 500,
            reason: error.to_string(),
        })
    }
}

fn unreachable(stopped: MasterStopped) -> TransportError {
    TransportError::Unreachable {
        target: "the master in this process".to_owned(),
        source: Box::new(stopped),
    }
}

impl MasterHandle {
    async fn perform(
        &self,
        stream_id: Option<String>,
        call: Call,
        sink: Option<Sink>,
    ) -> Result<Reply, TransportError> {
        let asked = self.ask(|answer| Command::Call {
            stream_id,
            principal: None,
            call: Box::new(call),
            sink,
            answer,
        });
        asked.await.map_err(unreachable)
    }
}
