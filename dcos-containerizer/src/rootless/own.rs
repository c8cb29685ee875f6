//! The user namespace that this process is in.

use std::fs;
use std::sync::{LazyLock, OnceLock};

use dcos_launcher::IdMap;

/// The id of this process' user outside of the namespaces it entered.
static ENTERED: OnceLock<u32> = OnceLock::new();

/// Notes who this process was.
pub(super) fn entered(user: u32) {
    let _ = ENTERED.set(user);
}

/// Whether this process [`enter`](super::enter)ed namespaces: it is root there, and an ordinary user on the node.
pub fn is_entered() -> bool {
    ENTERED.get().is_some()
}

/// Whether `user` of the node is the one that this process was, and so is root where it is.
pub(crate) fn is_own(user: u32) -> bool {
    ENTERED.get() == Some(&user)
}

/// The ids that there are in the user namespace of this process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Own {
    users: Vec<IdMap>,
    groups: Vec<IdMap>,
    /// Nobody may change supplementary groups there.
    keeps_groups: bool,
}

/// The user namespace that this process is in, if that is not the node's. It is looked at once: not before it has
/// been entered.
pub fn own() -> Option<&'static Own> {
    static OWN: LazyLock<Option<Own>> = LazyLock::new(|| {
        let read = |name| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        Own::parse(&read("uid_map"), &read("gid_map"), &read("setgroups"))
    });
    OWN.as_ref()
}

impl Own {
    fn parse(users: &str, groups: &str, set: &str) -> Option<Self> {
        let whole = IdMap {
            inside: 0,
            outside: 0,
            count: u32::MAX,
        };
        let users = maps(users);
        (users != [whole]).then(|| Self {
            users,
            groups: maps(groups),
            keeps_groups: set.trim() == "deny",
        })
    }

    /// One with so many ids.
    #[cfg(test)]
    pub(crate) fn for_tests(count: u32) -> Self {
        let maps = vec![IdMap {
            inside: 0,
            outside: 1000,
            count,
        }];
        Self {
            users: maps.clone(),
            groups: maps,
            keeps_groups: count == 1,
        }
    }

    /// Whether there are these ids.
    pub fn has(&self, user: u32, group: u32) -> bool {
        has(&self.users, user) && has(&self.groups, group)
    }

    /// Whether there is a group of that id.
    pub fn has_group(&self, group: u32) -> bool {
        has(&self.groups, group)
    }

    /// Whether nobody may change supplementary groups.
    pub fn keeps_groups(&self) -> bool {
        self.keeps_groups
    }

    /// How many users there are.
    pub fn users(&self) -> u64 {
        self.users.iter().map(|map| u64::from(map.count)).sum()
    }

    /// Says that somebody is not to be had here.
    pub(crate) fn missing(&self, user: u32, group: u32) -> String {
        format!(
            "user {user} with group {group} has no id among the {} of the agent's user namespace: give the agent's user \
             more in /etc/subuid and /etc/subgid",
            self.users()
        )
    }
}

fn has(maps: &[IdMap], id: u32) -> bool {
    maps.iter()
        .any(|map| id >= map.inside && id - map.inside < map.count)
}

/// Maps as the kernel writes them. `user_namespaces(7)`
pub(super) fn maps(text: &str) -> Vec<IdMap> {
    let map = |line: &str| {
        let mut words = line.split_whitespace().map(str::parse);
        let mut next = || words.next()?.ok();
        Some(IdMap {
            inside: next()?,
            outside: next()?,
            count: next()?,
        })
    };
    text.lines().filter_map(map).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_there_or_not() {
        assert_eq!(
            Own::parse("0 0 4294967295\n", "0 0 4294967295\n", "allow\n"),
            None
        );
        let users = "         0       1000          1\n         1     100000      65536\n";
        let own = Own::parse(users, "0 1000 1\n1 100000 10", "allow\n").unwrap();
        assert_eq!(own.users(), 65_537);
        assert!(own.has(0, 0) && own.has(65_536, 10) && !own.keeps_groups());
        assert!(!own.has(65_537, 0) && !own.has(0, 11));
        let alone = Own::parse("0 1000 1\n", "0 1000 1\n", "deny\n").unwrap();
        assert!(alone.has(0, 0) && !alone.has(1, 0) && alone.keeps_groups());
        assert!(alone.missing(7, 8).contains("/etc/subuid"));
    }
}
