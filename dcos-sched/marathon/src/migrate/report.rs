//! What became of what was there.

use std::collections::BTreeMap;

use serde::Serialize;

/// What became of what was there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// How many of each kind are taken over.
    pub taken: BTreeMap<&'static str, usize>,
    /// What is not as it was.
    pub notes: Vec<Note>,
}

/// Something that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// What became of it.
    pub fate: Fate,
    /// What it is, such as `app /prod/db`.
    pub what: String,
    /// Why, and what follows from that.
    pub why: String,
}

/// What becomes of something that cannot stay as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fate {
    /// It is taken over, but differs.
    Changed,
    /// It is not taken over.
    Left,
    /// It is not taken over, and something that runs ends with that.
    Lost,
}

impl Report {
    /// Counts what is taken over.
    pub fn take(&mut self, kind: &'static str, count: usize) {
        if count > 0 {
            *self.taken.entry(kind).or_default() += count;
        }
    }

    /// Notes what is not as it was.
    pub fn note(&mut self, fate: Fate, what: impl Into<String>, why: impl Into<String>) {
        self.notes.push(Note {
            fate,
            what: what.into(),
            why: why.into(),
        });
    }

    /// How much of what runs would end.
    pub fn losses(&self) -> usize {
        self.notes
            .iter()
            .filter(|note| note.fate == Fate::Lost)
            .count()
    }
}
