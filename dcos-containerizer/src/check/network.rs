//! Connections made inside a container's network namespace.
//!
//! No process is started for it.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::netns;

/// Connects to a port of the loopback address within `namespace`, or our own.
pub(super) async fn connect(
    namespace: Option<&File>,
    port: u16,
    ipv6: bool,
    timeout: Duration,
) -> io::Result<tokio::net::TcpStream> {
    let address: SocketAddr = if ipv6 {
        (Ipv6Addr::LOCALHOST, port).into()
    } else {
        (Ipv4Addr::LOCALHOST, port).into()
    };
    let Some(namespace) = namespace else {
        return timed(timeout, tokio::net::TcpStream::connect(address)).await;
    };
    let connected = netns::within(namespace.try_clone()?, move || {
        // `connect_timeout` takes no more than the kernel's own limit, of some minutes.
        let stream = TcpStream::connect_timeout(&address, timeout.min(LONGEST))?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    });
    let stream = timed(timeout, connected).await?;
    tokio::net::TcpStream::from_std(stream)
}

const LONGEST: Duration = Duration::from_secs(300);

async fn timed<T>(timeout: Duration, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(timeout, future)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// The network namespace of `pid`, unless it is ours too, or not for us to see.
///
/// # Errors
/// There is no such process any more: nobody may take our namespace for its.
pub(super) fn foreign_namespace(pid: u32) -> io::Result<Option<File>> {
    let theirs = format!("/proc/{pid}/ns/net");
    let other = match std::fs::read_link(&theirs) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(None),
        other => other?,
    };
    if std::fs::read_link("/proc/self/ns/net")? == other {
        return Ok(None);
    }
    File::open(theirs).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A server in a network namespace of its own, killed when dropped.
    struct Server(Child);

    impl Drop for Server {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    #[tokio::test]
    async fn connections_are_made_where_the_container_is() {
        let script = "import socket, sys, fcntl, struct\n\
            s = socket.socket()\n\
            flags = struct.pack('16sh', b'lo', 1)\n\
            fcntl.ioctl(s, 0x8914, flags)\n\
            s.bind(('127.0.0.1', 4321)); s.listen()\n\
            print('ready', flush=True); s.accept()[0].recv(1)";
        let server = Command::new("unshare")
            .args(["--net", "python3", "-c", script])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(server) = server else {
            eprintln!("skipped: there is no `unshare`");
            return;
        };
        let mut server = Server(server);
        let mut line = String::new();
        let output = server.0.stdout.take().unwrap();
        std::io::BufRead::read_line(&mut io::BufReader::new(output), &mut line).unwrap();
        if line != "ready\n" {
            eprintln!("skipped: no network namespace without root, or no python3");
            return;
        }
        let pid = server.0.id();
        let second = Duration::from_secs(10);
        let namespace = foreign_namespace(pid).unwrap();
        assert!(namespace.is_some());
        let namespace = namespace.as_ref();
        connect(namespace, 4321, false, second).await.unwrap();
        let here = connect(None, 4321, false, second).await;
        assert!(here.is_err(), "the host has no such server");
        let inside = connect(namespace, 4322, false, second).await.unwrap_err();
        assert_eq!(inside.kind(), io::ErrorKind::ConnectionRefused);
        let own = foreign_namespace(std::process::id()).unwrap();
        assert!(own.is_none());
        drop(server);
        assert!(foreign_namespace(pid).is_err(), "it is nobody's");
    }
}
