//! [`Resolvers`]: who is asked about other names, and how they fared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{info, warn};

use crate::Upstream;
use crate::config::resolvers;

/// How long a file is taken for unchanged.
const REVIEW: Duration = Duration::from_secs(1);

/// One of them.
#[derive(Debug)]
pub(crate) struct Resolver {
    pub(crate) address: SocketAddr,
    failures: AtomicU64,
}

impl Resolver {
    pub(crate) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

/// All of them, as of now.
pub(crate) type All = Arc<[Resolver]>;

pub(crate) fn all(addresses: &[SocketAddr]) -> All {
    let resolver = |address: &SocketAddr| Resolver {
        address: *address,
        failures: AtomicU64::new(0),
    };
    addresses.iter().map(resolver).collect()
}

/// Who is asked, now and later.
#[derive(Debug)]
pub(crate) struct Resolvers {
    upstream: Upstream,
    /// Where this name server itself is asked.
    own: Vec<SocketAddr>,
    read: Mutex<Read>,
}

/// What was read, and how the file looked.
#[derive(Debug)]
struct Read {
    all: All,
    /// Of what was read; none where nothing could be.
    stamp: Option<Stamp>,
    /// Of what could not be read, which is told once.
    failed: Option<Stamp>,
    looked: Instant,
}

/// Tells a file from what it was: changed in place, another one by that name, or one that may be read now.
type Stamp = (u64, [i64; 4], u64);

impl Resolvers {
    /// Those of `upstream`, without this name server itself, which is asked at `own`.
    pub(crate) fn new(upstream: Upstream, own: Vec<SocketAddr>) -> Self {
        let mut read = Read {
            all: all(&[]),
            stamp: None,
            failed: None,
            looked: Instant::now(),
        };
        match &upstream {
            Upstream::Named(named) => {
                let mut named = named.clone();
                leave_out_own(&mut named, &own);
                read.all = all(&named);
            }
            Upstream::File(path) => review(path, &own, &mut read),
        }
        Self {
            upstream,
            own,
            read: Mutex::new(read),
        }
    }

    /// Those of now.
    pub(crate) fn now(&self) -> All {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Upstream::File(path) = &self.upstream
            && read.looked.elapsed() >= REVIEW
        {
            read.looked = Instant::now();
            review(path, &self.own, &mut read);
        }
        Arc::clone(&read.all)
    }
}

/// Reads the file if it is another one: a look at a small local file, as the C library does at each question.
fn review(path: &Path, own: &[SocketAddr], read: &mut Read) {
    // First how it looks: what changes between the two looks is read again.
    let stamp = stamp(path);
    if stamp.is_none() || stamp == read.stamp {
        return;
    }
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            if read.failed != stamp {
                warn!(?path, %error, "who else knows names can't be read: those it named before are asked, if any");
            }
            read.failed = stamp;
            return;
        }
    };
    read.stamp = stamp;
    // Whoever writes it in place makes it empty first.
    if text.trim().is_empty() {
        return warn!(
            ?path,
            "it is empty: those it named before are asked about other names"
        );
    }
    let mut addresses = resolvers(&text);
    let names_somebody = !addresses.is_empty();
    leave_out_own(&mut addresses, own);
    if names_somebody && addresses.is_empty() {
        // The operator has the host ask here, which is no reason to know less than before.
        return warn!(
            ?path,
            "it names only this name server itself: those it named before are asked about other names; whoever starts \
             next knows of none but those of --dns_resolvers"
        );
    }
    info!(?path, resolvers = ?addresses, "others are asked about other names");
    read.all = all(&addresses);
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = std::fs::metadata(path).ok()?;
    let times = [
        about.mtime(),
        about.mtime_nsec(),
        about.ctime(),
        about.ctime_nsec(),
    ];
    Some((about.ino(), times, about.len()))
}

/// Asking ourselves would go round in circles.
pub(crate) fn leave_out_own(resolvers: &mut Vec<SocketAddr>, bound: &[SocketAddr]) {
    resolvers.retain(|resolver| {
        let own = is_own(*resolver, bound);
        if own {
            tracing::warn!(%resolver, "this is the name server itself: not asked about other names");
        }
        !own
    });
}

/// Whether packets to `resolver` come to one of `bound`.
fn is_own(resolver: SocketAddr, bound: &[SocketAddr]) -> bool {
    // Packets to an address of this host leave from it; that an address can be bound says less (`ip_nonlocal_bind`).
    let is_here = || resolver.ip().is_loopback() || leaves_from(resolver) == Some(resolver.ip());
    let comes_to = |bound: &SocketAddr| {
        bound.port() == resolver.port()
            && (bound.ip() == resolver.ip() || bound.ip().is_unspecified() && is_here())
    };
    bound.iter().any(comes_to)
}

/// Where packets to `address` would leave from.
fn leaves_from(address: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = std::net::UdpSocket::bind(SocketAddr::new(any, 0)).ok()?;
    socket.connect(address).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_every_address_of_this_host() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        for (resolver, bound, own) in [
            ("127.0.0.1:5353", "127.0.0.1:5353", true),
            ("127.0.0.1:5353", "0.0.0.0:5353", true),
            ("127.0.0.77:5353", "0.0.0.0:5353", true),
            ("127.0.0.1:53", "0.0.0.0:5353", false),
            ("127.0.0.53:5353", "127.0.0.1:5353", false),
            // TEST-NET-1 is nobody's.
            ("192.0.2.1:5353", "0.0.0.0:5353", false),
        ] {
            let found = is_own(address(resolver), &[address(bound)]);
            assert_eq!(found, own, "{resolver} at {bound}");
        }
    }

    #[test]
    fn a_file_that_is_empty_or_names_only_ourselves_takes_nobody_away() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        std::fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        let own = vec!["127.0.0.1:53".parse().unwrap()];
        let resolvers = Resolvers::new(Upstream::File(file.clone()), own);
        for (text, asked) in [
            ("", &["192.0.2.1:53"][..]),
            ("\n", &["192.0.2.1:53"]),
            ("nameserver 127.0.0.1\noptions edns0\n", &["192.0.2.1:53"]),
            (
                "nameserver 127.0.0.1\nnameserver 192.0.2.2\n",
                &["192.0.2.2:53"],
            ),
            // Somebody says so.
            ("# nobody\n", &[]),
            ("nameserver 127.0.0.1\n", &[]),
            ("nameserver 192.0.2.33\n", &["192.0.2.33:53"]),
        ] {
            // As a file that is replaced: two writes in place may leave size and time as they were.
            let beside = folder.path().join("beside");
            std::fs::write(&beside, text).unwrap();
            std::fs::rename(&beside, &file).unwrap();
            let mut read = resolvers.read.lock().unwrap();
            review(&file, &resolvers.own, &mut read);
            let now = read.all.iter().map(|resolver| resolver.address.to_string());
            assert_eq!(now.collect::<Vec<_>>(), asked, "after {text:?}");
        }
    }

    #[test]
    fn a_file_that_could_not_be_read_is_read_when_it_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("resolv.conf");
        // Root reads what nobody may, but no folder is a file for anybody.
        std::fs::create_dir(&file).unwrap();
        let resolvers = Resolvers::new(Upstream::File(file.clone()), Vec::new());
        assert!(resolvers.now().is_empty());
        std::fs::remove_dir(&file).unwrap();
        std::fs::write(&file, "nameserver 192.0.2.1\n").unwrap();
        let mut read = resolvers.read.lock().unwrap();
        let before = read.stamp;
        read.failed = stamp(&file);
        review(&file, &[], &mut read);
        assert_eq!((before, read.all.len()), (None, 1));
    }
}
