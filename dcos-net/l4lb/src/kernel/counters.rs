//! [`Counters`]: reads how many connections were balanced, beside the one who changes where they go.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use dcos_net::vip::Service;
use dcos_netlink::{ACK, Messages, Protocol as Family, Socket, attribute};

use super::connect::Counts;
use super::elements::{Element, Map, elements, place_of, service_of};
use super::{GET_ELEMENT, INET, behind_header, header, read, skeleton, write_element};
use crate::dataplane::{Connections, DataplaneError, Reader, Services};

/// So many elements are asked for in a message.
const ELEMENTS: usize = 512;

/// The counters of one network namespace.
#[derive(Debug)]
pub(super) struct Counters {
    socket: Socket,
    /// Of what is balanced at `connect()`, if anything is.
    at_connect: Option<Counts>,
}

impl Counters {
    pub(super) fn new(socket: Socket, at_connect: Option<Counts>) -> Self {
        Self { socket, at_connect }
    }

    /// Opens its socket anew, in the network namespace of this thread.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.socket = Socket::open(Family::Netfilter)?;
        Ok(())
    }

    /// How many connections each of `backends` was given by these services.
    pub(super) fn given(
        &mut self,
        backends: &[SocketAddr],
        services: &Services,
    ) -> io::Result<BTreeMap<SocketAddr, u64>> {
        let mut given: BTreeMap<SocketAddr, u64> = backends.iter().map(|one| (*one, 0)).collect();
        let mut wanted: Vec<Element> = Vec::new();
        for (service, all) in services {
            let lots = elements(service, all).into_iter().skip(1);
            wanted.extend(lots.filter(|lot| {
                place_of(lot.map, &lot.value).is_some_and(|place| given.contains_key(&place))
            }));
        }
        wanted.sort_by_key(|element| element.map);
        for of_map in wanted.chunk_by(|one, other| one.map == other.map) {
            for some in of_map.chunks(ELEMENTS) {
                self.ask(some, |place, count| {
                    given.entry(place).and_modify(|all| *all += count);
                })?;
            }
        }
        if let Some(counts) = &self.at_connect {
            let mut connections = Connections::new();
            counts.add_to(&mut connections)?;
            for ((_, backend), count) in connections {
                given.entry(backend).and_modify(|all| *all += count);
            }
        }
        Ok(given)
    }

    /// Of elements of one map: where they lead, and how often they did.
    fn ask(&mut self, of: &[Element], mut take: impl FnMut(SocketAddr, u64)) -> io::Result<()> {
        let Some(Element { map, .. }) = of.first() else {
            return Ok(());
        };
        let mut request = Messages::new();
        let message = request.begin(GET_ELEMENT, ACK, &header(INET, 0));
        message.text(1, skeleton::TABLE).text(2, map.name()).open(3);
        for element in of {
            write_element(message, element, false);
        }
        message.close().end();
        self.socket.ask(&request, |body| {
            let element = attribute(behind_header(body), 3).and_then(|list| attribute(list, 1));
            if let Some(((_, place), count)) = element.and_then(|one| count_of(*map, one)) {
                take(place, count);
            }
        })
    }
}

impl Reader for Counters {
    fn connections(&mut self) -> Result<Connections, DataplaneError> {
        let mut connections = Connections::new();
        for map in [Map::Backends4, Map::Backends6] {
            let read = read(&mut self.socket, map, |element| {
                if let Some((of, count)) = count_of(map, element) {
                    *connections.entry(of).or_default() += count;
                }
            });
            read.map_err(|source| DataplaneError::Read { source })?;
        }
        let at_connect = self.at_connect.as_ref();
        if let Some(Err(error)) = at_connect.map(|counts| counts.add_to(&mut connections)) {
            tracing::warn!(%error, "connections that eBPF balanced are not counted");
        }
        Ok(connections)
    }
}

/// Whose an element is, and how many packets its counter has seen: each the first of a connection.
fn count_of(map: Map, element: &[u8]) -> Option<((Service, SocketAddr), u64)> {
    let of = |kind| attribute(attribute(element, kind)?, 1);
    let (service, place) = (service_of(map, of(1)?)?, place_of(map, of(2)?)?);
    // An expression by itself, or the first of a list.
    let expression = attribute(element, 7).or_else(|| attribute(attribute(element, 11)?, 1));
    let packets = expression.and_then(|it| attribute(attribute(it, 2)?, 2));
    let packets = packets.and_then(|packets| Some(u64::from_be_bytes(packets.try_into().ok()?)));
    Some(((service, place), packets.unwrap_or_default()))
}
