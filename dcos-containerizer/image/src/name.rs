//! Names of images, read as Docker reads them.

use std::fmt;
use std::str::FromStr;

use crate::ImageError;

/// `[registry/]repository[:tag][@digest]`.
///
/// The first part is a registry if it holds a dot or a colon, or is `localhost`; so `app/web` is a
/// repository of the default registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageName {
    /// Host and port, if the name has them.
    pub registry: Option<String>,
    /// The path in the registry.
    pub repository: String,
    /// `latest` if there is neither tag nor digest.
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits: pins the content.
    pub digest: Option<String>,
}

impl FromStr for ImageName {
    type Err = ImageError;

    fn from_str(name: &str) -> Result<Self, ImageError> {
        let refused = |why: &str| ImageError::Name {
            name: name.to_owned(),
            why: why.to_owned(),
        };
        let (rest, digest) = match name.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (name, None),
        };
        let (registry, rest) = match rest.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => {
                (Some(host), rest)
            }
            _ => (None, rest),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag)),
            None => (rest, None),
        };
        if registry.is_some_and(|host| !is_host(host)) {
            return Err(refused("its registry is no host and port"));
        }
        if repository.len() > 255 || !repository.split('/').all(is_component) {
            return Err(refused(
                "that is no name of an image: it has parts of a-z, 0-9, '.', '_' and '-', \
                 separated by '/'",
            ));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refused(
                "a tag has up to 128 characters of A-Z, a-z, 0-9, '.', '_' and '-'",
            ));
        }
        if digest.is_some_and(|digest| hash(digest).is_none()) {
            return Err(refused(
                "a digest is 'sha256:' and 64 hexadecimal digits in lower case",
            ));
        }
        let tag = match (tag, digest) {
            (None, None) => Some("latest"),
            (tag, _) => tag,
        };
        Ok(Self {
            registry: registry.map(str::to_owned),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest: digest.map(str::to_owned),
        })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(registry) = &self.registry {
            write!(f, "{registry}/")?;
        }
        f.write_str(&self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

/// The hexadecimal part of a SHA-256 digest.
pub(crate) fn hash(digest: &str) -> Option<&str> {
    let legal = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let hash = digest.strip_prefix("sha256:")?;
    (hash.len() == 64 && hash.bytes().all(legal)).then_some(hash)
}

/// Lower-case words, joined by single separators.
fn is_component(part: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let bytes = part.as_bytes();
    let ends = bytes.first().zip(bytes.last());
    ends.is_some_and(|(&first, &last)| word(first) && word(last))
        && bytes
            .iter()
            .all(|&byte| word(byte) || matches!(byte, b'.' | b'_' | b'-'))
        && !part.contains("..")
}

fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=128).contains(&tag.len())
        && tag.bytes().next().is_some_and(word)
        && tag
            .bytes()
            .all(|byte| word(byte) || matches!(byte, b'.' | b'-'))
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let bracketed = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let legal = match bracketed {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.split('.').all(|label| {
            !label.is_empty()
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        }),
    };
    legal && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(name: &str) -> (Option<String>, String, Option<String>, Option<String>) {
        let name: ImageName = name.parse().unwrap();
        (name.registry, name.repository, name.tag, name.digest)
    }

    #[test]
    fn names_are_read_as_docker_reads_them() {
        let text = |text: &str| Some(text.to_owned());
        let digest = format!("sha256:{}", "a0".repeat(32));
        for (name, registry, repository, tag, pinned) in [
            ("busybox", None, "busybox", text("latest"), None),
            ("app/web:1.2-rc", None, "app/web", text("1.2-rc"), None),
            ("localhost/a", text("localhost"), "a", text("latest"), None),
            (
                "10.0.0.1:5000/a/b",
                text("10.0.0.1:5000"),
                "a/b",
                text("latest"),
                None,
            ),
            ("[::1]:5000/a:X", text("[::1]:5000"), "a", text("X"), None),
            (
                &format!("quay.io/a@{digest}"),
                text("quay.io"),
                "a",
                None,
                text(&digest),
            ),
            (
                &format!("a:1@{digest}"),
                None,
                "a",
                text("1"),
                text(&digest),
            ),
        ] {
            let expected = (registry, repository.to_owned(), tag, pinned);
            assert_eq!(parts(name), expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_name_says_why() {
        let digest = "a@sha256:1234";
        for name in [
            "",
            "/etc",
            "../a",
            "a/../../b",
            "a//b",
            "A",
            "a/",
            "a:",
            "a:b/c",
            "a: b",
            digest,
            "x.y:0/a",
            "x.y:99999/a",
            "-a",
            "a..b",
            "a\0b",
            "host.com/",
            ":tag",
        ] {
            assert!(name.parse::<ImageName>().is_err(), "{name:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn printing_and_reading_agree(name in "\\PC{0,40}") {
            if let Ok(read) = name.parse::<ImageName>() {
                let again: ImageName = read.to_string().parse().unwrap();
                proptest::prop_assert_eq!(read, again);
            }
        }
    }
}
