//! The zone of Mesos-DNS (`records/generator.go`), name for name.
//!
//! Departures: names between others exist (no NXDOMAIN above an existing name, RFC 8020), and the
//! name server of the zone has the addresses of the masters instead of those of local interfaces; a framework takes no name
//! of masters or agents; frameworks without a driver have an SRV record with the port of their user interface; TXT records tell which task
//! a name is, on which agent, and what its discovery information says of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Config, EnumeratedFramework, EnumeratedRecord, EnumeratedTask, IpSource, hash};
use crate::{Service, Snapshot, Soa, Task, Zone};

pub(super) fn publish(snapshot: &Snapshot, config: &Config) -> (Zone, Vec<EnumeratedFramework>) {
    let origin = format!("{}.", config.domain.to_ascii_lowercase());
    let soa = Soa {
        mname: format!("ns1.{origin}"),
        rname: format!("root.ns1.{origin}"),
        refresh: 60,
        retry: 600,
        expire: 86_400,
        minimum: config.ttl,
    };
    let mut maker = Maker {
        zone: Zone::new(&*origin, soa, config.ttl).partial(!snapshot.is_whole()),
        origin,
        config,
    };
    maker.frameworks(snapshot);
    maker.agents(snapshot);
    maker.masters(snapshot);
    let enumeration = maker.tasks(snapshot);
    (maker.zone, enumeration)
}

struct Maker<'a> {
    zone: Zone,
    origin: String,
    config: &'a Config,
}

/// A task and what its names are put together from.
struct Named<'a> {
    task: &'a Task,
    /// The last part of the agent's id, such as `s3`.
    agent_tail: String,
    agent_ip: IpAddr,
    framework: &'a str,
}

/// Whether a name right below the domain tells of masters or agents: a framework that is called so gets none.
fn is_reserved(name: &str) -> bool {
    matches!(name, "leader" | "master" | "slave" | "ns1")
        || name.strip_prefix("master").is_some_and(|number| {
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        })
}

impl Maker<'_> {
    fn frameworks(&mut self, snapshot: &Snapshot) {
        for framework in &snapshot.frameworks {
            let Some(ip) = framework.ip else { continue };
            let own = self.config.fragment(&framework.name);
            if own.is_empty() || is_reserved(&own) {
                continue;
            }
            let name = format!("{own}.{}", self.origin);
            self.zone.add_address(&name, ip);
            if let Some(port) = framework.port {
                let service = Service {
                    target: name.clone(),
                    port,
                };
                self.zone
                    .add_service(&format!("_framework._tcp.{name}"), service);
            }
        }
    }

    fn agents(&mut self, snapshot: &Snapshot) {
        let name = format!("slave.{}", self.origin);
        for agent in &snapshot.agents {
            self.zone.add_address(&name, agent.ip);
            let service = Service {
                target: name.clone(),
                port: agent.port,
            };
            self.zone
                .add_service(&format!("_slave._tcp.{}", self.origin), service);
        }
    }

    fn masters(&mut self, snapshot: &Snapshot) {
        let (all, ns) = (
            format!("master.{}", self.origin),
            format!("ns1.{}", self.origin),
        );
        if let Some(leader) = snapshot.leader {
            let target = format!("leader.{}", self.origin);
            self.zone.add_address(&target, leader.ip());
            for protocol in ["tcp", "udp"] {
                let service = Service {
                    target: target.clone(),
                    port: leader.port(),
                };
                self.zone
                    .add_service(&format!("_leader._{protocol}.{}", self.origin), service);
            }
        }
        let leader = snapshot.leader.map(|leader| leader.ip());
        // A leader that is not on the list gets the number after the last.
        let mut number = 0;
        for ip in snapshot.masters.iter().copied().chain(leader) {
            if self.zone.add_address(&all, ip) {
                self.zone.add_address(&ns, ip);
                self.zone
                    .add_address(&format!("master{number}.{}", self.origin), ip);
                number += 1;
            }
        }
    }

    fn tasks(&mut self, snapshot: &Snapshot) -> Vec<EnumeratedFramework> {
        let agents: BTreeMap<&str, IpAddr> = snapshot
            .agents
            .iter()
            .map(|agent| (agent.id.as_str(), agent.ip))
            .collect();
        let names = snapshot
            .frameworks
            .iter()
            .map(|framework| framework.name.as_str());
        let mut enumerated: BTreeMap<&str, Vec<EnumeratedTask>> =
            names.map(|name| (name, Vec::new())).collect();
        for task in &snapshot.tasks {
            let Some(agent_ip) = agents.get(task.agent_id.as_str()) else {
                continue;
            };
            let framework = self.config.fragment(&task.framework);
            let tail = task.agent_id.rsplit('-').next().unwrap_or_default();
            let named = Named {
                task,
                agent_tail: tail.to_ascii_lowercase(),
                agent_ip: *agent_ip,
                framework: &framework,
            };
            let records = self.task(&named);
            let made = EnumeratedTask {
                name: task.name.clone(),
                id: task.id.clone(),
                records,
            };
            enumerated.entry(&task.framework).or_default().push(made);
        }
        let framework = |(name, tasks): (&str, _)| EnumeratedFramework {
            name: name.to_owned(),
            tasks,
        };
        enumerated.into_iter().map(framework).collect()
    }

    fn task(&mut self, named: &Named<'_>) -> Vec<EnumeratedRecord> {
        let mut made = Vec::new();
        if let Some(discovery) = &named.task.discovery {
            // The name as it is comes first, dots and all: some know it from before mangling.
            self.task_as(&discovery.name.to_ascii_lowercase(), named, &mut made);
        }
        self.task_as(
            &self.config.label(named.task.service_name()),
            named,
            &mut made,
        );
        made
    }

    /// All records of a task under one form of its name.
    fn task_as(&mut self, name: &str, named: &Named<'_>, made: &mut Vec<EnumeratedRecord>) {
        if name.is_empty() {
            return;
        }
        let Named {
            task,
            agent_tail,
            agent_ip,
            framework,
        } = named;
        let plain = format!("{name}.{framework}");
        let canonical = format!("{name}-{}-{agent_tail}.{framework}", hash::tag(&task.id));
        for ip in self.task_ips(named) {
            for name in [&plain, &canonical] {
                self.address(format!("{name}.{}", self.origin), ip, made);
            }
        }
        for name in [&plain, &canonical] {
            self.address(format!("{name}.slave.{}", self.origin), *agent_ip, made);
        }
        let about = task.discovery.iter().flat_map(|discovery| &discovery.about);
        let texts = [
            format!("task={}", task.id),
            format!("agent={}", task.agent_id),
        ];
        let texts: Vec<String> = texts.into_iter().chain(about.cloned()).collect();
        for name in [&plain, &canonical] {
            let name = format!("{name}.{}", self.origin);
            self.zone.add_texts(&name, texts.iter().cloned());
        }

        let on_agent = format!("{canonical}.slave.{}", self.origin);
        for &port in &task.ports {
            for protocol in ["tcp", "udp"] {
                let service = format!("_{name}._{protocol}.{framework}");
                self.service(
                    format!("{service}.slave.{}", self.origin),
                    &on_agent,
                    port,
                    made,
                );
                if task.discovery.is_none() {
                    self.service(format!("{service}.{}", self.origin), &on_agent, port, made);
                }
            }
        }
        let target = format!("{canonical}.{}", self.origin);
        for port in task.discovery.iter().flat_map(|discovery| &discovery.ports) {
            let given = self.config.label(&port.protocol);
            let protocols = if given.is_empty() {
                &["tcp", "udp"][..]
            } else {
                &[given.as_str()]
            };
            let port_name = self.config.label(&port.name);
            for protocol in protocols {
                let service = format!("_{name}._{protocol}.{framework}.{}", self.origin);
                if !port_name.is_empty() {
                    self.service(
                        format!("_{port_name}.{service}"),
                        &target,
                        port.number,
                        made,
                    );
                }
                self.service(service, &target, port.number, made);
            }
        }
    }

    fn task_ips(&self, named: &Named<'_>) -> Vec<IpAddr> {
        let of = |source: &IpSource| match source {
            IpSource::Host => vec![named.agent_ip],
            IpSource::NetInfo => named.task.container_ips.clone(),
            IpSource::Mesos => named.task.mesos_ips.clone(),
            IpSource::Docker => named.task.docker_ips.clone(),
        };
        let mut sources = self.config.ip_sources.iter().map(of);
        sources.find(|ips| !ips.is_empty()).unwrap_or_default()
    }

    fn address(&mut self, name: String, ip: IpAddr, made: &mut Vec<EnumeratedRecord>) {
        if self.zone.add_address(&name, ip) {
            let rtype = if ip.is_ipv4() { "A" } else { "AAAA" };
            made.push(EnumeratedRecord {
                name,
                host: ip.to_string(),
                rtype,
            });
        }
    }

    fn service(&mut self, name: String, target: &str, port: u16, made: &mut Vec<EnumeratedRecord>) {
        if self.zone.add_service(
            &name,
            Service {
                target: target.to_owned(),
                port,
            },
        ) {
            made.push(EnumeratedRecord {
                name,
                host: format!("{target}:{port}"),
                rtype: "SRV",
            });
        }
    }
}
