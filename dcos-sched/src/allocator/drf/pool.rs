//! What nobody holds of an agent, apart by whom it is kept for.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_core::resources::{ResourceExt, Resources};
use dcos_core::roles;

use super::alike::Alike;
use super::amounts::{Amounts, Names};

/// What nobody holds. Shared volumes are always here.
#[derive(Debug, Default)]
pub(super) struct Pool {
    open: Open,
    /// What is kept, by role.
    kept: BTreeMap<String, Resources>,
    /// The last grant that was all of `open`. Mostly it comes back as it went, and goes again to
    /// the same role; then nothing is copied or counted.
    last: Option<Whole>,
}

/// What is kept for nobody.
#[derive(Debug, Clone, Default)]
struct Open {
    resources: Resources,
    /// The scalars that are not revocable: those quotas speak of.
    scalars: Amounts,
    /// How much there is, members of ranges and sets counted.
    counts: Amounts,
    has_revocable: bool,
}

/// All that was kept for nobody, as it is and as it was granted.
#[derive(Debug)]
struct Whole {
    /// Here while somebody holds it, and in the pool otherwise.
    open: Open,
    is_away: bool,
    /// To which role, and as what.
    dressed: Option<(Arc<str>, Resources)>,
}

impl Pool {
    /// Puts resources in.
    pub(super) fn add(&mut self, names: &mut Names, resources: &Resources) {
        self.change(names, resources, true);
    }

    /// Takes resources out; of shared ones nothing.
    pub(super) fn remove(&mut self, names: &mut Names, resources: &Resources) {
        self.change(names, resources, false);
    }

    fn change(&mut self, names: &mut Names, resources: &Resources, is_more: bool) {
        let apply = |mine: &mut Resources, part: &Resources| {
            if is_more {
                *mine += part;
            } else {
                *mine -= part;
            }
        };
        if resources.iter().all(ResourceExt::is_unreserved) {
            apply(&mut self.open.resources, resources);
            return self.review(names);
        }
        let open = resources.unreserved();
        for (role, part) in resources.reservations() {
            let part = part.filter(|resource| !resource.is_shared());
            let mine = self.kept.entry(role.clone()).or_default();
            apply(mine, &part);
            if mine.is_empty() {
                self.kept.remove(&role);
            }
        }
        if !open.is_empty() {
            apply(&mut self.open.resources, &open);
            self.review(names);
        }
    }

    /// Lets what is kept for nobody share its memory with what is equal on other agents.
    pub(super) fn share(&mut self, alike: &mut Alike) {
        let open = std::mem::take(&mut self.open.resources);
        self.open.resources = alike.shared(open);
    }

    /// Takes out all that is kept for nobody.
    pub(super) fn empty_open(&mut self) {
        let open = std::mem::take(&mut self.open);
        match self.last.as_mut().filter(|last| !last.is_away) {
            Some(last) => (last.open, last.is_away) = (open, true),
            None => {
                self.last = Some(Whole {
                    open,
                    is_away: true,
                    dressed: None,
                });
            }
        }
    }

    /// What was taken out by [`Pool::empty_open`], allocated to a role, and its scalars; `None` if
    /// nothing was.
    pub(super) fn dress(
        &mut self,
        alike: &mut Alike,
        role: &Arc<str>,
    ) -> Option<(Resources, Amounts)> {
        let last = self.last.as_mut().filter(|last| last.is_away)?;
        let known = last.dressed.as_ref().filter(|(other, _)| other == role);
        let allocated = known.map_or_else(
            || alike.allocated(&last.open.resources, role),
            |(_, allocated)| allocated.clone(),
        );
        if known.is_none() {
            last.dressed = Some((role.clone(), allocated.clone()));
        }
        Some((allocated, last.open.scalars.clone()))
    }

    /// Puts back what was granted. If it is what was taken out last, it is returned as it is now.
    pub(super) fn put_back(
        &mut self,
        names: &mut Names,
        allocated: &Resources,
    ) -> Option<&Resources> {
        let is_same = |(_, dressed): &(Arc<str>, Resources)| {
            dressed.len() == allocated.len() && dressed == allocated
        };
        let last = self.last.as_mut().filter(|last| last.is_away);
        match last.filter(|last| last.dressed.as_ref().is_some_and(is_same)) {
            Some(last) if self.open.resources.is_empty() => {
                self.open = std::mem::take(&mut last.open);
                last.is_away = false;
                Some(&self.open.resources)
            }
            _ => {
                self.add(names, &allocated.unallocated());
                None
            }
        }
    }

    /// Puts in and takes out shared volumes, which holding does not.
    pub(super) fn change_shared(&mut self, resources: &Resources, is_more: bool) {
        for (role, part) in resources.reservations() {
            let part = part.filter(ResourceExt::is_shared);
            let mine = self.kept.entry(role.clone()).or_default();
            if is_more {
                *mine += &part;
            } else {
                *mine -= &part;
            }
            if mine.is_empty() {
                self.kept.remove(&role);
            }
        }
    }

    fn review(&mut self, names: &mut Names) {
        self.last.take_if(|last| !last.is_away);
        let open = &mut self.open;
        open.has_revocable = open.resources.iter().any(ResourceExt::is_revocable);
        open.scalars = names.open_scalars(&open.resources);
        open.counts = names.counts(&open.resources);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.resources.is_empty() && self.kept.is_empty()
    }

    pub(super) fn contains(&self, resources: &Resources) -> bool {
        let kept = |(role, part): (String, Resources)| {
            self.kept
                .get(&role)
                .is_some_and(|kept| kept.contains(&part))
        };
        self.open.resources.contains(&resources.unreserved())
            && resources.reservations().into_iter().all(kept)
    }

    pub(super) fn open(&self) -> &Resources {
        &self.open.resources
    }

    pub(super) fn scalars(&self) -> &Amounts {
        &self.open.scalars
    }

    pub(super) fn counts(&self) -> &Amounts {
        &self.open.counts
    }

    /// Whether all there is is unreserved and not revocable: whoever may have any of it may have
    /// all.
    pub(super) fn is_plain(&self) -> bool {
        self.kept.is_empty() && !self.open.has_revocable
    }

    /// Whether this is so for `role`.
    pub(super) fn is_plain_for(&self, role: &str) -> bool {
        !self.open.has_revocable && (self.kept.is_empty() || self.kept_for(role).next().is_none())
    }

    /// What is kept for `role` or for one above it.
    pub(super) fn kept_for<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Resources> {
        std::iter::once(role)
            .chain(roles::ancestors(role))
            .filter_map(|role| self.kept.get(role))
    }

    /// All that `role` may have.
    pub(super) fn suitable(&self, role: &str) -> Resources {
        let mut suitable = self.open.resources.clone();
        self.kept_for(role).for_each(|kept| suitable += kept);
        suitable
    }

    /// The roles something is kept for.
    pub(super) fn roles(&self) -> impl Iterator<Item = &str> {
        self.kept.keys().map(String::as_str)
    }
}
