//! Placement constraints: the seven operators of Marathon 1.11.

use std::collections::{BTreeMap, HashMap};

use regex::Regex;

use super::{Site, scalar_text};
use crate::instance::Agent;
use crate::model::{App, Constraint, Operator};

/// Where the instances of an app are, counted by what its constraints look at.
///
/// Looking whether one more may run somewhere then costs the same however many there are.
#[derive(Clone, Debug, Default)]
pub struct Placed {
    count: usize,
    /// Of each field that is counted by; there are few.
    groups: Vec<(String, Groups)>,
    patterns: BTreeMap<String, Option<Regex>>,
}

/// Instances by the value of one field.
#[derive(Clone, Debug, Default, PartialEq)]
struct Groups {
    /// Only ever asked for one of them.
    sizes: HashMap<String, usize>,
    /// How many groups there are of each size.
    of_size: BTreeMap<usize, usize>,
}

impl Placed {
    /// For `app`, with no instance yet.
    pub fn new(app: &App) -> Self {
        let mut placed = Self::default();
        for constraint in &app.constraints {
            match constraint.operator {
                Operator::Unique | Operator::Cluster | Operator::MaxPer | Operator::GroupBy => {
                    if placed.groups_of(&constraint.field).is_none() {
                        let field = constraint.field.clone();
                        placed.groups.push((field, Groups::default()));
                    }
                }
                Operator::Like | Operator::Unlike => {
                    let pattern = constraint.value.clone().unwrap_or_default();
                    let whole = Regex::new(&format!("^(?:{pattern})$")).ok();
                    placed.patterns.insert(pattern, whole);
                }
                Operator::Is => {}
            }
        }
        placed
    }

    /// One more instance, at `agent`.
    pub fn add(&mut self, agent: &Agent) {
        self.count += 1;
        for (field, groups) in &mut self.groups {
            if let Some(value) = agent.field(field) {
                groups.add(value);
            }
        }
    }

    /// One instance less, of those at `agent`.
    pub fn remove(&mut self, agent: &Agent) {
        self.count = self.count.saturating_sub(1);
        for (field, groups) in &mut self.groups {
            if let Some(value) = agent.field(field) {
                groups.remove(value);
            }
        }
    }

    /// For `app`, with instances at `agents`.
    pub fn of<'a>(app: &App, agents: impl IntoIterator<Item = &'a Agent>) -> Self {
        let mut placed = Self::new(app);
        agents.into_iter().for_each(|agent| placed.add(agent));
        placed
    }

    fn groups_of(&self, field: &str) -> Option<&Groups> {
        let known = self.groups.iter().find(|(known, _)| known == field);
        known.map(|(_, groups)| groups)
    }

    fn matches(&self, pattern: &str, text: &str) -> bool {
        let pattern = self.patterns.get(pattern).and_then(Option::as_ref);
        pattern.is_some_and(|pattern| pattern.is_match(text))
    }
}

impl Groups {
    fn add(&mut self, value: &str) {
        let size = match self.sizes.get_mut(value) {
            Some(size) => size,
            None => self.sizes.entry(value.to_owned()).or_default(),
        };
        let before = *size;
        *size += 1;
        self.resized(before, before + 1);
    }

    fn remove(&mut self, value: &str) {
        let Some(size) = self.sizes.get_mut(value) else {
            return;
        };
        let before = *size;
        *size -= 1;
        if before == 1 {
            self.sizes.remove(value);
        }
        self.resized(before, before - 1);
    }

    /// A group has `after` instances instead of `before`; one without any is none.
    fn resized(&mut self, before: usize, after: usize) {
        if let Some(others) = self.of_size.get_mut(&before) {
            *others -= 1;
            if *others == 0 {
                self.of_size.remove(&before);
            }
        }
        if after > 0 {
            *self.of_size.entry(after).or_default() += 1;
        }
    }

    fn size(&self, value: &str) -> usize {
        self.sizes.get(value).copied().unwrap_or_default()
    }
}

/// Whether every constraint lets one more instance run at `site`.
pub(super) fn hold(app: &App, site: &Site, placed: &Placed) -> bool {
    let region_wanted = app
        .constraints
        .iter()
        .any(|constraint| constraint.field == "@region");
    let at_home = site.home_region.is_none()
        || site.agent.region.is_none()
        || site.agent.region == site.home_region;
    (region_wanted || at_home) && broken(app, site, placed).is_none()
}

/// What the first constraint looks at that does not let one more instance run at `site`. It does not at any other site with the
/// same value of that, as long as `placed` stays as it is.
pub(crate) fn broken<'a>(app: &'a App, site: &Site, placed: &Placed) -> Option<&'a str> {
    let mut all = app.constraints.iter();
    let broken = all.find(|constraint| !holds(constraint, app, site, placed));
    broken.map(|constraint| constraint.field.as_str())
}

fn holds(constraint: &Constraint, app: &App, site: &Site, placed: &Placed) -> bool {
    let value = constraint.value.as_deref();
    let Some(offered) = site.agent.field(&constraint.field) else {
        return constraint.operator == Operator::Unlike;
    };
    let groups = placed.groups_of(&constraint.field);
    let same = groups.map_or(0, |groups| groups.size(offered));
    match constraint.operator {
        Operator::Unique => same == 0,
        Operator::Cluster => match value {
            Some(value) => value == offered,
            None => same == placed.count,
        },
        Operator::MaxPer => value
            .and_then(|value| value.parse().ok())
            .is_some_and(|most: usize| same < most),
        Operator::Like => value.is_some_and(|value| placed.matches(value, offered)),
        Operator::Unlike => value.is_some_and(|value| !placed.matches(value, offered)),
        Operator::Is => {
            let value = value.unwrap_or_default();
            let normal = value.parse().map_or_else(|_| value.to_owned(), scalar_text);
            offered == normal || offered == value
        }
        Operator::GroupBy => {
            let wanted = value.and_then(|value| value.parse().ok()).unwrap_or(0);
            groups.is_none_or(|groups| group_by(app.instances as usize, wanted, same, groups))
        }
    }
}

pub(super) fn full_match(pattern: &str, text: &str) -> bool {
    Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(text))
}

/// Even spreading: a group may hold `floor(instances / groups)`, and as many groups as the remainder
/// one more. `wanted` is how many groups are expected; those in use are too. `own` is how many the group in question has.
fn group_by(instances: usize, wanted: usize, own: usize, groups: &Groups) -> bool {
    let used = groups.sizes.len();
    if own == 0 {
        // A new group, unless as many as expected are in use already.
        return wanted == 0 || used < wanted;
    }
    // Without an expected number, a group in use waits for the smallest to catch up.
    if wanted == 0 {
        let smallest = groups.of_size.first_key_value();
        return smallest.is_none_or(|(smallest, _)| own <= *smallest);
    }
    let count = wanted.max(used);
    let share = instances / count;
    let above: usize = groups
        .of_size
        .range(share + 1..)
        .map(|(_, groups)| groups)
        .sum();
    own < share || (own == share && above < instances % count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agent((host, rack): (u8, u8)) -> Agent {
        let rack = (rack > 0).then(|| ("rack".to_owned(), rack.to_string()));
        Agent {
            host: format!("host{host}"),
            attributes: rack.into_iter().collect(),
            ..Agent::default()
        }
    }

    proptest! {
        /// Coming and going leaves what counting anew finds.
        #[test]
        fn counts_are_those_of_the_instances_there_are(
            steps in prop::collection::vec((any::<bool>(), 0_u8..8, 0_u8..4), 0..200),
        ) {
            let app: App = serde_json::from_value(serde_json::json!({
                "id": "/a", "constraints": [["hostname", "UNIQUE"], ["rack", "GROUP_BY"]],
            })).unwrap();
            let (mut placed, mut there) = (Placed::new(&app), Vec::new());
            for (comes, host, rack) in steps {
                if comes || there.is_empty() {
                    there.push(agent((host, rack)));
                    placed.add(&agent((host, rack)));
                } else {
                    let gone = there.swap_remove(usize::from(host) * 4 % there.len());
                    placed.remove(&gone);
                }
                let anew = Placed::of(&app, &there);
                prop_assert_eq!(placed.count, anew.count);
                prop_assert_eq!(&placed.groups, &anew.groups);
            }
        }
    }
}
