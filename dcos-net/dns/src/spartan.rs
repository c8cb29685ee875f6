//! [`Spartan`]: the addresses at which each node of DC/OS is asked for names, on a link of their own.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use dcos_netlink::{ACK, CREATE, EXCLUSIVE, Lock, Messages, Protocol, Socket, made, stand_link};

use crate::PORT;

/// The link, and what whoever has it has locked.
const LINK: &str = "spartan";
const LOCK: &str = "dcos-spartan";

/// Where it is asked over IPv4.
pub const SPARTAN: [Ipv4Addr; 3] = [
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv4Addr::new(198, 51, 100, 2),
    Ipv4Addr::new(198, 51, 100, 3),
];

/// The same over IPv6, where the host has it.
pub const SPARTAN_V6: Ipv6Addr = Ipv6Addr::new(0xfd01, 0xd, 0, 0, 0, 0, 0xc633, 0x6401);

/// Whether the link has IPv6 switched off.
const V6_OFF: &str = "/proc/sys/net/ipv6/conf/spartan/disable_ipv6";

const NEW_ADDRESS: u16 = 20;
/// `AF_INET`, `AF_INET6`
const INET: u8 = 2;
const INET6: u8 = 10;
/// `IFA_F_NODAD`: nobody else can have the address.
const NO_DETECTION: u8 = 2;

/// Why a node cannot be asked there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpartanError {
    /// Another process of this node has the addresses.
    #[error("another process of this node answers at the addresses of `{LINK}`")]
    Taken {
        /// What the system said.
        source: io::Error,
    },
    /// No way to the kernel.
    #[error("opening a netlink socket")]
    Open {
        /// What the system said.
        source: io::Error,
    },
    /// The link or an address could not be made.
    #[error("making {what}")]
    Make {
        /// Which.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// A dummy link with the addresses, as dcos-net has it. It stays when the process ends, so that who asks then is refused
/// at once instead of waiting.
#[derive(Debug)]
pub struct Spartan {
    /// One process a network namespace.
    _lock: Lock,
    socket: Socket,
    addresses: Vec<IpAddr>,
}

impl Spartan {
    /// Makes the link in the network namespace of this thread; takes root.
    ///
    /// # Errors
    /// [`SpartanError`]
    pub fn open() -> Result<Self, SpartanError> {
        let lock = Lock::take(LOCK).map_err(|source| SpartanError::Taken { source })?;
        let socket = Socket::open(Protocol::Route);
        let mut spartan = Self {
            _lock: lock,
            socket: socket.map_err(|source| SpartanError::Open { source })?,
            addresses: SPARTAN.into_iter().map(IpAddr::from).collect(),
        };
        spartan.stand()?;
        // Only the link itself says whether it may have such addresses.
        if std::fs::read_to_string(V6_OFF).is_ok_and(|off| off.trim() == "0") {
            spartan.addresses.push(SPARTAN_V6.into());
            spartan.stand()?;
        }
        Ok(spartan)
    }

    /// Whether a process has the link, in the network namespace of this thread.
    pub fn is_taken() -> bool {
        Lock::is_taken(LOCK)
    }

    /// Where to listen at most.
    pub fn places() -> impl Iterator<Item = SocketAddr> {
        let all = SPARTAN.into_iter().map(IpAddr::from);
        let all = all.chain([SPARTAN_V6.into()]);
        all.map(|ip| SocketAddr::new(ip, PORT))
    }

    /// Where to listen.
    pub fn listen(&self) -> Vec<SocketAddr> {
        let addresses = self.addresses.iter();
        addresses.map(|ip| SocketAddr::new(*ip, PORT)).collect()
    }

    /// Makes what is missing, such as what somebody took away; does nothing if it stands.
    ///
    /// # Errors
    /// [`SpartanError::Make`]
    pub fn stand(&mut self) -> Result<(), SpartanError> {
        let failed = |what: String| |source| SpartanError::Make { what, source };
        let index = stand_link(&mut self.socket, LINK);
        let index = index.map_err(failed(format!("the link `{LINK}`")))?;
        for ip in &self.addresses {
            let (family, prefix, about, bytes) = match ip {
                IpAddr::V4(ip) => (INET, 32, 0, ip.octets().to_vec()),
                IpAddr::V6(ip) => (INET6, 128, NO_DETECTION, ip.octets().to_vec()),
            };
            let [a, b, c, d] = index.to_ne_bytes();
            let header = [family, prefix, about, 0, a, b, c, d];
            let mut request = Messages::new();
            let message = request.begin(NEW_ADDRESS, ACK | CREATE | EXCLUSIVE, &header);
            message.put(2, &bytes).put(1, &bytes).end();
            made(&mut self.socket, &request).map_err(failed(format!("{ip} of `{LINK}`")))?;
        }
        Ok(())
    }
}
