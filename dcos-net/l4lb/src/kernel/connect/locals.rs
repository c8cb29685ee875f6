//! [`Locals`]: the addresses that are the node's own, by the kernel's routes. Nobody's connections to these are led elsewhere.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use dcos_netlink::{DUMP, Messages, Protocol, Socket, attribute};

const GET_ROUTE: u16 = 26;
/// The length of headers of messages about routes.
const HEADER: usize = 12;
/// `RTN_LOCAL`
const LOCAL: u8 = 2;
/// `RTA_DST`
const DESTINATION: u16 = 1;

/// A network: its first address as in IPv6, and how many bits of that are its own.
type Network = (u128, u32);

#[derive(Debug)]
pub(super) struct Locals {
    socket: Socket,
    networks: BTreeSet<Network>,
}

impl Locals {
    /// Those of now, in the network namespace of this thread.
    pub(super) fn open() -> io::Result<Self> {
        let mut locals = Self {
            socket: Socket::open(Protocol::Route)?,
            networks: BTreeSet::new(),
        };
        locals.look()?;
        Ok(locals)
    }

    /// Looks again; says whether anything changed.
    pub(super) fn look(&mut self) -> io::Result<bool> {
        // Of all families.
        let mut request = Messages::new();
        request.begin(GET_ROUTE, DUMP, &[0; HEADER]).end();
        let mut seen = BTreeSet::new();
        let listed = self.socket.list(&request, |route| {
            let network = read(route)?;
            seen.insert(network);
            Some(network)
        });
        let networks = match listed {
            // Routes change all the time here: whatever was told is there, and whatever was there may be.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.networks.union(&seen).copied().collect()
            }
            listed => listed?.into_iter().collect(),
        };
        let changed = self.networks != networks;
        self.networks = networks;
        Ok(changed)
    }

    pub(super) fn contain(&self, ip: IpAddr) -> bool {
        let address = number(ip);
        let mut networks = self.networks.iter();
        networks.any(|(first, bits)| {
            let others = 128 - bits;
            (address ^ first).checked_shr(others).unwrap_or_default() == 0
        })
    }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn read(route: &[u8]) -> Option<Network> {
    let (header, attributes) = route.split_at_checked(HEADER)?;
    if header[7] != LOCAL {
        return None;
    }
    let destination = attribute(attributes, DESTINATION).unwrap_or_default();
    let bits = u32::from(header[1]);
    if let Ok(ip) = <[u8; 4]>::try_from(destination) {
        return Some((number(IpAddr::from(ip)), 96 + bits));
    }
    let ip = <[u8; 16]>::try_from(destination).ok()?;
    Some((number(IpAddr::from(ip)), bits))
}
