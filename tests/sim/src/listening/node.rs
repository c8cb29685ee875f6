//! One node that follows.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_net::vip::{self, Service, TaskKey, VipTable};
use dcos_net::{Around, Follower, Journal, Placed, Remembered, Write, names};
use dcos_proto::master::response::GetState;
use dcos_proto::master::{Event, event};
use dcos_proto::mesos::{
    ContainerStatus, DiscoveryInfo, Label, Labels, NetworkInfo, Port, Ports, Task, TaskStatus,
    network_info,
};

use super::{Leader, Truth, is_over, key, place, place_of, state_told};
use crate::sabotage::Sabotage;

/// Between two looks whether a node knows what it was told.
const LOOK: Duration = Duration::from_secs(15);
/// How many virtual addresses a framework's tasks share.
const SERVICES: u16 = 5;

#[derive(Debug)]
pub(super) struct Node {
    stream: Option<Stream>,
    /// When it asks whoever leads then.
    retry: Time,
    /// When its process is killed.
    dies: Time,
    names: Follower,
    /// The file of names, and when it is written next.
    names_kept: Kept,
    keeps: Time,
    vips: Follower,
    /// That of virtual addresses, which is written whenever something changed.
    vips_kept: Kept,
    /// When it listened last.
    heard: Time,
    table: Table,
    kernel: BTreeMap<Service, Vec<SocketAddr>>,
    /// Where the tasks were of which it was told last that they ended.
    ended: BTreeSet<SocketAddr>,
    look: Time,
    sabotage: Option<Sabotage>,
}

/// What a master tells a node.
#[derive(Debug)]
pub(super) struct Stream {
    at: usize,
    life: u64,
    breaks: Time,
    last: Time,
    under_way: VecDeque<(Time, Said)>,
}

#[derive(Debug)]
pub(super) enum Said {
    State(Box<GetState>),
    Event(Arc<Event>),
}

impl Stream {
    /// What is told arrives in the order in which it was said.
    pub(super) fn send(&mut self, arrives: Time, said: Said) {
        self.last = self.last.max(arrives);
        self.under_way.push_back((self.last, said));
    }
}

impl Node {
    pub(super) fn new(begin: Time, seed: &mut Seed, sabotage: Option<Sabotage>) -> Self {
        Self {
            stream: None,
            retry: begin,
            dies: begin + Duration::from_secs(seed.range(20..200)),
            names: Follower::of_all(),
            names_kept: Kept::default(),
            keeps: begin,
            vips: Follower::of_all(),
            vips_kept: Kept::default(),
            heard: begin,
            table: Table(VipTable::new([])),
            kernel: BTreeMap::new(),
            ended: BTreeSet::new(),
            look: begin,
            sabotage,
        }
    }

    /// Its stream, if that comes from this life of this master.
    pub(super) fn stream_of(&mut self, at: usize, life: u64) -> Option<&mut Stream> {
        let stream = self.stream.as_mut();
        stream.filter(|stream| (stream.at, stream.life) == (at, life))
    }

    pub(super) fn go_on(
        &mut self,
        now: Time,
        seed: &mut Seed,
        lives: &[u64],
        leader: Option<Leader<'_>>,
    ) -> Result<(), String> {
        if self.dies.is_due(now) {
            // The kernel keeps what it has, and the files what was in them.
            self.dies = now + Duration::from_secs(seed.range(20..200));
            (self.stream, self.retry) = (None, now + Duration::from_millis(seed.range(1..3000)));
            (self.names, self.vips) = (Follower::of_all(), Follower::of_all());
            if let Some(known) = self.names_kept.read()? {
                self.names.recall(now, known, &mut ());
            }
            self.table = Table(VipTable::new([]));
            if let Some(known) = self.vips_kept.read()? {
                self.vips.recall(self.heard, known, &mut self.table);
            }
            self.table.0.take_changes();
            if self.sabotage != Some(Sabotage::Clinging) && *self.table.0.told() != self.kernel {
                return Err(
                    "a node that begins anew knows otherwise where it led connections".into(),
                );
            }
        }
        if let Some(stream) = &self.stream
            && (lives[stream.at] != stream.life || stream.breaks.is_due(now))
        {
            self.stream = None;
            self.retry = now + Duration::from_millis(seed.range(1..5000));
        }
        if let (None, true, Some(leader)) = (&self.stream, self.retry.is_due(now), leader) {
            let mut stream = Stream {
                at: leader.at,
                life: leader.life,
                breaks: now + Duration::from_secs(seed.range(5..90)),
                last: now,
                under_way: VecDeque::new(),
            };
            let arrives = now + Duration::from_millis(seed.range(1..200));
            stream.send(arrives, Said::State(Box::new(state_told(leader.master))));
            self.stream = Some(stream);
        }
        if self.keeps.is_due(now) && self.names.is_begun() {
            self.keeps = now + Duration::from_secs(seed.range(5..30));
            self.names_kept.write(now, &mut self.names);
            if self.sabotage == Some(Sabotage::Outdated) {
                self.vips_kept.write(now, &mut self.vips);
            }
        }
        Ok(())
    }

    /// Takes in what has arrived.
    pub(super) fn hear(&mut self, now: Time) -> Result<(), String> {
        self.heard = now;
        let heard = self.listen(now);
        if self.vips.is_begun() && self.sabotage != Some(Sabotage::Outdated) {
            self.vips_kept.write(now, &mut self.vips);
        }
        heard
    }

    fn listen(&mut self, now: Time) -> Result<(), String> {
        self.names.poll(now, &mut ());
        self.vips.poll(now, &mut self.table);
        self.carry_out(None)?;
        while let Some(stream) = &mut self.stream
            && let Some((_, said)) = stream.under_way.pop_front_if(|(at, _)| at.is_due(now))
        {
            match said {
                Said::Event(event) => {
                    let place = self.note(&event);
                    if self.sabotage != Some(Sabotage::Nameless)
                        || event.r#type() != event::Type::TaskAdded
                    {
                        self.names.apply(now, &event, &mut ());
                    }
                    self.vips.apply(now, &event, &mut self.table);
                    self.carry_out(place)?;
                }
                Said::State(state) => self.begin(now, &state)?,
            }
        }
        Ok(())
    }

    /// Hears first of all there is.
    fn begin(&mut self, now: Time, state: &GetState) -> Result<(), String> {
        for task in tasks(state) {
            self.note_task(task);
        }
        let before = self.table.backends();
        let awaited = self.awaited(state);
        if self.sabotage == Some(Sabotage::Giddy) {
            (self.vips, self.table) = (Follower::of_all(), Table(VipTable::new([])));
        }
        self.names.begin(now, state, &mut ());
        self.vips.begin(now, state, &mut self.table);
        self.carry_out(None)?;
        let after = self.table.backends();
        let mut lost = before.difference(&after);
        match lost.find(|at| awaited.contains(at)) {
            Some(lost) => Err(format!(
                "a node gives {lost} up, whose agent may come back to the new leader"
            )),
            None => Ok(()),
        }
    }

    /// Where the tasks are that it knows of agents which the leader awaits, and of which that tells nothing.
    fn awaited(&self, state: &GetState) -> BTreeSet<SocketAddr> {
        let agents = state.get_agents.iter();
        let agents = agents.flat_map(|agents| &agents.recovered_agents);
        let agents: BTreeSet<&str> = agents
            .filter_map(|info| Some(info.id.as_ref()?.value.as_str()))
            .collect();
        let told: BTreeSet<TaskKey> = tasks(state).map(key).collect();
        let known = self.vips.state();
        let known = tasks(&known).filter(|task| agents.contains(task.agent_id.value.as_str()));
        let known = known.filter(|task| !told.contains(&key(task)));
        known.map(place).collect()
    }

    /// Takes down whether a task ended; says where it was if it did.
    fn note(&mut self, event: &Event) -> Option<SocketAddr> {
        match event.r#type() {
            event::Type::TaskAdded => self.note_task(&event.task_added.as_ref()?.task),
            event::Type::TaskUpdated => {
                let updated = event.task_updated.as_ref()?;
                let task = &updated.status.task_id.value;
                let place = place_of(&updated.framework_id.value, task);
                self.note_place(place, is_over(updated.state()))
            }
            _ => None,
        }
    }

    fn note_task(&mut self, task: &Task) -> Option<SocketAddr> {
        self.note_place(place(task), is_over(task.state()))
    }

    fn note_place(&mut self, place: SocketAddr, is_over: bool) -> Option<SocketAddr> {
        if is_over {
            self.ended.insert(place);
            return Some(place);
        }
        self.ended.remove(&place);
        None
    }

    /// Does in the kernel what whoever balances does there. None of what changed leads to whom it was told that it ended,
    /// and nothing at all to `ended`.
    fn carry_out(&mut self, ended: Option<SocketAddr>) -> Result<(), String> {
        let mut looked: Vec<SocketAddr> = Vec::new();
        for (service, backends) in self.table.0.take_changes() {
            let Some(backends) = backends else {
                if self.sabotage != Some(Sabotage::Clinging) {
                    self.kernel.remove(&service);
                }
                continue;
            };
            looked.extend(&backends);
            let held = self.kernel.entry(service).or_default();
            if self.sabotage != Some(Sabotage::Clinging) || backends.len() > held.len() {
                *held = backends;
            }
        }
        let is_wrong = |at: &SocketAddr| self.ended.contains(at);
        let wrong = looked.into_iter().find(is_wrong);
        let wrong = wrong.or_else(|| {
            let stays = |ended: &SocketAddr| self.held().any(|held| held == *ended);
            ended.filter(stays)
        });
        match wrong {
            Some(wrong) => Err(format!(
                "a node leads connections to {wrong}, of whose end it was told"
            )),
            None => Ok(()),
        }
    }

    fn held(&self) -> impl Iterator<Item = SocketAddr> {
        self.kernel.values().flatten().copied()
    }

    /// Whether it has heard all that this leader said.
    fn hears(&self, leader: Leader<'_>) -> bool {
        self.stream.as_ref().is_some_and(|stream| {
            (stream.at, stream.life) == (leader.at, leader.life)
                && stream.under_way.is_empty()
                && leader.has_told
        })
    }

    /// Whether it has, and nothing more is to come.
    pub(super) fn knows_all(&self, leader: Leader<'_>) -> bool {
        self.hears(leader) && self.names.is_complete() && self.vips.is_complete()
    }

    /// Now and then it is asked what it knows, if it has heard everything.
    pub(super) fn look(&mut self, now: Time, leader: Option<Leader<'_>>) -> Result<(), String> {
        match leader.filter(|leader| self.look.is_due(now) && self.hears(*leader)) {
            Some(leader) => {
                self.look = now + LOOK;
                self.check(&Truth::of(leader.master))
            }
            None => Ok(()),
        }
    }

    /// Every task that runs has a name and is behind its virtual address, and nothing else is but what may still come back.
    pub(super) fn check(&self, truth: &Truth) -> Result<(), String> {
        let held: BTreeSet<SocketAddr> = self.held().collect();
        let zones = names::publish(
            &self.names.snapshot(None, Vec::new()),
            &names::Config::default(),
        );
        let tasks = zones.enumeration.iter();
        let tasks = tasks.flat_map(|framework| &framework.tasks);
        let named = tasks.filter(|task| {
            task.records.iter().any(|record| {
                let found = zones.find(&record.name);
                found.is_some_and(|found| found.records().is_some())
            })
        });
        let named: BTreeSet<&str> = named.map(|task| task.id.as_str()).collect();
        for ((_, task), (place, serves)) in &truth.live {
            if *serves && !held.contains(place) {
                return Err(format!(
                    "{task} runs, and no virtual address leads to {place}"
                ));
            }
            if *serves && !named.contains(&**task) {
                return Err(format!("{task} runs, and has no name"));
            }
        }
        if truth.is_whole && self.vips.is_complete() {
            let live: BTreeSet<SocketAddr> = truth.live.values().map(|(place, _)| *place).collect();
            if let Some(wrong) = held.difference(&live).next() {
                return Err(format!(
                    "a virtual address leads to {wrong}, and nothing runs there"
                ));
            }
        }
        if truth.is_whole && self.names.is_complete() {
            let live: BTreeSet<&str> = truth.live.keys().map(|(_, task)| &**task).collect();
            if let Some(wrong) = named.difference(&live).next() {
                return Err(format!("{wrong} has a name, and does not run"));
            }
        }
        Ok(())
    }
}

/// A file, and what is in it.
#[derive(Debug, Default)]
struct Kept {
    journal: Journal,
    file: Vec<u8>,
}

impl Kept {
    fn write(&mut self, now: Time, follower: &mut Follower) {
        let entry = self.journal.next(now, &Around::default(), follower);
        match entry.map(|entry| self.journal.encode(entry)) {
            Some(Write::Replace(text)) => self.file = text,
            Some(Write::Append(text)) => self.file.extend(text),
            None => {}
        }
    }

    /// What another process finds there, which goes on with a file of its own.
    fn read(&mut self) -> Result<Option<Remembered>, String> {
        self.journal = Journal::default();
        if self.file.is_empty() {
            return Ok(None);
        }
        match Remembered::read(&self.file) {
            Ok(known) if known.broken == 0 => Ok(Some(known)),
            other => Err(format!(
                "a file that was written whole is read as {other:?}"
            )),
        }
    }
}

/// A table of virtual addresses for tasks that declare none: each is behind one of a few of its framework.
#[derive(Debug)]
struct Table(VipTable);

impl Table {
    fn backends(&self) -> BTreeSet<SocketAddr> {
        self.0.told().values().flatten().copied().collect()
    }
}

impl dcos_net::Listener for Table {
    fn reserve(&mut self, agent: IpAddr) {
        self.0.reserve(agent);
    }

    fn release(&mut self, agent: IpAddr) {
        self.0.release(agent);
    }

    fn set(&mut self, key: TaskKey, placed: Option<Placed<'_>>) {
        let claims = placed
            .map(|(task, framework, agent)| vip::claims(&declaring(task), &framework.name, agent));
        self.0.set(key, claims.unwrap_or_default());
    }
}

/// The task with a container of its own address, and a port with a label.
fn declaring(task: &Task) -> Task {
    let place = place(task);
    let network = NetworkInfo {
        ip_addresses: vec![network_info::IpAddress {
            ip_address: Some(place.ip().to_string()),
            ..network_info::IpAddress::default()
        }],
        ..NetworkInfo::default()
    };
    let status = TaskStatus {
        container_status: Some(ContainerStatus {
            network_infos: vec![network],
            ..ContainerStatus::default()
        }),
        ..TaskStatus::default()
    };
    let label = Label {
        key: "VIP_0".to_owned(),
        value: Some(format!("n{}:80", place.port() % SERVICES)),
    };
    let port = Port {
        number: place.port().into(),
        protocol: Some("tcp".to_owned()),
        labels: Some(Labels {
            labels: vec![label],
        }),
        ..Port::default()
    };
    Task {
        name: task.name.clone(),
        task_id: task.task_id.clone(),
        framework_id: task.framework_id.clone(),
        agent_id: task.agent_id.clone(),
        state: task.state,
        statuses: vec![status],
        discovery: Some(Box::new(DiscoveryInfo {
            ports: Some(Ports { ports: vec![port] }),
            ..DiscoveryInfo::default()
        })),
        ..Task::default()
    }
}

fn tasks(state: &GetState) -> impl Iterator<Item = &Task> {
    state.get_tasks.iter().flat_map(|tasks| &tasks.tasks)
}
