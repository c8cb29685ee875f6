//! What the shell can drive.

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;

use axum::Router;
use dcos_core::seed::Seed;
use dcos_core::time::Time;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::core::{Batch, Input, RecoverError};
use crate::shell::Mailbox;

/// A state machine that decides what a framework does: [`crate::core::Core`] is one.
///
/// # Contract
/// 1. It has no clock, no randomness of its own and does no I/O: the same inputs give the same batches.
/// 2. What follows from inputs comes with [`Machine::take`], as rows for the store and as calls that may leave once
///    those rows are durable.
/// 3. Recovered from its rows it knows everything it ever promised.
pub trait Machine: Send + Sized + 'static {
    /// What readers see; cheap to make.
    type View: Registration + Send + Sync + 'static;

    /// Takes in what happened.
    fn handle(&mut self, now: Time, input: Input);

    /// What follows from everything taken in since the last time, and from time passing.
    fn take(&mut self, now: Time) -> Batch;

    /// When time alone has consequences next.
    fn next_deadline(&self, now: Time) -> Option<Time>;

    /// The picture of this moment.
    fn view(&self, now: Time) -> Self::View;
}

/// What the connection to the master has to know.
pub trait Registration {
    /// The framework's id, once a master gave one.
    fn framework_id(&self) -> Option<&str>;

    /// The roles the framework needs.
    fn roles(&self) -> &BTreeSet<String>;
}

/// What [`crate::shell::serve`] makes a running service of.
pub trait Service: Send + Sync {
    /// What decides.
    type Machine: Machine;

    /// The name in logs.
    fn name(&self) -> &'static str;

    /// What the keys of all rows begin with.
    fn prefix(&self) -> &'static str;

    /// The settings of the framework.
    fn config(&self) -> &Arc<Config>;

    /// A machine that knows what `rows` tell; none is a first start.
    ///
    /// # Errors
    /// [`RecoverError`]: nothing is guessed and nothing dropped.
    fn recover(
        &self,
        seed: Seed,
        now: Time,
        rows: &[(&str, &[u8])],
    ) -> Result<Self::Machine, RecoverError>;

    /// What clients reach; streams in it end with `ending`.
    fn router(&self, mailbox: Mailbox<Self::Machine>, ending: CancellationToken) -> Router;

    /// Runs beside the machine until `ending` fires, such as checks that are made from here. Default: nothing does.
    fn beside(
        &self,
        _mailbox: Mailbox<Self::Machine>,
        _ending: CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }
}
