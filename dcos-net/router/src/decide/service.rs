//! `/service/<name>/…`: who is meant, and by which path.

use super::{
    Asked, Decision, Forward, Permission, Place, Records, Redirects, Rules, SERVICE_LIMIT, Step,
    Target, decision, joined, plain, with_query,
};
use crate::route::{Part, Ways};
use crate::world::{AppService, Base, Named, World, is_off_limits, segments};

const PREFIX: &str = "/service";
/// What is said of a service, or the address of its name, that nobody is sent to.
pub(crate) const OFF_LIMITS: &str = "403 Forbidden: the service says to be at an address that each host has for itself. \
     (A cluster that is one host needs a master known by loopback: --ip or --advertise_ip.)";
const NO_APPS: &str = "503 Service Unavailable: invalid Marathon svcapps cache";
const NO_CLUSTER: &str = "503 Service Unavailable: invalid Mesos state cache";
const NO_RECORDS: &str = "503 Service Unavailable: MesosDNS request has failed";

/// A service that was found.
struct Found {
    to: Target,
    rewrites: bool,
    buffers: bool,
}

impl Rules {
    pub(super) fn service(&self, asked: Asked<'_>, world: &World) -> Decision {
        let behind = asked.path.strip_prefix(PREFIX).unwrap_or_default();
        let name = behind.trim_start_matches('/');
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-.".contains(&byte);
        if !name.is_empty() && name.bytes().all(known) {
            let path = with_query(&format!("{}/", asked.path), asked.query);
            return decision(Permission::Open, "Redirect", Step::Redirect(301, path));
        }
        for named in segments(behind) {
            match self.find(&named.name, asked, world) {
                Ok(None) => {}
                Ok(Some(found)) => {
                    let resource = ["dcos:adminrouter:service:", &named.path].concat();
                    let permission = Permission::Resource(resource.into());
                    let step = Step::Forward(forward(found, named, behind, asked));
                    return decision(permission, "Service", step);
                }
                Err(step) => return decision(Permission::User, "Service", *step),
            }
        }
        let text = "404 Not Found: service not found.".to_owned();
        decision(Permission::User, "Service", Step::Answer(404, text))
    }

    /// Whether `/service/<name>/` leads to somebody; an error if that can't be known yet.
    pub(super) fn is_there(
        &self,
        name: &str,
        asked: Asked<'_>,
        world: &World,
    ) -> Result<bool, Box<Step>> {
        match self.find(name, asked, world) {
            Ok(found) => Ok(found.is_some()),
            Err(step) if matches!(*step, Step::Answer(403, _)) => Ok(false),
            Err(step) => Err(step),
        }
    }

    /// The service of that name; an error if that can't be known.
    fn find(
        &self,
        name: &str,
        asked: Asked<'_>,
        world: &World,
    ) -> Result<Option<Found>, Box<Step>> {
        // These two are never apps: whether Marathon answers does not matter for them. Where there is one here, they are no
        // frameworks either: anybody may register one by that name, and would be shown who asks, and for what.
        let own = match name {
            "marathon" => Some(Part::Marathon),
            "metronome" => Some(Part::Metronome),
            _ => None,
        };
        match own.and_then(|part| Some((part, self.parts.get(&part)?))) {
            Some((_, Place::At(base))) => {
                return Ok(Some(whole(Target::Member(base.clone()))));
            }
            Some((part, Place::Socket(_))) => return Ok(Some(whole(Target::Socket(part)))),
            None => {}
        }
        if own.is_none() {
            let apps = world
                .apps
                .as_ref()
                .ok_or(Box::new(Step::Unknown(NO_APPS)))?;
            if let Some(app) = apps.by_name.get(name) {
                return self.allowed(of_app(app));
            }
        }
        let framework = match &world.cluster {
            Some(cluster) => cluster.framework(name),
            None => None,
        };
        let url = framework.and_then(|framework| framework.webui_url.as_deref());
        let named: Option<Base> = url.and_then(|url| url.parse().ok());
        if let Some(base) = named {
            return self.allowed(of_framework(base));
        }
        if world.cluster.is_none() {
            return Err(Box::new(Step::Unknown(NO_CLUSTER)));
        }
        match url {
            // It is there, and says nothing of where: its tasks may have names.
            Some("") => {
                let name = framework.map_or(name, |framework| framework.name.as_str());
                match asked.records.get(name) {
                    None => Err(Box::new(Step::LookUp(name.to_owned()))),
                    Some(Records::First(base)) => self.allowed(of_framework(base.clone())),
                    Some(Records::Absent) => Ok(None),
                    Some(Records::Failed) => {
                        Err(Box::new(Step::Answer(503, NO_RECORDS.to_owned())))
                    }
                }
            }
            _ => Ok(None),
        }
    }
}

impl Rules {
    /// A service, unless it says to be where only this host may ask.
    fn allowed(&self, found: Found) -> Result<Option<Found>, Box<Step>> {
        if let Target::Service(base) = &found.to
            && self.is_refused(base)
        {
            return Err(Box::new(Step::Answer(403, OFF_LIMITS.to_owned())));
        }
        Ok(Some(found))
    }

    /// Names are looked at when they are looked up.
    fn is_refused(&self, base: &Base) -> bool {
        let ip = base.address;
        // Most are elsewhere, whoever this node is.
        ip.is_some_and(|ip| is_off_limits(ip, false) && is_off_limits(ip, self.is_alone()))
    }
}

fn of_app(app: &AppService) -> Found {
    Found {
        to: Target::Service(app.base.clone()),
        rewrites: app.rewrites,
        buffers: app.buffers,
    }
}

fn of_framework(base: Base) -> Found {
    whole(Target::Service(base))
}

/// One to whom paths go without what stands before them here.
fn whole(to: Target) -> Found {
    Found {
        to,
        rewrites: true,
        buffers: true,
    }
}

fn forward(found: Found, named: Named, behind: &str, asked: Asked<'_>) -> Forward {
    let (prefix, redirects) = match &found.to {
        Target::Member(base) | Target::Service(base) => {
            let redirects = Redirects::Service(base.scheme, named.path);
            (base.path.as_str(), redirects)
        }
        Target::Socket(_) => ("", Redirects::Kept),
    };
    let (prefix, rest) = match &behind[named.length..] {
        _ if !found.rewrites => ("", asked.path),
        "" => (prefix, "/"),
        rest => (prefix, rest),
    };
    let patience = if found.buffers {
        Ways::PLAIN.patience
    } else {
        600
    };
    Forward {
        path: joined(prefix, rest, asked.query),
        ways: Ways {
            patience,
            ..Ways::PLAIN
        },
        upgrades: true,
        limit: SERVICE_LIMIT,
        redirects,
        ..plain(found.to)
    }
}
