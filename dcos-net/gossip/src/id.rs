//! [`Id`]: who a member is on the wire, and how addresses are written there.

use std::net::{IpAddr, SocketAddr};

use bytes::Buf;
use foca::Identity;

/// What was sent is no packet of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a gossip packet that is malformed")]
pub(crate) struct Malformed;

/// One life of a member: it has a new one whenever it starts, and whenever others thought it dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    /// Where it is reached.
    pub(crate) address: SocketAddr,
    /// Which life: the time it began in milliseconds, or one more than the last. 48 bits.
    pub(crate) life: u64,
}

/// The largest number of 48 bits.
pub(crate) const LAST: u64 = (1 << 48) - 1;

impl Id {
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        write_address(self.address, out);
        write_u48(self.life, out);
    }

    pub(crate) fn read(buf: &mut impl Buf) -> Result<Self, Malformed> {
        Ok(Self {
            address: read_address(buf)?,
            life: read_u48(buf)?,
        })
    }
}

impl Identity for Id {
    type Addr = SocketAddr;

    fn renew(&self) -> Option<Self> {
        let life = self.life + 1;
        (life <= LAST).then_some(Self { life, ..*self })
    }

    fn addr(&self) -> SocketAddr {
        self.address
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.life > adversary.life
    }
}

/// An address without what only its own host knows of it.
pub(crate) fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Its family, the address, the port.
pub(crate) fn write_address(address: SocketAddr, out: &mut Vec<u8>) {
    match address.ip() {
        IpAddr::V4(ip) => {
            out.push(4);
            out.extend(ip.octets());
        }
        IpAddr::V6(ip) => {
            out.push(6);
            out.extend(ip.octets());
        }
    }
    out.extend(address.port().to_be_bytes());
}

pub(crate) fn read_address(buf: &mut impl Buf) -> Result<SocketAddr, Malformed> {
    let ip: IpAddr = match read_u8(buf)? {
        4 => {
            let mut octets = [0; 4];
            buf.try_copy_to_slice(&mut octets).map_err(|_| Malformed)?;
            octets.into()
        }
        6 => {
            let mut octets = [0; 16];
            buf.try_copy_to_slice(&mut octets).map_err(|_| Malformed)?;
            octets.into()
        }
        _ => return Err(Malformed),
    };
    let port = buf.try_get_u16().map_err(|_| Malformed)?;
    let address = SocketAddr::new(ip, port);
    // One address has one form: two members would be one otherwise.
    if plain(address) == address {
        Ok(address)
    } else {
        Err(Malformed)
    }
}

pub(crate) fn write_u48(number: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&number.min(LAST).to_be_bytes()[2..]);
}

pub(crate) fn read_u48(buf: &mut impl Buf) -> Result<u64, Malformed> {
    buf.try_get_uint(6).map_err(|_| Malformed)
}

pub(crate) fn read_u8(buf: &mut impl Buf) -> Result<u8, Malformed> {
    buf.try_get_u8().map_err(|_| Malformed)
}
