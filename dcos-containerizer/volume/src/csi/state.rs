//! How far a volume is on its way to containers: pure, and a file a volume.
//!
//! ```text
//! away ─► attached (ControllerPublish) ─► staged (NodeStage) ─► published (NodePublish)
//! ```
//!
//! A step is written down before its call and after it. What was begun may have happened, so it is
//! called again on the way up, and undone on the way down; CSI's calls may be repeated. Nothing on
//! a node outlives a reboot of it, so that all but the first step begin anew then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A station of a volume; reaching one takes a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    #[default]
    Away,
    Attached,
    Staged,
    Published,
}

/// What is known of a volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) volume_id: String,
    /// How far it may be.
    pub(super) begun: Step,
    /// How far it is for sure.
    pub(super) done: Step,
    /// Since which start of the node.
    pub(super) boot_id: String,
    /// What `ControllerPublishVolume` said.
    #[serde(default)]
    pub(super) publish_context: BTreeMap<String, String>,
}

impl Step {
    const ALL: [Self; 4] = [Self::Away, Self::Attached, Self::Staged, Self::Published];

    fn beside(self, up: bool) -> Option<Self> {
        let here = self as usize;
        let there = if up { here + 1 } else { here.checked_sub(1)? };
        Self::ALL.get(there).copied()
    }
}

impl State {
    pub(super) fn new(volume_id: &str, boot_id: &str) -> Self {
        Self {
            volume_id: volume_id.to_owned(),
            boot_id: boot_id.to_owned(),
            ..Self::default()
        }
    }

    /// The node is in its start `boot_id`.
    pub(super) fn on(mut self, boot_id: &str) -> Self {
        if self.boot_id != boot_id {
            self.begun = self.begun.min(Step::Attached);
            self.done = self.done.min(Step::Attached);
            boot_id.clone_into(&mut self.boot_id);
        }
        self
    }

    /// The next step to containers; it is to be written down before it is made.
    pub(super) fn next_up(&mut self) -> Option<Step> {
        let step = self.done.beside(true)?;
        self.begun = self.begun.max(step);
        Some(step)
    }

    /// `step` has been made.
    pub(super) fn made(&mut self, step: Step) {
        self.done = step;
    }

    /// The next step to be undone; that it is no longer sure is to be written down before.
    pub(super) fn next_down(&mut self) -> Option<Step> {
        let below = self.begun.beside(false)?;
        self.done = self.done.min(below);
        Some(self.begun)
    }

    /// `step` has been undone.
    pub(super) fn undone(&mut self, step: Step) {
        self.begun = step.beside(false).unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A plugin that is asked again where it cannot know.
    fn up(state: &mut State) -> Vec<Step> {
        let mut made = Vec::new();
        while let Some(step) = state.next_up() {
            made.push(step);
            state.made(step);
        }
        made
    }

    fn down(state: &mut State) -> Vec<Step> {
        let mut undone = Vec::new();
        while let Some(step) = state.next_down() {
            undone.push(step);
            state.undone(step);
        }
        undone
    }

    #[test]
    fn whole_ways() {
        let mut state = State::new("v", "boot");
        assert_eq!(
            up(&mut state),
            [Step::Attached, Step::Staged, Step::Published]
        );
        assert_eq!(up(&mut state), []);
        assert_eq!(
            down(&mut state),
            [Step::Published, Step::Staged, Step::Attached]
        );
        assert_eq!(state, State::new("v", "boot"));
    }

    #[test]
    fn whatever_was_begun_is_repeated_or_undone() {
        let mut state = State::new("v", "boot");
        for _ in 0..2 {
            let step = state.next_up().unwrap();
            state.made(step);
        }
        assert_eq!(state.next_up(), Some(Step::Published));
        // Killed within the call.
        assert_eq!(state.clone().next_up(), Some(Step::Published));
        assert_eq!(down(&mut state.clone()).len(), 3);
        // Killed while it was undone: another container wants it.
        assert_eq!(state.next_down(), Some(Step::Published));
        assert_eq!(state.done, Step::Staged);
        state.undone(Step::Published);
        assert_eq!(state.next_down(), Some(Step::Staged));
        assert_eq!(state.clone().next_up(), Some(Step::Staged));
    }

    #[test]
    fn a_reboot_leaves_what_is_attached() {
        let mut state = State::new("v", "boot");
        up(&mut state);
        let mut again = state.on("another");
        assert_eq!(up(&mut again.clone()), [Step::Staged, Step::Published]);
        assert_eq!(down(&mut again), [Step::Attached]);
    }
}
