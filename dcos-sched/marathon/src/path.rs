//! Absolute ids of apps and groups, such as `/prod/db`.
//!
//! A [`PathId`] is always absolute and canonical; what users write relative to a group goes through
//! [`PathId::resolve`]. The rules for characters are in [`crate::validate`], because an id that breaks
//! them must still be nameable in an error message.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An absolute, canonical path: `/` for the root group, `/prod/db` for something below it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct PathId(Arc<str>);

impl PathId {
    /// The root group.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// Reads `text` as seen from the root: leading, trailing and doubled slashes do not matter.
    pub fn absolute(text: &str) -> Self {
        Self::root().resolve(&format!("/{text}"))
    }

    /// Reads `text` as seen from this group: absolute if it starts with a slash, else below `self`;
    /// `.` and `..` are steps, and a step above the root stays there.
    #[must_use]
    pub fn resolve(&self, text: &str) -> Self {
        let mut segments: Vec<&str> = if text.starts_with('/') {
            Vec::new()
        } else {
            self.segments().collect()
        };
        for segment in text.split('/').filter(|segment| !segment.is_empty()) {
            match segment {
                "." => {}
                ".." => {
                    segments.pop();
                }
                name => segments.push(name),
            }
        }
        Self(format!("/{}", segments.join("/")).into())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the root group.
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    /// The group this lies in; the root lies in itself.
    #[must_use]
    pub fn parent(&self) -> Self {
        match self.0.rfind('/') {
            None | Some(0) => Self::root(),
            Some(at) => Self(self.0[..at].into()),
        }
    }

    /// The names along the path, outermost first; none for the root.
    pub fn segments(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/').filter(|segment| !segment.is_empty())
    }

    /// The last name, empty for the root.
    pub fn name(&self) -> &str {
        self.segments().next_back().unwrap_or_default()
    }

    /// The top-level group this lies in, if it lies in one.
    pub fn top_level(&self) -> Option<Self> {
        let mut segments = self.segments();
        let first = segments.next()?;
        segments.next().map(|_| Self(format!("/{first}").into()))
    }

    /// Whether this is a direct child of the root.
    pub fn is_top_level(&self) -> bool {
        self.segments().count() == 1
    }

    /// Whether this lies somewhere below `group` (a path does not lie below itself).
    pub fn is_below(&self, group: &Self) -> bool {
        self != group
            && (group.is_root()
                || self
                    .0
                    .strip_prefix(&*group.0)
                    .is_some_and(|rest| rest.starts_with('/')))
    }

    /// The form used inside instance and task ids: names joined by `_`.
    pub fn safe(&self) -> String {
        self.segments().collect::<Vec<_>>().join("_")
    }

    /// Undoes [`PathId::safe`].
    pub fn from_safe(text: &str) -> Self {
        Self::absolute(&text.replace('_', "/"))
    }

    /// The name tasks get, most specific first: `/prod/db` is `db.prod`.
    pub fn host_name(&self) -> String {
        self.segments().rev().collect::<Vec<_>>().join(".")
    }

    /// This path and all groups above it, innermost first, without the root.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + use<> {
        let mut next = Some(self.clone());
        std::iter::from_fn(move || {
            let current = next.take().filter(|path| !path.is_root())?;
            next = Some(current.parent());
            Some(current)
        })
    }
}

impl fmt::Display for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for PathId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PathId({})", self.0)
    }
}

impl From<String> for PathId {
    fn from(text: String) -> Self {
        Self::absolute(&text)
    }
}

impl From<&str> for PathId {
    fn from(text: &str) -> Self {
        Self::absolute(text)
    }
}

impl From<PathId> for String {
    fn from(path: PathId) -> Self {
        path.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_ids_are_resolved_against_their_group() {
        let group = PathId::from("/prod/web");
        for (text, expected) in [
            ("db", "/prod/web/db"),
            ("/db", "/db"),
            ("../db", "/prod/db"),
            ("../../../../db", "/db"),
            ("./a//b/", "/prod/web/a/b"),
            ("", "/prod/web"),
            ("/", "/"),
        ] {
            assert_eq!(group.resolve(text).as_str(), expected, "{text}");
        }
    }

    #[test]
    fn the_parts_of_a_path() {
        let path = PathId::from("//prod//db/");
        assert_eq!(path.as_str(), "/prod/db");
        assert_eq!(path.parent().as_str(), "/prod");
        assert_eq!(path.parent().parent(), PathId::root());
        assert_eq!(PathId::root().parent(), PathId::root());
        assert_eq!(path.safe(), "prod_db");
        assert_eq!(PathId::from_safe("prod_db"), path);
        assert_eq!(path.host_name(), "db.prod");
        assert_eq!(path.top_level(), Some(PathId::from("/prod")));
        assert_eq!(PathId::from("/db").top_level(), None);
        assert!(path.is_below(&PathId::root()) && path.is_below(&PathId::from("/prod")));
        assert!(!PathId::from("/production").is_below(&PathId::from("/prod")));
    }
}
