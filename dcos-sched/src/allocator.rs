//! Who is offered what: the plug point [`Allocator`] and its default, [`HierarchicalDrf`].
//!
//! An allocator is a pure core. It is told what agents have, which frameworks want offers and
//! what came back ([`Event`]); it answers with [`Grant`]s, each of which the master turns into an
//! offer, and can say for everything it did not grant why not ([`Reason`]).
//!
//! | file | owns |
//! |---|---|
//! | `allocator/words.rs` | events, grants, reasons: the plug point's vocabulary |
//! | `allocator/sorter.rs` | who comes first among siblings: a plug point of the default |
//! | `allocator/drf.rs` | the default: hierarchical roles, quota, dominant resource fairness |
//! | `allocator/memory.rs` | a double for tests: first come, first served |
//! | `allocator/constraints.rs` | what frameworks want of agents |
//! | `allocator/rules.rs` | who may be offered what, whatever is fair |
//! | `allocator/testkit.rs` | what every implementation must pass (feature `testkit`) |

pub mod constraints;
pub mod drf;
mod memory;
mod rules;
pub mod sorter;
#[cfg(any(test, feature = "testkit"))]
pub mod testkit;

mod words;

use std::fmt;

use dcos_core::resources::Resources;
use dcos_core::time::Time;
use dcos_proto::mesos::{AgentId, FrameworkId};

pub use constraints::{ConstraintError, Constraints};
pub use drf::HierarchicalDrf;
pub use memory::FirstCome;
pub use sorter::{Order, Sorter};
pub use words::{
    AgentSpec, Capabilities, Config, Decisions, Event, FrameworkSpec, Grant, Hoarding,
    InverseGrant, Metrics, NonOffer, NotFree, Preemption, Quota, Reason, RoleMetrics,
};

/// Decides which framework is offered which resources of which agent.
///
/// Call [`handle`](Allocator::handle) for whatever happens, in the order it happens, and
/// [`poll`](Allocator::poll) when [`next_deadline`](Allocator::next_deadline) has come. Time never
/// runs backwards. Each [`Event`] says when it is to be told; `docs/allocator.md` goes through the
/// life of an offer, an operation and a maintenance window.
///
/// # Contract
/// 1. Nothing is granted twice: what is granted and not yet recovered, together with what agents
///    were added with, never exceeds an agent's total. Shared resources are the exception.
/// 2. A grant goes to one role of one framework on one agent; its resources carry that role as
///    `allocation_info` and are unreserved or kept for the role or an ancestor of it.
/// 3. Nothing is granted to a framework that is inactive or removed, to a role it suppressed or
///    is not subscribed to, or from an agent that is deactivated or removed.
/// 4. What a framework lacks the capability for is not granted to it, and neither is anything of
///    an agent that its constraints exclude.
/// 5. A filter hides what was refused, and any part of it, until it expires, the framework
///    revives or comes back, or the agent is added again. If there is more than was refused, all
///    is granted.
/// 6. What nobody holds and somebody may have is granted by the time `next_deadline` says,
///    except for remainders below the minimum, what is kept free for guarantees, and what only
///    frameworks want that have too much in unanswered offers.
/// 7. Events about unknown agents or frameworks change nothing.
/// 8. The same events at the same times lead to the same grants.
/// 9. A grant never lets a role consume more than its quota's limits; and no grant takes from
///    what is free so much that the guarantees of other roles could no longer be met.
/// 10. Who holds something of an agent that will be unavailable gets one inverse grant, and no
///     other before it has answered.
/// 11. [`convert_free`](Allocator::convert_free) either changes all it was asked to, or nothing.
///
/// # Source
/// Mesos 1.11 `mesos::allocator::Allocator`; rules AL-1 to AL-14 and F-1 to F-8 of the
/// conformance inventory. Where we differ: resources that come back are offered again at once
/// (Mesos waits for the next `--allocation_interval`), while a refusal hides them from the same
/// framework for at least that interval, so that an impatient framework cannot spin.
///
/// # Implementing
/// Run `allocator::testkit::all` in your tests; [`FirstCome`] is the shortest implementation and
/// `examples/custom_allocator.rs` a foreign one.
pub trait Allocator: fmt::Debug + Send + 'static {
    /// Takes in what happened at `now`.
    fn handle(&mut self, now: Time, event: Event);

    /// An operation on what nobody holds: an operator reserves, unreserves, creates or destroys.
    /// The agent's total and what is free of it lose `consumed` and gain `converted`; neither
    /// carries an `allocation_info`. To make room, rescind offers first.
    ///
    /// # Errors
    /// [`NotFree`] if not all of `consumed` is free; nothing has changed then.
    fn convert_free(
        &mut self,
        now: Time,
        agent: &AgentId,
        consumed: &Resources,
        converted: &Resources,
    ) -> Result<(), NotFree>;

    /// Decides what is due at `now`. Whatever is granted counts as held by the framework until
    /// [`Event::Recover`] brings it back.
    fn poll(&mut self, now: Time) -> Decisions;

    /// When `poll` should be called next if nothing else happens; `None` for never.
    fn next_deadline(&self) -> Option<Time>;

    /// Why `role` of `framework` is not offered what the agents have: one entry an agent from
    /// which it could be offered more or anything at all, in order of agent ids. Empty if the
    /// framework is unknown.
    fn explain(&self, now: Time, framework: &FrameworkId, role: &str) -> Vec<NonOffer>;

    /// Figures for operators; those an allocator does not keep may be missing.
    fn metrics(&self) -> Metrics {
        Metrics::default()
    }
}

#[cfg(test)]
mod tests;
