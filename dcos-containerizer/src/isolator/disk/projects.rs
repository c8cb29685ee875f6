//! Which project ids are whose: decides, and touches no disk.
//!
//! An id is held by the containers that use it and by the folders that bear it. When neither is left it is
//! [idle](Projects::idle) until whoever asks says that its quota is cleared, then free again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dcos_core::resources::Ranges;
use dcos_proto::mesos::ContainerId;

/// The project ids of a node. Clones are the same.
#[derive(Debug, Clone)]
pub struct ProjectIds(Arc<Mutex<Projects>>);

/// What is no range of project ids.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}`: ranges of ids from 1 to 4294967295 are wanted, such as `[5000-10000]`")]
pub struct ProjectRangeError {
    text: String,
}

impl Default for ProjectIds {
    /// Mesos's.
    fn default() -> Self {
        let range = Ranges::from_pairs([(5000, 10_000)]);
        Self(Arc::new(Mutex::new(Projects::new(range))))
    }
}

impl ProjectIds {
    /// Those of `range`, as `--xfs_project_range` has it: `[5000-10000]`, `[100-199,300-399]`.
    ///
    /// # Errors
    /// [`ProjectRangeError`] if that is no range, none at all, or has the id 0, which means none.
    pub fn parse(range: &str) -> Result<Self, ProjectRangeError> {
        let ids = id_ranges(range).ok_or_else(|| ProjectRangeError {
            text: range.to_owned(),
        })?;
        Ok(Self(Arc::new(Mutex::new(Projects::new(ids)))))
    }

    /// How many there are.
    pub fn total(&self) -> u64 {
        self.lock().all.len()
    }

    /// How many of them nobody has.
    pub fn free(&self) -> u64 {
        self.lock().free.len()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Projects> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ids from 1 on as an operator writes them: `[5000-10000]`, `[100-199,300-399]`.
pub(in crate::isolator) fn id_ranges(text: &str) -> Option<Ranges> {
    let pair = |text: &str| {
        let (first, last) = text.trim().split_once('-')?;
        let id = |text: &str| text.trim().parse::<u32>().ok().filter(|id| *id > 0);
        let (first, last) = (id(first)?, id(last)?);
        (first <= last).then_some((first.into(), last.into()))
    };
    let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
    let pairs = inner.split(',').map(pair).collect::<Option<Vec<_>>>()?;
    Some(Ranges::from_pairs(pairs))
}

/// All ids are held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "all {total} project ids of --xfs_project_range are held by containers, by sandboxes that are kept, and by persistent volumes; \
     widen the range, or remove sandboxes"
)]
pub(super) struct Exhausted {
    total: u64,
}

/// The id of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    pub(super) id: u32,
    /// The folder has to be given it, and all that is in it.
    pub(super) mark: bool,
}

/// Whose each id is.
///
/// After a restart [`found`](Self::found) comes first, for every folder that bears an id; then
/// [`settle`](Self::settle) for those that live, and [`counted`](Self::counted) where folders cannot be asked. Nothing else is remembered: the folders know.
#[derive(Debug, Default)]
pub(super) struct Projects {
    all: Ranges,
    free: Ranges,
    held: BTreeMap<u32, Held>,
}

#[derive(Debug, Default)]
struct Held {
    users: BTreeSet<ContainerId>,
    folders: BTreeSet<PathBuf>,
}

impl Held {
    fn is_idle(&self) -> bool {
        self.users.is_empty() && self.folders.is_empty()
    }
}

impl Projects {
    /// All of `range` are free.
    pub(super) fn new(range: Ranges) -> Self {
        Self {
            free: range.clone(),
            all: range,
            held: BTreeMap::new(),
        }
    }

    /// Whether it is one of ours to give.
    fn is_ours(&self, id: u32) -> bool {
        self.all.contains(&single(id))
    }

    /// A folder bears an id. Those of others, which a folder may have from the one above it, are not ours to hold.
    pub(super) fn found(&mut self, folder: &Path, id: u32) {
        if self.is_ours(id) {
            self.hold(id).folders.insert(folder.to_owned());
        }
    }

    /// Something counts for an id, and may be in any of `folders`, which cannot be asked: if nobody is known to hold
    /// it, they do.
    pub(super) fn counted(&mut self, id: u32, folders: &BTreeSet<PathBuf>) {
        if self.is_ours(id) && !self.held.contains_key(&id) {
            self.hold(id).folders.extend(folders.iter().cloned());
        }
    }

    /// Which id `folder` of `container` is to have. `recorded` is what it had when it was last seen alive, of
    /// whatever range; `bears` what the folder says.
    ///
    /// # Errors
    /// [`Exhausted`]; nothing has changed.
    pub(super) fn settle(
        &mut self,
        container: &ContainerId,
        folder: &Path,
        recorded: Option<u32>,
        bears: Option<u32>,
    ) -> Result<Settled, Exhausted> {
        let id = match (recorded, bears) {
            (Some(id), _) => id,
            (None, Some(id)) if self.may_keep(folder, id) => id,
            _ => self.next().ok_or_else(|| Exhausted {
                total: self.all.len(),
            })?,
        };
        let held = self.hold(id);
        held.users.insert(container.clone());
        held.folders.insert(folder.to_owned());
        Ok(Settled {
            id,
            mark: bears != Some(id),
        })
    }

    /// Whoever owns a folder can give it any id: one that others hold is not believed.
    fn may_keep(&self, folder: &Path, id: u32) -> bool {
        let others = |held: &Held| held.folders.iter().any(|other| other != folder);
        self.is_ours(id) && !self.held.get(&id).is_some_and(others)
    }

    /// Another folder of a container is to bear an id that it has.
    pub(super) fn add(&mut self, id: u32, folder: &Path) {
        self.hold(id).folders.insert(folder.to_owned());
    }

    /// A container has ended. What its folders bear stays theirs until they are gone.
    pub(super) fn ended(&mut self, container: &ContainerId) {
        for held in self.held.values_mut() {
            held.users.remove(container);
        }
    }

    /// Folders that hold ids which no container uses: to be looked for, whether they are still there.
    pub(super) fn waiting(&self) -> Vec<PathBuf> {
        let unused = self.held.values().filter(|held| held.users.is_empty());
        unused.flat_map(|held| held.folders.clone()).collect()
    }

    /// These folders are not there any more.
    pub(super) fn gone(&mut self, folders: &BTreeSet<PathBuf>) {
        for held in self.held.values_mut() {
            held.folders.retain(|folder| !folders.contains(folder));
        }
    }

    /// Ids that nobody holds, whose quotas are to be cleared before they are [freed](Self::freed).
    pub(super) fn idle(&self) -> Vec<u32> {
        let held = self.held.iter().filter(|(_, held)| held.is_idle());
        held.map(|(id, _)| *id).collect()
    }

    /// Nothing is left of an idle id. Those that somebody holds stay held.
    pub(super) fn freed(&mut self, id: u32) {
        if !self.held.get(&id).is_some_and(Held::is_idle) {
            return;
        }
        self.held.remove(&id);
        if self.is_ours(id) {
            self.free = self.free.plus(&single(id));
        }
    }

    fn hold(&mut self, id: u32) -> &mut Held {
        self.free = self.free.minus(&single(id));
        self.held.entry(id).or_default()
    }

    /// The lowest free one, as Mesos gives them.
    fn next(&self) -> Option<u32> {
        let (first, _) = self.free.pairs().first()?;
        u32::try_from(*first).ok()
    }
}

fn single(id: u32) -> Ranges {
    Ranges::from_pairs([(id.into(), id.into())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(range: &str) -> ProjectIds {
        ProjectIds::parse(range).unwrap()
    }

    fn container(name: u8) -> ContainerId {
        ContainerId::root(format!("c{name}"))
    }

    fn folder(name: u8) -> PathBuf {
        PathBuf::from(format!("/w/{name}"))
    }

    #[test]
    fn ranges_are_those_of_mesos() {
        assert_eq!(ids("[5000-10000]").total(), 5001);
        assert_eq!(ids("[1-2, 10-10]").total(), 3);
        assert_eq!(ids("[1-4294967295]").free(), u64::from(u32::MAX));
        for wrong in ["", "[]", "5", "[0-10]", "[1-4294967296]", "all"] {
            let error = ProjectIds::parse(wrong).unwrap_err().to_string();
            assert!(error.starts_with(&format!("`{wrong}`: ranges")), "{error}");
        }
    }

    #[test]
    fn the_last_id_is_given_and_then_none() {
        let ids = ids("[4294967294-4294967295]");
        let mut projects = ids.lock();
        for (name, id) in [(0, u32::MAX - 1), (1, u32::MAX)] {
            let settled = projects.settle(&container(name), &folder(name), None, None);
            assert_eq!(settled, Ok(Settled { id, mark: true }));
        }
        let error = projects.settle(&container(2), &folder(2), None, None);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .starts_with("all 2 project ids")
        );
        projects.ended(&container(1));
        projects.gone(&BTreeSet::from([folder(1)]));
        projects.freed(u32::MAX);
        assert_eq!(projects.next(), Some(u32::MAX));
    }

    #[test]
    fn what_a_folder_says_is_believed_if_nobody_else_has_it() {
        let ids = ids("[10-19]");
        let mut projects = ids.lock();
        // One that it has from the folder above it is no more than that.
        let settled = projects.settle(&container(0), &folder(0), None, Some(7));
        assert_eq!(settled, Ok(Settled { id: 10, mark: true }));
        let settled = projects.settle(&container(0), &folder(1), None, Some(12));
        assert_eq!(
            settled,
            Ok(Settled {
                id: 12,
                mark: false
            })
        );
        // Somebody gave it another's.
        let settled = projects.settle(&container(1), &folder(2), None, Some(10));
        assert_eq!(settled, Ok(Settled { id: 11, mark: true }));
        // An id of a range that was changed stays a live container's, and is never given again.
        let settled = projects.settle(&container(2), &folder(3), Some(99), Some(99));
        assert_eq!(
            settled,
            Ok(Settled {
                id: 99,
                mark: false
            })
        );
        projects.ended(&container(2));
        projects.gone(&BTreeSet::from([folder(3)]));
        projects.freed(99);
        assert!(!projects.free.contains(&single(99)));
        // And what was taken off a live one is put back.
        let settled = projects.settle(&container(1), &folder(2), Some(11), None);
        assert_eq!(settled, Ok(Settled { id: 11, mark: true }));
    }

    #[derive(Debug, Clone)]
    enum Step {
        Settle(u8, u8, Option<u32>),
        Ended(u8),
        Gone(u8),
        Collect,
        Restart,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..12u8, 0..12u8, prop::option::of(1..12u32))
                .prop_map(|(container, folder, bears)| Step::Settle(container, folder, bears)),
            2 => (0..12u8).prop_map(Step::Ended),
            2 => (0..12u8).prop_map(Step::Gone),
            2 => Just(Step::Collect),
            1 => Just(Step::Restart),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// Beside a slow model: what folders bear on disk, and who lives where.
        #[test]
        fn no_id_is_anothers_while_anybody_has_it(steps in steps()) {
            let ids = ids("[2-4,6-9]");
            let mut all = ids.lock();
            let mut disk: BTreeMap<PathBuf, u32> = BTreeMap::new();
            let mut live: BTreeMap<ContainerId, BTreeMap<PathBuf, u32>> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Settle(name, place, bears) => {
                        let (name, place) = (container(name), folder(place));
                        let recorded = live.get(&name).and_then(|has| has.get(&place)).copied();
                        let bears = disk.get(&place).copied().or(bears);
                        let free: BTreeSet<u32> = [2, 3, 4, 6, 7, 8, 9]
                            .into_iter()
                            .filter(|id| !all.held.contains_key(id))
                            .collect();
                        match all.settle(&name, &place, recorded, bears) {
                            Ok(settled) => {
                                prop_assert_eq!(settled.mark, bears != Some(settled.id));
                                let others = disk.iter().any(|(other, id)| *other != place && *id == settled.id);
                                prop_assert!(!others, "{} is another folder's", settled.id);
                                if recorded.is_none() && bears != Some(settled.id) {
                                    prop_assert_eq!(Some(&settled.id), free.first());
                                }
                                disk.insert(place.clone(), settled.id);
                                live.entry(name).or_default().insert(place, settled.id);
                            }
                            Err(_) => prop_assert!(free.is_empty()),
                        }
                    }
                    Step::Ended(name) => {
                        live.remove(&container(name));
                        all.ended(&container(name));
                    }
                    Step::Gone(place) => {
                        let place = folder(place);
                        // The folders of those that live stay.
                        if !live.values().any(|has| has.contains_key(&place)) {
                            disk.remove(&place);
                        }
                    }
                    Step::Collect => {
                        let waiting = all.waiting().into_iter();
                        let gone = waiting.filter(|place| !disk.contains_key(place)).collect();
                        all.gone(&gone);
                        for id in all.idle() {
                            prop_assert!(!disk.values().any(|other| *other == id));
                            prop_assert!(!live.values().any(|has| has.values().any(|other| *other == id)));
                            all.freed(id);
                        }
                    }
                    Step::Restart => {
                        *all = Projects::new(all.all.clone());
                        for (place, id) in &disk {
                            all.found(place, *id);
                        }
                        for (name, has) in &live {
                            for (place, id) in has {
                                let bears = disk.get(place).copied();
                                let settled = all.settle(name, place, Some(*id), bears);
                                prop_assert_eq!(settled, Ok(Settled { id: *id, mark: false }));
                            }
                        }
                    }
                }
                // Each id is either held or free, and none is both.
                prop_assert_eq!(all.free.len() + all.held.len() as u64, all.all.len());
                prop_assert!(!all.held.keys().any(|id| all.free.contains(&single(*id))));
                for id in disk.values() {
                    prop_assert!(all.held.contains_key(id));
                }
            }
        }
    }
}
