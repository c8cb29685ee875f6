//! A request's path in one form, so that a route is decided on exactly what is sent on.
//!
//! Source: RFC 3986 section 6.2.2, and what nginx does before it matches (`merge_slashes`, dot segments).
//! Departure: escaped slashes stay escaped, and a path in which they would hide dot segments is refused.

use std::borrow::Cow;

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadPath {
    /// It does not begin with a slash, such as `*`.
    #[error("the path does not begin with a slash")]
    Relative,
    /// It leads above the root.
    #[error("the path leads above the root")]
    AboveRoot,
    /// A percent sign without two hexadecimal digits, or an escaped zero byte.
    #[error("the path holds a broken escape")]
    BadEscape,
    /// An escaped slash or a backslash beside dots: whoever decodes it would see another path.
    #[error("the path hides dot segments")]
    Hidden,
}

/// The path with unreserved characters unescaped, without empty and dot segments; everything else as it was written.
///
/// Normalising twice is the same as once.
///
/// # Errors
/// [`BadPath`]; the answer is 400.
///
/// ```
/// use dcos_router::path::normalize;
/// assert_eq!(normalize("//mesos/./x/../%73tate").unwrap(), "/mesos/state");
/// assert_eq!(normalize("/service/a/b%2Fc%20d").unwrap(), "/service/a/b%2Fc%20d");
/// assert!(normalize("/service/a/..%2f..%2fmesos").is_err());
/// ```
pub fn normalize(path: &str) -> Result<Cow<'_, str>, BadPath> {
    if !path.starts_with('/') {
        return Err(BadPath::Relative);
    }
    if is_plain(path) {
        return Ok(Cow::Borrowed(path));
    }
    let unescaped = unescape(path)?;
    let mut segments: Vec<&str> = Vec::new();
    let mut ends_in_directory = false;
    for segment in unescaped.split('/').skip(1) {
        ends_in_directory = true;
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop().ok_or(BadPath::AboveRoot)?;
            }
            name if hides_dots(name) => return Err(BadPath::Hidden),
            name => {
                segments.push(name);
                ends_in_directory = false;
            }
        }
    }
    let mut normal = String::with_capacity(unescaped.len());
    for segment in &segments {
        normal.push('/');
        normal.push_str(segment);
    }
    if ends_in_directory || normal.is_empty() {
        normal.push('/');
    }
    Ok(Cow::Owned(normal))
}

/// Whether nothing has to be done, which is nearly always.
fn is_plain(path: &str) -> bool {
    let mut before = 0;
    for byte in path.bytes() {
        match byte {
            b'%' | b'\\' => return false,
            b'/' | b'.' if before == b'/' => return false,
            _ => before = byte,
        }
    }
    true
}

/// Unescapes what needs no escape.
fn unescape(path: &str) -> Result<String, BadPath> {
    let mut plain = String::with_capacity(path.len());
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        plain.push_str(&rest[..at]);
        let code = escape_at(rest, at).ok_or(BadPath::BadEscape)?;
        match code {
            0 => return Err(BadPath::BadEscape),
            code if is_unreserved(code) => plain.push(char::from(code)),
            _ => plain.push_str(&rest[at..at + 3]),
        }
        rest = &rest[at + 3..];
    }
    plain.push_str(rest);
    Ok(plain)
}

fn escape_at(text: &str, at: usize) -> Option<u8> {
    let digits = text.as_bytes().get(at + 1..at + 3)?;
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Whether a segment becomes a way up for those who unescape slashes, or take backslashes for them.
fn hides_dots(segment: &str) -> bool {
    if !segment.contains(['%', '\\']) {
        return false;
    }
    let opened = segment
        .replace("%2F", "/")
        .replace("%2f", "/")
        .replace("%5C", "/")
        .replace("%5c", "/")
        .replace('\\', "/");
    opened.contains('/') && opened.split('/').any(|part| part == "." || part == "..")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equal_paths_become_the_same() {
        for (path, normal) in [
            ("/", "/"),
            ("//", "/"),
            ("/mesos", "/mesos"),
            ("/mesos/", "/mesos/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/./b", "/a/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/%6d%65sos/state", "/mesos/state"),
            (
                "/service////nest1////app///foo/bar",
                "/service/nest1/app/foo/bar",
            ),
            (
                "/service/app//foo/a%20%3F%23z/",
                "/service/app/foo/a%20%3F%23z/",
            ),
            ("/v2/apps/%2Fgroup%2Fapp", "/v2/apps/%2Fgroup%2Fapp"),
            ("/.hidden/..x", "/.hidden/..x"),
        ] {
            assert_eq!(normalize(path).as_deref(), Ok(normal), "{path}");
        }
    }

    #[test]
    fn what_would_become_another_path_is_refused() {
        for (path, why) in [
            ("*", BadPath::Relative),
            ("", BadPath::Relative),
            ("/..", BadPath::AboveRoot),
            ("/service/../../x", BadPath::AboveRoot),
            ("/%2e%2e/x", BadPath::AboveRoot),
            ("/a%", BadPath::BadEscape),
            ("/a%4", BadPath::BadEscape),
            ("/a%zz", BadPath::BadEscape),
            ("/a%+1", BadPath::BadEscape),
            ("/a%00", BadPath::BadEscape),
            ("/service/a/..%2f..%2fmesos/", BadPath::Hidden),
            ("/service/a/%2e%2e%5cmesos", BadPath::Hidden),
            ("/service/a/..\\mesos", BadPath::Hidden),
        ] {
            assert_eq!(normalize(path), Err(why), "{path}");
        }
    }

    proptest! {
        #[test]
        fn once_is_enough(path in "(/|\\.|%2e|%2F|%41|%20|a|b|\\\\){0,12}") {
            let path = format!("/{path}");
            if let Ok(normal) = normalize(&path) {
                let again = normalize(&normal).unwrap();
                prop_assert_eq!(&again, &normal);
                prop_assert!(!normal.contains("//"));
                prop_assert!(normal.split('/').all(|part| part != "." && part != ".."));
            }
        }
    }
}
