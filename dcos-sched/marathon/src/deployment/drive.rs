//! What to do next with the instances of one app.
//!
//! Pure and without memory: from what should be ([`Drive`]) and what is ([`Member`]s) follow kills,
//! launches and whether the goal is reached ([`Decision`]). Being asked twice changes nothing. Orchestrators of one's own
//! ask it as well: see `examples/custom_orchestrator.rs`.

mod spread;

use std::collections::{BTreeMap, BTreeSet};

use crate::Timestamp;
use crate::core::lack;
use crate::health::verdict;
use crate::instance::{Condition, Instance, InstanceId};
use crate::model::{App, KillSelection, Operator};

use spread::Spread;

/// What should be.
#[derive(Clone, Copy, Debug)]
pub enum Drive<'a> {
    /// No instance.
    Stop,
    /// So many instances, of whatever configuration.
    Scale {
        /// Which to give up first, if there are too many.
        spec: &'a App,
        /// How many there shall be.
        to: u32,
        /// These are killed in any case.
        kill: &'a BTreeSet<InstanceId>,
        /// What it waits for besides.
        fresh: Fresh,
    },
    /// The wanted number of instances, all of this configuration, within its upgrade strategy.
    Restart {
        /// The configuration, with the number.
        spec: &'a App,
    },
}

/// What a scaling waits for: instances it launched itself. Those that were there before may be as they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fresh {
    /// The definition its own are launched with.
    pub version: Timestamp,
    /// The version of the tree from which on they are launched, where the definition was in use before.
    pub since: Timestamp,
    /// So many of them have to be ready, or all there are.
    pub count: u32,
}

impl Fresh {
    /// Whether what was launched with this definition, under that version of the tree, is the scaling's own.
    pub(crate) fn owns(&self, version: Timestamp, launched: Timestamp) -> bool {
        version == self.version && launched >= self.since
    }

    /// Whether nothing is to be waited for any more, with so many of its own, so many of them ready.
    pub(crate) fn is_reached(&self, own: usize, ready: usize) -> bool {
        ready >= self.count as usize || ready == own
    }
}

/// An instance that occupies resources, or may.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name.
    pub id: InstanceId,
    /// The configuration it was launched with.
    pub config: Timestamp,
    /// The very definition.
    pub version: Timestamp,
    /// The version of the tree it was launched under, see [`Instance::launched_under`].
    pub launched: Timestamp,
    /// It is already meant to go.
    pub leaving: bool,
    /// How far it has come.
    pub stage: Stage,
    /// Running, passing all checks, and admitted by the readiness check if there is one.
    pub ready: bool,
    /// Running and failing a check.
    pub failing: bool,
    /// When it was launched or started.
    pub since: Timestamp,
    /// Properties of its agent, for spreading.
    pub fields: BTreeMap<String, String>,
}

impl Member {
    /// What counts of `instance`, which was launched as `spec` says.
    pub fn of(instance: &Instance, spec: Option<&App>) -> Self {
        let verdict = spec.and_then(|spec| match spec.pod.as_deref() {
            Some(pod) => instance.pod_health(pod),
            None => verdict(spec, &instance.health),
        });
        let constraints = spec.into_iter().flat_map(|spec| &spec.constraints);
        let fields = constraints.filter_map(|constraint| {
            let value = instance.agent.field(&constraint.field)?;
            Some((constraint.field.clone(), value.to_owned()))
        });
        Self {
            id: instance.id.clone(),
            config: instance.config_version,
            version: instance.version,
            launched: instance.launched_under(),
            leaving: instance.is_leaving(),
            stage: match instance.condition {
                Condition::Running | Condition::Killing => Stage::Running,
                Condition::Starting => Stage::Starting,
                Condition::Unreachable => Stage::Unreachable,
                _ => Stage::Staging,
            },
            ready: lack(instance, spec).is_none(),
            failing: verdict == Some(false) || instance.condition == Condition::Killing,
            since: instance.started_at.unwrap_or(instance.staged_at),
            fields: fields.collect(),
        }
    }
}

/// How far an instance has come, in the order in which it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Its agent is out of reach.
    Unreachable,
    /// Launched, and not starting yet.
    Staging,
    /// Its executor starts it.
    Starting,
    /// It runs.
    Running,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// These have to go.
    pub kill: Vec<InstanceId>,
    /// So many are to be launched.
    pub launch: u32,
    /// All is as it should be.
    pub done: bool,
}

/// Compares what is with what should be.
pub fn decide(drive: Drive<'_>, members: &[Member]) -> Decision {
    match drive {
        Drive::Stop => Decision {
            kill: members
                .iter()
                .filter(|m| !m.leaving)
                .map(|m| m.id.clone())
                .collect(),
            launch: 0,
            done: members.is_empty(),
        },
        Drive::Scale {
            spec,
            to,
            kill,
            fresh,
        } => scale(spec, to, kill, fresh, members),
        Drive::Restart { spec } => restart(spec, members),
    }
}

fn scale(
    spec: &App,
    to: u32,
    named: &BTreeSet<InstanceId>,
    fresh: Fresh,
    members: &[Member],
) -> Decision {
    let is_named = |member: &Member| named.contains(&member.id);
    let staying: Vec<&Member> = members.iter().filter(|member| !member.leaving).collect();
    let (named_now, kept): (Vec<&Member>, Vec<&Member>) =
        staying.into_iter().partition(|member| is_named(member));
    let surplus = kept.len().saturating_sub(to as usize);
    let mut kill: Vec<_> = named_now.iter().map(|member| member.id.clone()).collect();
    kill.extend(victims(spec, &kept, surplus));
    let waiting_for_named = members.iter().any(is_named);
    let launch = if waiting_for_named {
        0
    } else {
        missing(to, kept.len())
    };
    let own = kept
        .iter()
        .filter(|member| fresh.owns(member.version, member.launched));
    let ready = own.clone().filter(|member| member.ready).count();
    let done = kill.is_empty()
        && launch == 0
        && members.iter().all(|member| !member.leaving)
        && fresh.is_reached(own.count(), ready);
    Decision { kill, launch, done }
}

fn restart(spec: &App, members: &[Member]) -> Decision {
    let wanted = spec.instances as usize;
    let (mut min_healthy, mut capacity) =
        (spec.min_healthy() as usize, spec.max_capacity() as usize);
    // With no room above and none below nothing could ever move, so one more is allowed; or, where that one could not
    // have the volumes of those there are, one less is needed.
    if capacity <= min_healthy {
        if spec.is_exclusive() {
            min_healthy = capacity.saturating_sub(1);
        } else {
            capacity = min_healthy + 1;
        }
    }
    let staying = || members.iter().filter(|member| !member.leaving);
    let (new, old): (Vec<&Member>, Vec<&Member>) =
        staying().partition(|member| member.config == spec.config_version());

    let mut kill = victims(spec, &new, new.len().saturating_sub(wanted));
    let surplus: BTreeSet<InstanceId> = kill.iter().cloned().collect();
    let kept: Vec<&Member> = new
        .iter()
        .copied()
        .filter(|member| !surplus.contains(&member.id))
        .collect();
    let new_ready = kept.iter().filter(|member| member.ready).count();

    // Old instances that serve nobody go at once, the others while enough are left.
    let (serving, idle): (Vec<&Member>, Vec<&Member>) =
        old.iter().copied().partition(|member| serves(member));
    let spare = (new_ready + serving.len())
        .saturating_sub(min_healthy)
        .min(serving.len());
    kill.extend(idle.iter().map(|member| member.id.clone()));
    kill.extend(victims(spec, &serving, spare));

    // Above capacity (an upgrade was changed half-way), new ones that serve nobody yet make room.
    let above = (staying().count() - kill.len()).saturating_sub(capacity);
    let unready: Vec<&Member> = kept.iter().copied().filter(|m| !m.ready).collect();
    let making_room = victims(spec, &unready, above.min(unready.len()));
    let new_staying = kept.len() - making_room.len();
    kill.extend(making_room);

    let occupied = members.len();
    let room = capacity.saturating_sub(occupied);
    let launch = missing(spec.instances, new_staying).min(u32::try_from(room).unwrap_or(u32::MAX));
    let done = kill.is_empty()
        && new_ready == wanted
        && members.len() == wanted
        && members
            .iter()
            .all(|member| !member.leaving && member.config == spec.config_version());
    Decision { kill, launch, done }
}

/// Whether an outdated instance still does its job; unknown health counts as good.
fn serves(member: &Member) -> bool {
    member.stage == Stage::Running && !member.failing
}

fn missing(wanted: u32, have: usize) -> u32 {
    wanted.saturating_sub(u32::try_from(have).unwrap_or(u32::MAX))
}

/// Picks `count` instances to give up: the least far come first, then by the app's selection, and such
/// that the groups of `GROUP_BY` constraints stay even.
fn victims(spec: &App, members: &[&Member], count: usize) -> Vec<InstanceId> {
    let mut left: Vec<&Member> = members.to_vec();
    // Moments of a clock that was fast are all the same, see `Instance::told_at`.
    let age = |member: &Member| (member.since, member.launched);
    left.sort_by(|a, b| {
        let by_age = match spec.kill_selection {
            KillSelection::YoungestFirst => age(b).cmp(&age(a)),
            KillSelection::OldestFirst => age(a).cmp(&age(b)),
        };
        a.stage
            .cmp(&b.stage)
            .then(a.ready.cmp(&b.ready))
            .then(by_age)
            .then(a.id.cmp(&b.id))
    });
    let fields: Vec<&str> = spec
        .constraints
        .iter()
        .filter(|constraint| constraint.operator == Operator::GroupBy)
        .map(|constraint| constraint.field.as_str())
        .collect();
    if fields.is_empty() {
        return left
            .into_iter()
            .take(count)
            .map(|member| member.id.clone())
            .collect();
    }
    let groups = |member: &&Member| {
        let value = |field: &&str| member.fields.get(*field).cloned();
        fields.iter().map(value).collect()
    };
    let mut spread = Spread::new(left.iter().map(groups));
    let chosen = std::iter::from_fn(|| spread.take());
    chosen.take(count).map(|at| left[at].id.clone()).collect()
}

#[cfg(test)]
#[path = "drive_tests.rs"]
mod tests;
