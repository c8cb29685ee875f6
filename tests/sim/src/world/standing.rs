//! What the registry says of agents and machines holds for whatever the leader says and does.

use dcos_proto::internal::registry::Slave;
use dcos_proto::mesos::machine_info::Mode;
use dcos_proto::mesos::{AgentId, DrainState, MachineInfo, Offer};
use dcos_sched::master::Master;
use dcos_store::Write;

use super::World;
use crate::kept;
use crate::node::{Node, host};

impl World {
    /// What is offered and not yet taken back is of agents that may be offered.
    pub(super) fn check_offered(&mut self, at: usize, offers: &[Offer]) {
        if !self.is_newest(at) {
            return;
        }
        for offer in offers {
            let master = self.hosts[at].master.as_ref();
            let is_open = master.is_some_and(|master| master.open_offer(&offer.id).is_some());
            if is_open && let Some(wrong) = self.why_not_offered(&offer.agent_id, offer) {
                self.watch.complain(wrong);
            }
        }
    }

    fn why_not_offered(&self, id: &AgentId, offer: &Offer) -> Option<String> {
        let key = format!("mesos/agents/{id}");
        let entry: Option<Slave> = self.registry.get(&key);
        if entry.is_none_or(|entry| entry.deactivated()) {
            return Some(format!("{id} is offered, and should not be"));
        }
        if self.registry.has(&format!("mesos/gone/{id}")) {
            return Some(format!("{id} is offered, and is gone"));
        }
        let hostname = &offer.hostname;
        let machine: Option<MachineInfo> = self
            .registry
            .get(&format!("mesos/machines/{hostname}/{hostname}"));
        machine
            .is_some_and(|machine| machine.mode() == Mode::Down)
            .then(|| format!("{id} is offered, whose machine is DOWN"))
    }

    /// Who is admitted is not gone, and its machine is not DOWN.
    pub(super) fn check_admitted(&mut self, at: usize, node: usize, id: &AgentId) {
        let master = self.hosts[at].master.as_ref();
        // One that was admitted and has gone since hears of both.
        if !self.is_newest(at) || master.is_none_or(|master| master.agent(id).is_none()) {
            return;
        }
        if !self.registry.has(&format!("mesos/agents/{id}")) {
            self.watch
                .complain(format!("{id} is admitted before that was stored"));
        }
        if self.registry.has(&format!("mesos/gone/{id}")) {
            self.watch
                .complain(format!("{id} is back, though it is gone"));
        }
        let host = host(node);
        let machine: Option<MachineInfo> =
            self.registry.get(&format!("mesos/machines/{host}/{host}"));
        if machine.is_some_and(|machine| machine.mode() == Mode::Down) {
            self.watch
                .complain(format!("{id} is admitted, whose machine is DOWN"));
        }
    }

    /// An agent that is written down as drained runs nothing. What frameworks left that have ended
    /// is in nobody's books: an agent that comes back with it is told to kill it, and as in Mesos
    /// says no more of it.
    pub(super) fn check_drained(&mut self, writes: &[Write]) {
        for write in writes {
            let Write::Put(key, bytes) = write else {
                continue;
            };
            let Some(id) = key.strip_prefix("mesos/agents/") else {
                continue;
            };
            let entry = dcos_proto::decode::<Slave>(bytes).ok();
            let drain = entry.and_then(|entry| entry.drain_info);
            if drain.is_none_or(|drain| drain.state() != DrainState::Drained) {
                continue;
            }
            let node = self.nodes.iter().find(|node| {
                let agent = node.agent.as_ref().and_then(|agent| agent.id());
                agent.is_some_and(|own| own.value == *id)
            });
            if node.is_some_and(|node| !node.is_left_empty(self.watch.ended())) {
                self.watch
                    .complain(format!("{id} is drained, and runs something"));
            }
        }
    }

    /// A container is launched: not where nothing may be.
    pub(super) fn check_launched(&mut self, node: usize, executor: &str) {
        let agent = self.nodes[node].agent.as_ref();
        let Some(id) = agent.and_then(|agent| agent.id().cloned()) else {
            return;
        };
        let entry: Option<Slave> = self.registry.get(&format!("mesos/agents/{id}"));
        let drain = entry.and_then(|entry| entry.drain_info);
        if drain.is_some_and(|drain| drain.state() == DrainState::Drained) {
            self.watch
                .complain(format!("{executor} is launched on {id}, which is drained"));
        }
    }

    /// The leader and the agents agree on what is kept where, and nothing is under way.
    pub(super) fn books_agree(&self) -> bool {
        let leader = self.election.leader();
        let Some(master) = leader.and_then(|at| self.hosts[at].master.as_ref()) else {
            return false;
        };
        self.nodes.iter().all(|node| agrees(master, node))
    }

    /// Who has come to rest hears what is kept for it, once leader and agents agree on that.
    pub(super) fn compare(&mut self) {
        if !self.seats.iter().any(|seat| seat.party.compares()) {
            return;
        }
        let (mut books, mut disks) = (kept::All::new(), kept::All::new());
        for agent in self.leader().iter().flat_map(|it| it.master.agents()) {
            let id = agent.info.id.clone().unwrap_or_default();
            kept::add(&mut books, &id.value, &agent.total);
        }
        for agent in self.nodes.iter().filter_map(|node| node.agent.as_ref()) {
            let id = agent.id().cloned().unwrap_or_default();
            kept::add(&mut disks, &id.value, agent.total());
        }
        if books != disks {
            return;
        }
        for at in 0..self.seats.len() {
            let seat = &mut self.seats[at];
            if seat.party.compares() {
                let now = seat.clock.show(self.now);
                seat.party.compare(now, &books);
                self.settle_party(at, Vec::new());
            }
        }
    }

    /// Where they do not.
    pub(super) fn disagreements(&self) -> String {
        let leader = self.election.leader();
        let Some(master) = leader.and_then(|at| self.hosts[at].master.as_ref()) else {
            return "\n  nobody leads".to_owned();
        };
        let nodes = self.nodes.iter().filter(|node| !agrees(master, node));
        let tell = |node: &Node| {
            let agent = node.agent.as_ref();
            let id = agent.and_then(|agent| agent.id());
            let known = id.and_then(|id| master.agent(id));
            format!(
                "\n  {} has {:?} and {:?} under way; by the books it has {:?} and {:?}",
                node.address,
                agent.map(|agent| agent.total().to_string()),
                agent.map(dcos_containerizer::agent::Agent::operations),
                known.map(|known| known.total.to_string()),
                known.map(|known| &known.operations)
            )
        };
        nodes.take(3).map(tell).collect()
    }
}

/// Whether the leader's books and the agent say the same, and nothing is under way.
fn agrees(master: &Master, node: &Node) -> bool {
    let Some(agent) = &node.agent else {
        return false;
    };
    let known = agent.id().and_then(|id| master.agent(id));
    known.is_some_and(|known| {
        known.total == *agent.total()
            && known.operations.is_empty()
            && agent.operations().is_empty()
    })
}
