//! What a maintenance schedule may say.
//!
//! Source: Mesos 1.11 `src/master/maintenance.cpp`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use dcos_proto::json::{self, Dialect};
use dcos_proto::maintenance::Schedule;
use dcos_proto::mesos::machine_info::Mode;
use dcos_proto::mesos::{MachineId, MachineInfo};

use crate::master::standing::MachineKey;

pub(crate) fn schedule(
    schedule: &Schedule,
    machines: &BTreeMap<MachineKey, MachineInfo>,
) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    for window in &schedule.windows {
        if window.machine_ids.is_empty() {
            return Err("List of machines in the maintenance window is empty".to_owned());
        }
        let duration = window.unavailability.duration;
        if duration.is_some_and(|duration| duration.nanoseconds < 0) {
            return Err("Unavailability 'duration' is negative".to_owned());
        }
        each_once(&window.machine_ids, &mut seen)?;
    }
    let down = |(key, machine): &(&MachineKey, &MachineInfo)| {
        machine.mode() == Mode::Down && !seen.contains(*key)
    };
    match machines.iter().find(down) {
        Some((_, machine)) => Err(format!(
            "Machine '{}' is deactivated and cannot be removed from the schedule",
            json::to_string(&machine.id, Dialect::V0)
        )),
        None => Ok(()),
    }
}

pub(crate) fn machines(ids: &[MachineId]) -> Result<(), String> {
    if ids.is_empty() {
        return Err("List of machines is empty".to_owned());
    }
    each_once(ids, &mut BTreeSet::new())
}

fn each_once(ids: &[MachineId], seen: &mut BTreeSet<MachineKey>) -> Result<(), String> {
    for id in ids {
        machine(id)?;
        if !seen.insert(id.into()) {
            return Err(format!(
                "Machine '{}' appears more than once in the schedule",
                json::to_string(id, Dialect::V0)
            ));
        }
    }
    Ok(())
}

fn machine(id: &MachineId) -> Result<(), String> {
    if id.hostname().is_empty() && id.ip().is_empty() {
        return Err("Both 'hostname' and 'ip' for a machine are empty".to_owned());
    }
    if id.ip().is_empty() || id.ip().parse::<Ipv4Addr>().is_ok() {
        Ok(())
    } else {
        Err(format!("Failed to parse IPv4: {}", id.ip()))
    }
}
