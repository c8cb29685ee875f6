//! Names of users and groups, for listings.

use std::collections::BTreeMap;
use std::fs;

/// Who is who on this host.
#[derive(Debug, Default)]
pub(super) struct Names {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Names {
    pub(super) fn read() -> Self {
        let read = |path| parse(&fs::read_to_string(path).unwrap_or_default());
        Self {
            users: read("/etc/passwd"),
            groups: read("/etc/group"),
        }
    }

    /// The name, or the number of one without.
    pub(super) fn user(&self, id: u32) -> String {
        self.users
            .get(&id)
            .cloned()
            .unwrap_or_else(|| id.to_string())
    }

    /// The name, or the number of one without.
    pub(super) fn group(&self, id: u32) -> String {
        self.groups
            .get(&id)
            .cloned()
            .unwrap_or_else(|| id.to_string())
    }
}

/// Both files have the name first and the number third.
fn parse(text: &str) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        let name = fields.next();
        if let (Some(name), Some(Ok(id))) = (name, fields.nth(1).map(str::parse)) {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}
