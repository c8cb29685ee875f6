//! What `/proc` tells of this host's processes and connections.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Processes of this host, as far as they can be looked at. `proc_pid_stat(5)`
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// One letter: `Z` and `X` have ended.
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    pub(crate) session: u32,
    /// CPU time in ticks, that of its ended and collected children included.
    pub(crate) user: u64,
    /// The same, in the kernel.
    pub(crate) system: u64,
}

impl Process {
    pub(crate) fn read(pid: u32) -> Option<Self> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::parse(&String::from_utf8_lossy(&text))
    }

    pub(crate) fn parse(stat: &str) -> Option<Self> {
        // The name comes before, in parentheses, and may hold anything.
        let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        let small = |index: usize| u32::try_from(number(index)?).ok();
        Some(Self {
            state: fields.first()?.chars().next()?,
            parent: small(1)?,
            group: small(2)?,
            session: small(3)?,
            user: number(11)? + number(13)?,
            system: number(12)? + number(14)?,
        })
    }

    /// Its number may still be taken.
    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X')
    }
}

/// All processes.
pub(crate) fn processes() -> BTreeMap<u32, Process> {
    let processes = pids().filter_map(|pid| Some((pid, Process::read(pid)?)));
    processes.collect()
}

/// Resident memory in bytes; kernel threads and what has ended have none.
pub(crate) fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    resident(&String::from_utf8_lossy(&status))
}

fn resident(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// One end of a TCP connection, or a socket that listens: a line of `/proc/net/tcp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Socket {
    /// IPv4 addresses are those, whatever the socket is.
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) listens: bool,
    pub(crate) user: u32,
    /// 0 once it was closed.
    pub(crate) inode: u64,
}

impl Socket {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, local, remote, state, _, _, _, user, _, inode, ..] = words[..] else {
            return None;
        };
        Some(Self {
            local: address(local)?,
            remote: address(remote)?,
            listens: state == "0A",
            user: user.parse().ok()?,
            inode: inode.parse().ok()?,
        })
    }
}

/// Sockets of TCP in this process' network for which `wanted` says so.
pub(crate) fn sockets(wanted: impl Fn(&Socket) -> bool) -> Vec<Socket> {
    let tables = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];
    let texts = tables
        .iter()
        .filter_map(|file| fs::read_to_string(file).ok());
    let mut found = Vec::new();
    for text in texts {
        found.extend(text.lines().filter_map(Socket::parse).filter(&wanted));
    }
    found
}

/// Inodes of the sockets that a process has open; none of one that has ended.
pub(crate) fn open_sockets(pid: u32) -> impl Iterator<Item = u64> {
    let files = fs::read_dir(format!("/proc/{pid}/fd"));
    let links = files.into_iter().flatten().flatten();
    links.filter_map(|file| {
        let target = fs::read_link(file.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?;
        inode.strip_suffix(']')?.parse().ok()
    })
}

/// Processes that have a socket open for whose inode `wanted` says so.
pub(crate) fn holders(wanted: impl Fn(u64) -> bool) -> impl Iterator<Item = u32> {
    pids().filter(move |pid| open_sockets(*pid).any(&wanted))
}

/// `0100007F:1F90`: words of 32 bits as they lie in memory, and a port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?.to_ne_bytes())),
        32 => {
            let mut bytes = [0; 16];
            for (number, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(number * 8)?.to_ne_bytes());
            }
            IpAddr::from(Ipv6Addr::from(bytes))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip.to_canonical(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_are_read() {
        let line =
            "7 (a) b) S 3 7 7 0 -1 4 1 2 3 4 50 60 5 6 20 0 1 0 99 4096 77 18446744073709551615";
        let read = Process::parse(line).unwrap();
        assert_eq!((read.parent, read.session), (3, 7));
        assert_eq!((read.user, read.system), (55, 66));
        assert!(!read.has_ended());
        let ended = Process::parse(&line.replace(") S", ") Z")).unwrap();
        assert!(ended.has_ended());
        assert_eq!(resident("Name:\tx\nVmRSS:\t  77 kB\n"), Some(77 << 10));
        assert!(resident_bytes(std::process::id()).unwrap() > 100 << 10);
        assert!(processes().contains_key(&std::process::id()));
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn sockets_are_read() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 \
                    7 0 34567 1 0000000000000000 100 0 0 10 0";
        let read = Socket::parse(line).unwrap();
        assert_eq!(read.local, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((read.listens, read.user, read.inode), (true, 7, 34567));
        let connected = line.replace(" 0A ", " 01 ");
        assert!(!Socket::parse(&connected).unwrap().listens);
        let mapped = "0000000000000000FFFF00000100007F:1F90";
        let mapped = Socket::parse(&line.replace("0100007F:1F90", mapped)).unwrap();
        assert_eq!(mapped.local, read.local);
        assert_eq!(Socket::parse("  sl  local_address rem_address   st"), None);
    }
}
