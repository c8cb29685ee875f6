//! Planned maintenance: which machines will be away when, which are away.
//!
//! A machine is UP, DRAINING (in the schedule) or DOWN. Frameworks learn of the schedule from
//! their offers and from inverse offers (`inverse.rs`), and may do with it what they like.
//!
//! Rule AG-15 of the conformance inventory; Mesos 1.11 `src/master/http.cpp`
//! (`___updateMaintenanceSchedule` and its kin), `src/master/maintenance.cpp`.

use std::collections::{BTreeMap, BTreeSet};

use dcos_proto::internal::ShutdownMessage;
use dcos_proto::json::{self, Dialect};
use dcos_proto::maintenance::Schedule;
use dcos_proto::mesos::machine_info::Mode;
use dcos_proto::mesos::{AgentId, MachineId, MachineInfo, Unavailability};
use dcos_store::Write;

use super::standing::MachineKey;
use super::validation::maintenance as check;
use super::{Master, Reply, registry};
use crate::allocator::Event as Allocation;

impl Master {
    /// `UPDATE_MAINTENANCE_SCHEDULE`, `POST /maintenance/schedule`: replaces the whole schedule.
    pub(crate) fn update_schedule(&mut self, schedule: Schedule) -> Reply {
        if let Err(text) = check::schedule(&schedule, &self.standing.machines) {
            return Reply::refused(400, text);
        }
        let mut planned: BTreeMap<MachineKey, (MachineId, Unavailability)> = BTreeMap::new();
        for window in &schedule.windows {
            for id in &window.machine_ids {
                planned.insert(id.into(), (id.clone(), window.unavailability));
            }
        }
        let mut writes = vec![registry::put_schedule(&schedule)];
        let mut changed = BTreeSet::new();
        let standing = self.standing_mut();
        standing.schedule = schedule;
        standing.machines.retain(|key, _| {
            let stays = planned.contains_key(key);
            if !stays {
                writes.push(registry::delete_machine(key));
                changed.insert(key.clone());
            }
            stays
        });
        for (key, (id, unavailability)) in planned {
            let machine = standing.machines.entry(key.clone()).or_insert(MachineInfo {
                id,
                mode: Some(Mode::Draining.into()),
                unavailability: None,
            });
            machine.unavailability = Some(unavailability);
            writes.push(registry::put_machine(&key, machine));
            changed.insert(key);
        }
        self.persist(writes);
        for (machine, agents) in self.agents_on(&changed) {
            let unavailability = self.standing.unavailability(&machine);
            for agent in agents {
                self.change_unavailability(&agent, unavailability);
            }
        }
        Reply::Done
    }

    /// The agents on machines.
    fn agents_on(&self, machines: &BTreeSet<MachineKey>) -> BTreeMap<MachineKey, Vec<AgentId>> {
        let mut found: BTreeMap<MachineKey, Vec<AgentId>> = BTreeMap::new();
        for (id, agent) in &self.agents {
            let machine = MachineKey::of_agent(&agent.info, &agent.pid);
            if machines.contains(&machine) {
                found.entry(machine).or_default().push(id.clone());
            }
        }
        found
    }

    /// Offers of an agent say when it will be away; those that say otherwise are taken back.
    fn change_unavailability(&mut self, id: &AgentId, unavailability: Option<Unavailability>) {
        let Some(agent) = self.agent_mut(id) else {
            return;
        };
        agent.unavailability = unavailability;
        agent.inverse_answers.clear();
        let offers = agent.offers.clone();
        for offer in offers {
            self.rescind(&offer);
        }
        self.rescind_inverse_offers_on(id);
        let event = Allocation::Unavailability {
            agent: id.clone(),
            unavailability,
        };
        self.allocator.handle(self.now, event);
    }

    /// An agent came: if its machine is to be maintained, that holds for it too.
    pub(crate) fn learn_unavailability(&mut self, id: &AgentId) {
        let Some(agent) = self.agents.get(id) else {
            return;
        };
        let machine = MachineKey::of_agent(&agent.info, &agent.pid);
        let unavailability = self.standing.unavailability(&machine);
        if unavailability.is_some() {
            self.change_unavailability(id, unavailability);
        }
    }

    /// `START_MAINTENANCE`, `POST /machine/down`: agents on the machines end and are removed.
    pub(crate) fn start_maintenance(&mut self, ids: &[MachineId]) -> Reply {
        const WHY: &str = "Operator initiated 'Machine DOWN'";
        if let Err(text) = self.check_machines(ids, Mode::Draining, "down") {
            return Reply::refused(400, text);
        }
        let keys: BTreeSet<MachineKey> = ids.iter().map(Into::into).collect();
        let mut writes = Vec::new();
        for key in &keys {
            if let Some(machine) = self.standing_mut().machines.get_mut(key) {
                machine.mode = Some(Mode::Down.into());
                writes.push(registry::put_machine(key, machine));
            }
        }
        self.persist(writes);
        for agent in self.agents_on(&keys).into_values().flatten() {
            if let Some(pid) = self.agents.get(&agent).map(|agent| agent.pid.clone()) {
                let message = Some(WHY.to_owned());
                self.send(&pid, &ShutdownMessage { message });
            }
            self.remove_agent(&agent, WHY);
        }
        Reply::Done
    }

    /// `STOP_MAINTENANCE`, `POST /machine/up`: the machines are no longer in the schedule.
    pub(crate) fn stop_maintenance(&mut self, ids: &[MachineId]) -> Reply {
        if let Err(text) = self.check_machines(ids, Mode::Down, "up") {
            return Reply::refused(400, text);
        }
        let keys: BTreeSet<MachineKey> = ids.iter().map(Into::into).collect();
        let standing = self.standing_mut();
        let mut writes: Vec<Write> = Vec::new();
        for key in &keys {
            standing.machines.remove(key);
            writes.push(registry::delete_machine(key));
        }
        for window in &mut standing.schedule.windows {
            let stays = |id: &MachineId| !keys.contains(&MachineKey::from(id));
            window.machine_ids.retain(stays);
        }
        let windows = &mut standing.schedule.windows;
        windows.retain(|window| !window.machine_ids.is_empty());
        writes.push(registry::put_schedule(&standing.schedule));
        self.persist(writes);
        Reply::Done
    }

    fn check_machines(&self, ids: &[MachineId], from: Mode, to: &str) -> Result<(), String> {
        check::machines(ids)?;
        for id in ids {
            let shown = || json::to_string(id, Dialect::V0);
            let Some(machine) = self.standing.machines.get(&id.into()) else {
                return Err(format!(
                    "Machine '{}' is not part of a maintenance schedule",
                    shown()
                ));
            };
            if machine.mode() != from {
                return Err(format!(
                    "Machine '{}' is not in {} mode and cannot be brought {to}",
                    shown(),
                    from.as_str_name()
                ));
            }
        }
        Ok(())
    }

    /// Whether an agent with this host name and UPID is on a machine that is DOWN.
    pub(crate) fn is_down(&self, machine: &MachineKey) -> bool {
        let machine = self.standing.machines.get(machine);
        machine.is_some_and(|machine| machine.mode() == Mode::Down)
    }
}
