//! Connections made inside a container's network namespace.
//!
//! A socket stays in the namespace it was made in. So a short-lived thread enters the container's
//! namespace, makes the connection, and hands it out; no process is started for it.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Connects to a port of the loopback address that the process `pid` sees.
pub(super) async fn connect(
    pid: Option<u32>,
    port: u16,
    ipv6: bool,
    timeout: Duration,
) -> io::Result<tokio::net::TcpStream> {
    let address: SocketAddr = if ipv6 {
        (Ipv6Addr::LOCALHOST, port).into()
    } else {
        (Ipv4Addr::LOCALHOST, port).into()
    };
    let Some(namespace) = pid.and_then(foreign_namespace) else {
        return timed(timeout, tokio::net::TcpStream::connect(address)).await;
    };
    let (sender, receiver) = tokio::sync::oneshot::channel();
    // A thread of its own: it is in the wrong namespace afterwards, and ends.
    std::thread::Builder::new()
        .name("check-netns".into())
        .spawn(move || {
            let connect = || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind)?;
                // `connect_timeout` takes no more than the kernel's own limit, of some minutes.
                let stream = TcpStream::connect_timeout(&address, timeout.min(LONGEST))?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            };
            // Nobody waits any more if the timeout came first.
            sender.send(connect()).ok();
        })?;
    let stream = timed(timeout, async {
        receiver.await.map_err(|_| io::ErrorKind::Interrupted)?
    })
    .await?;
    tokio::net::TcpStream::from_std(stream)
}

const LONGEST: Duration = Duration::from_secs(300);

async fn timed<T>(timeout: Duration, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(timeout, future)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The network namespace of `pid`, unless it is ours too.
fn foreign_namespace(pid: u32) -> Option<File> {
    let theirs = format!("/proc/{pid}/ns/net");
    let link = |path: &Path| std::fs::read_link(path).ok();
    let (own, other) = (
        link(Path::new("/proc/self/ns/net"))?,
        link(Path::new(&theirs))?,
    );
    if own == other {
        return None;
    }
    File::open(theirs).ok()
}
