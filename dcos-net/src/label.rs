//! How names that people choose become DNS labels: three rules, bit for bit those of DC/OS.
//!
//! | rule | used for | source |
//! |---|---|---|
//! | [`rfc1123`] | `.mesos` | Mesos-DNS `records/labels`: the default |
//! | [`rfc952`] | `.mesos`, if configured | Mesos-DNS `records/labels`, `EnforceRFC952` |
//! | [`directory`] | `.dcos.thisdcos.directory` | dcos-net `mesos_state:label` |
//!
//! ```
//! use dcos_net::label;
//!
//! assert_eq!(label::rfc1123("/Prod/My_App.v2"), "prodmy-app-v2");
//! assert_eq!(label::rfc952("2-fast"), "fast");
//! assert_eq!(label::fragment("kafka.dev", label::rfc1123), "kafka.dev");
//! ```

/// Lower case letters, digits and dashes, at most 63, no dash at either end.
pub fn rfc1123(name: &str) -> String {
    cut(&mapped(name), 63, |byte| byte == b'-')
}

/// As [`rfc1123`] but at most 24, and beginning with a letter.
pub fn rfc952(name: &str) -> String {
    cut(&mapped(name), 24, |byte| {
        byte == b'-' || byte.is_ascii_digit()
    })
}

/// As [`rfc1123`], but what is cut off never comes back.
pub fn directory(name: &str) -> String {
    let mapped = mapped(name);
    let begin = mapped.trim_start_matches('-');
    let cut = &begin[..begin.len().min(63)];
    cut.trim_end_matches('-').to_owned()
}

/// Makes a label of each part between dots, and leaves out those of which nothing remains.
pub fn fragment(name: &str, label: impl Fn(&str) -> String) -> String {
    let labels: Vec<String> = name
        .split('.')
        .map(label)
        .filter(|label| !label.is_empty())
        .collect();
    labels.join(".")
}

/// The letters that may stand in a label; the separators people use become dashes.
fn mapped(name: &str) -> String {
    name.chars()
        .filter_map(|letter| match letter {
            'a'..='z' | '0'..='9' => Some(letter),
            'A'..='Z' => Some(letter.to_ascii_lowercase()),
            '-' | '_' | '.' => Some('-'),
            _ => None,
        })
        .collect()
}

/// Mesos-DNS's way to cut: dashes that end up last are dropped, and what they leave free is filled
/// from behind the cut.
fn cut(name: &str, limit: usize, not_first: impl Fn(u8) -> bool) -> String {
    let begin = name.trim_start_matches(|letter: char| not_first(letter as u8));
    let (head, tail) = begin.split_at(begin.len().min(limit));
    let kept = head.trim_end_matches('-');
    let free = head.len() - kept.len();
    let tail = tail.trim_start_matches('-');
    kept.to_owned() + &tail[..tail.len().min(free)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_each_rule() {
        let long = "a".repeat(62) + "--bcd";
        for (name, mesos, strict, dcos) in [
            ("web", "web", "web", "web"),
            (
                "Web_Server.1",
                "web-server-1",
                "web-server-1",
                "web-server-1",
            ),
            ("/group/app", "groupapp", "groupapp", "groupapp"),
            ("--x--", "x", "x", "x"),
            ("42-x", "42-x", "x", "42-x"),
            ("", "", "", ""),
            ("--", "", "", ""),
            ("\u{e9}t\u{e9}", "t", "t", "t"),
            (
                &"ab".repeat(40),
                &("ab".repeat(31) + "a"),
                &"ab".repeat(12),
                &("ab".repeat(31) + "a"),
            ),
            (
                &long,
                &("a".repeat(62) + "b"),
                &"a".repeat(24),
                &"a".repeat(62),
            ),
        ] {
            assert_eq!(
                (
                    rfc1123(name).as_str(),
                    rfc952(name).as_str(),
                    directory(name).as_str()
                ),
                (mesos, strict, dcos),
                "{name:?}"
            );
        }
    }

    #[test]
    fn fragments_keep_their_dots() {
        assert_eq!(fragment("a.b..C_d.", rfc1123), "a.b.c-d");
    }
}
