//! `/system/v1/leader/…`: what is asked of the node on which somebody leads.

use super::{
    Asked, Decision, Forward, Permission, Rules, Step, Target, decision, plain, with_query,
};
use crate::route::{Action, Office, find};
use crate::world::{Base, World, address};

impl Rules {
    pub(super) fn leader(
        &self,
        office: Office,
        permission: Permission,
        asked: Asked<'_>,
        world: &World,
    ) -> Decision {
        let prefix = format!("/system/v1/leader/{}", office.name());
        let rest = asked.path.strip_prefix(&*prefix).unwrap_or_default();
        let path = format!("/system/v1{rest}");
        let leader = match office {
            Office::Mesos => &world.mesos_leader,
            Office::Marathon => &world.marathon_leader,
        };
        let step = match leader {
            None => Step::Unknown(match office {
                Office::Mesos => "503 Service Unavailable: mesos leader is unknown.",
                Office::Marathon => "503 Service Unavailable: marathon leader is unknown.",
            }),
            Some(base) if self.is_own(base) => return self.here(&path, asked, world),
            Some(_) if asked.forwarded => unknown(office),
            Some(base) => match self.masters.beside(base.authority.host()) {
                Some(base) => Step::Forward(Forward {
                    path: with_query(&path, asked.query),
                    marked: true,
                    ..plain(Target::Member(base))
                }),
                None => unknown(office),
            },
        };
        decision(permission, "Leader", step)
    }

    /// The leader is on this node.
    fn here(&self, path: &str, asked: Asked<'_>, world: &World) -> Decision {
        // No path leads to a leader by way of a leader.
        match find(self.routes, path) {
            Some((route, _)) if !matches!(route.action, Action::Leader(_)) => {
                self.decide(Asked { path, ..asked }, world)
            }
            _ => super::nothing(),
        }
    }

    fn is_own(&self, base: &Base) -> bool {
        let host = base.authority.host();
        match address(host) {
            Some(ip) => self.own_hosts.contains(&ip.to_string()),
            None => self.own_hosts.contains(host),
        }
    }
}

/// Two routers hold each other's node for the leader's, as may be during a failover.
fn unknown(office: Office) -> Step {
    let text = format!(
        "503 Service Unavailable: {} leader is unknown",
        office.name()
    );
    Step::Answer(503, text)
}
