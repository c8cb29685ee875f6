//! A node with two networks of containers on it, made of network namespaces.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, id};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Namespaces `node`, `a` and `b`; both containers are reached through the node, which has a way
/// out through `a` as well. Gone when dropped.
pub(crate) struct Hosts {
    prefix: String,
}

/// The address of a host.
pub(crate) fn ip(host: &str, v4: bool) -> IpAddr {
    let text = match (host, v4) {
        ("a", true) => "10.71.1.2",
        ("a", false) => "fd71:1::2",
        ("b", true) => "10.71.2.2",
        ("b", false) => "fd71:2::2",
        (_, true) => "10.71.1.1",
        (_, false) => "fd71:1::1",
    };
    text.parse().unwrap()
}

/// Why no such hosts can be made here.
pub(crate) fn missing() -> Option<&'static str> {
    let run = |program: &str| Command::new(program).arg("-V").output().is_ok();
    if !rustix::process::geteuid().is_root() {
        Some("network namespaces take root")
    } else if !run("ip") || !run("nft") {
        Some("there is no `ip` or no `nft`")
    } else {
        None
    }
}

impl Hosts {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let hosts = Self {
            prefix: format!("l4lb{}x{number}", id()),
        };
        for host in ["node", "a", "b"] {
            run(&format!("ip netns add {}", hosts.name(host)));
            run(&format!("ip -n {} link set lo up", hosts.name(host)));
        }
        let node = hosts.name("node");
        for (host, number) in [("a", 1), ("b", 2)] {
            let own = hosts.name(host);
            for command in [
                format!("ip link add to-{host} netns {node} type veth peer name eth0 netns {own}"),
                format!("ip -n {node} addr add 10.71.{number}.1/24 dev to-{host}"),
                format!("ip -n {node} addr add fd71:{number}::1/64 dev to-{host} nodad"),
                format!("ip -n {node} link set to-{host} up"),
                format!("ip -n {own} addr add 10.71.{number}.2/24 dev eth0"),
                format!("ip -n {own} addr add fd71:{number}::2/64 dev eth0 nodad"),
                format!("ip -n {own} link set eth0 up"),
                format!("ip -n {own} route add default via 10.71.{number}.1"),
                format!("ip -n {own} route add default via fd71:{number}::1"),
            ] {
                run(&command);
            }
        }
        run(&format!("ip -n {node} route add default via 10.71.1.2"));
        run(&format!("ip -n {node} route add default via fd71:1::2"));
        for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            run(&format!("ip netns exec {node} sysctl -qw {name}=1"));
        }
        hosts
    }

    fn name(&self, host: &str) -> String {
        format!("{}{host}", self.prefix)
    }

    /// Runs something on a host, in a thread of its own.
    pub(crate) fn on<T: Send>(&self, host: &str, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/var/run/netns/{}", self.name(host));
        let namespace = std::fs::File::open(path).unwrap();
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                use std::os::fd::AsFd as _;
                let network = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), network).unwrap();
                work()
            });
            inside.join().unwrap()
        })
    }

    /// Serves TCP and UDP at a port of a host, in both families, telling whoever asks its name. Ends
    /// with the process.
    pub(crate) fn serve(&self, host: &str, port: u16, name: &'static str) {
        for v4 in [true, false] {
            let at = SocketAddr::new(ip(host, v4), port);
            let (tcp, udp) = self.on(host, || {
                (TcpListener::bind(at).unwrap(), UdpSocket::bind(at).unwrap())
            });
            std::thread::spawn(move || {
                for client in tcp.incoming() {
                    let Ok(mut client) = client else { return };
                    std::thread::spawn(move || echo(&mut client, name));
                }
            });
            std::thread::spawn(move || {
                let mut question = [0; 16];
                while let Ok((_, client)) = udp.recv_from(&mut question) {
                    let _ = udp.send_to(name.as_bytes(), client);
                }
            });
        }
    }
}

/// Answers each byte with the name.
fn echo(client: &mut TcpStream, name: &str) {
    let mut question = [0];
    while client.read_exact(&mut question).is_ok() {
        if client.write_all(name.as_bytes()).is_err() {
            return;
        }
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in ["node", "a", "b"] {
            run(&format!("ip netns del {}", self.name(host)));
        }
    }
}

fn run(command: &str) {
    let mut words = command.split(' ');
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command}: {said}");
}

/// Long enough for a loaded machine; what fails is refused, not slow.
const PATIENCE: Duration = Duration::from_secs(20);

/// A connection, and who answers on it.
pub(crate) struct Talk(TcpStream);

impl Talk {
    pub(crate) fn open(to: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    pub(crate) fn ask(&mut self) -> std::io::Result<String> {
        self.0.write_all(b"?")?;
        let mut name = [0];
        self.0.read_exact(&mut name)?;
        Ok(char::from(name[0]).to_string())
    }
}

/// Who answers a new connection.
pub(crate) fn ask(to: SocketAddr) -> String {
    let asked = Talk::open(to).and_then(|mut talk| talk.ask());
    asked.unwrap_or_else(|error| format!("{:?}", error.kind()))
}

/// Who answers datagrams of a socket.
pub(crate) fn ask_by_datagram(socket: &UdpSocket, to: SocketAddr) -> String {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut name = [0];
    let asked = socket
        .send_to(b"?", to)
        .and_then(|_| socket.recv_from(&mut name));
    match asked {
        Ok(_) => char::from(name[0]).to_string(),
        Err(error) => format!("{:?}", error.kind()),
    }
}
