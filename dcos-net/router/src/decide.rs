//! What becomes of a request: a pure function of its path and of what is known of the cluster.
//!
//! Source: dcos/dcos 2.2 `packages/adminrouter` (`server/master.conf`, `lib/service.lua`, `lib/agent.lua`,
//! `lib/util.lua`). Departures are in `docs/differences.md`.

mod agent;
mod leader;
mod packages;
mod service;

pub(crate) use service::OFF_LIMITS;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use dcos_wire::Origins;
use http::Method;

use crate::route::{Access, Action, AgentSide, Own, Part, Pattern, Proxy, Route, Ways, find};
use crate::world::{Base, Scheme, World, address};

/// What of the configuration decides about requests.
#[derive(Debug, Clone)]
pub struct Rules {
    /// The routes.
    pub routes: &'static [Route],
    /// What serves the parts of the cluster; the others answer that they are not there.
    pub parts: BTreeMap<Part, Place>,
    /// How masters and agents are spoken to.
    pub scheme: Scheme,
    /// Where masters' routers are.
    pub masters: RouterAt,
    /// Where agents' routers are.
    pub agents: RouterAt,
    /// Names and addresses of this node, the one others know it by among them; IPv6 ones without brackets. Who leads
    /// there is not asked over the network.
    pub own_hosts: BTreeSet<String>,
    /// Whose web pages may have browsers ask for changes, and for a socket, beside those from here. Those behind the router
    /// have rules of their own.
    pub origins: Origins,
}

/// Where the routers of other nodes are: what serves there need not speak as masters and agents do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterAt {
    /// How they are spoken to.
    pub scheme: Scheme,
    /// Their port.
    pub port: u16,
}

impl RouterAt {
    /// In the clear.
    pub const fn http(port: u16) -> Self {
        Self {
            scheme: Scheme::Http,
            port,
        }
    }

    /// The router beside whoever is reached at `host`.
    fn beside(self, host: &str) -> Option<Base> {
        Base::at(self.scheme, &format!("{host}:{}", self.port)).ok()
    }
}

/// Where a part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// On the network.
    At(Base),
    /// At a Unix socket.
    Socket(PathBuf),
}

/// A request, as far as it matters here.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path, normalised.
    pub path: &'a str,
    /// What stands behind the question mark.
    pub query: Option<&'a str>,
    /// Whether another router sent it here.
    pub forwarded: bool,
    /// What SRV records said, by the names that were asked for.
    pub records: &'a BTreeMap<String, Records>,
}

/// What an SRV question brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Records {
    /// Where the first one points.
    First(Base),
    /// There are none.
    Absent,
    /// There was no answer.
    Failed,
}

/// What becomes of a request, and who may know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whom to ask for permission first. Errors are shown only to those who have it.
    pub permission: Permission,
    /// What requests of this kind are counted under.
    pub tag: &'static str,
    /// What to do then.
    pub step: Step,
}

/// Which permission a request needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Permission {
    /// None.
    Open,
    /// Being logged in.
    User,
    /// `full` on this resource.
    Resource(Cow<'static, str>),
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Answer with this text.
    Answer(u16, String),
    /// Answer with this document of that media type.
    Document(u16, &'static str, String),
    /// Answer with this text, unless it becomes known in a moment.
    Unknown(&'static str),
    /// Send the client to this path.
    Redirect(u16, String),
    /// Answer from what the router itself has; the path names files.
    Own(Own),
    /// Ask the leading master, or look at what it said a moment ago.
    Cached(Forward),
    /// Send it on.
    Forward(Forward),
    /// Ask for these SRV records, and decide anew.
    LookUp(String),
}

/// How a request is sent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// To whom.
    pub to: Target,
    /// Path and query there.
    pub path: String,
    /// In which ways it is special.
    pub ways: Ways,
    /// Whether the connection may become something else, such as a WebSocket.
    pub upgrades: bool,
    /// Whether the answer must come unpacked: it is passed on as it comes.
    pub unpacked: bool,
    /// Whether the next router is told that one sent it already.
    pub marked: bool,
    /// The largest body in bytes.
    pub limit: u64,
    /// What becomes of redirects.
    pub redirects: Redirects,
}

/// Whom a request is sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Somebody of the cluster: a master, an agent, a router.
    Member(Base),
    /// A service on the cluster, whose certificate nobody vouches for.
    Service(Base),
    /// A part at a Unix socket.
    Socket(Part),
}

/// What becomes of `Location` in answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirects {
    /// They stay.
    Kept,
    /// Those to the part itself get its prefix.
    Part(&'static str),
    /// Those to the service itself get `/service/` and this.
    Service(Scheme, String),
}

/// Bodies to parts of the cluster.
const LIMIT: u64 = 1 << 30;
/// Bodies to services: packages are that large.
const SERVICE_LIMIT: u64 = 32 << 30;

impl Rules {
    /// What becomes of a request.
    pub fn decide(&self, asked: Asked<'_>, world: &World) -> Decision {
        let Some((route, bare)) = find(self.routes, asked.path) else {
            return nothing();
        };
        if bare {
            let step = Step::Redirect(301, with_query(&format!("{}/", asked.path), asked.query));
            return decision(Permission::Open, "Redirect", step);
        }
        let permission = match route.access {
            Access::Open => Permission::Open,
            Access::User | Access::Service => Permission::User,
            Access::Resource(resource) => Permission::Resource(resource.into()),
        };
        match route.action {
            Action::Proxy(proxy) => {
                let step = self.part(proxy, route.pattern, asked, world);
                decision(permission, proxy.part.tag(), step)
            }
            Action::Service => self.service(asked, world),
            Action::Agent(AgentSide::Api) => {
                decision(permission, "Agent", self.agent(asked, world))
            }
            Action::Agent(AgentSide::System) => {
                decision(permission, "Agent", self.system_of_agent(asked, world))
            }
            Action::Leader(office) => self.leader(office, permission, asked, world),
            Action::Alias(to) => {
                let path = format!("{to}{}", rest(asked.path, route.pattern));
                self.decide(
                    Asked {
                        path: &path,
                        ..asked
                    },
                    world,
                )
            }
            Action::Redirect(status, to) => {
                let step = Step::Redirect(status, with_query(to, asked.query));
                decision(permission, "Redirect", step)
            }
            Action::Cached => {
                let proxy = Proxy {
                    part: Part::Mesos,
                    to: Some("/master/"),
                    ways: Ways::PLAIN,
                };
                let step = match self.part(proxy, route.pattern, asked, world) {
                    Step::Forward(forward)
                        if asked.method == Method::GET || asked.method == Method::HEAD =>
                    {
                        Step::Cached(forward)
                    }
                    Step::Forward(_) => Step::Answer(405, "405 Method Not Allowed".to_owned()),
                    step => step,
                };
                decision(permission, Part::Mesos.tag(), step)
            }
            Action::Own(own) => decision(permission, "Own", Step::Own(own)),
        }
    }

    /// Whether the cluster is this host alone: others would not know it by an address of loopback. One that is known
    /// by another address as well, such as behind a forwarder, is not.
    pub(crate) fn is_alone(&self) -> bool {
        let addresses = self.own_hosts.iter().filter_map(|host| address(host));
        // Where it listens on all, nobody knows it by that.
        let addresses = addresses.filter(|ip| !ip.is_unspecified());
        let mut loopback = addresses.map(|ip| ip.is_loopback()).peekable();
        loopback.peek().is_some() && loopback.all(|is| is)
    }

    fn part(&self, proxy: Proxy, pattern: Pattern, asked: Asked<'_>, world: &World) -> Step {
        let Proxy { part, to, ways } = proxy;
        let reads = asked.method == Method::GET || asked.method == Method::HEAD;
        if ways.read_only && !reads {
            let text = "405 Method Not Allowed: this path can only be read here.";
            return Step::Answer(405, text.to_owned());
        }
        let (prefix, path) = match to {
            Some(to) => (to, rest(asked.path, pattern)),
            None => ("", asked.path),
        };
        let target = match self.place(part, world) {
            Ok(target) => target,
            Err(_) if part == Part::Cosmos => return self.without_packages(asked, world),
            Err(step) => return *step,
        };
        let redirects = match pattern {
            Pattern::Under(prefix) if ways.relocated => Redirects::Part(prefix),
            _ => Redirects::Kept,
        };
        Step::Forward(Forward {
            path: joined(prefix, path, asked.query),
            ways,
            redirects,
            ..plain(target)
        })
    }

    /// Where a part is.
    fn place(&self, part: Part, world: &World) -> Result<Target, Box<Step>> {
        if part == Part::Mesos
            && let Some(leader) = &world.mesos_leader
        {
            return Ok(Target::Member(leader.clone()));
        }
        match self.parts.get(&part) {
            Some(Place::At(base)) => Ok(Target::Member(base.clone())),
            Some(Place::Socket(_)) => Ok(Target::Socket(part)),
            None if part == Part::Mesos => Err(Box::new(Step::Unknown(
                "503 Service Unavailable: mesos leader is unknown.",
            ))),
            None => Err(Box::new(absent(part))),
        }
    }
}

/// A request that is sent on in no special way.
fn plain(to: Target) -> Forward {
    Forward {
        to,
        path: "/".to_owned(),
        ways: Ways::PLAIN,
        upgrades: false,
        unpacked: false,
        marked: false,
        limit: LIMIT,
        redirects: Redirects::Kept,
    }
}

fn decision(permission: Permission, tag: &'static str, step: Step) -> Decision {
    Decision {
        permission,
        tag,
        step,
    }
}

fn nothing() -> Decision {
    let step = Step::Answer(404, "404 Not Found".to_owned());
    decision(Permission::Open, "Own", step)
}

/// A part that this cluster lacks. Login providers are asked for by clients to find out whether there are any: they
/// understand 404.
fn absent(part: Part) -> Step {
    let text = format!(
        "404 Not Found: this cluster has no {}. An administrator can say by --router_parts where one is.",
        part.name()
    );
    Step::Answer(404, text)
}

/// What stands behind the pattern.
fn rest(path: &str, pattern: Pattern) -> &str {
    path.get(pattern.text().len()..).unwrap_or_default()
}

fn with_query(path: &str, query: Option<&str>) -> String {
    joined("", path, query)
}

fn joined(prefix: &str, path: &str, query: Option<&str>) -> String {
    match query {
        Some(query) => [prefix, path, "?", query].concat(),
        None => [prefix, path].concat(),
    }
}

#[cfg(test)]
mod tests;
