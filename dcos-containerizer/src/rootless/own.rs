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

    /// Its ranges, a line each, to be compared by a later process: what is it inside, outside, and how many.
    pub fn lines(&self) -> String {
        let line = |kind: &'static str| {
            move |map: &IdMap| format!("{kind} {} {} {}\n", map.inside, map.outside, map.count)
        };
        let users = self.users.iter().map(line("user"));
        users.chain(self.groups.iter().map(line("group"))).collect()
    }

    /// The first of such `lines` whose ids are others here, or none: files of theirs would be somebody else's.
    pub fn lost<'a>(&self, lines: &'a str) -> Option<&'a str> {
        lines.lines().find(|line| {
            let (maps, rest) = match line.split_once(' ') {
                Some(("user", rest)) => (&self.users, rest),
                Some(("group", rest)) => (&self.groups, rest),
                _ => return true,
            };
            let range = self::maps(rest);
            range.is_empty()
                || !range
                    .iter()
                    .all(|one| maps.iter().any(|map| covers(map, one)))
        })
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

/// Whether all ids of `one` are the same by `map`.
fn covers(map: &IdMap, one: &IdMap) -> bool {
    let [first, from, count, outside, other, all] = [
        one.inside,
        map.inside,
        one.count,
        one.outside,
        map.outside,
        map.count,
    ]
    .map(u64::from);
    first >= from && first + count <= from + all && outside + from == other + first
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

    #[test]
    fn ids_may_be_added_and_not_taken() {
        let of = |map: &str| Own::parse(map, map, "allow").unwrap();
        let (alone, some) = (of("0 1000 1"), of("0 1000 1\n1 100000 10"));
        assert_eq!(some.lost(&alone.lines()), None);
        assert_eq!(some.lost(&some.lines()), None);
        assert_eq!(of("0 1000 1\n1 100000 20").lost(&some.lines()), None);
        assert_eq!(alone.lost(&some.lines()), Some("user 1 100000 10"));
        assert_eq!(
            of("0 1000 1\n1 100001 20").lost(&some.lines()),
            Some("user 1 100000 10")
        );
        assert_eq!(some.lost("nonsense"), Some("nonsense"));
    }
}
