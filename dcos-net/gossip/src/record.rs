//! [`Record`]: what a member says of itself, with a version, so that the latest wins everywhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use bytes::Buf;

use crate::About;
use crate::id::{Id, Malformed, read_address, read_u8, read_u48, write_address, write_u48};

/// The most that [`About`] may have as JSON, in bytes: it goes into one packet with the rest.
pub const ABOUT: usize = 768;

/// What is said of a member is too much for a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "what gossip says of this node has {length} bytes: there may be {ABOUT} (fewer attributes?)"
)]
pub struct TooLarge {
    /// How much it is.
    pub length: usize,
}

/// The words of one member at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) address: SocketAddr,
    /// The time it was said in milliseconds, or one more than the last.
    pub(crate) version: u64,
    /// It is about to end.
    pub(crate) leaving: bool,
    pub(crate) about: Arc<About>,
}

const LEAVING: u8 = 1;

impl Record {
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        write_address(self.address, out);
        write_u48(self.version, out);
        out.push(if self.leaving { LEAVING } else { 0 });
        out.extend(words(&self.about));
    }

    /// Reads all of `bytes`.
    pub(crate) fn read(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let buf = &mut bytes;
        let (address, version, flags) = (read_address(buf)?, read_u48(buf)?, read_u8(buf)?);
        if buf.remaining() > ABOUT {
            return Err(Malformed);
        }
        let about = serde_json::from_slice(buf.chunk()).map_err(|_| Malformed)?;
        Ok(Self {
            address,
            version,
            leaving: flags & LEAVING != 0,
            about: Arc::new(about),
        })
    }
}

fn words(about: &About) -> Vec<u8> {
    serde_json::to_vec(about).expect("it has text keys only")
}

impl About {
    /// # Errors
    /// If no packet holds it.
    pub(crate) fn check(&self) -> Result<(), TooLarge> {
        let length = words(self).len();
        if length > ABOUT {
            return Err(TooLarge { length });
        }
        Ok(())
    }
}

/// The records in packets of SWIM: hands on those that are news, so that foca tells them to others.
#[derive(Debug)]
pub(crate) struct Heard {
    versions: BTreeMap<SocketAddr, u64>,
    news: mpsc::Sender<Record>,
}

impl Heard {
    /// One, and where what it hears comes out; it is taken out after each packet.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Record>) {
        let (news, heard) = mpsc::channel();
        let versions = BTreeMap::new();
        (Self { versions, news }, heard)
    }
}

/// Of one member, the later record stands for all before.
#[derive(Debug)]
pub(crate) struct Subject(SocketAddr);

impl foca::Invalidates for Subject {
    fn invalidates(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl foca::BroadcastHandler<Id> for Heard {
    type Key = Subject;
    type Error = Malformed;

    fn receive_item(&mut self, data: &[u8], _: Option<&Id>) -> Result<Option<Subject>, Malformed> {
        // Most are old: each is told many times.
        let head = &mut &*data;
        let (address, version) = (read_address(head)?, read_u48(head)?);
        let known = self.versions.get(&address).copied().unwrap_or_default();
        if version <= known {
            return Ok(None);
        }
        let record = Record::read(data)?;
        self.versions.insert(address, version);
        let subject = Subject(address);
        // Whoever has the other end has this one.
        let _ = self.news.send(record);
        Ok(Some(subject))
    }
}
