//! Which ids a user may map: its own, and those that the files of `subuid(5)` give it.

use std::fs;

use dcos_launcher::IdMap;

/// What is read of a file of the node that says which ids users have.
const MAX_FILE: u64 = 16 << 20;

/// The maps that a user's namespace is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub(super) users: Vec<IdMap>,
    pub(super) groups: Vec<IdMap>,
}

impl Wanted {
    /// The own ids as 0, and the subordinate ones that this node's files give to `user`, if they give it of both.
    pub fn find(user: u32, group: u32) -> Self {
        let read = |path: &str| {
            let size = fs::metadata(path).map_or(0, |data| data.len());
            let text = (size <= MAX_FILE).then(|| fs::read(path).ok()).flatten();
            String::from_utf8_lossy(&text.unwrap_or_default()).into_owned()
        };
        let name = name_of(&read("/etc/passwd"), user);
        let ranges = |path| ranges(&read(path), name.as_deref(), user);
        let (users, groups) = (ranges("/etc/subuid"), ranges("/etc/subgid"));
        let has_both = !users.is_empty() && !groups.is_empty();
        let maps = |own, ranges: &[(u32, u32)]| maps(own, if has_both { ranges } else { &[] });
        Self {
            users: maps(user, &users),
            groups: maps(group, &groups),
        }
    }

    /// Whether there are no ids but the own ones.
    pub fn is_alone(&self) -> bool {
        self.users.len() == 1
    }

    /// The same without ids but the own ones.
    pub(super) fn alone(mut self) -> Self {
        self.users.truncate(1);
        self.groups.truncate(1);
        self
    }
}

/// The name of a user, by the text of `/etc/passwd`.
pub(super) fn name_of(passwd: &str, user: u32) -> Option<String> {
    let mut lines = passwd.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        let name = fields.next()?;
        let id: u32 = fields.nth(1)?.parse().ok()?;
        (id == user).then(|| name.to_owned())
    })
}

/// First ids and numbers of ids that a file such as `/etc/subuid` gives to a user, by its name or number.
fn ranges(text: &str, name: Option<&str>, user: u32) -> Vec<(u32, u32)> {
    let number = user.to_string();
    let range = |line: &str| {
        let mut fields = line.trim().split(':');
        let whose = fields.next()?;
        let first: u32 = fields.next()?.parse().ok()?;
        let count: u32 = fields.next()?.parse().ok()?;
        let is_theirs = Some(whose) == name || whose == number;
        // What would hold -1, or nothing, is no range.
        (is_theirs && count > 0 && first.checked_add(count).is_some()).then_some((first, count))
    };
    text.lines().filter_map(range).collect()
}

/// One after the other, from 0 on; as many as there are ids. An id is mapped once: a range with any that is mapped
/// already, as when the files give it to a name and to its number, is left out.
fn maps(own: u32, ranges: &[(u32, u32)]) -> Vec<IdMap> {
    let mut maps = vec![IdMap {
        inside: 0,
        outside: own,
        count: 1,
    }];
    let mut inside: u32 = 1;
    for &(outside, count) in ranges {
        let meets = |map: &IdMap| {
            outside < map.outside.saturating_add(map.count)
                && map.outside < outside.saturating_add(count)
        };
        if maps.iter().any(meets) {
            continue;
        }
        let Some(next) = inside.checked_add(count) else {
            break;
        };
        maps.push(IdMap {
            inside,
            outside,
            count,
        });
        inside = next;
    }
    maps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_a_name_and_a_number() {
        let text = "ann:100000:65536\nbob:200000:10\n1000:300000:5\n# ann\nann:x:1\nann:7\nann:4294967295:1\nann:9:0\n";
        assert_eq!(
            ranges(text, Some("ann"), 1000),
            [(100_000, 65_536), (300_000, 5)]
        );
        assert_eq!(ranges(text, None, 1000), [(300_000, 5)]);
        assert_eq!(ranges(text, Some("carl"), 7), []);
        let passwd = "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:\n";
        assert_eq!(name_of(passwd, 1000).as_deref(), Some("ann"));
        assert_eq!(name_of(passwd, 1001), None);
    }

    #[test]
    fn ids_follow_each_other_inside() {
        let text = |maps: Vec<IdMap>| {
            let line = |m: &IdMap| format!("{} {} {}", m.inside, m.outside, m.count);
            maps.iter().map(line).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(text(maps(1000, &[])), "0 1000 1");
        assert_eq!(
            text(maps(1000, &[(100_000, 65_536), (300_000, 5)])),
            "0 1000 1, 1 100000 65536, 65537 300000 5"
        );
        // None is mapped twice: by the same range again, one that begins in or before another, or the own id.
        let again = [
            (100_000, 10),
            (100_000, 10),
            (100_009, 5),
            (99_999, 2),
            (100_010, 5),
            (990, 20),
        ];
        assert_eq!(
            text(maps(1000, &again)),
            "0 1000 1, 1 100000 10, 11 100010 5"
        );
    }
}
