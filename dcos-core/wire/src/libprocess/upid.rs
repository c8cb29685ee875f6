//! The address of an actor.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// The address of an actor: `name@ip:port`, such as `slave(1)@10.0.0.7:5051`.
///
/// IPv6 addresses stand in brackets; the bare form some versions print is understood too.
///
/// ```
/// use dcos_wire::libprocess::Upid;
///
/// let master: Upid = "master@10.0.0.1:5050".parse()?;
/// assert_eq!(master.name(), "master");
/// let agent: Upid = "slave(1)@[::1]:5051".parse()?;
/// assert_eq!(agent.to_string(), "slave(1)@[::1]:5051");
/// # Ok::<(), dcos_wire::libprocess::UpidError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Upid {
    name: String,
    address: SocketAddr,
}

/// A text that is no UPID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not of the form name@ip:port")]
pub struct UpidError {
    /// The text.
    pub text: String,
}

impl Upid {
    /// The actor `name` of the process at `address`.
    pub fn new(name: impl Into<String>, address: SocketAddr) -> Self {
        let name = name.into();
        Self { name, address }
    }

    /// The actor's name, unique in its process.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where its process is reached.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl fmt::Display for Upid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.address)
    }
}

impl FromStr for Upid {
    type Err = UpidError;

    fn from_str(text: &str) -> Result<Self, UpidError> {
        let parse = || {
            let (name, address) = text.split_once('@')?;
            let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic());
            let address = address.parse().ok().or_else(|| bare_ipv6(address))?;
            named.then(|| Self::new(name, address))
        };
        parse().ok_or_else(|| UpidError {
            text: text.to_owned(),
        })
    }
}

fn bare_ipv6(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    Some(SocketAddr::new(
        IpAddr::V6(ip.parse().ok()?),
        port.parse().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_upids_round_trip() {
        for text in [
            "master@10.0.0.1:5050",
            "slave(1)@127.0.0.1:5051",
            "scheduler-0f1c7a3e-7b1d-4c57-8b5e-4a1a8e1d5d55@192.168.1.9:41234",
            "executor(1)@[fe80::1]:1",
        ] {
            let upid: Upid = text.parse().unwrap();
            assert_eq!(upid.to_string(), text);
        }
        let bare: Upid = "executor(1)@fe80::1:1".parse().unwrap();
        assert_eq!(bare.to_string(), "executor(1)@[fe80::1]:1");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "master",
            "@1.2.3.4:5",
            "m@1.2.3.4",
            "m@host:5050",
            "m\r\n@1.2.3.4:5",
        ] {
            assert!(text.parse::<Upid>().is_err(), "{text:?}");
        }
    }
}
