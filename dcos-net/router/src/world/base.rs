//! Where a service is: scheme, host and port, and the path in front of its own paths.

use std::net::{IpAddr, Ipv6Addr};

use http::uri::Authority;

/// How a service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// In the clear.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// As in a URL.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// Why text is not the URL of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is not the URL of a service: it needs http or https and a host")]
pub struct BadUrl {
    /// What was given.
    pub url: String,
}

/// Where a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// How to speak to it.
    pub scheme: Scheme,
    /// Its host and port.
    pub authority: Authority,
    /// What stands before each of its paths, without a slash at the end; mostly nothing.
    pub path: String,
    /// The address that its host is, if it is no name.
    pub address: Option<IpAddr>,
}

impl Base {
    /// The service at a host and port.
    ///
    /// # Errors
    /// They can't be part of a URL.
    pub fn at(scheme: Scheme, authority: &str) -> Result<Self, BadUrl> {
        format!("{}://{authority}", scheme.as_str()).parse()
    }
}

impl std::str::FromStr for Base {
    type Err = BadUrl;

    fn from_str(url: &str) -> Result<Self, BadUrl> {
        let bad = || BadUrl {
            url: url.to_owned(),
        };
        let uri: http::Uri = url.trim().parse().map_err(|_| bad())?;
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(bad()),
        };
        let authority = uri.authority().ok_or_else(bad)?;
        // Credentials in a URL would be sent to whoever is there.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(bad());
        }
        Ok(Self {
            scheme,
            authority: authority.clone(),
            address: address(authority.host()),
            path: uri.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl std::fmt::Display for Base {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (scheme, authority, path) = (self.scheme.as_str(), &self.authority, &self.path);
        write!(f, "{scheme}://{authority}{path}")
    }
}

/// Where AWS tells a machine its credentials over IPv6.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Whether a service can't be at `ip`: there is what only the host of the router may ask, such as the metadata of a
/// cloud (link-local) or the ports of other programs (loopback, but where the cluster is this host `alone`).
pub(crate) fn is_off_limits(ip: IpAddr, alone: bool) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) if ip.is_link_local() || ip.is_multicast() => true,
        IpAddr::V6(ip) if ip.is_unicast_link_local() || ip.is_multicast() => true,
        IpAddr::V6(METADATA_V6) => true,
        ip => !alone && (ip.is_loopback() || ip.is_unspecified()),
    }
}

/// The address a host is, if it is no name; IPv6 ones may stand in brackets.
pub(crate) fn address(host: &str) -> Option<IpAddr> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_a_host_may_ask_is_off_limits() {
        for (host, expected, alone) in [
            ("10.0.0.1", false, false),
            ("fd00::1", false, false),
            ("127.0.0.1", true, false),
            ("[::1]", true, false),
            ("::ffff:127.0.0.1", true, false),
            ("0.0.0.0", true, false),
            ("169.254.169.254", true, true),
            ("::ffff:169.254.169.254", true, true),
            ("[fe80::1]", true, true),
            ("fd00:ec2::254", true, true),
            ("224.0.0.1", true, true),
        ] {
            let ip = address(host).unwrap();
            assert_eq!(is_off_limits(ip, false), expected, "{host}");
            assert_eq!(is_off_limits(ip, true), alone, "{host}");
        }
    }

    #[test]
    fn only_urls_of_services_are_taken() {
        for (url, shown) in [
            ("http://10.0.0.1:80", Some("http://10.0.0.1:80")),
            ("http://10.0.0.1:80/", Some("http://10.0.0.1:80")),
            ("https://[::1]:443/ui/", Some("https://[::1]:443/ui")),
            ("http://h/a?b", Some("http://h/a")),
            ("ftp://h/", None),
            ("10.0.0.1:80", None),
            ("http://u:p@h/", None),
            ("", None),
            ("http://", None),
        ] {
            let base: Result<Base, _> = url.parse();
            assert_eq!(
                base.ok().map(|base| base.to_string()).as_deref(),
                shown,
                "{url}"
            );
        }
    }
}
