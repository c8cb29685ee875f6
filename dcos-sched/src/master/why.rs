//! Why frameworks are not offered what agents have: the allocator's reasons, and what a wish
//! lacks, agent by agent and summed up.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::resources::Resources;
use dcos_proto::mesos::{AgentId, FrameworkId};

use super::http::sight::{HIDDEN, Sight};
use super::{Action, Agent, Framework, Master, Reader, RequestId};
use crate::allocator::{Constraints, NonOffer, Reason};
use crate::why::{Answer, Explanation, Explanations, Group, Question, Wish, amounts};

/// How many agents a group names.
const NAMED: usize = 10;
/// How many agents are listed one by one; groups count all.
const MOST_LISTED: usize = 1_000;
/// How often one question is put to an agent, but for the first framework and role: nothing is decided meanwhile.
const MOST_JUDGED: usize = 20_000;
/// Amounts that differ by less are the same: Mesos keeps three decimals.
const TINY: f64 = 0.0005;

/// Agents by reason and what it speaks of.
type Groups<'a> = BTreeMap<(&'static str, Vec<String>), (Why, Vec<&'a AgentId>)>;

impl Master {
    /// Why frameworks are not offered what agents have, or why that is not enough for a wish.
    ///
    /// A reader hears of frameworks and roles it may see. One question is answered for a bounded number of agents:
    /// nothing is decided meanwhile.
    pub(crate) fn explain(&mut self, request: RequestId, question: &Question, reader: &Reader) {
        let sight = match reader {
            Reader::Inside => Sight::all(),
            Reader::Caller(principal) => {
                Sight::of(&self.settings.security.authorizer, principal.as_ref())
            }
        };
        let most = (MOST_JUDGED / self.agents.len().max(1)).max(1);
        let mut explained = Explanations::default();
        let one = question.framework_id.as_ref();
        let one = one.map(|id| (id, self.frameworks.get(id)));
        let asked: Vec<_> = match one {
            Some((id, known)) => known.map(|known| (id, known)).into_iter().collect(),
            None => self.frameworks.iter().collect(),
        };
        for (id, known) in asked {
            if !sight.framework(&known.info) {
                continue;
            }
            for own in known.roles() {
                let wanted = question.role.as_ref().is_none_or(|role| *role == own);
                if !wanted || !sight.role(&own) {
                    continue;
                }
                if explained.explanations.len() == most {
                    explained.left_out += 1;
                    continue;
                }
                let explanation =
                    self.explain_role(id, known, &own, question.wish.as_ref(), &sight);
                explained.explanations.push(explanation);
            }
        }
        let answer = serde_json::to_value(explained).unwrap_or_default();
        self.push(Action::Explained { request, answer });
    }

    fn explain_role(
        &self,
        id: &FrameworkId,
        framework: &Framework,
        role: &str,
        wish: Option<&Wish>,
        sight: &Sight,
    ) -> Explanation {
        let wanted = Wanted::new(wish, role, sight);
        let reasons = self.allocator.explain(self.now, id, role);
        let mut groups: Groups<'_> = BTreeMap::new();
        let mut not_offered = Vec::new();
        for NonOffer { agent, reason } in &reasons {
            let Some(known) = self.agents.get(agent) else {
                continue;
            };
            let why = self.judge(id, role, &wanted, known, reason);
            if not_offered.len() < MOST_LISTED {
                not_offered.push(Answer {
                    agent_id: agent.value.clone(),
                    hostname: known.info.hostname.clone(),
                    kind: why.kind.to_owned(),
                    reason: why.to_string(),
                });
            }
            let group = groups
                .entry(why.key())
                .or_insert_with(|| (why.clone(), Vec::new()));
            group.0.join(&why);
            group.1.push(agent);
        }
        let mut summary: Vec<Group> = groups
            .into_values()
            .map(|(why, agents)| Group {
                count: agents.len(),
                kind: why.kind.to_owned(),
                reason: why.to_string(),
                agents: agents
                    .iter()
                    .take(NAMED)
                    .map(|id| id.value.clone())
                    .collect(),
            })
            .collect();
        summary.sort_by_key(|group| std::cmp::Reverse(group.count));
        Explanation {
            framework_id: id.value.clone(),
            framework_name: framework.info.name.clone(),
            role: role.to_owned(),
            wish: wish.map(|wish| wish.resources.to_string()),
            summary,
            not_offered,
        }
    }

    /// What keeps one agent from a wish: what lasts longest comes first.
    fn judge(
        &self,
        framework: &FrameworkId,
        role: &str,
        wanted: &Wanted<'_>,
        agent: &Agent,
        reason: &Reason,
    ) -> Why {
        if wanted.constraints.exclude(role, &self.agent_spec(agent)) {
            return Why::plain("excluded", "the wish's conditions exclude it".to_owned());
        }
        let why = self.say(reason, wanted.sight);
        if wanted.amounts.is_empty() || is_bar(reason) {
            return why;
        }
        let total = amounts(&agent.total);
        let lacks = wanted.lacks(&total);
        if !lacks.is_empty() {
            return Why::lacking("too_small", lacks);
        }
        let own = agent.total.allocatable_to(role);
        let lacks = wanted.lacks(&amounts(&own));
        if !lacks.is_empty() {
            let roles = agent.total.reservations().into_keys();
            return Why {
                names: roles
                    .filter(|other| other != role)
                    .map(|other| wanted.sight.named(other))
                    .collect(),
                ..Why::lacking("reserved", lacks)
            };
        }
        let mut offered = Resources::new();
        let mut free = own;
        let mut holders: BTreeSet<String> = BTreeSet::new();
        for offer in agent.offers.iter().filter_map(|id| self.offers.get(id)) {
            let resources = Resources::from(&offer.resources).unallocated();
            if offer.framework_id == *framework {
                offered += &resources;
            } else {
                free -= &resources;
                holders.insert(self.name_of(&offer.framework_id, wanted.sight));
            }
        }
        for (holder, used) in &agent.used {
            free -= &used.unallocated();
            holders.insert(self.name_of(holder, wanted.sight));
        }
        if wanted.lacks(&amounts(&offered)).is_empty() {
            let text = "it is offered to the framework, which has not answered".to_owned();
            return Why::plain("offered", text);
        }
        let lacks = wanted.lacks(&amounts(&free));
        if lacks.is_empty() {
            return why;
        }
        Why {
            names: holders,
            ..Why::lacking("held", lacks)
        }
    }

    fn name_of(&self, framework: &FrameworkId, sight: &Sight) -> String {
        match self.frameworks.get(framework) {
            Some(known) if sight.framework(&known.info) => known.info.name.clone(),
            None if sight.is_whole() => framework.value.clone(),
            _ => HIDDEN.to_owned(),
        }
    }

    /// The allocator's reason, in words that read well for one agent and for many.
    fn say(&self, reason: &Reason, sight: &Sight) -> Why {
        let named = |roles: &[String]| roles.iter().map(|role| sight.named(role.clone())).collect();
        match reason {
            Reason::Filtered { until } => Why {
                kind: "filtered",
                seconds: until.since(self.now).as_secs() + 1,
                ..Why::default()
            },
            Reason::Held { by } => Why {
                kind: "held",
                names: by.iter().map(|id| self.name_of(id, sight)).collect(),
                ..Why::default()
            },
            Reason::Reserved { roles } => Why {
                kind: "reserved",
                names: roles.iter().map(|role| sight.named(role.clone())).collect(),
                ..Why::default()
            },
            Reason::QuotaReached { role, names } => {
                let told = Reason::QuotaReached {
                    role: sight.named(role.clone()),
                    names: names.clone(),
                };
                Why::plain(kind(reason), told.to_string())
            }
            Reason::Headroom { roles } => {
                let told = Reason::Headroom {
                    roles: named(roles),
                };
                Why::plain(kind(reason), told.to_string())
            }
            Reason::Outranked { roles } => {
                let told = Reason::Outranked {
                    roles: named(roles),
                };
                Why::plain(kind(reason), told.to_string())
            }
            reason => Why::plain(kind(reason), reason.to_string()),
        }
    }
}

/// A wish, ready to be compared.
struct Wanted<'a> {
    amounts: BTreeMap<String, f64>,
    constraints: Constraints,
    /// Which names may be told.
    sight: &'a Sight,
}

impl<'a> Wanted<'a> {
    fn new(wish: Option<&Wish>, role: &str, sight: &'a Sight) -> Self {
        Self {
            amounts: wish.map(Wish::amounts).unwrap_or_default(),
            // They were read before the question was asked.
            constraints: wish
                .and_then(|wish| wish.constraints(role).ok())
                .unwrap_or_default(),
            sight,
        }
    }

    /// What there is too little of.
    fn lacks(&self, has: &BTreeMap<String, f64>) -> Vec<Lack> {
        let lack = |(name, wish): (&String, &f64)| {
            let has = has.get(name).copied().unwrap_or_default();
            (has + TINY < *wish).then(|| Lack {
                name: name.clone(),
                has,
                wish: *wish,
            })
        };
        self.amounts.iter().filter_map(lack).collect()
    }
}

/// Too little of something.
#[derive(Debug, Clone)]
struct Lack {
    name: String,
    has: f64,
    wish: f64,
}

/// A reason, for one agent or for several at once.
#[derive(Debug, Clone, Default)]
struct Why {
    kind: &'static str,
    text: String,
    lacks: Vec<Lack>,
    /// Who holds it, or for whom it is reserved.
    names: BTreeSet<String>,
    /// For how long yet.
    seconds: u64,
}

impl Why {
    fn plain(kind: &'static str, text: String) -> Self {
        Self {
            kind,
            text,
            ..Self::default()
        }
    }

    fn lacking(kind: &'static str, lacks: Vec<Lack>) -> Self {
        Self {
            kind,
            lacks,
            ..Self::default()
        }
    }

    /// Reasons with the same key are told together.
    fn key(&self) -> (&'static str, Vec<String>) {
        let mut words: Vec<String> = self.lacks.iter().map(|lack| lack.name.clone()).collect();
        words.push(self.text.clone());
        (self.kind, words)
    }

    /// Takes in the same reason for another agent: the best of them, the longest.
    fn join(&mut self, other: &Self) {
        for (own, other) in self.lacks.iter_mut().zip(&other.lacks) {
            own.has = own.has.max(other.has);
        }
        self.names.extend(other.names.iter().cloned());
        self.seconds = self.seconds.max(other.seconds);
    }
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let names = names.join(", ");
        let lacks: Vec<String> = self
            .lacks
            .iter()
            .map(|Lack { name, has, wish }| {
                let free = if self.kind == "held" { "free " } else { "" };
                format!(
                    "not enough {name} (has {free}{}, wish {})",
                    round(*has),
                    round(*wish)
                )
            })
            .collect();
        let lacks = lacks.join(", ");
        match (self.kind, lacks.is_empty()) {
            ("filtered", _) => {
                let seconds = self.seconds;
                write!(
                    f,
                    "filtered by the framework's decline for another {seconds} s"
                )
            }
            ("held", true) => write!(f, "held by {names}"),
            ("held", false) => write!(f, "{lacks}; the rest is held by {names}"),
            ("reserved", true) => write!(f, "reserved for {names}"),
            ("reserved", false) => write!(f, "{lacks}; the rest is reserved for {names}"),
            (_, false) => f.write_str(&lacks),
            _ => f.write_str(&self.text),
        }
    }
}

/// With the three decimals Mesos keeps, and without noughts at the end.
fn round(amount: f64) -> f64 {
    (amount * 1000.0).round() / 1000.0
}

/// Whether a reason stands whatever is free.
fn is_bar(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::FrameworkInactive
            | Reason::NotSubscribed
            | Reason::Suppressed
            | Reason::AgentInactive
            | Reason::NotWhitelisted
            | Reason::AgentSingleRole
            | Reason::AgentFlatRole
            | Reason::GpuAgent
            | Reason::RemoteAgent
            | Reason::Constrained
    )
}

/// A reason in one word, for programs.
fn kind(reason: &Reason) -> &'static str {
    match reason {
        Reason::FrameworkInactive => "framework_inactive",
        Reason::NotSubscribed => "not_subscribed",
        Reason::Suppressed => "suppressed",
        Reason::Paused => "paused",
        Reason::AgentInactive => "agent_inactive",
        Reason::NotWhitelisted => "not_whitelisted",
        Reason::AgentSingleRole | Reason::AgentFlatRole => "agent_too_old",
        Reason::GpuAgent => "gpu_agent",
        Reason::RemoteAgent => "remote_agent",
        Reason::Constrained => "excluded",
        Reason::Held { .. } => "held",
        Reason::Reserved { .. } => "reserved",
        Reason::Incapable => "incapable",
        Reason::BelowMinimum => "below_minimum",
        Reason::QuotaReached { .. } => "quota_reached",
        Reason::Headroom { .. } => "kept_for_guarantees",
        Reason::Hoarding { .. } => "hoarding",
        Reason::Outranked { .. } => "outranked",
        Reason::Filtered { .. } => "filtered",
        Reason::Pending => "pending",
    }
}
