//! [`Membership`]: who is there, and what they say of themselves. A plug point.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dcos_core::time::Time;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// All members by the address they are known by.
pub type Members = BTreeMap<SocketAddr, Member>;

/// Knows who is in the cluster.
///
/// # Contract
/// 1. What [`watch`](Self::watch) shows is whole at any time: the latest list, not a step towards it.
/// 2. Who is shown as [`Presence::Dead`] was there before, or somebody who is there said so.
/// 3. A member that comes back is shown as [`Presence::Alive`] again, under the same address.
pub trait Membership: fmt::Debug + Send + Sync + 'static {
    /// The members as they are now, and a notice whenever that changes.
    fn watch(&self) -> watch::Receiver<Arc<Members>>;
}

/// One process that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where others reach it; who has the same address is the same member.
    pub address: SocketAddr,
    /// Whether it is there.
    pub presence: Presence,
    /// Since when that is so, as far as this node knows.
    pub since: Time,
    /// What it says of itself; absent as long as only its address is known.
    pub about: Option<Arc<About>>,
    /// When it said that, by its own clock.
    pub updated: Time,
}

/// Whether a member is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Presence {
    /// It answers.
    Alive,
    /// It said that it ends, a short time ago: a restart, most likely. What runs on its node runs on.
    Left,
    /// It does not answer, nor to others, or it left and did not come back.
    Dead,
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Its role.
    pub kind: Kind,
    /// The address by which other nodes know this node: that of its agent or master.
    pub private_ip: IpAddr,
    /// Addresses by which it is reached from outside.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub public_ips: Vec<IpAddr>,
    /// The node's own name.
    #[serde(default)]
    pub hostname: String,
    /// What else an operator said of it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// The role of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A master.
    Master,
    /// An agent.
    Agent,
    /// An agent that outsiders reach.
    PublicAgent,
    /// One that a later version knows.
    #[serde(other)]
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Master => "master",
            Self::Agent => "agent",
            Self::PublicAgent => "public_agent",
            Self::Other => "other",
        })
    }
}

impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Left => "left",
            Self::Dead => "dead",
        })
    }
}

impl About {
    /// The least there is to say.
    pub fn new(kind: Kind, private_ip: impl Into<IpAddr>) -> Self {
        Self {
            kind,
            private_ip: private_ip.into(),
            public_ips: Vec::new(),
            hostname: String::new(),
            attributes: BTreeMap::new(),
        }
    }
}

impl Member {
    /// One that is there, and said so at the epoch. For lists and tests.
    pub fn alive(address: impl Into<SocketAddr>, about: About) -> Self {
        Self {
            address: address.into(),
            presence: Presence::Alive,
            since: Time::EPOCH,
            about: Some(Arc::new(about)),
            updated: Time::EPOCH,
        }
    }

    /// The same, dead.
    pub fn dead(self) -> Self {
        Self {
            presence: Presence::Dead,
            ..self
        }
    }

    fn is_master(&self) -> bool {
        let said = self.about.as_ref();
        said.is_some_and(|about| about.kind == Kind::Master)
    }

    /// The address of its node: what it says, or else where its datagrams come from.
    pub fn ip(&self) -> IpAddr {
        let said = self.about.as_ref().map(|about| about.private_ip);
        said.unwrap_or_else(|| self.address.ip())
    }
}

/// The nodes that nobody reaches: those with a dead member and none that is there.
///
/// Of a node with several members (a master and an agent) one that answers is enough: then it is a
/// process that ended, not the node. A dead master says nothing of its node: tasks run under an
/// agent, and the one there may take no part in gossip.
pub fn unreachable(members: &Members) -> BTreeSet<IpAddr> {
    let (dead, there): (Vec<&Member>, Vec<&Member>) = members
        .values()
        .partition(|member| member.presence == Presence::Dead);
    let there: BTreeSet<IpAddr> = there.into_iter().map(Member::ip).collect();
    let dead = dead.into_iter().filter(|member| !member.is_master());
    let dead = dead.map(Member::ip);
    dead.filter(|ip| !there.contains(ip)).collect()
}

/// One step from a list of members to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A member is new, or is or says something else than before.
    Put(Member),
    /// A member that was dead for long was forgotten.
    Gone(SocketAddr),
}

/// The changes of a membership, one after the other.
#[derive(Debug)]
pub struct Changes {
    watched: watch::Receiver<Arc<Members>>,
    told: Arc<Members>,
}

impl Changes {
    /// Begins with nobody: the first changes are all who are there.
    pub fn of(membership: &(impl Membership + ?Sized)) -> Self {
        let mut watched = membership.watch();
        watched.mark_changed();
        Self {
            watched,
            told: Arc::default(),
        }
    }

    /// Waits for the next changes: what differs from what was told last, by address. Whoever asks
    /// rarely is told of fewer steps, never of wrong ones. `None` once the membership ended.
    pub async fn next(&mut self) -> Option<Vec<Change>> {
        loop {
            self.watched.changed().await.ok()?;
            let now = Arc::clone(&self.watched.borrow_and_update());
            let changes = differences(&self.told, &now);
            self.told = now;
            if !changes.is_empty() {
                return Some(changes);
            }
        }
    }
}

fn differences(before: &Members, now: &Members) -> Vec<Change> {
    let gone = before.keys().filter(|address| !now.contains_key(address));
    let gone = gone.map(|address| Change::Gone(*address));
    let put = now
        .iter()
        .filter(|(address, member)| before.get(address) != Some(member));
    let put = put.map(|(_, member)| Change::Put(member.clone()));
    gone.chain(put).collect()
}

/// A list that changes when it is told to: for tests, and for clusters that never change.
#[derive(Debug)]
pub struct Fixed {
    members: watch::Sender<Arc<Members>>,
}

impl Fixed {
    /// A list of these members.
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        let members = members.into_iter().map(|member| (member.address, member));
        Self {
            members: watch::Sender::new(Arc::new(members.collect())),
        }
    }

    /// Adds a member, or changes it.
    pub fn put(&self, member: Member) {
        self.members.send_modify(|members| {
            Arc::make_mut(members).insert(member.address, member);
        });
    }

    /// Forgets a member.
    pub fn remove(&self, address: SocketAddr) {
        self.members.send_modify(|members| {
            Arc::make_mut(members).remove(&address);
        });
    }
}

impl Membership for Fixed {
    fn watch(&self) -> watch::Receiver<Arc<Members>> {
        self.members.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(last: u8, port: u16) -> Member {
        let ip = [10, 0, 0, last];
        Member::alive((ip, port), About::new(Kind::Agent, ip))
    }

    #[tokio::test]
    async fn changes_lead_from_one_list_to_the_next() {
        let list = Fixed::new([member(1, 1), member(2, 1)]);
        let mut changes = Changes::of(&list);
        let first = changes.next().await;
        let all = vec![Change::Put(member(1, 1)), Change::Put(member(2, 1))];
        assert_eq!(first, Some(all));
        // Several steps before anybody asks are one.
        list.put(member(1, 1).dead());
        list.put(member(3, 1));
        list.remove(member(2, 1).address);
        let second = changes.next().await;
        let gone = Change::Gone(member(2, 1).address);
        let put = [member(1, 1).dead(), member(3, 1)].map(Change::Put);
        assert_eq!(second, Some([vec![gone], put.to_vec()].concat()));
        drop(list);
        assert_eq!(changes.next().await, None);
    }

    #[test]
    fn a_node_is_unreachable_if_nobody_there_answers() {
        let mut left = member(4, 1);
        left.presence = Presence::Left;
        let unknown = Member {
            about: None,
            ..member(5, 1).dead()
        };
        let master = |last: u8| {
            let ip = [10, 0, 0, last];
            Member::alive((ip, 9), About::new(Kind::Master, ip))
        };
        let list = [
            // Of an agent there nobody says anything.
            master(6).dead(),
            master(7).dead(),
            member(7, 1).dead(),
            master(8),
            member(8, 1).dead(),
            member(1, 1),
            member(2, 1).dead(),
            member(3, 1).dead(),
            member(3, 2),
            left,
            unknown,
        ];
        let members = list.into_iter().map(|member| (member.address, member));
        let dead: Vec<String> = unreachable(&members.collect())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(dead, ["10.0.0.2", "10.0.0.5", "10.0.0.7"]);
    }
}
