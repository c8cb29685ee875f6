//! A way for what is sent to virtual addresses: the kernel wants to know one before it gives a packet to the table, which
//! then leads it elsewhere. A node without a default route would say that the network is unreachable.
//!
//! As in the original (its link `minuteman`) there is a link that leads nowhere. The route of IPv6 is in the table `main`: nobody else
//! has addresses of that network. That of IPv4 is in the table `default`, which the kernel asks when no other knows a way:
//! 11.0.0.0/8 belongs to somebody, whom nodes with a way to there go on reaching.

use std::io;
use std::net::IpAddr;

use dcos_net::vip::{NAMED_V4, NAMED_V6};
use dcos_netlink::{
    ACK, CREATE, DUMP, EXCLUSIVE, Messages, Protocol, Socket, attribute, made, stand_link,
};

/// The link.
pub(super) const LINK: &str = "dcos-vip";
/// Whether it has IPv6 switched off.
const V6_OFF: &str = "/proc/sys/net/ipv6/conf/dcos-vip/disable_ipv6";

const DELETE_LINK: u16 = 17;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;
/// The length of headers of messages about routes.
const HEADER: usize = 12;
/// `AF_INET`, `AF_INET6`
const INET: u8 = 2;
const INET6: u8 = 10;
/// `RT_TABLE_MAIN`, `RT_TABLE_DEFAULT`
const MAIN: u8 = 254;
const DEFAULT: u8 = 253;
/// `RTPROT_STATIC`, `RT_SCOPE_UNIVERSE`, `RT_SCOPE_LINK`, `RTN_UNICAST`
const STATIC: u8 = 4;
const UNIVERSE: u8 = 0;
const SCOPE_LINK: u8 = 253;
const UNICAST: u8 = 1;
/// `ENODEV`
const NO_DEVICE: i32 = 19;

/// A network of virtual addresses, and where its route is.
struct Network {
    family: u8,
    prefix: u8,
    address: IpAddr,
    table: u8,
    scope: u8,
}

fn networks() -> [Network; 2] {
    [
        Network {
            family: INET,
            prefix: 8,
            address: NAMED_V4.0.into(),
            table: DEFAULT,
            scope: SCOPE_LINK,
        },
        Network {
            family: INET6,
            prefix: 64,
            address: NAMED_V6.0.into(),
            table: MAIN,
            scope: UNIVERSE,
        },
    ]
}

impl Network {
    fn bytes(&self) -> Vec<u8> {
        match self.address {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        }
    }

    /// Whether its table has a way there, whoever made it.
    fn has_way(&self, socket: &mut Socket) -> io::Result<bool> {
        let mut header = [0; HEADER];
        header[0] = self.family;
        let mut request = Messages::new();
        request.begin(GET_ROUTE, DUMP, &header).end();
        let wanted = self.bytes();
        let found = socket.list(&request, |body| {
            let (header, attributes) = body.split_at_checked(HEADER)?;
            let is_there = (header[1], header[4], header[7]) == (self.prefix, self.table, UNICAST)
                && attribute(attributes, 1) == Some(&wanted);
            is_there.then_some(())
        })?;
        Ok(!found.is_empty())
    }

    fn lead_to(&self, socket: &mut Socket, link: u32) -> io::Result<()> {
        let header = [
            self.family,
            self.prefix,
            0,
            0,
            self.table,
            STATIC,
            self.scope,
            UNICAST,
            0,
            0,
            0,
            0,
        ];
        let mut request = Messages::new();
        let message = request.begin(NEW_ROUTE, ACK | CREATE | EXCLUSIVE, &header);
        message
            .put(1, &self.bytes())
            .put(4, &link.to_ne_bytes())
            .end();
        made(socket, &request)
    }
}

/// The way of one node.
#[derive(Debug)]
pub(super) struct Way(Socket);

impl Way {
    /// The one in the network namespace of this thread; nothing is changed yet.
    pub(super) fn open() -> io::Result<Self> {
        Socket::open(Protocol::Route).map(Self)
    }

    /// Makes what is missing, and says whether anything was.
    pub(super) fn stand(&mut self) -> io::Result<bool> {
        let socket = &mut self.0;
        let link = stand_link(socket, LINK)?;
        let mut changed = false;
        for network in networks() {
            // Only the link itself says whether there may be such a route.
            let has_v6 = || std::fs::read_to_string(V6_OFF).is_ok_and(|off| off.trim() == "0");
            if (network.family == INET6 && !has_v6()) || network.has_way(socket)? {
                continue;
            }
            network.lead_to(socket, link)?;
            changed = true;
        }
        Ok(changed)
    }

    /// Takes the link away, and its routes with it.
    pub(super) fn fall(&mut self) -> io::Result<()> {
        let mut request = Messages::new();
        let message = request.begin(DELETE_LINK, ACK, &[0; 16]);
        message.text(3, LINK).end();
        match self.0.ask(&request, |_| {}) {
            Err(error) if error.raw_os_error() != Some(NO_DEVICE) => Err(error),
            _ => Ok(()),
        }
    }
}
