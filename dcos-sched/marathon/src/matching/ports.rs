//! Which ports of the host an instance gets.

use std::collections::{BTreeMap, BTreeSet};

use dcos_core::seed::Seed;
use dcos_proto::mesos::{Resource, value};

use super::Supply;
use crate::model::{App, Endpoint};

/// The port of each port of the app, and the resources they are of.
pub(super) fn assign(
    app: &App,
    supply: &Supply,
    roles: &[&str],
    seed: &mut Seed,
) -> Option<(Vec<Option<u16>>, Vec<Resource>)> {
    let wishes = wishes(app);
    let mut free: Vec<Free<'_>> = supply
        .ports(roles)
        .map(|(resource, begin, end)| Free {
            resource,
            begin,
            end,
        })
        .collect();
    let mut given: Vec<(u16, &Resource)> = Vec::new();
    let mut ports = vec![None; wishes.len()];
    let fixed = |wish: &Wish| matches!(wish, Wish::This(_));
    // Fixed ones first, so that no arbitrary one takes their place.
    let order = (0..wishes.len())
        .filter(|at| fixed(&wishes[*at]))
        .chain((0..wishes.len()).filter(|at| !fixed(&wishes[*at])));
    for at in order {
        let port = match wishes[at] {
            Wish::Nothing => continue,
            Wish::This(port) => port,
            Wish::Any => any(&free, seed)?,
        };
        let range = free
            .iter()
            .position(|range| range.begin <= port && port <= range.end)?;
        given.push((port, free[range].resource));
        ports[at] = Some(port);
        split(&mut free, range, port);
    }
    Some((ports, resources(&given)))
}

/// Whether [`assign`] finds a port for each port of the app.
pub(super) fn suffice(app: &App, supply: &Supply, roles: &[&str]) -> bool {
    let wishes = wishes(app);
    let mut fixed = BTreeSet::new();
    let mut count = 0_usize;
    for wish in &wishes {
        let there = |port: u16| {
            let mut ranges = supply.ports(roles);
            ranges.any(|(_, begin, end)| begin <= port && port <= end)
        };
        match wish {
            Wish::Nothing => {}
            Wish::This(port) if !there(*port) || !fixed.insert(*port) => return false,
            Wish::This(_) | Wish::Any => count += 1,
        }
    }
    let free = supply.ports(roles);
    let free = free.map(|(_, begin, end)| usize::from(end - begin) + 1);
    count <= free.sum::<usize>()
}

/// How many ports the app needs, whichever they are; `None` if it wants certain ones.
pub(super) fn arbitrary(app: &App) -> Option<usize> {
    let wishes = wishes(app);
    let certain = wishes.iter().any(|wish| matches!(wish, Wish::This(_)));
    let any = wishes.iter().filter(|wish| matches!(wish, Wish::Any));
    (!certain).then(|| any.count())
}

#[derive(Clone, Copy)]
struct Free<'a> {
    resource: &'a Resource,
    begin: u16,
    end: u16,
}

#[derive(Clone, Copy)]
enum Wish {
    Nothing,
    This(u16),
    Any,
}

fn wishes(app: &App) -> Vec<Wish> {
    let number = |port: u16| {
        if port == 0 {
            Wish::Any
        } else {
            Wish::This(port)
        }
    };
    if let Some(pod) = &app.pod {
        let wish = |endpoint: &Endpoint| endpoint.host_port.map_or(Wish::Nothing, number);
        return pod.endpoints().map(wish).collect();
    }
    if app.is_host_networked() {
        let wish = |port: u16| {
            if app.require_ports {
                number(port)
            } else {
                Wish::Any
            }
        };
        app.port_definitions()
            .iter()
            .map(|port| wish(port.port))
            .collect()
    } else {
        app.port_mappings()
            .iter()
            .map(|m| m.host_port.map_or(Wish::Nothing, number))
            .collect()
    }
}

/// An arbitrary free port: spread, so that a port that was just freed is not reused at once.
fn any(free: &[Free<'_>], seed: &mut Seed) -> Option<u16> {
    let sizes = || {
        free.iter()
            .map(|range| u64::from(range.end - range.begin) + 1)
    };
    let total: u64 = sizes().sum();
    if total == 0 {
        return None;
    }
    let mut at = seed.range(0..total);
    for (range, size) in free.iter().zip(sizes()) {
        if at < size {
            return Some(range.begin + u16::try_from(at).ok()?);
        }
        at -= size;
    }
    None
}

fn split(free: &mut Vec<Free<'_>>, at: usize, port: u16) {
    let range = free.swap_remove(at);
    if range.begin < port {
        free.push(Free {
            end: port - 1,
            ..range
        });
    }
    if port < range.end {
        free.push(Free {
            begin: port + 1,
            ..range
        });
    }
}

/// One resource for each one ports were taken of, with the ports as ranges.
fn resources(given: &[(u16, &Resource)]) -> Vec<Resource> {
    let mut by_resource: BTreeMap<usize, (&Resource, BTreeSet<u16>)> = BTreeMap::new();
    for (port, resource) in given {
        let key = std::ptr::from_ref(*resource) as usize;
        by_resource
            .entry(key)
            .or_insert((resource, BTreeSet::new()))
            .1
            .insert(*port);
    }
    let ranges = |ports: &BTreeSet<u16>| {
        let mut ranges: Vec<value::Range> = Vec::new();
        for port in ports.iter().map(|port| u64::from(*port)) {
            match ranges.last_mut() {
                Some(last) if last.end + 1 == port => last.end = port,
                _ => ranges.push(value::Range {
                    begin: port,
                    end: port,
                }),
            }
        }
        value::Ranges { range: ranges }
    };
    by_resource
        .into_values()
        .map(|(resource, ports)| Resource {
            ranges: Some(ranges(&ports)),
            ..resource.clone()
        })
        .collect()
}
