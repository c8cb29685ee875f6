//! How long a reader waits for the state of a large cluster.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use bench::{Table, timed};
use dcos_proto::mesos::TaskState;

use super::cluster::Cluster;
use super::{Size, runtime};

/// Reads one document to its end; how many bytes it has.
pub(crate) fn get(address: SocketAddr, request: &str) -> usize {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut buffer = vec![0; 256 * 1024];
    let mut length = 0;
    let mut head = Vec::new();
    loop {
        let read = stream.read(&mut buffer).unwrap();
        if read == 0 {
            break;
        }
        if length == 0 {
            head.extend_from_slice(&buffer[..read.min(64)]);
        }
        length += read;
    }
    let head = String::from_utf8_lossy(&head);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    length
}

pub(crate) fn path(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: master\r\nConnection: close\r\n\r\n")
}

fn call(name: &str, accept: &str) -> String {
    let body = format!("{{\"type\":\"{name}\"}}");
    format!(
        "POST /api/v1 HTTP/1.1\r\nHost: master\r\nConnection: close\r\nAccept: {accept}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) fn run(size: Size, samples: usize) {
    let runtime = runtime();
    let cluster = runtime.block_on(Cluster::running(size));
    let address = cluster.address;
    let mut table = Table::new(
        format!("reading {} agents x {} tasks", size.agents, size.tasks),
        "ms",
    );
    let mut uuid = [0; 16];
    let mut change = |at: usize| {
        uuid[0] += 1;
        let state = [TaskState::TaskStarting, TaskState::TaskRunning][at % 2];
        cluster.update(at % size.agents, 0, state, uuid);
        // The change has arrived when the master has answered whoever asked behind it.
        thread::sleep(std::time::Duration::from_millis(100));
    };
    let (length, first) = timed(|| get(address, &path("/state")));
    let limits = (0..samples).map(|_| transfer(length)).collect();
    table.limit(format!("limit: {} MB over loopback", length >> 20), limits);
    table.row("/state, the first reader", vec![first]);
    let again = (0..samples).map(|_| timed(|| get(address, &path("/state"))).1);
    table.row("/state, nothing changed", again.collect());
    let changed = (0..samples).map(|at| {
        change(at);
        timed(|| get(address, &path("/state"))).1
    });
    table.row("/state, one task changed", changed.collect());
    for (name, request) in [
        ("/state-summary", path("/state-summary")),
        ("/tasks", path("/tasks")),
        ("/metrics/snapshot", path("/metrics/snapshot")),
        ("GET_STATE, JSON", call("GET_STATE", "application/json")),
        (
            "GET_STATE, protobuf",
            call("GET_STATE", "application/x-protobuf"),
        ),
        ("GET_TASKS, JSON", call("GET_TASKS", "application/json")),
        ("GET_AGENTS, JSON", call("GET_AGENTS", "application/json")),
    ] {
        let (length, first) = timed(|| get(address, &request));
        table.row(format!("{name}, first"), vec![first]);
        table.note(format!("{} kB", length >> 10));
        let again = (0..samples).map(|_| timed(|| get(address, &request)).1);
        table.row(format!("{name}, again"), again.collect());
    }
    table.published("Mesos 1.10 /state, 40,000 x 10 (published)", 8000.0);
    table.row("/state, the first reader", vec![first]);
    table.published("Mesos 1.10 GET_STATE, JSON (published)", 9620.0);
    table.print();
    drop(cluster);
}

/// Workload M2: whole documents at every size, for the first reader and for the next.
pub(crate) fn run_sizes() {
    for agents in [1_000, 10_000, 20_000, 40_000] {
        let size = Size { agents, tasks: 10 };
        let runtime = runtime();
        let cluster = runtime.block_on(Cluster::with_ended(size, 10));
        let topic = format!("M2, reading {agents} agents x 5 frameworks x (2 running + 2 done)");
        let mut table = Table::new(topic, "ms");
        for (name, request) in [
            ("/state", path("/state")),
            ("GET_STATE, JSON", call("GET_STATE", "application/json")),
        ] {
            let (length, first) = timed(|| get(cluster.address, &request));
            let limits = (0..3).map(|_| transfer(length)).collect();
            table.limit(format!("limit: {} MB over loopback", length >> 20), limits);
            table.row(format!("{name}, first"), vec![first]);
            let again = (0..3).map(|_| timed(|| get(cluster.address, &request)).1);
            table.row(format!("{name}, again"), again.collect());
        }
        table.print();
    }
}

/// Milliseconds for so many bytes through a socket.
fn transfer(length: usize) -> f64 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let piece = vec![b'x'; 64 * 1024];
    let writer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut left = length;
        while left > 0 {
            let next = left.min(piece.len());
            stream.write_all(&piece[..next]).unwrap();
            left -= next;
        }
    });
    let (read, spent) = timed(|| {
        let mut stream = TcpStream::connect(address).unwrap();
        let mut buffer = vec![0; 256 * 1024];
        let mut sum = 0;
        loop {
            let read = stream.read(&mut buffer).unwrap();
            if read == 0 {
                return sum;
            }
            sum += read;
        }
    });
    writer.join().unwrap();
    assert_eq!(read, length);
    spent
}
