//! [`Kernel`]: links, addresses, routes, neighbours and rules of the network namespace it was opened
//! in, read and changed by netlink.
//!
//! Laid out as in the original (dcos-net `dcos_overlay_configure`, `dcos_overlay_netlink`), so that
//! a node can be taken over without a packet lost; see `docs/data-path.md`.

mod entries;
mod links;
mod masquerade;

use std::io;
use std::net::IpAddr;

use dcos_netlink::{Lock, Messages, Protocol, Socket};

use crate::{Dataplane, DataplaneError, Own, Step, Tunnels};

/// What whoever changes the tunnels has locked.
const LOCK: &str = "dcos-overlay";
/// So many messages are given to the kernel at once.
const AT_ONCE: usize = 300;
/// `AF_INET`, `AF_INET6`, `AF_BRIDGE`, in headers of messages.
const INET: u8 = 2;
const INET6: u8 = 10;
const BRIDGE: u8 = 7;

/// The data path of one node.
#[derive(Debug)]
pub struct Kernel {
    /// One process a network namespace: two would undo each other's work.
    _lock: Lock,
    socket: Socket,
    /// The tunnel end, once it is established.
    link: Option<links::Place>,
    /// The rules that were made, and how the kernel tells them.
    rules: Option<(String, Option<String>)>,
}

impl Kernel {
    /// Opens the data path of the network namespace of this thread, and changes nothing. Rules are
    /// those of the thread that calls [`Dataplane::establish`].
    ///
    /// # Errors
    /// If another process has it, or without a way to the kernel.
    pub fn open() -> Result<Self, DataplaneError> {
        let lock = Lock::take(LOCK).map_err(|source| DataplaneError::Taken { source })?;
        let socket = Socket::open(Protocol::Route);
        Ok(Self {
            _lock: lock,
            socket: socket.map_err(|source| DataplaneError::Open { source })?,
            link: None,
            rules: None,
        })
    }

    /// What leads to others, as the kernel has it; nothing without a tunnel end.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn found(&mut self) -> Result<Tunnels, DataplaneError> {
        match self.link {
            Some(place) => entries::found(&mut self.socket, place),
            None => Ok(Tunnels::default()),
        }
    }

    /// Takes away the tunnel end, and with it what leads to others, and all rules.
    ///
    /// # Errors
    /// What the system said.
    pub fn remove(mut self) -> Result<(), DataplaneError> {
        let rules: Vec<Step> = self
            .found()?
            .entries()
            .map(|entry| Step::Take(*entry))
            .collect();
        self.apply(&rules)?;
        links::remove(&mut self.socket)?;
        masquerade::fall()
    }

    /// Does all that can be done, and tells of the first that cannot: one peer the kernel refuses keeps nobody else away.
    fn carry_out(&mut self, place: links::Place, steps: &[Step]) -> Result<(), DataplaneError> {
        let mut refused = Ok(());
        let steps: Vec<Step> = steps
            .iter()
            .filter(|step| place.v6 || !step.entry().is_v6())
            .copied()
            .collect();
        for some in steps.chunks(AT_ONCE) {
            let mut messages = Messages::new();
            for step in some {
                entries::write(&mut messages, place.index, *step);
            }
            messages.acknowledge_last();
            let last = messages.last();
            let failures = self.socket.transact(&messages, last);
            let write = |what: String, source| DataplaneError::Write { what, source };
            let failures = failures.map_err(|source| write("entries".to_owned(), source))?;
            for failure in failures {
                let step = usize::try_from(failure.sequence)
                    .ok()
                    .and_then(|number| some.get(number.wrapping_sub(1)));
                if step.is_some_and(|step| step.is_done_despite(failure.code)) {
                    continue;
                }
                let what = step.map_or_else(
                    || "entries".to_owned(),
                    |step| format!("{:?}", step.entry()),
                );
                refused = refused.and_then(|()| Err(write(what, failure.into())));
            }
        }
        refused
    }

    /// What an established tunnel end is there for.
    fn place(&self) -> Result<links::Place, DataplaneError> {
        self.link.ok_or_else(|| DataplaneError::Read {
            what: "tunnel end",
            source: io::ErrorKind::NotFound.into(),
        })
    }
}

impl Step {
    /// What it is about.
    pub(crate) fn entry(&self) -> &crate::Entry {
        match self {
            Self::Put(entry) | Self::Take(entry) => entry,
        }
    }

    /// Whether an error says that it is so already.
    fn is_done_despite(&self, code: i32) -> bool {
        const NOT_FOUND: i32 = 2;
        const NO_PROCESS: i32 = 3;
        const EXISTS: i32 = 17;
        match self {
            Self::Put(_) => code == EXISTS,
            Self::Take(_) => matches!(code, NOT_FOUND | NO_PROCESS),
        }
    }
}

impl Dataplane for Kernel {
    fn mtu_below(&mut self, node: IpAddr) -> Result<u32, DataplaneError> {
        let found = links::mtu_below(&mut self.socket, node);
        let found = found.map_err(|source| DataplaneError::Read {
            what: "links",
            source,
        })?;
        found.ok_or(DataplaneError::Unknown { node })
    }

    fn establish(&mut self, own: &Own) -> Result<bool, DataplaneError> {
        let (place, mut changed) = links::establish(&mut self.socket, own)?;
        self.link = Some(place);
        let rules = masquerade::text(own);
        let stands = (rules, masquerade::listing()?);
        if self.rules.as_ref() != Some(&stands) {
            changed |= self.rules.is_some();
            masquerade::stand(&stands.0)?;
            self.rules = Some((stands.0, masquerade::listing()?));
        }
        Ok(changed)
    }

    fn reconcile(&mut self, wanted: &Tunnels) -> Result<usize, DataplaneError> {
        let place = self.place()?;
        let mut wanted = wanted.clone();
        if !place.v6 {
            wanted = wanted.without_v6();
        }
        let steps = self.found()?.steps_to(&wanted);
        self.carry_out(place, &steps)?;
        Ok(steps.len())
    }

    fn apply(&mut self, steps: &[Step]) -> Result<(), DataplaneError> {
        if steps.is_empty() {
            return Ok(());
        }
        self.carry_out(self.place()?, steps)
    }
}
