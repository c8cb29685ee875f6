//! Where instances would run: what answers real offers, on offers that nobody made.
//!
//! An addition; the original's users learn it by deploying. What a role may take in all (its quota) and what others take
//! meanwhile is not looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_core::seed::Seed;
use dcos_proto::mesos::Offer;
use dcos_proto::mesos::offer::Operation;

use crate::config::Config;
use crate::engine::{Launcher, Subscription, answer};
use crate::instance::Agent;
use crate::matching::{Placed, Site, Supply, matches};
use crate::model::App;
use crate::queue::{Entry, LaunchQueue};
use crate::{PathId, Timestamp};

/// Instances somebody thinks of.
#[derive(Clone, Debug)]
pub struct Wish {
    /// What they are; apps with persistent volumes depend on more than offers and do not belong here.
    pub spec: Arc<App>,
    /// How many.
    pub count: u32,
    /// Where there are some already.
    pub placed: Placed,
}

/// Instances of one app on one agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The app.
    pub app: PathId,
    /// The agent.
    pub agent: Agent,
    /// How many.
    pub count: u32,
}

/// What would become of wishes.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// What would run, by app and then agent.
    pub placements: Vec<Placement>,
    /// What would wait; the summary tells why no agent suits.
    pub waiting: Vec<Entry>,
}

/// What would run where if `offers`, one of each agent, were all there is; each counts as made to the role that looks
/// at it. The offers are made again with what is left until no more instance fits. Apps without a wish for a region stay
/// in `home_region`.
pub fn simulate(
    now: Timestamp,
    wishes: Vec<Wish>,
    mut offers: Vec<Offer>,
    home_region: Option<&String>,
    config: &Config,
    seed: &mut Seed,
) -> Outcome {
    let mut simulation = Simulation {
        wishes: BTreeMap::new(),
        queue: LaunchQueue::default(),
        subscription: Subscription::default(),
        home_region,
        left: BTreeMap::new(),
        placements: BTreeMap::new(),
        seed,
    };
    for wish in wishes {
        simulation.wishes.insert(wish.spec.id.clone(), wish);
    }
    loop {
        simulation.ask_anew(now);
        let answered = answer(&mut simulation, now, offers.clone(), config);
        if answered.launched == 0 {
            break;
        }
        for offer in &mut offers {
            if let Some(left) = simulation.left.remove(&offer.agent_id.value) {
                offer.resources = left.into_resources();
            }
        }
    }
    Outcome {
        placements: simulation.placements.into_values().collect(),
        waiting: simulation.queue.entries().cloned().collect(),
    }
}

struct Simulation<'a> {
    wishes: BTreeMap<PathId, Wish>,
    queue: LaunchQueue,
    /// Of nobody; `home_region` is what sites have.
    subscription: Subscription,
    home_region: Option<&'a String>,
    /// By agent.
    left: BTreeMap<String, Supply>,
    /// By app and agent.
    placements: BTreeMap<(PathId, String), Placement>,
    seed: &'a mut Seed,
}

impl Simulation<'_> {
    /// Forgets what earlier offers were refused for: what is asked for is why the last ones are.
    fn ask_anew(&mut self, now: Timestamp) {
        self.queue = LaunchQueue::default();
        for wish in self.wishes.values().filter(|wish| wish.count > 0) {
            self.queue.want(now, &wish.spec, wish.count);
        }
    }
}

impl Launcher for Simulation<'_> {
    fn queue(&self) -> &LaunchQueue {
        &self.queue
    }

    fn queue_mut(&mut self) -> &mut LaunchQueue {
        &mut self.queue
    }

    fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    fn launch(
        &mut self,
        now: Timestamp,
        id: &PathId,
        site: &Site,
        supply: &mut Supply,
        offer: &Arc<Offer>,
    ) -> Option<Vec<Operation>> {
        let wish = self.wishes.get_mut(id)?;
        let site = Site {
            role: wish.spec.role.clone(),
            home_region: self.home_region.cloned(),
            ..site.clone()
        };
        match matches(&wish.spec, &site, supply, &wish.placed, self.seed) {
            Err(reasons) => {
                self.queue.refused(now, id, offer, reasons);
                None
            }
            Ok(found) => {
                supply.take(&found.resources);
                wish.placed.add(&site.agent);
                wish.count -= 1;
                self.queue.launched(now, id);
                self.left.insert(site.agent.id.clone(), supply.clone());
                let placement = self
                    .placements
                    .entry((id.clone(), site.agent.id.clone()))
                    .or_insert_with(|| Placement {
                        app: id.clone(),
                        agent: site.agent,
                        count: 0,
                    });
                placement.count += 1;
                // The operation is not sent to anybody.
                Some(vec![Operation::default()])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dcos_core::resources::Resources;
    use serde_json::{Value, json};

    use super::*;
    use crate::matching::Reason;
    use crate::normalize;

    fn spec(document: &Value) -> Arc<App> {
        let mut whole = json!({"id": "/web", "cmd": "serve", "cpus": 1, "mem": 10, "role": "web",
            "portDefinitions": []});
        for (key, value) in document.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let app = normalize::read_app(whole.to_string().as_bytes()).unwrap();
        let rules = normalize::Rules {
            valid_roles: ["web".to_owned()].into(),
            ..normalize::Rules::default()
        };
        let app = normalize::create(app, &PathId::root(), &rules, Timestamp::default());
        Arc::new(app.unwrap())
    }

    fn offers(resources: &[&str]) -> Vec<Offer> {
        let offer = |(number, resources): (usize, &&str)| Offer {
            id: format!("o{number}").as_str().into(),
            agent_id: format!("a{number}").as_str().into(),
            hostname: format!("host{number}"),
            resources: Resources::parse(resources).unwrap().to_messages(),
            ..Offer::default()
        };
        resources.iter().enumerate().map(offer).collect()
    }

    type Reasons = Vec<(Reason, u64)>;

    /// Instances by host, how many wait, and the first reasons of the agents against it.
    fn outcome(
        spec: &Arc<App>,
        count: u32,
        resources: &[&str],
    ) -> (Vec<(String, u32)>, u32, Reasons) {
        let wish = Wish {
            spec: Arc::clone(spec),
            count,
            placed: Placed::new(spec),
        };
        let (now, config) = (Timestamp::default(), Config::default());
        let found = simulate(
            now,
            vec![wish],
            offers(resources),
            None,
            &config,
            &mut Seed::new(1),
        );
        let placed = found.placements.iter();
        let placed = placed.map(|each| (each.agent.host.clone(), each.count));
        let waiting = found.waiting.first();
        let reasons = waiting
            .map(|entry| entry.summary.attempt())
            .unwrap_or_default();
        let stopped = reasons.into_iter().filter(|(_, stopped, _)| *stopped > 0);
        (
            placed.collect(),
            waiting.map_or(0, |entry| entry.count),
            stopped
                .map(|(reason, stopped, _)| (reason, stopped))
                .collect(),
        )
    }

    #[test]
    fn agents_are_filled_and_the_rest_waits_for_a_reason() {
        let spec = spec(&json!({}));
        let agents = ["cpus:12;mem:1000", "cpus:8;mem:35", "cpus(other):9;mem:900"];
        let (placed, waiting, reasons) = outcome(&spec, 20, &agents);
        assert_eq!(placed, [("host0".to_owned(), 12), ("host1".to_owned(), 3)]);
        assert_eq!(waiting, 5);
        assert_eq!(
            reasons,
            [
                (Reason::InsufficientCpus, 2),
                (Reason::InsufficientMemory, 1)
            ]
        );
        assert_eq!(outcome(&spec, 15, &agents).1, 0);
    }

    #[test]
    fn constraints_count_what_is_placed() {
        let spec = spec(&json!({"constraints": [["hostname", "MAX_PER", "2"]]}));
        let agents = ["cpus:9;mem:900", "cpus:9;mem:900"];
        let (placed, waiting, reasons) = outcome(&spec, 5, &agents);
        assert_eq!(placed, [("host0".to_owned(), 2), ("host1".to_owned(), 2)]);
        assert_eq!(
            (waiting, reasons),
            (1, vec![(Reason::UnfulfilledConstraint, 2)])
        );
    }
}
