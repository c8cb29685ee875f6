//! What nobody holds of an agent, apart by whom it is kept for.

use std::collections::BTreeMap;
use std::sync::Arc;

use dcos_core::resources::{ResourceExt, Resources};
use dcos_core::roles;

use super::amounts::{Amounts, Names};

/// What nobody holds. Shared volumes are always here.
#[derive(Debug, Default)]
pub(super) struct Pool {
    /// What is kept for nobody.
    open: Resources,
    /// What is kept, by role.
    kept: BTreeMap<String, Resources>,
    /// The scalars of `open` that are not revocable: those quotas speak of.
    scalars: Amounts,
    /// How much there is of `open`, members of ranges and sets counted.
    counts: Amounts,
    has_revocable: bool,
    /// The last grant that was all of `open`. Mostly it comes back as it went, and goes again to
    /// the same role; then no message is copied.
    dressed: Option<Dressed>,
    /// Whether `open` is what is dressed.
    is_dressed: bool,
}

/// All that was kept for nobody, as it is and as it was granted.
#[derive(Debug)]
struct Dressed {
    role: Arc<str>,
    plain: Resources,
    allocated: Resources,
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
            apply(&mut self.open, resources);
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
            apply(&mut self.open, &open);
            self.review(names);
        }
    }

    /// Takes out all that is kept for nobody.
    pub(super) fn empty_open(&mut self) {
        if !std::mem::take(&mut self.is_dressed) {
            self.dressed = None;
        }
        self.open = Resources::new();
        self.scalars = Amounts::default();
        self.counts = Amounts::default();
        self.has_revocable = false;
    }

    /// Allocates what was taken out by [`Pool::empty_open`] to a role.
    pub(super) fn dress(&mut self, role: &Arc<str>, plain: &Resources) -> Resources {
        if let Some(dressed) = self
            .dressed
            .as_ref()
            .filter(|dressed| dressed.role == *role)
        {
            return dressed.allocated.clone();
        }
        let allocated = plain.allocated_to(role);
        self.dressed = Some(Dressed {
            role: role.clone(),
            plain: plain.clone(),
            allocated: allocated.clone(),
        });
        allocated
    }

    /// Puts back what was granted. If it is what was taken out last, it is returned as it is now.
    pub(super) fn put_back(
        &mut self,
        names: &mut Names,
        allocated: &Resources,
    ) -> Option<&Resources> {
        let is_same = |dressed: &&Dressed| {
            dressed.allocated.len() == allocated.len() && dressed.allocated == *allocated
        };
        let known = self
            .dressed
            .as_ref()
            .filter(|_| self.open.is_empty())
            .filter(is_same);
        let Some(plain) = known.map(|dressed| dressed.plain.clone()) else {
            self.add(names, &allocated.unallocated());
            return None;
        };
        self.open = plain;
        self.review(names);
        self.is_dressed = true;
        Some(&self.open)
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
        self.is_dressed = false;
        self.has_revocable = self.open.iter().any(ResourceExt::is_revocable);
        self.scalars = names.open_scalars(&self.open);
        self.counts = names.counts(&self.open);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.kept.is_empty()
    }

    pub(super) fn contains(&self, resources: &Resources) -> bool {
        let kept = |(role, part): (String, Resources)| {
            self.kept
                .get(&role)
                .is_some_and(|kept| kept.contains(&part))
        };
        self.open.contains(&resources.unreserved())
            && resources.reservations().into_iter().all(kept)
    }

    pub(super) fn open(&self) -> &Resources {
        &self.open
    }

    pub(super) fn scalars(&self) -> &Amounts {
        &self.scalars
    }

    pub(super) fn counts(&self) -> &Amounts {
        &self.counts
    }

    /// Whether all there is is unreserved and not revocable: whoever may have any of it may have
    /// all.
    pub(super) fn is_plain(&self) -> bool {
        self.kept.is_empty() && !self.has_revocable
    }

    /// Whether this is so for `role`.
    pub(super) fn is_plain_for(&self, role: &str) -> bool {
        !self.has_revocable && (self.kept.is_empty() || self.kept_for(role).next().is_none())
    }

    /// What is kept for `role` or for one above it.
    pub(super) fn kept_for<'a>(&'a self, role: &'a str) -> impl Iterator<Item = &'a Resources> {
        std::iter::once(role)
            .chain(roles::ancestors(role))
            .filter_map(|role| self.kept.get(role))
    }

    /// All that `role` may have.
    pub(super) fn suitable(&self, role: &str) -> Resources {
        let mut suitable = self.open.clone();
        self.kept_for(role).for_each(|kept| suitable += kept);
        suitable
    }

    /// The roles something is kept for.
    pub(super) fn roles(&self) -> impl Iterator<Item = &str> {
        self.kept.keys().map(String::as_str)
    }
}
