//! `/agent/<id>/…` and `/system/v1/agent/<id>/…`.

use super::{Asked, Forward, Rules, Step, Target, plain, with_query};
use crate::world::{AgentAddress, Base, World};

const UNKNOWN: &str = "503 Service Unavailable: cache state is invalid";

impl Rules {
    /// The agent's own API.
    pub(super) fn agent(&self, asked: Asked<'_>, world: &World) -> Step {
        let Some((id, rest)) = split(asked.path, &["/agent/", "/slave/"]) else {
            return Step::Answer(404, "404 Not Found".to_owned());
        };
        let rest = if rest.is_empty() { "/" } else { rest };
        to_agent(id, world, asked, rest, |agent| {
            Base::at(self.scheme, &format!("{}:{}", agent.host, agent.port)).ok()
        })
    }

    /// The router beside the agent: some of its paths.
    pub(super) fn system_of_agent(&self, asked: Asked<'_>, world: &World) -> Step {
        let path = split(asked.path, &["/system/v1/agent/"])
            .and_then(|(id, rest)| Some((id, path_at_router(rest)?)));
        match path {
            Some((id, path)) => to_agent(id, world, asked, &path, |agent| {
                self.agents.beside(&agent.host)
            }),
            None => Step::Answer(404, "404 Not Found".to_owned()),
        }
    }
}

fn to_agent(
    id: &str,
    world: &World,
    asked: Asked<'_>,
    path: &str,
    place: impl Fn(&AgentAddress) -> Option<Base>,
) -> Step {
    let Some(cluster) = &world.cluster else {
        return Step::Unknown(UNKNOWN);
    };
    let base = cluster.agent(id).and_then(|agent| place(agent));
    match base {
        Some(base) => Step::Forward(Forward {
            path: with_query(path, asked.query),
            unpacked: true,
            ..plain(Target::Member(base))
        }),
        None => Step::Answer(404, format!("404 Not Found: agent `{id}` unknown.")),
    }
}

/// The id, and what stands behind it.
fn split<'a>(path: &'a str, prefixes: &[&str]) -> Option<(&'a str, &'a str)> {
    let behind = prefixes
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))?;
    let end = behind.find('/').unwrap_or(behind.len());
    let (id, rest) = behind.split_at(end);
    let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (!id.is_empty() && id.bytes().all(known)).then_some((id, rest))
}

/// What may be asked of the router of an agent, and by which path there.
fn path_at_router(rest: &str) -> Option<String> {
    match rest {
        "/dcos-metadata/dcos-version.json" | "/nginx/metrics" => Some(rest.to_owned()),
        _ if rest.starts_with("/logs") || rest.starts_with("/metrics/v0") => {
            Some(format!("/system/v1{rest}"))
        }
        _ => None,
    }
}
