//! Frameworks and agents, as the leading master's stream of events tells of them.

use std::sync::Arc;

use dcos_core::tree::Tree;
use dcos_proto::master::{Event, response};
use dcos_proto::mesos::FrameworkInfo;

use super::name::normalize;

/// A framework that is registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framework {
    /// Its id.
    pub id: String,
    /// Its name, in the form in which names are compared.
    pub name: String,
    /// Where people may look at it, as it says itself.
    pub webui_url: Option<String>,
}

/// Where an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAddress {
    /// Its address.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Frameworks and agents. Copies share what they hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Cluster {
    frameworks: Tree<String, Arc<Framework>>,
    /// The framework of each name; of several the one that came last.
    names: Tree<String, Arc<Framework>>,
    agents: Tree<String, Arc<AgentAddress>>,
}

impl Cluster {
    /// Takes in an event; says whether anything changed. The first one of a stream replaces all that was known.
    pub fn apply(&mut self, event: &Event) -> bool {
        if let Some(subscribed) = &event.subscribed {
            *self = subscribed
                .get_state
                .as_ref()
                .map(Self::of)
                .unwrap_or_default();
        } else if let Some(added) = &event.framework_added {
            self.add_framework(&added.framework.framework_info);
        } else if let Some(updated) = &event.framework_updated {
            self.remove_framework(&updated.framework.framework_info);
            self.add_framework(&updated.framework.framework_info);
        } else if let Some(removed) = &event.framework_removed {
            self.remove_framework(&removed.framework_info);
        } else if let Some(added) = &event.agent_added {
            self.add_agent(&added.agent);
        } else if let Some(removed) = &event.agent_removed {
            self.agents.remove(removed.agent_id.value.as_str());
        } else {
            return false;
        }
        true
    }

    fn of(state: &response::GetState) -> Self {
        let mut cluster = Self::default();
        let frameworks = state
            .get_frameworks
            .iter()
            .flat_map(|list| &list.frameworks);
        for framework in frameworks {
            cluster.add_framework(&framework.framework_info);
        }
        for agent in state.get_agents.iter().flat_map(|list| &list.agents) {
            cluster.add_agent(agent);
        }
        cluster
    }

    fn add_framework(&mut self, info: &FrameworkInfo) {
        let Some(id) = &info.id else { return };
        let framework = Arc::new(Framework {
            id: id.value.clone(),
            name: normalize(&info.name),
            webui_url: info.webui_url.clone(),
        });
        self.names
            .insert(framework.name.clone(), Arc::clone(&framework));
        self.frameworks.insert(id.value.clone(), framework);
    }

    fn remove_framework(&mut self, info: &FrameworkInfo) {
        let id = info.id.as_ref().map_or("", |id| id.value.as_str());
        let Some(framework) = self.frameworks.remove(id) else {
            return;
        };
        if self
            .names
            .get(&framework.name)
            .is_some_and(|named| named.id == id)
        {
            self.names.remove(&framework.name);
            // Another one of that name may have been hidden.
            let other = self
                .frameworks
                .values()
                .find(|other| other.name == framework.name);
            if let Some(other) = other.cloned() {
                self.names.insert(framework.name.clone(), other);
            }
        }
    }

    fn add_agent(&mut self, agent: &response::get_agents::Agent) {
        let address = agent.pid.as_deref().and_then(address);
        if let (Some(id), Some(address)) = (&agent.agent_info.id, address) {
            self.agents.insert(id.value.clone(), Arc::new(address));
        }
    }

    /// The framework with that id or, if there is none, that name.
    pub fn framework(&self, name: &str) -> Option<&Arc<Framework>> {
        self.frameworks.get(name).or_else(|| self.names.get(name))
    }

    /// Where the agent with that id is.
    pub fn agent(&self, id: &str) -> Option<&Arc<AgentAddress>> {
        self.agents.get(id)
    }
}

/// Where `slave(1)@10.0.0.1:5051` is.
fn address(pid: &str) -> Option<AgentAddress> {
    let (_, address) = pid.split_once('@')?;
    let (host, port) = address.rsplit_once(':')?;
    Some(AgentAddress {
        host: host.to_owned(),
        port: port.parse().ok()?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use dcos_proto::master::event;
    use dcos_proto::mesos::{AgentId, AgentInfo, FrameworkId};

    use super::*;

    /// A cluster of these frameworks (id, name, URL) and agents (id, pid).
    pub(crate) fn cluster(
        frameworks: &[(&str, &str, Option<&str>)],
        agents: &[(&str, &str)],
    ) -> Cluster {
        let mut cluster = Cluster::default();
        for (id, name, url) in frameworks {
            cluster.apply(&added(id, name, *url));
        }
        for (id, pid) in agents {
            let agent = response::get_agents::Agent {
                agent_info: AgentInfo {
                    id: Some(AgentId::from(*id)),
                    ..AgentInfo::default()
                },
                pid: Some((*pid).to_owned()),
                ..response::get_agents::Agent::default()
            };
            let agent_added = Some(event::AgentAdded { agent });
            cluster.apply(&Event {
                agent_added,
                ..Event::default()
            });
        }
        cluster
    }

    fn framework(id: &str, name: &str, url: Option<&str>) -> response::get_frameworks::Framework {
        response::get_frameworks::Framework {
            framework_info: FrameworkInfo {
                id: Some(FrameworkId::from(id)),
                name: name.to_owned(),
                webui_url: url.map(str::to_owned),
                ..FrameworkInfo::default()
            },
            ..response::get_frameworks::Framework::default()
        }
    }

    fn added(id: &str, name: &str, url: Option<&str>) -> Event {
        let framework = framework(id, name, url);
        let framework_added = Some(event::FrameworkAdded { framework });
        Event {
            framework_added,
            ..Event::default()
        }
    }

    fn removed(id: &str, name: &str) -> Event {
        let framework_info = framework(id, name, None).framework_info;
        let framework_removed = Some(event::FrameworkRemoved { framework_info });
        Event {
            framework_removed,
            ..Event::default()
        }
    }

    #[test]
    fn frameworks_are_known_by_id_and_name() {
        let mut cluster = cluster(&[("1", "/nest/s", Some("http://a")), ("2", "1", None)], &[]);
        let url =
            |cluster: &Cluster, name: &str| cluster.framework(name).unwrap().webui_url.clone();
        assert_eq!(url(&cluster, "s.nest").as_deref(), Some("http://a"));
        assert_eq!(
            url(&cluster, "1").as_deref(),
            Some("http://a"),
            "an id goes before a name"
        );
        cluster.apply(&added("3", "nest/s", Some("http://b")));
        assert_eq!(url(&cluster, "s.nest").as_deref(), Some("http://b"));
        cluster.apply(&removed("3", "nest/s"));
        assert_eq!(url(&cluster, "s.nest").as_deref(), Some("http://a"));
        cluster.apply(&removed("1", "/nest/s"));
        assert_eq!(cluster.framework("s.nest"), None);
        assert_eq!(cluster.framework("1").unwrap().id, "2");
    }

    #[test]
    fn agents_come_and_go() {
        let mut cluster = cluster(&[], &[("S1", "slave(1)@10.0.0.1:5051"), ("S2", "broken")]);
        assert_eq!(cluster.agent("S1").unwrap().port, 5051);
        assert_eq!(cluster.agent("S2"), None);
        let gone = event::AgentRemoved {
            agent_id: AgentId::from("S1"),
        };
        assert!(cluster.apply(&Event {
            agent_removed: Some(gone),
            ..Event::default()
        }));
        assert_eq!(cluster.agent("S1"), None);
        assert!(!cluster.apply(&Event::default()));
    }
}
