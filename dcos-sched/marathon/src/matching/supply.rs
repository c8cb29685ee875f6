//! What is left of an offer while instances are taken out of it.

use dcos_proto::mesos::resource::disk_info::Source;
use dcos_proto::mesos::{Resource, value};

use super::Stock;

/// The resources of an offer that are still free.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Supply {
    resources: Vec<Resource>,
}

impl Supply {
    /// Everything of `resources` an instance could take: no volumes, no labelled reservations, nothing
    /// that can be revoked. Disks beside the agent's own serve for volumes only.
    pub fn new(resources: &[Resource]) -> Self {
        let usable = |resource: &&Resource| {
            let labelled = resource
                .reservations
                .iter()
                .chain(&resource.reservation)
                .any(|reservation| reservation.labels.is_some());
            let disk = resource.disk.as_ref();
            let special =
                disk.is_some_and(|disk| disk.persistence.is_some() || disk.volume.is_some());
            !labelled && !special && resource.revocable.is_none()
        };
        Self {
            resources: resources.iter().filter(usable).cloned().collect(),
        }
    }

    /// Whether there is as much of cores and memory left, whatever it is reserved for.
    pub fn holds(&self, cpus: f64, mem: f64) -> bool {
        let free = |name| -> i64 {
            let of_name = self
                .resources
                .iter()
                .filter(|resource| resource.name == name);
            let amounts = of_name.filter_map(|resource| resource.scalar.as_ref());
            amounts.map(|free| thousandths(free.value)).sum()
        };
        free("cpus") >= thousandths(cpus) && free("mem") >= thousandths(mem)
    }

    /// The same in numbers, as far as it is for `role` or for everybody.
    pub(crate) fn stock(&self, role: &str) -> Stock {
        let mut stock = Stock::default();
        for resource in &self.resources {
            let shelf = match role_of(resource) {
                own if own == role => &mut stock.own,
                "*" => &mut stock.common,
                _ => continue,
            };
            let scalar = match resource.name.as_str() {
                "cpus" => 0,
                "mem" => 1,
                "disk" => 2,
                "gpus" => 3,
                "ports" => {
                    shelf.ports += port_ranges(resource).map(size).sum::<usize>();
                    continue;
                }
                _ => continue,
            };
            if let Some(free) = &resource.scalar
                && source_of(resource).is_none()
            {
                shelf.amounts[scalar] += thousandths(free.value).max(0);
            }
        }
        stock
    }

    /// What is left.
    pub fn into_resources(self) -> Vec<Resource> {
        self.resources
    }

    /// All of `resources`, which are reserved for the one that looks for some.
    pub(super) fn kept(resources: Vec<Resource>) -> Self {
        Self { resources }
    }

    /// Disks beside the agent's own.
    pub(super) fn disks(&self) -> impl Iterator<Item = &Resource> {
        self.resources
            .iter()
            .filter(|resource| source_of(resource).is_some())
            .filter(|resource| role_of(resource) == "*")
    }

    /// A part of `resource`.
    pub(super) fn part(resource: &Resource, amount: f64) -> Resource {
        Resource {
            scalar: Some(scalar(thousandths(amount))),
            ..resource.clone()
        }
    }

    /// Whether there is `amount` of a scalar for these roles.
    pub(super) fn has(&self, name: &str, amount: f64, roles: &[&str]) -> bool {
        let amount = thousandths(amount);
        let free = self.scalars(name, roles).map(|(_, free)| free.max(0));
        amount <= 0 || amount <= free.sum()
    }

    /// The parts that make up `amount` of a scalar, of the earliest roles possible.
    pub(super) fn scalar(&self, name: &str, amount: f64, roles: &[&str]) -> Option<Vec<Resource>> {
        let mut missing = thousandths(amount);
        let mut taken = Vec::new();
        for (resource, free) in self.scalars(name, roles) {
            if missing <= 0 {
                break;
            }
            let part = free.min(missing);
            if part > 0 {
                missing -= part;
                taken.push(Resource {
                    scalar: Some(scalar(part)),
                    ..resource.clone()
                });
            }
        }
        (missing <= 0).then_some(taken)
    }

    /// Takes parts of `resources` that make up `amount` of a scalar, or as much as there is.
    pub(super) fn divide(resources: &mut Vec<Resource>, name: &str, amount: f64) -> Vec<Resource> {
        let mut missing = thousandths(amount);
        let mut taken = Vec::new();
        for resource in resources
            .iter_mut()
            .filter(|resource| resource.name == name)
        {
            let Some(free) = &mut resource.scalar else {
                continue;
            };
            let part = thousandths(free.value).min(missing);
            if part > 0 {
                missing -= part;
                *free = scalar(thousandths(free.value) - part);
                taken.push(Resource {
                    scalar: Some(scalar(part)),
                    ..resource.clone()
                });
            }
        }
        resources.retain(|resource| {
            resource
                .scalar
                .as_ref()
                .is_none_or(|left| thousandths(left.value) > 0)
        });
        taken
    }

    fn scalars<'a>(
        &'a self,
        name: &'a str,
        roles: &'a [&str],
    ) -> impl Iterator<Item = (&'a Resource, i64)> {
        roles.iter().flat_map(move |role| {
            self.resources
                .iter()
                .filter(move |resource| resource.name == name && role_of(resource) == *role)
                .filter(|resource| source_of(resource).is_none())
                .filter_map(|resource| {
                    Some((resource, thousandths(resource.scalar.as_ref()?.value)))
                })
        })
    }

    /// The ranges of ports, with the resource each is of.
    pub(super) fn ports<'a>(
        &'a self,
        roles: &'a [&str],
    ) -> impl Iterator<Item = (&'a Resource, u16, u16)> {
        roles.iter().flat_map(move |role| {
            self.resources
                .iter()
                .filter(move |resource| resource.name == "ports" && role_of(resource) == *role)
                .flat_map(|resource| {
                    port_ranges(resource).map(move |(begin, end)| (resource, begin, end))
                })
        })
    }

    /// Takes out what a match takes.
    pub fn take(&mut self, taken: &[Resource]) {
        for part in taken {
            let like = |resource: &&mut Resource| {
                resource.name == part.name
                    && resource.role == part.role
                    && resource.reservations == part.reservations
                    && resource.reservation == part.reservation
                    && source_of(resource) == source_of(part)
            };
            for resource in self.resources.iter_mut().filter(like) {
                if let (Some(free), Some(used)) = (&mut resource.scalar, &part.scalar) {
                    let left = thousandths(free.value) - thousandths(used.value);
                    if left >= 0 {
                        *free = scalar(left);
                        break;
                    }
                }
                if let (Some(free), Some(used)) = (&mut resource.ranges, &part.ranges) {
                    for range in &used.range {
                        cut(&mut free.range, range);
                    }
                }
            }
        }
    }
}

/// The ranges of ports a resource consists of.
fn port_ranges(resource: &Resource) -> impl Iterator<Item = (u16, u16)> {
    let ranges = resource.ranges.iter().flat_map(|ranges| &ranges.range);
    ranges.filter_map(|range| {
        let begin = u16::try_from(range.begin).ok()?;
        let end = u16::try_from(range.end).unwrap_or(u16::MAX);
        (begin <= end).then_some((begin, end))
    })
}

fn size((begin, end): (u16, u16)) -> usize {
    usize::from(end - begin) + 1
}

/// The role resources are reserved for, or `*`.
pub(crate) fn role_of(resource: &Resource) -> &str {
    resource
        .reservations
        .last()
        .and_then(|reservation| reservation.role.as_deref())
        .or(resource.role.as_deref())
        .unwrap_or("*")
}

/// What a disk is a part of, unless it is the agent's own.
fn source_of(resource: &Resource) -> Option<&Source> {
    resource.disk.as_ref()?.source.as_ref()
}

fn cut(ranges: &mut Vec<value::Range>, used: &value::Range) {
    let mut left = Vec::with_capacity(ranges.len() + 1);
    for range in ranges.drain(..) {
        if range.end < used.begin || range.begin > used.end {
            left.push(range);
            continue;
        }
        if range.begin < used.begin {
            left.push(value::Range {
                begin: range.begin,
                end: used.begin - 1,
            });
        }
        if range.end > used.end {
            left.push(value::Range {
                begin: used.end + 1,
                end: range.end,
            });
        }
    }
    *ranges = left;
}

/// Mesos computes with three decimals.
#[expect(
    clippy::cast_possible_truncation,
    reason = "amounts of resources are far below the limit"
)]
pub(super) fn thousandths(value: f64) -> i64 {
    (value * 1000.0).round() as i64
}

#[expect(
    clippy::cast_precision_loss,
    reason = "amounts of resources are far below the limit"
)]
fn scalar(thousandths: i64) -> value::Scalar {
    value::Scalar {
        value: thousandths as f64 / 1000.0,
    }
}
