//! What must never be, and what has to be in the end.

use std::fmt::Write as _;

use dcos_containerizer::agent::Agent;

use super::happening::Happening;
use super::{BEGIN, World};
use crate::node::Node;
use crate::party::Party;

impl World {
    /// What is wrong now and would be wrong at any time.
    pub(super) fn what_must_never_be(&mut self) -> Option<String> {
        // Only a launch can make it too much, or once too often.
        for at in std::mem::take(&mut self.launched_on) {
            let node = &self.nodes[at];
            if !node.fits() {
                let (address, used) = (&node.address, node.in_use());
                return Some(format!("resources of {address} are given twice: {used}"));
            }
            if let Some((executor, _)) = self.launches.iter().find(|(_, count)| **count > 1) {
                return Some(format!("{executor} was launched twice"));
            }
        }
        self.parties
            .iter()
            .find_map(|party| party.complaint().map(ToOwned::to_owned))
    }

    /// Whether all that was wanted is done, nothing is left over, and every node has been offered
    /// as a whole since.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.is_in_trouble()
            && self.parties.iter().all(|party| party.is_content(self.now))
            && self.nodes.iter().all(|node| self.is_idle(node))
    }

    fn is_idle(&self, node: &Node) -> bool {
        let Some(agent) = &node.agent else {
            return false;
        };
        let was_offered = |party: &dyn Party| {
            let offer = agent.id().and_then(|id| party.idle_offer(id));
            offer.is_some_and(|offer| *offer == node.total)
        };
        node.in_use().is_empty()
            && agent.tasks().next().is_none()
            && self.parties.iter().any(|party| was_offered(&**party))
    }

    pub(super) fn report(&self, wrong: &str) -> String {
        let mut text = format!(
            "{wrong}, after {:?} and {} steps",
            self.now - BEGIN,
            self.steps
        );
        for (at, framework) in self.parties.iter().enumerate() {
            _ = text.write_fmt(format_args!(
                "\n  framework {at} (stream: {}): {}",
                framework.stream().is_some(),
                framework.open(self.now)
            ));
        }
        for node in &self.nodes {
            let tasks: Vec<String> = node
                .agent
                .iter()
                .flat_map(Agent::tasks)
                .map(|task| format!("{} {:?}", task.task_id, task.state()))
                .collect();
            let master = node
                .agent
                .as_ref()
                .and_then(|agent| agent.master().map(ToOwned::to_owned));
            _ = text.write_fmt(format_args!(
                "\n  {} (up: {}, with {master:?}): uses {}; tasks {tasks:?}",
                node.address,
                node.agent.is_some(),
                node.in_use()
            ));
        }
        text
    }

    /// Adds a happening to the digest and, if asked, to the trace.
    pub(super) fn note(&mut self, happening: &Happening) {
        let (kind, whose, body) = happening.gist();
        let numbers = [self.now.as_nanos(), kind, whose].map(u64::to_be_bytes);
        for byte in numbers.as_flattened().iter().chain(body) {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        if self.is_tracing {
            let text: String = format!("{} {happening:?}", self.now)
                .chars()
                .take(1500)
                .collect();
            eprintln!("{text}");
        }
    }
}
