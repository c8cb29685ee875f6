//! What turns most offers down at little cost, beside matching each app with each offer.

use dcos_core::resources::Resources;
use dcos_proto::mesos::domain_info::FaultDomain;
use dcos_proto::mesos::domain_info::fault_domain::{RegionInfo, ZoneInfo};
use dcos_proto::mesos::{
    Attribute, DomainInfo, Resource, TimeInfo, Unavailability, resource, value,
};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use serde_json::{Value, json};

use super::*;
use crate::matching::{Reason, matches};

/// Launches what suits, as [`matches`] says.
struct Plain {
    queue: LaunchQueue,
    subscription: Subscription,
    placed: HashMap<PathId, Placed>,
    launched: u64,
    /// Whether it tells where its instances are.
    tells: bool,
}

impl Plain {
    fn new(apps: &[Arc<App>], tells: bool) -> Self {
        let mut queue = LaunchQueue::default();
        for (app, since) in apps.iter().zip([3, 1, 2, 1].into_iter().cycle()) {
            queue.want(Timestamp::from_millis(since), app, app.instances);
        }
        Self {
            queue,
            subscription: Subscription::default(),
            placed: apps
                .iter()
                .map(|app| (app.id.clone(), Placed::new(app)))
                .collect(),
            launched: 0,
            tells,
        }
    }
}

impl Launcher for Plain {
    fn queue(&self) -> &LaunchQueue {
        &self.queue
    }

    fn queue_mut(&mut self) -> &mut LaunchQueue {
        &mut self.queue
    }

    fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    fn placed(&mut self, spec: &Arc<App>) -> Option<&Placed> {
        self.tells.then(|| &self.placed[&spec.id])
    }

    fn launch(
        &mut self,
        now: Timestamp,
        id: &PathId,
        site: &Site,
        supply: &mut Supply,
        offer: &Arc<Offer>,
    ) -> Option<Vec<Operation>> {
        let spec = Arc::clone(&self.queue.entry(id)?.spec);
        let seed = &mut Seed::new(self.launched);
        match matches(&spec, site, supply, &self.placed[id], seed) {
            Err(reasons) => {
                assert!(!self.tells, "{id} was asked in vain: {reasons:?}");
                self.queue.refused(now, id, offer, reasons);
                None
            }
            Ok(found) => {
                supply.take(&found.resources);
                self.placed.get_mut(id)?.add(&site.agent);
                let (_, launch) = begin(now, &spec, site, found, &Surroundings::default(), seed);
                self.queue.launched(now, id);
                self.launched += 1;
                Some(vec![launch])
            }
        }
    }
}

/// What users see of an app that waits: how many, how many offers were looked at, what stopped them, and the last refusals.
type Seen = (
    PathId,
    u32,
    u64,
    Vec<(Reason, u64, u64)>,
    Vec<(String, Vec<Reason>)>,
);

fn seen(queue: &LaunchQueue) -> Vec<Seen> {
    let entry = |entry: &Entry| {
        let summary = &entry.summary;
        assert!(summary.unused <= summary.processed);
        let refusals = summary.last_refusals().map(|refusal| {
            let reasons = refusal.reasons.iter().collect();
            (refusal.offer.id.value.clone(), reasons)
        });
        let (id, count) = (entry.spec.id.clone(), entry.count);
        let refusals = refusals.collect();
        (id, count, summary.processed, summary.attempt(), refusals)
    };
    queue.entries().map(entry).collect()
}

const ROLES: [&str; 3] = ["*", "web", "other"];

fn apps() -> impl Strategy<Value = Vec<Arc<App>>> {
    let role = prop::sample::select(&ROLES[..2]);
    let accepted = prop::sample::select(vec![
        Value::Null,
        Value::Null,
        json!(["*"]),
        json!(["web"]),
        json!(["other"]),
    ]);
    let constraints = prop::sample::select(vec![
        json!([]),
        json!([["hostname", "UNIQUE"]]),
        json!([["rack", "GROUP_BY", "2"]]),
        json!([["rack", "MAX_PER", "2"], ["hostname", "UNLIKE", "host3"]]),
        json!([["rack", "LIKE", "rack[12]"]]),
        json!([["@region", "IS", "west"]]),
    ]);
    let ports = prop::sample::select(vec![
        json!([]),
        json!([{"port": 0}]),
        json!([{"port": 0}, {"port": 0}, {"port": 0}]),
        json!([{"port": 31002}, {"port": 0}]),
    ]);
    let amounts = (0_u32..30, 0_u32..60, 0_u32..3, 0_u32..2);
    let label = prop::sample::select(vec!["", "restricted", "unrestricted"]);
    let one = (role, accepted, constraints, ports, amounts, label, 1_u32..5);
    let app = |number: usize, (role, accepted, constraints, ports, amounts, label, instances)| {
        let (cpus, mem, disk, gpus): (u32, u32, u32, u32) = amounts;
        let document = json!({
            "id": format!("/app{number}"), "cmd": "run", "role": role, "networks": [{"mode": "host"}],
            "acceptedResourceRoles": accepted, "constraints": constraints, "portDefinitions": ports,
            "requirePorts": true, "cpus": f64::from(cpus) / 10.0, "mem": mem, "disk": disk,
            "gpus": gpus, "instances": instances, "labels": {"GPU_SCHEDULING_BEHAVIOR": label},
        });
        Arc::new(serde_json::from_value::<App>(document).unwrap())
    };
    prop::collection::vec(one, 1..8).prop_map(move |all| {
        all.into_iter()
            .enumerate()
            .map(|(at, one)| app(at, one))
            .collect()
    })
}

/// The agent, the role, what is there, whether it is under maintenance, and the region.
type Made = (u32, usize, Vec<Resource>, bool, u32);

fn offer(number: usize, (agent, role, resources, maintenance, region): Made) -> Offer {
    let name = |name: &str| name.to_owned();
    Offer {
        id: format!("offer{number}").into(),
        agent_id: format!("agent{agent}").into(),
        hostname: format!("host{agent}"),
        attributes: vec![Attribute {
            name: name("rack"),
            r#type: value::Type::Text as i32,
            text: Some(value::Text {
                value: format!("rack{}", agent % 4),
            }),
            ..Attribute::default()
        }],
        domain: (region > 0).then(|| DomainInfo {
            fault_domain: Some(FaultDomain {
                region: RegionInfo {
                    name: name(if region == 1 { "west" } else { "east" }),
                },
                zone: ZoneInfo { name: name("a") },
            }),
        }),
        unavailability: maintenance.then_some(Unavailability {
            start: TimeInfo { nanoseconds: 0 },
            duration: None,
        }),
        allocation_info: Some(resource::AllocationInfo {
            role: Some(name(ROLES[role])),
        }),
        resources,
        ..Offer::default()
    }
}

fn offers() -> impl Strategy<Value = Vec<Offer>> {
    let part = (
        0_usize..3,
        0_u32..40,
        0_u32..100,
        0_u32..4,
        0_u64..4,
        any::<bool>(),
    );
    let resources = prop::collection::vec(part, 1..4).prop_map(|parts| {
        let parts = parts.into_iter().enumerate();
        let parts = parts.flat_map(|(at, (role, cpus, mem, disk, ports, mount))| {
            let begin = 31_000 + 10 * at as u64;
            let scalar = |name: &str, value: f64| Resource {
                name: name.to_owned(),
                r#type: value::Type::Scalar as i32,
                scalar: Some(value::Scalar { value }),
                role: Some(ROLES[role].to_owned()),
                ..Resource::default()
            };
            let mut disk = scalar("disk", f64::from(disk));
            if mount {
                let source = resource::disk_info::Source::default();
                disk.disk = Some(Box::new(resource::DiskInfo {
                    source: Some(source),
                    ..resource::DiskInfo::default()
                }));
            }
            let range = value::Range {
                begin,
                end: begin + ports,
            };
            let ports = Resource {
                scalar: None,
                r#type: value::Type::Ranges as i32,
                ranges: Some(value::Ranges { range: vec![range] }),
                ..scalar("ports", 0.0)
            };
            let mut all = vec![
                scalar("cpus", f64::from(cpus) / 10.0),
                scalar("mem", f64::from(mem)),
                disk,
                ports,
            ];
            if mem % 4 == 0 {
                all.push(scalar("gpus", 1.0));
            }
            all
        });
        parts.collect::<Vec<Resource>>()
    });
    let one = (0_u32..26, 0_usize..2, resources, any::<bool>(), 0_u32..3);
    prop::collection::vec(one, 1..40).prop_map(|all| {
        all.into_iter()
            .enumerate()
            .map(|(at, one)| offer(at, one))
            .collect()
    })
}

/// Apps that fit anywhere but for a constraint, most of which racks turn down and take again once others have caught up.
fn small_apps() -> impl Strategy<Value = Vec<Arc<App>>> {
    let constraint = prop::sample::select(vec![
        json!([["rack", "GROUP_BY"]]),
        json!([["rack", "GROUP_BY"]]),
        json!([["rack", "GROUP_BY", "3"]]),
        json!([["rack", "MAX_PER", "2"]]),
    ]);
    prop::collection::vec((constraint, 1_u32..12), 1..5).prop_map(|all| {
        let app = |(number, (constraint, instances))| {
            let document = json!({
                "id": format!("/app{number}"), "cmd": "run", "cpus": 0.1, "mem": 1, "role": "*",
                "constraints": constraint, "instances": instances,
            });
            Arc::new(serde_json::from_value::<App>(document).unwrap())
        };
        all.into_iter().enumerate().map(app).collect()
    })
}

fn offers_of_few_racks() -> impl Strategy<Value = Vec<Offer>> {
    let resources = Resources::parse("cpus:4;mem:4096;ports:[31000-31010]").unwrap();
    let resources = resources.to_messages();
    prop::collection::vec(0_u32..3, 1..40).prop_map(move |racks| {
        let made = racks
            .into_iter()
            .map(|rack| (rack, 0, resources.clone(), false, 0));
        made.enumerate().map(|(at, made)| offer(at, made)).collect()
    })
}

/// The same is launched, and the same is said of what waits, whether offers are turned down at little cost or each
/// app is matched with each of them.
fn same_either_way(apps: &[Arc<App>], offers: &[Offer], most: usize) -> TestCaseResult {
    let config = Config {
        max_instances_per_offer: most,
        ..Config::default()
    };
    let now = Timestamp::from_millis(1_000);
    let (mut quick, mut slow) = (Plain::new(apps, true), Plain::new(apps, false));
    for offers in offers.chunks(15) {
        let quickly = answer(&mut quick, now, offers.to_vec(), &config);
        let slowly = answer(&mut slow, now, offers.to_vec(), &config);
        prop_assert_eq!(&quickly.calls, &slowly.calls);
        prop_assert_eq!(quickly.launched, slowly.launched);
        prop_assert_eq!(seen(&quick.queue), seen(&slow.queue));
    }
    Ok(())
}

proptest! {
    #[test]
    fn turning_down_says_what_matching_says(apps in apps(), offers in offers(), most in 1_usize..9) {
        same_either_way(&apps, &offers, most)?;
    }

    #[test]
    fn turning_down_says_so_of_racks_that_fill(
        apps in small_apps(), offers in offers_of_few_racks(), most in 1_usize..4,
    ) {
        same_either_way(&apps, &offers, most)?;
    }
}
