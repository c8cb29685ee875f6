//! What a framework can say: the calls of the scheduler API.

use std::sync::Arc;

use dcos_proto::mesos::offer::{Operation, operation};
use dcos_proto::mesos::{
    AgentId, ExecutorId, Filters, FrameworkId, KillPolicy, OfferId, OperationId, OperationStatus,
    TaskId, TaskInfo, TaskStatus,
};
use dcos_proto::scheduler::{Call, call};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{SchedulerTransport, Stopped, TransportError};
use crate::why::{Explanation, Question, Wish};

/// The open stream, if there is one.
#[derive(Debug, Clone, Default)]
pub(super) struct Session {
    pub(super) stream_id: Option<String>,
    pub(super) framework_id: Option<FrameworkId>,
}

/// Speaks in the name of a subscribed framework. Cheap to clone; usable from any task.
///
/// Each method returns once the master has accepted the call; what comes of it arrives as events.
/// While no stream is open every call fails with [`TransportError::NotSubscribed`].
#[derive(Debug, Clone)]
pub struct Handle {
    pub(super) transport: Arc<dyn SchedulerTransport>,
    pub(super) session: watch::Receiver<Session>,
    pub(super) stop: watch::Sender<Option<Stopped>>,
    pub(super) cancel: CancellationToken,
}

impl Handle {
    /// The framework's id, once it has one.
    pub fn framework_id(&self) -> Option<FrameworkId> {
        self.session.borrow().framework_id.clone()
    }

    /// Uses `offers` (all of one agent) for `operations`, in order; what is left over is declined
    /// with `filters`.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn accept(
        &self,
        offers: Vec<OfferId>,
        operations: Vec<Operation>,
        filters: Option<Filters>,
    ) -> Result<(), TransportError> {
        let accept = call::Accept {
            offer_ids: offers,
            operations,
            filters,
        };
        self.send(call::Type::Accept, |call| call.accept = Some(accept))
            .await
    }

    /// Launches `tasks` with `offers`: [`accept`](Self::accept) with one LAUNCH operation.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn launch(
        &self,
        offers: Vec<OfferId>,
        tasks: Vec<TaskInfo>,
        filters: Option<Filters>,
    ) -> Result<(), TransportError> {
        let operation = Operation {
            r#type: Some(operation::Type::Launch.into()),
            launch: Some(operation::Launch { task_infos: tasks }),
            ..Operation::default()
        };
        self.accept(offers, vec![operation], filters).await
    }

    /// Gives `offers` back. `filters` says for how long not to offer the same again: 5 s if `None`.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn decline(
        &self,
        offers: Vec<OfferId>,
        filters: Option<Filters>,
    ) -> Result<(), TransportError> {
        let decline = call::Decline {
            offer_ids: offers,
            filters,
        };
        self.send(call::Type::Decline, |call| call.decline = Some(decline))
            .await
    }

    /// Why `role` is offered nothing, or not enough for `wish`.
    ///
    /// # Errors
    /// [`TransportError`]; [`TransportError::Refused`] if the master has no answer, as an original.
    pub async fn why(
        &self,
        role: Option<&str>,
        wish: Option<Wish>,
    ) -> Result<Vec<Explanation>, TransportError> {
        let question = Question {
            framework_id: Some(self.framework_id().ok_or(TransportError::NotSubscribed)?),
            role: role.map(ToOwned::to_owned),
            wish,
        };
        Ok(self.transport.why(&question).await?.explanations)
    }

    /// Asks for offers again for `roles` (all of them if empty), whatever was declined before.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn revive(&self, roles: Vec<String>) -> Result<(), TransportError> {
        self.send(call::Type::Revive, |call| {
            call.revive = Some(call::Revive { roles })
        })
        .await
    }

    /// Asks for no more offers for `roles` (all of them if empty) until [`revive`](Self::revive).
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn suppress(&self, roles: Vec<String>) -> Result<(), TransportError> {
        self.send(call::Type::Suppress, |call| {
            call.suppress = Some(call::Suppress { roles })
        })
        .await
    }

    /// Kills a task. `policy` can only shorten the grace period the task was launched with.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn kill(
        &self,
        task: TaskId,
        agent: Option<AgentId>,
        policy: Option<KillPolicy>,
    ) -> Result<(), TransportError> {
        let kill = call::Kill {
            task_id: task,
            agent_id: agent,
            kill_policy: policy,
        };
        self.send(call::Type::Kill, |call| call.kill = Some(kill))
            .await
    }

    /// Ends an executor and the tasks it runs.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn shutdown_executor(
        &self,
        executor: ExecutorId,
        agent: AgentId,
    ) -> Result<(), TransportError> {
        let shutdown = call::Shutdown {
            executor_id: executor,
            agent_id: agent,
        };
        self.send(call::Type::Shutdown, |call| call.shutdown = Some(shutdown))
            .await
    }

    /// Says that `status` has been noted, so that the agent forgets it and sends the next one.
    /// Does nothing for an update that asks for no acknowledgement.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn acknowledge(&self, status: &TaskStatus) -> Result<(), TransportError> {
        let (Some(uuid), Some(agent)) = (&status.uuid, &status.agent_id) else {
            return Ok(());
        };
        let acknowledge = call::Acknowledge {
            agent_id: agent.clone(),
            task_id: status.task_id.clone(),
            uuid: uuid.clone(),
        };
        self.send(call::Type::Acknowledge, |call| {
            call.acknowledge = Some(acknowledge)
        })
        .await
    }

    /// Asks for the state of `tasks`, or, if empty, of all tasks that have not ended.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn reconcile(
        &self,
        tasks: Vec<(TaskId, Option<AgentId>)>,
    ) -> Result<(), TransportError> {
        let tasks = tasks
            .into_iter()
            .map(|(task_id, agent_id)| call::reconcile::Task { task_id, agent_id })
            .collect();
        self.send(call::Type::Reconcile, |call| {
            call.reconcile = Some(call::Reconcile { tasks })
        })
        .await
    }

    /// Says that the status of an operation has been noted, so that the agent forgets it. Does
    /// nothing for one that asks for no acknowledgement.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn acknowledge_operation(
        &self,
        status: &OperationStatus,
    ) -> Result<(), TransportError> {
        let (Some(uuid), Some(operation)) = (&status.uuid, &status.operation_id) else {
            return Ok(());
        };
        let acknowledge = call::AcknowledgeOperationStatus {
            agent_id: status.agent_id.clone(),
            resource_provider_id: status.resource_provider_id.clone(),
            uuid: uuid.value.clone(),
            operation_id: operation.clone(),
        };
        self.send(call::Type::AcknowledgeOperationStatus, |call| {
            call.acknowledge_operation_status = Some(acknowledge);
        })
        .await
    }

    /// Asks for the state of operations, or, if empty, of all that are known.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn reconcile_operations(
        &self,
        operations: Vec<(OperationId, Option<AgentId>)>,
    ) -> Result<(), TransportError> {
        let operations = operations
            .into_iter()
            .map(
                |(operation_id, agent_id)| call::reconcile_operations::Operation {
                    operation_id,
                    agent_id,
                    resource_provider_id: None,
                },
            )
            .collect();
        self.send(call::Type::ReconcileOperations, |call| {
            call.reconcile_operations = Some(call::ReconcileOperations { operations });
        })
        .await
    }

    /// Sends `data` to an executor, once: it may get lost.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn message(
        &self,
        agent: AgentId,
        executor: ExecutorId,
        data: Vec<u8>,
    ) -> Result<(), TransportError> {
        let message = call::Message {
            agent_id: agent,
            executor_id: executor,
            data,
        };
        self.send(call::Type::Message, |call| call.message = Some(message))
            .await
    }

    /// Sends any call; `framework_id` is filled in.
    ///
    /// # Errors
    /// [`TransportError`]
    pub async fn call(&self, mut call: Call) -> Result<(), TransportError> {
        let Session {
            stream_id,
            framework_id,
        } = self.session.borrow().clone();
        let stream_id = stream_id.ok_or(TransportError::NotSubscribed)?;
        call.framework_id = framework_id;
        self.transport.call(&stream_id, call).await
    }

    /// Stops the driver and leaves the framework registered: its tasks run on, and it can come
    /// back under its id within its failover timeout.
    pub fn stop(&self) {
        self.end(Stopped::MayReturn);
    }

    /// Removes the framework: its tasks are killed, its id is never valid again. Then the driver
    /// stops.
    ///
    /// # Errors
    /// [`TransportError`]: the framework is still registered and the driver goes on.
    pub async fn teardown(&self) -> Result<(), TransportError> {
        self.send(call::Type::Teardown, |_| ()).await?;
        self.end(Stopped::TornDown);
        Ok(())
    }

    fn end(&self, how: Stopped) {
        self.stop.send_replace(Some(how));
        self.cancel.cancel();
    }

    async fn send(
        &self,
        kind: call::Type,
        fill: impl FnOnce(&mut Call),
    ) -> Result<(), TransportError> {
        let mut call = Call {
            r#type: Some(kind.into()),
            ..Call::default()
        };
        fill(&mut call);
        self.call(call).await
    }
}
