//! What an agent has and what a task uses: resources and their algebra.
//!
//! [`Resources`] is a bag of `Resource` messages in which those of one kind are combined. Two
//! resources are of one kind if they agree in name, type, allocation, reservations, disk,
//! revocability and provider. The rules are those of Mesos 1.11 `common/resources.cpp`, down to
//! three decimals for scalars, because frameworks compare what they are offered with what they
//! computed themselves.
//!
//! ```
//! use dcos_core::resources::Resources;
//!
//! let total = Resources::parse("cpus:4;mem:1024;ports:[31000-31009]").unwrap();
//! let used = Resources::parse("cpus:0.1;ports:[31000-31000]").unwrap();
//! assert!(total.contains(&used));
//! let left = &total - &used;
//! assert_eq!(left.cpus(), Some(3.9));
//! assert_eq!(&left + &used, total);
//! ```
//!
//! # Shapes
//! - Inside, reservations are always in the refined format; [`convert`] has the others.
//! - Messages from outside pass [`validate`]; adding an invalid or empty one changes nothing.
//! - Shared volumes are counted, not added: two users of one volume are a count of two.

pub mod convert;
pub mod display;
mod endpoint;
pub mod operation;
mod parse;
mod quantities;
mod resource;
mod validate;
pub mod value;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::sync::Arc;

use dcos_proto::mesos::resource::{AllocationInfo, ReservationInfo};
use dcos_proto::mesos::{Resource, value as proto};

pub use endpoint::{
    append_endpoint_json, append_endpoint_json_of, append_endpoint_scalars, endpoint_scalar,
};
pub use parse::{ParseError, parse_list};
pub use quantities::{Quantities, QuantityError};
pub use resource::{ResourceExt, contains, same, same_reservation, shrink};
pub use validate::{Invalid, validate, validate_all};
pub use value::{Ranges, Scalar, ValueError};

/// A bag of resources, combined where they are of one kind. A clone shares its memory with the
/// original until one of them changes, and comparing the two takes no time.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// `None` if, and only if, there is nothing.
    entries: Option<Arc<Vec<Arc<Entry>>>>,
}

/// One resource, and how often it is there if it is shared.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) resource: Resource,
    /// How many users a shared resource has; 1 for all others.
    pub(crate) count: i64,
}

impl Entry {
    fn is_nothing(&self) -> bool {
        self.count == 0 || self.resource.is_empty()
    }

    fn contains(&self, other: &Self) -> bool {
        if std::ptr::eq(self, other) {
            true
        } else if self.resource.is_shared() {
            self.count >= other.count && same(&self.resource, &other.resource)
        } else {
            contains(&self.resource, &other.resource)
        }
    }
}

/// An unreserved scalar such as `cpus`.
pub fn scalar_resource(name: &str, amount: f64) -> Resource {
    let mut resource = Resource {
        name: name.to_owned(),
        ..Resource::default()
    };
    resource.set_type(proto::Type::Scalar);
    resource.scalar = Some(proto::Scalar { value: amount });
    resource
}

/// Unreserved ranges such as `ports`.
pub fn ranges_resource(name: &str, ranges: &Ranges) -> Resource {
    let mut resource = Resource {
        name: name.to_owned(),
        ..Resource::default()
    };
    resource.set_type(proto::Type::Ranges);
    resource.ranges = Some(ranges.to_proto());
    resource
}

impl Resources {
    /// Nothing.
    pub const fn new() -> Self {
        Self { entries: None }
    }

    fn from_entries(entries: Vec<Arc<Entry>>) -> Self {
        Self {
            entries: (!entries.is_empty()).then(|| Arc::new(entries)),
        }
    }

    /// From messages in either reservation format, passing over those that are invalid or empty.
    pub fn from_messages<R: Borrow<Resource>>(messages: impl IntoIterator<Item = R>) -> Self {
        let mut resources = Self::new();
        messages
            .into_iter()
            .for_each(|message| resources.add_message(message.borrow()));
        resources
    }

    /// As messages in the refined format.
    pub fn to_messages(&self) -> Vec<Resource> {
        self.iter().cloned().collect()
    }

    /// Adds one message in either reservation format, unless it is invalid or empty.
    pub fn add_message(&mut self, message: &Resource) {
        if validate(message).is_ok() {
            let mut resource = message.clone();
            convert::upgrade(&mut resource);
            self.insert(resource, 1);
        }
    }

    /// Each combined resource once, however often it is shared.
    pub fn iter(&self) -> impl Iterator<Item = &Resource> {
        self.entries().iter().map(|entry| &entry.resource)
    }

    pub(crate) fn entries(&self) -> &[Arc<Entry>] {
        self.entries.as_ref().map_or(&[], |entries| entries)
    }

    fn entries_mut(&mut self) -> &mut Vec<Arc<Entry>> {
        Arc::make_mut(self.entries.get_or_insert_default())
    }

    /// Whether one is a clone of the other and neither has changed since: then they are equal, but
    /// equal ones need not be clones. It takes no time to find out.
    pub fn is_clone_of(&self, other: &Self) -> bool {
        match (&self.entries, &other.entries) {
            (Some(mine), Some(theirs)) => Arc::ptr_eq(mine, theirs),
            (None, None) => true,
            _ => false,
        }
    }

    /// How many kinds of resources there are.
    pub fn len(&self) -> usize {
        self.entries().len()
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.entries.is_none()
    }

    /// How often `resource` is there, in exactly this amount: 0 or 1, or a shared one's count.
    pub fn count(&self, resource: &Resource) -> i64 {
        let found = self
            .entries()
            .iter()
            .find(|entry| same(&entry.resource, resource));
        found.map_or(0, |entry| entry.count)
    }

    /// Whether all of `other` is here.
    pub fn contains(&self, other: &Self) -> bool {
        if self.is_clone_of(other) {
            return true;
        }
        let mut remaining = None;
        for entry in other.entries() {
            let here = remaining.as_ref().unwrap_or(self);
            if !here.entries().iter().any(|mine| mine.contains(entry)) {
                return false;
            }
            // Only volumes can be there twice with the same content.
            if entry.resource.is_persistent_volume() {
                remaining.get_or_insert_with(|| self.clone()).take(entry);
            }
        }
        true
    }

    /// Whether this valid message is here.
    pub fn contains_message(&self, message: &Resource) -> bool {
        validate(message).is_ok() && {
            let mut resource = message.clone();
            convert::upgrade(&mut resource);
            let wanted = Entry { resource, count: 1 };
            self.entries().iter().any(|entry| entry.contains(&wanted))
        }
    }

    /// Looks for as much as `targets` say, whoever it is kept for: first in the target's own
    /// role, then among what is unreserved, then anywhere. `None` if there is not enough.
    pub fn find(&self, targets: &Self) -> Option<Self> {
        let mut total = Self::new();
        for target in targets.iter() {
            total += &self.find_one(target)?;
        }
        Some(total)
    }

    fn find_one(&self, target: &Resource) -> Option<Self> {
        let mut found = Self::new();
        let mut total = self.clone();
        let mut remaining = Self::from_messages([target]).to_unreserved();
        for choice in 0..3 {
            let fits = |resource: &Resource| match choice {
                0 => target
                    .reservation_role()
                    .is_some_and(|role| resource.is_reserved_to(role)),
                1 => resource.is_unreserved(),
                _ => true,
            };
            for entry in total.filter(fits).entries() {
                let mut single = Self::new();
                single.add_entry(entry.clone());
                let unreserved = single.to_unreserved();
                if unreserved.contains(&remaining) {
                    for resource in remaining.iter() {
                        let mut resource = resource.clone();
                        resource
                            .reservations
                            .clone_from(&entry.resource.reservations);
                        found.insert(resource, 1);
                    }
                    return Some(found);
                }
                if remaining.contains(&unreserved) {
                    total.take(entry);
                    found.add_entry(entry.clone());
                    remaining -= &unreserved;
                    // Mesos takes at most one partial match from each choice.
                    break;
                }
            }
        }
        None
    }

    /// Marks everything as allocated to `role`.
    pub fn allocate(&mut self, role: &str) {
        if self.is_empty() {
            return;
        }
        for entry in self.entries_mut() {
            Arc::make_mut(entry).resource.allocation_info = Some(AllocationInfo {
                role: Some(role.to_owned()),
            });
        }
    }

    /// [`Resources::allocate`] on a copy.
    #[must_use]
    pub fn allocated_to(&self, role: &str) -> Self {
        let mut resources = self.clone();
        resources.allocate(role);
        resources
    }

    /// Removes the marks of [`Resources::allocate`]; what becomes of one kind is combined.
    #[must_use]
    pub fn unallocated(&self) -> Self {
        if self
            .iter()
            .all(|resource| resource.allocation_info.is_none())
        {
            return self.clone();
        }
        self.map(|resource| resource.allocation_info = None)
    }

    /// By the role it is allocated to; what is not allocated is left out.
    pub fn allocations(&self) -> BTreeMap<String, Self> {
        self.group_by(ResourceExt::allocation_role)
    }

    /// By the role it is kept for; what is unreserved is left out.
    pub fn reservations(&self) -> BTreeMap<String, Self> {
        self.group_by(ResourceExt::reservation_role)
    }

    fn group_by(&self, key: impl Fn(&Resource) -> Option<&str>) -> BTreeMap<String, Self> {
        let mut keys = self.iter().map(&key);
        let Some(first) = keys.next() else {
            return BTreeMap::new();
        };
        if keys.all(|key| key == first) {
            return first
                .map(|key| (key.to_owned(), self.clone()))
                .into_iter()
                .collect();
        }
        let mut groups: BTreeMap<String, Self> = BTreeMap::new();
        for entry in self.entries() {
            if let Some(key) = key(&entry.resource) {
                let group = groups.entry(key.to_owned()).or_default();
                group.entries_mut().push(entry.clone());
            }
        }
        groups
    }

    /// What fulfils a condition.
    #[must_use]
    pub fn filter(&self, condition: impl Fn(&Resource) -> bool) -> Self {
        if self.iter().all(&condition) {
            return self.clone();
        }
        let entries = self
            .entries()
            .iter()
            .filter(|entry| condition(&entry.resource));
        Self::from_entries(entries.cloned().collect())
    }

    /// What is kept for `role`.
    #[must_use]
    pub fn reserved(&self, role: &str) -> Self {
        self.filter(|resource| resource.is_reserved_to(role))
    }

    /// What is kept for any role.
    #[must_use]
    pub fn all_reserved(&self) -> Self {
        self.filter(|resource| !resource.is_unreserved())
    }

    /// What is kept for nobody.
    #[must_use]
    pub fn unreserved(&self) -> Self {
        self.filter(ResourceExt::is_unreserved)
    }

    /// What a framework in `role` may be offered.
    #[must_use]
    pub fn allocatable_to(&self, role: &str) -> Self {
        self.filter(|resource| resource.is_allocatable_to(role))
    }

    /// What is called `name`.
    #[must_use]
    pub fn named(&self, name: &str) -> Self {
        self.filter(|resource| resource.name == name)
    }

    /// Everything without its reservations.
    #[must_use]
    pub fn to_unreserved(&self) -> Self {
        self.map(|resource| resource.reservations.clear())
    }

    /// Everything with one more reservation on top.
    ///
    /// # Errors
    /// [`Invalid`] if the reservation does not refine what is there.
    pub fn push_reservation(&self, reservation: &ReservationInfo) -> Result<Self, Invalid> {
        let mut result = Self::new();
        for entry in self.entries() {
            let mut resource = entry.resource.clone();
            resource.reservations.push(reservation.clone());
            validate(&resource)?;
            result.insert(resource, entry.count);
        }
        Ok(result)
    }

    /// Everything without its innermost reservation; what is unreserved stays.
    #[must_use]
    pub fn pop_reservation(&self) -> Self {
        self.map(|resource| _ = resource.reservations.pop())
    }

    fn map(&self, change: impl Fn(&mut Resource)) -> Self {
        let mut result = Self::new();
        for entry in self.entries() {
            let mut resource = entry.resource.clone();
            change(&mut resource);
            result.insert(resource, entry.count);
        }
        result
    }

    /// The sum of the scalars called `name`; `None` if there is none.
    pub fn scalar(&self, name: &str) -> Option<Scalar> {
        let amounts = self.iter().filter(|resource| resource.name == name);
        amounts
            .filter_map(ResourceExt::scalar_value)
            .reduce(Add::add)
    }

    /// The union of the ranges called `name`.
    pub fn ranges(&self, name: &str) -> Ranges {
        let all = self.iter().filter(|resource| resource.name == name);
        Ranges::from_pairs(all.flat_map(|resource| resource::ranges(resource).pairs().to_vec()))
    }

    /// Processor cores.
    pub fn cpus(&self) -> Option<f64> {
        self.scalar("cpus").map(Scalar::as_f64)
    }

    /// Graphics processors.
    pub fn gpus(&self) -> Option<f64> {
        self.scalar("gpus").map(Scalar::as_f64)
    }

    /// Memory in megabytes (2²⁰ bytes).
    pub fn mem(&self) -> Option<f64> {
        self.scalar("mem").map(Scalar::as_f64)
    }

    /// Disk space in megabytes (2²⁰ bytes).
    pub fn disk(&self) -> Option<f64> {
        self.scalar("disk").map(Scalar::as_f64)
    }

    /// Ports.
    pub fn ports(&self) -> Ranges {
        self.ranges("ports")
    }

    /// Each name that occurs.
    pub fn names(&self) -> BTreeSet<&str> {
        self.iter().map(|resource| &*resource.name).collect()
    }

    /// Exchanges `consumed` for `converted`, as offer operations do; `None` if `consumed` is not
    /// all here.
    pub fn exchange(&self, consumed: &Self, converted: &Self) -> Option<Self> {
        self.contains(consumed)
            .then(|| &(self - consumed) + converted)
    }

    /// Adds a valid, refined resource.
    fn insert(&mut self, resource: Resource, count: i64) {
        self.add_entry(Arc::new(Entry { resource, count }));
    }

    fn add_entry(&mut self, entry: Arc<Entry>) {
        if entry.is_nothing() {
            return;
        }
        let found = self
            .entries()
            .iter()
            .position(|mine| resource::addable(&mine.resource, &entry.resource));
        let entries = self.entries_mut();
        match found {
            Some(at) => {
                let mine = Arc::make_mut(&mut entries[at]);
                if mine.resource.is_shared() {
                    mine.count += entry.count;
                } else {
                    resource::add(&mut mine.resource, &entry.resource);
                }
            }
            None => entries.push(entry),
        }
    }

    fn take(&mut self, entry: &Entry) {
        let found = self
            .entries()
            .iter()
            .position(|mine| resource::subtractable(&mine.resource, &entry.resource));
        let Some(at) = found.filter(|_| !entry.is_nothing()) else {
            return;
        };
        let entries = self.entries_mut();
        // What goes whole need not be copied first.
        let is_whole = !entry.resource.is_shared()
            && resource::contains(&entry.resource, &entries[at].resource);
        if is_whole || !leaves_something(Arc::make_mut(&mut entries[at]), entry) {
            entries.swap_remove(at);
            if entries.is_empty() {
                self.entries = None;
            }
        }
    }
}

/// Takes `entry` out of `mine`; whether anything is left.
fn leaves_something(mine: &mut Entry, entry: &Entry) -> bool {
    if mine.resource.is_shared() {
        mine.count -= entry.count;
    } else {
        resource::subtract(&mut mine.resource, &entry.resource);
    }
    let amount = mine.resource.scalar_value();
    mine.count >= 0 && amount.is_none_or(|amount| amount >= Scalar::ZERO) && !mine.is_nothing()
}

impl PartialEq for Resources {
    fn eq(&self, other: &Self) -> bool {
        self.is_clone_of(other) || self.contains(other) && other.contains(self)
    }
}

impl AddAssign<&Resources> for Resources {
    fn add_assign(&mut self, other: &Resources) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        for entry in other.entries() {
            self.add_entry(entry.clone());
        }
    }
}

impl AddAssign for Resources {
    fn add_assign(&mut self, other: Resources) {
        if self.is_empty() {
            *self = other;
        } else {
            *self += &other;
        }
    }
}

impl SubAssign<&Resources> for Resources {
    /// What is not here is passed over, as in Mesos: check [`Resources::contains`] first.
    fn sub_assign(&mut self, other: &Resources) {
        if self.is_clone_of(other) {
            *self = Resources::new();
            return;
        }
        for entry in other.entries() {
            self.take(entry);
        }
    }
}

impl Add for &Resources {
    type Output = Resources;

    fn add(self, other: &Resources) -> Resources {
        let mut sum = self.clone();
        sum += other;
        sum
    }
}

impl Sub for &Resources {
    type Output = Resources;

    fn sub(self, other: &Resources) -> Resources {
        let mut difference = self.clone();
        difference -= other;
        difference
    }
}

impl<'a> FromIterator<&'a Resource> for Resources {
    fn from_iter<I: IntoIterator<Item = &'a Resource>>(messages: I) -> Self {
        Self::from_messages(messages)
    }
}

impl From<&[Resource]> for Resources {
    fn from(messages: &[Resource]) -> Self {
        Self::from_messages(messages)
    }
}

impl From<&Vec<Resource>> for Resources {
    fn from(messages: &Vec<Resource>) -> Self {
        Self::from_messages(messages)
    }
}

#[cfg(test)]
mod tests;
