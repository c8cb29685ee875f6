//! The state as a whole: written beside the log now and then, so that the log need not be kept.

use prost::Message;

use super::{
    Medium, MediumError,
    format::{
        Base, EntryPage, EntryRow, Head, PAGE_BYTES, base_name, fence_rows, fences, parse_name,
        read,
    },
};
use crate::{Entry, Revision, state::State};

/// A copy of the state after record `number`, ready to be written while the state goes on.
#[derive(Debug)]
pub(super) struct Copy {
    number: u64,
    entries: Vec<Entry>,
    base: Base,
}

impl Copy {
    pub(super) fn of(state: &State, number: u64) -> Self {
        let base = Base {
            number,
            revision: state.revision().0,
            fences: fence_rows(state.fences()),
            pages: Vec::new(),
        };
        Self {
            number,
            entries: state.entries().cloned().collect(),
            base,
        }
    }

    /// Writes the pages, and says what the register is to say of them.
    pub(super) async fn write(
        mut self,
        medium: &dyn Medium,
        stamp: &str,
    ) -> Result<Base, MediumError> {
        let (mut page, mut weight) = (EntryPage::default(), 0);
        for entry in &self.entries {
            let row = EntryRow::of(entry);
            if weight > 0 && weight + row.weight() > PAGE_BYTES {
                put(medium, &mut self.base, stamp, &page).await?;
                page.entries.clear();
                weight = 0;
            }
            weight += row.weight();
            page.entries.push(row);
        }
        if !page.entries.is_empty() {
            put(medium, &mut self.base, stamp, &page).await?;
        }
        debug_assert_eq!(self.base.number, self.number);
        Ok(self.base)
    }
}

async fn put(
    medium: &dyn Medium,
    base: &mut Base,
    stamp: &str,
    page: &EntryPage,
) -> Result<(), MediumError> {
    let name = base_name(base.number, stamp, base.pages.len());
    medium.put(&name, page.encode_to_vec().into()).await?;
    base.pages.push(name);
    Ok(())
}

/// Reads a base back; `None` if a newer one has replaced it meanwhile.
pub(super) async fn load(medium: &dyn Medium, base: Base) -> Result<Option<State>, MediumError> {
    let mut entries = Vec::new();
    for name in &base.pages {
        let Some(page) = medium.page(name).await? else {
            return Ok(None);
        };
        let page: EntryPage = read(&page, name)?;
        entries.extend(page.entries.into_iter().map(EntryRow::into_entry));
    }
    let fences = fences(base.fences).collect();
    Ok(Some(State::recovered(
        entries,
        fences,
        Revision(base.revision),
    )))
}

/// Removes what nobody needs who starts from `head`: what the base replaces, and what writers left that
/// died over it. The records before the base are kept until the next one, for replicas that lag a little.
pub(super) async fn sweep(medium: &dyn Medium, head: &Head) -> Result<(), MediumError> {
    let base = head.base.as_ref().map_or(0, |base| base.number);
    let named = |name: &String| {
        head.base
            .as_ref()
            .is_some_and(|base| base.pages.contains(name))
    };
    for name in medium.pages().await? {
        let stale = match parse_name(&name) {
            Some(("base", number)) => number <= base && !named(&name),
            Some((_, number)) => number <= head.floor,
            None => false,
        };
        if stale {
            medium.remove(&name).await?;
        }
    }
    medium.forget().await
}
