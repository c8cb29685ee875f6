//! Rules that several kinds of documents share.

use std::collections::BTreeSet;

use super::{Violations, fail};
use crate::PathId;
use crate::normalize::Rules;

const SEGMENT: &str = r"^(([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])\.)*([a-z0-9]|[a-z0-9][a-z0-9\-]*[a-z0-9])|(\.|\.\.)$";
/// Ids are parts of the keys in the store, beside those of instances and versions.
const LONGEST_ID: usize = 512;

const RESERVED: [&str; 5] = ["restart", "tasks", "versions", ".", ".."];

/// Rules for the id of an app or a group.
pub(crate) fn id(id: &PathId, path: &str, out: &mut Violations) {
    if !id.segments().all(is_segment) {
        fail(
            out,
            path,
            format!("must fully match regular expression '{SEGMENT}'"),
        );
    }
    if id.to_string().len() > LONGEST_ID {
        let text = format!("must not be longer than {LONGEST_ID} characters");
        fail(out, path, text);
    }
    if RESERVED.contains(&id.name()) {
        let text = format!(
            "must not end with any of the following reserved keywords: {}",
            RESERVED.join(", ")
        );
        fail(out, path, text);
    }
}

/// Whether `text` is a name of lower-case labels joined by dots.
fn is_segment(text: &str) -> bool {
    text == "."
        || text == ".."
        || text.split('.').all(|label| {
            let plain = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            let bytes = label.as_bytes();
            bytes.first().is_some_and(plain)
                && bytes.last().is_some_and(plain)
                && bytes.iter().all(|b| plain(b) || *b == b'-')
        })
}

/// Whether `text` could be an address.
pub(crate) fn uri(text: &str) -> bool {
    !text
        .chars()
        .any(|c| c.is_whitespace() || c.is_control() || "\"<>\\^`{|}".contains(c))
}

/// Whether no two are the same.
pub(super) fn unique<T: Ord>(items: impl IntoIterator<Item = T>) -> bool {
    let mut seen = BTreeSet::new();
    items.into_iter().all(|item| seen.insert(item))
}

/// The rule that an optional ability is switched on.
pub(super) fn feature(name: &str, path: &str, context: &Rules, out: &mut Violations) {
    if !context.features.contains(name) {
        let text = format!("Feature {name} is not enabled. Enable with --enable_features {name})");
        fail(out, path, text);
    }
}
