//! Placement constraints: the seven operators of Marathon 1.11.

use std::collections::BTreeMap;

use regex::Regex;

use super::{Site, scalar_text};
use crate::instance::Instance;
use crate::model::{App, Constraint, Operator};

/// Whether every constraint lets one more instance run at `site`.
pub(super) fn hold(app: &App, site: &Site, instances: &[&Instance]) -> bool {
    let region_wanted = app
        .constraints
        .iter()
        .any(|constraint| constraint.field == "@region");
    let at_home = site.home_region.is_none()
        || site.agent.region.is_none()
        || site.agent.region == site.home_region;
    (region_wanted || at_home)
        && app
            .constraints
            .iter()
            .all(|constraint| holds(constraint, app, site, instances))
}

fn holds(constraint: &Constraint, app: &App, site: &Site, instances: &[&Instance]) -> bool {
    let value = constraint.value.as_deref();
    let Some(offered) = site.agent.field(&constraint.field) else {
        return constraint.operator == Operator::Unlike;
    };
    let taken = || {
        instances
            .iter()
            .map(|instance| instance.agent.field(&constraint.field))
    };
    let same = || taken().filter(|taken| *taken == Some(offered)).count();
    match constraint.operator {
        Operator::Unique => same() == 0,
        Operator::Cluster => match value {
            Some(value) => value == offered,
            None => taken().next().is_none_or(|first| first == Some(offered)),
        },
        Operator::MaxPer => value
            .and_then(|value| value.parse().ok())
            .is_some_and(|most: usize| same() < most),
        Operator::Like => value.is_some_and(|value| full_match(value, offered)),
        Operator::Unlike => value.is_some_and(|value| !full_match(value, offered)),
        Operator::Is => {
            let value = value.unwrap_or_default();
            let normal = value.parse().map_or_else(|_| value.to_owned(), scalar_text);
            offered == normal || offered == value
        }
        Operator::GroupBy => {
            let wanted = value.and_then(|value| value.parse().ok()).unwrap_or(0);
            group_by(app.instances as usize, wanted, offered, taken().flatten())
        }
    }
}

pub(super) fn full_match(pattern: &str, text: &str) -> bool {
    Regex::new(&format!("^(?:{pattern})$")).is_ok_and(|regex| regex.is_match(text))
}

/// Even spreading: a group may hold `floor(instances / groups)`, and as many groups as the remainder
/// one more. `wanted` is how many groups are expected; those in use are too.
fn group_by<'a>(
    instances: usize,
    wanted: usize,
    offered: &str,
    taken: impl Iterator<Item = &'a str>,
) -> bool {
    let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
    for value in taken {
        *groups.entry(value).or_default() += 1;
    }
    let Some(own) = groups.get(offered).copied() else {
        // A new group, unless as many as expected are in use already.
        return wanted == 0 || groups.len() < wanted;
    };
    let count = wanted.max(groups.len()).max(1);
    let share = instances / count;
    let remainder = instances % count;
    let above = groups.values().filter(|size| **size > share).count();
    // Without an expected number, a group in use waits for the smallest to catch up.
    let smallest = groups.values().min().copied().unwrap_or_default();
    if wanted == 0 {
        return own <= smallest;
    }
    own < share || (own == share && above < remainder)
}
