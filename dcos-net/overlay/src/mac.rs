//! [`Mac`]: a hardware address.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hardware address such as `70:b3:d5:80:00:01`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// A text that is no hardware address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no hardware address such as 70:b3:d5:00:00:00")]
pub struct NoMac {
    text: String,
}

impl Mac {
    /// Its upper half, followed by the lower three bytes of `ip`: how a tunnel end gets its own.
    #[must_use]
    pub fn with_lower_half_of(self, ip: Ipv4Addr) -> Self {
        let ([one, two, three, ..], [_, four, five, six]) = (self.0, ip.octets());
        Self([one, two, three, four, five, six])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [first, rest @ ..] = self.0;
        write!(f, "{first:02x}")?;
        rest.iter().try_for_each(|byte| write!(f, ":{byte:02x}"))
    }
}

impl FromStr for Mac {
    type Err = NoMac;

    fn from_str(text: &str) -> Result<Self, NoMac> {
        let byte = |part: &str| {
            let plain = part.len() == 2 && part.bytes().all(|letter| letter.is_ascii_hexdigit());
            plain.then(|| u8::from_str_radix(part, 16).ok()).flatten()
        };
        let bytes: Option<Vec<u8>> = text.split(':').map(byte).collect();
        let bytes = bytes.and_then(|bytes| <[u8; 6]>::try_from(bytes).ok());
        bytes.map(Self).ok_or_else(|| NoMac {
            text: text.to_owned(),
        })
    }
}

impl Serialize for Mac {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mac {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tunnel_ends_get_theirs_from_their_address() {
        let oui: Mac = "70:B3:D5:00:00:00".parse().unwrap();
        let mac = oui.with_lower_half_of([44, 128, 0, 1].into());
        assert_eq!(mac.to_string(), "70:b3:d5:80:00:01");
        for wrong in [
            "",
            "70:b3:d5:00:00",
            "70:b3:d5:00:00:00:00",
            "70:b3:d5:0:0:0",
            "+1:b3:d5:00:00:00",
        ] {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }
}
