//! The door to the agent's loop, for the tasks around it.

use dcos_proto::executor::call;
use tokio::sync::{mpsc, oneshot};

use super::core::Agent;
use super::records::ExecutorKey;
use super::streams::EventStream;
use super::words::Input;

/// Something for the loop.
pub(super) enum Work {
    Input(Box<Input>),
    /// Looks at the core; what it finds it sends elsewhere.
    Query(Box<dyn FnOnce(&Agent) + Send>),
    Subscribe {
        key: ExecutorKey,
        subscribe: call::Subscribe,
        stream: EventStream,
    },
    StreamEnded {
        key: ExecutorKey,
        id: u64,
    },
}

/// Sends work to the agent's loop.
#[derive(Debug, Clone)]
pub(super) struct Handle {
    inbox: mpsc::Sender<Work>,
}

impl Handle {
    pub(super) fn new(inbox: mpsc::Sender<Work>) -> Self {
        Self { inbox }
    }

    /// Waits for room. Once the agent has stopped, work goes nowhere.
    pub(super) async fn send(&self, work: Work) {
        let _ = self.inbox.send(work).await;
    }

    pub(super) async fn input(&self, input: Input) {
        self.send(Work::Input(Box::new(input))).await;
    }

    /// Asks the core; `None` if the agent has stopped. Readers take a turn in the loop, which is
    /// short: they copy what they need and serialise it outside.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Agent) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let query = Box::new(move |agent: &Agent| {
            let _ = answer.send(question(agent));
        });
        self.send(Work::Query(query)).await;
        answered.await.ok()
    }
}
