//! Agents that run whatever is launched, as far as a framework can tell: what they offer, and what becomes of calls.

use dcos_core::resources::Resources;
use dcos_proto::mesos::{
    AgentId, Attribute, Offer, OfferId, TaskState, TaskStatus, resource, value,
};
use dcos_proto::scheduler::{Call, Event, call, event};

/// What an agent has, in thousandths of a core and MB.
const CPUS: u32 = 8_000;
const MEM: u32 = 16_384;
/// How many agents share a rack.
const RACK: usize = 100;

/// The agents, and what of each is still free.
pub(crate) struct Cluster {
    free: Vec<(u32, u32)>,
    offers: u64,
    pub(crate) launched: usize,
}

impl Cluster {
    pub(crate) fn new(agents: usize) -> Self {
        Self {
            free: vec![(CPUS, MEM); agents],
            offers: 0,
            launched: 0,
        }
    }

    pub(crate) fn agents(&self) -> usize {
        self.free.len()
    }

    /// Offers of everything that is free on some agents, as one event.
    pub(crate) fn offer(&mut self, agents: std::ops::Range<usize>) -> Event {
        let offers = agents.filter(|agent| self.free[*agent].0 > 0);
        let offers: Vec<Offer> = offers
            .map(|agent| {
                self.offers += 1;
                let (cpus, mem) = self.free[agent];
                offer(self.offers, agent, cpus, mem)
            })
            .collect();
        Event {
            r#type: Some(event::Type::Offers as i32),
            offers: Some(event::Offers { offers }),
            ..Event::default()
        }
    }

    /// Does what a call asks for; the updates that follow.
    pub(crate) fn obey(&mut self, call: Call) -> Vec<Event> {
        if call.r#type() != call::Type::Accept {
            return Vec::new();
        }
        let operations = call.accept.unwrap().operations.into_iter();
        let tasks = operations.flat_map(|operation| operation.launch.unwrap().task_infos);
        let updates = tasks.map(|task| {
            let agent: usize = task.agent_id.value.parse().unwrap();
            let (cpus, mem) = &mut self.free[agent];
            for resource in &task.resources {
                let amount = resource.scalar.as_ref().map_or(0.0, |scalar| scalar.value);
                match resource.name.as_str() {
                    "cpus" => *cpus -= thousandths(amount),
                    "mem" => *mem -= thousandths(amount) / 1_000,
                    _ => {}
                }
            }
            self.launched += 1;
            update(task.task_id.value, task.agent_id)
        });
        updates.collect()
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "resources of a task are small and positive"
)]
fn thousandths(value: f64) -> u32 {
    (value * 1_000.0).round() as u32
}

fn update(task: String, agent: AgentId) -> Event {
    let status = TaskStatus {
        task_id: task.into(),
        state: TaskState::TaskRunning as i32,
        agent_id: Some(agent),
        uuid: Some(vec![7; 16]),
        ..TaskStatus::default()
    };
    Event {
        r#type: Some(event::Type::Update as i32),
        update: Some(event::Update { status }),
        ..Event::default()
    }
}

fn offer(number: u64, agent: usize, cpus: u32, mem: u32) -> Offer {
    let resources = format!(
        "cpus:{};mem:{mem};ports:[31000-32000]",
        f64::from(cpus) / 1_000.0
    );
    let rack = Attribute {
        name: "rack".into(),
        r#type: value::Type::Text as i32,
        text: Some(value::Text {
            value: format!("rack-{}", agent / RACK),
        }),
        ..Attribute::default()
    };
    Offer {
        id: OfferId::from(format!("offer-{number}")),
        agent_id: AgentId::from(agent.to_string()),
        hostname: format!("host-{agent}.example"),
        resources: Resources::parse(&resources).unwrap().to_messages(),
        attributes: vec![rack],
        allocation_info: Some(resource::AllocationInfo {
            role: Some("*".into()),
        }),
        ..Offer::default()
    }
}

/// The first event of a connection.
pub(crate) fn subscribed() -> Event {
    Event {
        r#type: Some(event::Type::Subscribed as i32),
        subscribed: Some(event::Subscribed {
            framework_id: "framework-0001".into(),
            heartbeat_interval_seconds: Some(15.0),
            ..event::Subscribed::default()
        }),
        ..Event::default()
    }
}
