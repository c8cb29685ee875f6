//! What goes wrong.

use std::time::Duration;

use super::happening::Happening;
use super::{BEGIN, World};
use crate::leader::ADDRESS;

impl World {
    pub(super) fn is_in_trouble(&self) -> bool {
        self.now < BEGIN + self.plan.trouble
    }

    pub(super) fn fault(&mut self) {
        if !self.is_in_trouble() {
            return;
        }
        self.faults += 1;
        match self.seed.range(0..11) {
            0..2 => self.crash_master(),
            2..5 => {
                let node = self.seed.index(self.nodes.len());
                if self.nodes[node].agent.is_some() {
                    self.nodes[node].crash();
                    self.agent_is_gone(node);
                }
            }
            5..8 => self.sever_node(),
            8 => self.crash_party(),
            _ => self.break_stream(),
        }
        let pause = Duration::from_millis(self.seed.range(200..12_000));
        self.queue.at(self.now + pause, Happening::Fault);
    }

    pub(super) fn crash_master(&mut self) {
        if self.leader.master.is_none() {
            return;
        }
        self.leader.crash();
        self.requests.clear();
        for node in 0..self.nodes.len() {
            // Behind what the master still said: a connection ends with its last byte.
            let life = self.nodes[node].life;
            let address = self.nodes[node].address.clone();
            if let Some(notice) = self.network.arrival(self.now, ADDRESS, &address) {
                self.queue
                    .at(notice, Happening::NodeLosesMaster { node, life });
            }
        }
        for (stream, framework) in std::mem::take(&mut self.streams) {
            self.push_to_framework(framework, Happening::StreamBreaks { framework, stream });
        }
        let pause = Duration::from_millis(self.seed.range(200..20_000));
        self.queue.at(self.now + pause, Happening::StartMaster);
    }

    /// The connection between a node and the master swallows everything until both notice.
    pub(super) fn sever_node(&mut self) {
        let node = self.seed.index(self.nodes.len());
        let address = self.nodes[node].address.clone();
        let notice = self.network.sever(self.now, ADDRESS, &address);
        self.queue.retain(|happening| {
            !matches!(happening, Happening::ToMaster { node: at, .. } | Happening::ToNode { node: at, .. } if *at == node)
        });
        let life = self.nodes[node].life;
        self.queue.at(notice, Happening::Mend { node });
        self.queue
            .at(notice, Happening::NodeLosesMaster { node, life });
        let life = self.leader.life;
        self.queue
            .at(notice, Happening::MasterLosesNode { life, node });
    }

    /// A framework's process ends and comes back with what it wrote down.
    pub(super) fn crash_party(&mut self) {
        let at = self.seed.index(self.parties.len());
        let stream = self.parties[at].stream().map(ToOwned::to_owned);
        self.parties[at].crash(self.now);
        if let Some(stream) = stream {
            self.streams.remove(&stream);
            let notice = self.now + self.network.delay();
            let life = self.leader.life;
            self.queue
                .at(notice, Happening::MasterLosesStream { life, stream });
        }
    }

    pub(super) fn break_stream(&mut self) {
        let streams: Vec<(String, usize)> = self
            .streams
            .iter()
            .map(|(stream, at)| (stream.clone(), *at))
            .collect();
        let Some((stream, framework)) = self.seed.pick(&streams).cloned() else {
            return;
        };
        self.streams.remove(&stream);
        let broken = Happening::StreamBreaks {
            framework,
            stream: stream.clone(),
        };
        self.push_to_framework(framework, broken);
        let other = self.now + self.network.delay();
        let life = self.leader.life;
        self.queue
            .at(other, Happening::MasterLosesStream { life, stream });
    }
}
