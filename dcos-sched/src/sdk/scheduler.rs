//! What a framework's author writes.

use async_trait::async_trait;
use dcos_proto::mesos::{
    AgentId, ExecutorId, FrameworkId, InverseOffer, MasterInfo, Offer, OfferId, OperationStatus,
    TaskStatus,
};

use super::Handle;

/// The deciding half of a framework.
///
/// # Contract
/// 1. The driver calls one method at a time, in the order the master sent the events; while a
///    method runs, later events wait.
/// 2. What a framework wants it says through the [`Handle`]; a clone of it may be used from
///    anywhere, also while no method runs.
/// 3. After [`disconnected`](Self::disconnected), offers are void and events may have been missed:
///    reconcile in the next [`subscribed`](Self::subscribed).
///
/// # Source
/// The events of Mesos 1.11 `include/mesos/v1/scheduler/scheduler.proto`.
///
/// ```
/// use async_trait::async_trait;
/// use dcos_proto::mesos::{FrameworkId, MasterInfo, Offer, TaskStatus};
/// use dcos_sched::sdk::{Handle, Scheduler};
///
/// /// Takes nothing, and says what it saw.
/// #[derive(Debug)]
/// struct Onlooker;
///
/// #[async_trait]
/// impl Scheduler for Onlooker {
///     async fn subscribed(&mut self, _: &Handle, id: FrameworkId, _: Option<MasterInfo>) {
///         println!("subscribed as {id}");
///     }
///
///     async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>) {
///         let ids = offers.into_iter().map(|offer| offer.id).collect();
///         handle.decline(ids, None).await.ok();
///     }
///
///     async fn update(&mut self, _: &Handle, status: TaskStatus) {
///         println!("{}: {:?}", status.task_id, status.state());
///     }
/// }
/// ```
#[async_trait]
pub trait Scheduler: Send + 'static {
    /// A stream is open. `framework_id` is to be kept for a later failover; `master` is the leader.
    async fn subscribed(
        &mut self,
        handle: &Handle,
        framework_id: FrameworkId,
        master: Option<MasterInfo>,
    );

    /// Resources are offered; each offer is to be accepted or declined.
    async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>);

    /// A task changed its state. With [`Acknowledge::Explicit`](super::Acknowledge::Explicit) the
    /// scheduler calls [`Handle::acknowledge`] once it has noted it.
    async fn update(&mut self, handle: &Handle, status: TaskStatus);

    /// An offer is no longer valid. Ignoring it is right where offers are answered at once.
    async fn rescinded(&mut self, _handle: &Handle, _offer: OfferId) {}

    /// An executor sent `data`.
    async fn message(&mut self, _: &Handle, _: AgentId, _: ExecutorId, _data: Vec<u8>) {}

    /// An agent was lost, or, with an executor named, that executor ended with the wait status
    /// `status`. What became of their tasks is told by updates.
    async fn failure(
        &mut self,
        _handle: &Handle,
        _agent: Option<AgentId>,
        _executor: Option<ExecutorId>,
        _status: Option<i32>,
    ) {
    }

    /// Resources are asked back for maintenance.
    async fn inverse_offers(&mut self, _handle: &Handle, _offers: Vec<InverseOffer>) {}

    /// An offer operation with an id changed its state.
    async fn operation_update(&mut self, _handle: &Handle, _status: OperationStatus) {}

    /// The stream broke; the driver subscribes anew by itself.
    async fn disconnected(&mut self) {}

    /// The master ended the framework with `message`; the driver stops after this.
    async fn error(&mut self, _message: String) {}
}
