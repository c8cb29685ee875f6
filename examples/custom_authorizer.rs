//! Rules of one's own on top of the default authorizer: nobody drains or removes agents during
//! business hours, whatever the access rules say.
//!
//! Run: `cargo run -p examples --example custom_authorizer`
//!
//! ```text
//! 11:00 UTC  ops may DRAIN_AGENT: false
//! 11:00 UTC  ops may VIEW_ROLE: true
//! 22:00 UTC  ops may DRAIN_AGENT: true
//! ```
//!
//! A master takes it in its `Config`: `config.settings.security.authorizer = Arc::new(...)`.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dcos_security::{Acls, Action, Authorizer, DenyAll, Object, ObjectApprover, Principal};

/// Forbids what takes capacity away while people work. The hour is set from outside, as whoever
/// decides reads no clock.
#[derive(Debug)]
struct OfficeHours<A> {
    inner: A,
    hour: AtomicU64,
}

impl<A: Authorizer> Authorizer for OfficeHours<A> {
    fn approver(&self, subject: Option<&Principal>, action: Action) -> Arc<dyn ObjectApprover> {
        let working = (8..18).contains(&self.hour.load(Ordering::Relaxed));
        let taking_away = matches!(
            action,
            Action::DrainAgent | Action::DeactivateAgent | Action::MarkAgentGone
        );
        if working && taking_away {
            Arc::new(DenyAll)
        } else {
            self.inner.approver(subject, action)
        }
    }
}

fn main() -> anyhow::Result<()> {
    let inner: Acls = r#"{"permissive": false,
        "drain_agents": [{"principals": {"values": ["ops"]}, "agents": {"type": "ANY"}}],
        "view_roles": [{"principals": {"type": "ANY"}, "roles": {"type": "ANY"}}]}"#
        .parse()?;
    let authorizer = OfficeHours {
        inner,
        hour: AtomicU64::new(11),
    };
    let ops = Principal::new("ops");
    let say = |action| {
        let hour = authorizer.hour.load(Ordering::Relaxed);
        let may = authorizer.authorized(Some(&ops), action, &Object::ANY);
        println!("{hour}:00 UTC  ops may {action}: {may}");
    };
    say(Action::DrainAgent);
    say(Action::ViewRole);
    authorizer.hour.store(22, Ordering::Relaxed);
    say(Action::DrainAgent);
    Ok(())
}

#[cfg(test)]
mod tests {
    use dcos_security::AllowAll;
    use dcos_security::testkit::authorizer::{Case, all};

    use super::*;

    #[test]
    fn it_keeps_the_promises() {
        let authorizer = OfficeHours {
            inner: AllowAll,
            hour: AtomicU64::new(9),
        };
        let drain = Case {
            subject: None,
            action: Action::DrainAgent,
            object: "any",
            allowed: false,
        };
        all(&authorizer, &[drain]);
    }
}
