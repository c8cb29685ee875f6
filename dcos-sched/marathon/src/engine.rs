//! What every orchestrator on the scheduler SDK needs, whatever it orchestrates.
//!
//! Marathon keeps services running and Metronome runs jobs; both wait for offers, launch, kill, compare
//! notes with the master and give up what nobody confirms. Those parts stand here, each pure and without
//! a clock ([`Fleet`] puts them together for orchestrators of one's own), beside [`crate::queue`], [`crate::matching`], [`crate::instance`] and [`crate::task`]; the
//! [`crate::shell`] drives any [`Machine`] made of them.

pub mod calls;
mod deadlines;
mod fleet;
mod kills;
mod machine;
mod news;
mod offers;
mod spoken;
mod subscription;

pub use deadlines::Deadlines;
pub use fleet::{Directed, Director, Fleet, FleetView};
pub use kills::Kills;
pub use machine::{Machine, Registration, Service};
pub use news::News;
pub use offers::{Answered, Launcher, answer, begin};
pub use spoken::Spoken;
pub use subscription::Subscription;
