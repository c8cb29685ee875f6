//! Carrying out what the cores decide.

use std::time::Duration;

use dcos_containerizer::agent::{FromMaster, Input as AgentInput};
use dcos_proto::scheduler::Call;
use dcos_sched::master::{Action, Input, Packet, Reply};

use super::World;
use super::happening::Happening;
use crate::leader::ADDRESS;
use crate::node::Wish;

impl World {
    pub(super) fn start_master(&mut self) {
        if self.leader.master.is_none() {
            self.leader.start(self.now);
            self.settle_master();
        }
    }

    pub(super) fn tell_master(&mut self, input: Input) {
        let now = self.now;
        if let Some(master) = &mut self.leader.master {
            master.handle(now, input);
            self.settle_master();
        }
    }

    pub(super) fn settle_master(&mut self) {
        let life = self.leader.life;
        while let Some(action) = self.leader.poll() {
            match action {
                Action::Persist { id, writes } => {
                    let done = self.now + self.leader.write(writes);
                    self.queue.at(done, Happening::Stored { life, id });
                }
                Action::Reply { request, reply } => {
                    let Some(framework) = self.requests.remove(&request) else {
                        continue;
                    };
                    if let Reply::Subscribed { stream_id } = &reply {
                        self.streams.insert(stream_id.clone(), framework);
                    }
                    self.push_to_framework(framework, Happening::Reply { framework, reply });
                }
                Action::Event {
                    stream_id: stream,
                    event,
                } => {
                    if let Some(&framework) = self.streams.get(&stream) {
                        self.push_to_framework(
                            framework,
                            Happening::Event {
                                framework,
                                stream,
                                event,
                            },
                        );
                    }
                }
                Action::Close { stream_id: stream } => {
                    if let Some(framework) = self.streams.remove(&stream) {
                        self.push_to_framework(
                            framework,
                            Happening::StreamBreaks { framework, stream },
                        );
                    }
                }
                Action::Send {
                    to,
                    message: packet,
                } => {
                    let Some(node) = self.nodes.iter().position(|node| node.address == to) else {
                        continue;
                    };
                    let life = self.nodes[node].life;
                    if let Some(arrival) = self.network.arrival(self.now, ADDRESS, &to) {
                        self.queue
                            .at(arrival, Happening::ToNode { node, life, packet });
                    }
                }
                // Links are always watched, and nobody reads.
                _ => {}
            }
        }
    }

    pub(super) fn push_to_framework(&mut self, framework: usize, happening: Happening) {
        let address = format!("framework {framework}");
        if let Some(arrival) = self.network.arrival(self.now, ADDRESS, &address) {
            self.queue.at(arrival, happening);
        }
    }

    pub(super) fn start_agent(&mut self, node: usize) {
        if self.nodes[node].agent.is_some() {
            return;
        }
        self.nodes[node].start(self.now, node);
        let life = self.nodes[node].life;
        self.tell_agent(node, life, AgentInput::Detected(Some(ADDRESS.to_owned())));
    }

    pub(super) fn deliver(&mut self, node: usize, life: u64, packet: &Packet) {
        if let Some(Ok(message)) = FromMaster::decode(&packet.name, &packet.body) {
            self.tell_agent(
                node,
                life,
                AgentInput::Message {
                    from: ADDRESS.to_owned(),
                    message,
                },
            );
        }
    }

    pub(super) fn tell_agent(&mut self, node: usize, life: u64, input: AgentInput) {
        let now = self.now;
        if life != self.nodes[node].life {
            return;
        }
        if let Some(agent) = &mut self.nodes[node].agent {
            agent.handle(now, input);
            self.settle_node(node);
        }
    }

    pub(super) fn settle_node(&mut self, node: usize) {
        // A crash may come between any two actions.
        let fatal = if self.is_in_trouble() { 0.0005 } else { 0.0 };
        let seed = &mut self.seed;
        let (wishes, crashed) = self.nodes[node].carry_out(self.now, || !seed.chance(fatal));
        for wish in wishes {
            self.grant(node, wish);
        }
        if crashed {
            self.agent_is_gone(node);
        }
    }

    pub(super) fn grant(&mut self, node: usize, wish: Wish) {
        let life = self.nodes[node].life;
        match wish {
            Wish::Send { to, name, body } => {
                let from = self.nodes[node].address.clone();
                let packet = Packet {
                    name: name.to_owned(),
                    body: body.into(),
                };
                if to == ADDRESS
                    && let Some(arrival) = self.network.arrival(self.now, &from, &to)
                {
                    let life = self.leader.life;
                    self.queue
                        .at(arrival, Happening::ToMaster { life, node, packet });
                }
            }
            Wish::Later(delay, input) => {
                self.queue
                    .at(self.now + delay, Happening::Agent { node, life, input });
            }
            Wish::End(delay, container, status) => {
                let happening = Happening::End {
                    node,
                    container,
                    status,
                };
                self.queue.at(self.now + delay, happening);
            }
            Wish::Launched { executor } => {
                *self.launches.entry(executor).or_default() += 1;
                self.launched_on.push(node);
            }
            Wish::Stopped { fresh } => {
                self.nodes[node].crash();
                if fresh {
                    self.nodes[node].forget();
                }
                self.agent_is_gone(node);
            }
        }
    }

    /// The agent's process ended: the master will notice, and somebody starts it again.
    pub(super) fn agent_is_gone(&mut self, node: usize) {
        self.faults += 1;
        let address = self.nodes[node].address.clone();
        let life = self.leader.life;
        if let Some(notice) = self.network.arrival(self.now, &address, ADDRESS) {
            self.queue
                .at(notice, Happening::MasterLosesNode { life, node });
        }
        let most = if self.seed.chance(0.1) {
            200_000
        } else {
            15_000
        };
        let pause = Duration::from_millis(self.seed.range(500..most));
        self.queue
            .at(self.now + pause, Happening::StartAgent { node });
    }

    pub(super) fn send_calls(&mut self, framework: usize, calls: Vec<Call>) {
        let address = format!("framework {framework}");
        let life = self.leader.life;
        for call in calls {
            let is_subscribe = call.subscribe.is_some();
            let stream = self.parties[framework].stream().filter(|_| !is_subscribe);
            let stream = stream.map(ToOwned::to_owned);
            if let Some(arrival) = self.network.arrival(self.now, &address, ADDRESS) {
                let call = Box::new(call);
                self.queue.at(
                    arrival,
                    Happening::Call {
                        life,
                        framework,
                        stream,
                        call,
                    },
                );
            }
        }
    }
}
