//! Where output is cut into entries of a log: pure.

/// The longest line that stays one entry, in bytes. More than fits a datagram, less than anybody reads.
pub(super) const LONGEST: usize = 256 << 10;

/// The lines at the beginning of `text`, each with the offset behind it. Empty ones are passed over, as the original
/// does; their bytes belong to what comes next. What has no end yet is a line if it is too long to wait for that, or
/// with `all`.
pub(super) fn cut(text: &[u8], all: bool) -> Vec<(&[u8], usize)> {
    let mut lines = Vec::new();
    let mut from = 0;
    while from < text.len() {
        let rest = &text[from..];
        let end = rest
            .iter()
            .take(LONGEST + 1)
            .position(|byte| *byte == b'\n');
        let (length, taken) = match end {
            Some(length) => (length, length + 1),
            None if rest.len() >= LONGEST => (LONGEST, LONGEST),
            None if all => (rest.len(), rest.len()),
            None => break,
        };
        from += taken;
        lines.push((&rest[..length], from));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lines_end_where_they_end() {
        let cut = |text: &str, all| -> Vec<(String, usize)> {
            let lines = cut(text.as_bytes(), all).into_iter();
            lines
                .map(|(line, end)| (String::from_utf8_lossy(line).into_owned(), end))
                .collect()
        };
        let line = |text: &str, end| (text.to_owned(), end);
        assert_eq!(
            cut("a\n\nb\nrest", false),
            [line("a", 2), line("", 3), line("b", 5)]
        );
        assert_eq!(cut("rest", false), []);
        assert_eq!(cut("rest", true), [line("rest", 4)]);
        let long = "x".repeat(LONGEST + 1);
        assert_eq!(cut(&long, false), [line(&long[1..], LONGEST)]);
        let exact = "x".repeat(LONGEST) + "\n";
        assert_eq!(cut(&exact, false), [line(&exact[..LONGEST], LONGEST + 1)]);
    }

    proptest! {
        /// Nothing is lost, said twice or put elsewhere, wherever the text is torn while it grows.
        #[test]
        fn what_is_cut_is_what_was_said(text in "[a-c\n]{0,60}", tears in prop::collection::vec(0..60_usize, 0..6)) {
            let text = text.as_bytes();
            let mut said = Vec::new();
            let mut from = 0;
            let ends = tears.into_iter().map(|tear| tear.min(text.len()));
            let mut ends: Vec<_> = ends.chain([text.len()]).collect();
            ends.sort_unstable();
            for end in ends {
                let lines = cut(&text[from..end], false);
                said.extend(lines.iter().map(|(line, _)| line.to_vec()));
                from += lines.last().map_or(0, |(_, end)| *end);
            }
            said.extend(cut(&text[from..], true).iter().map(|(line, _)| line.to_vec()));
            let mut whole: Vec<_> = text.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
            // Behind the last newline there is no line.
            if whole.last().is_some_and(Vec::is_empty) {
                whole.pop();
            }
            prop_assert_eq!(said, whole);
        }
    }
}
