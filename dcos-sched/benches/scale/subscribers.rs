//! How many events a second reach a thousand readers of the operator API.

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bench::Table;
use dcos_proto::mesos::TaskState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::cluster::Cluster;
use super::{Size, runtime};

const READERS: usize = 1000;
const EVENTS: usize = 2000;
/// Of an event of the limit, about that of one of ours.
const BYTES: usize = 512;

pub(crate) fn run(samples: usize) {
    let mut table = Table::new(format!("events to {READERS} subscribers"), "deliveries/s");
    let mut limits = Vec::new();
    let mut rates = Vec::new();
    for _ in 0..samples {
        limits.push(limit());
        rates.push(runtime().block_on(ours()));
    }
    table.limit("limit: 10 events in each send", limits);
    table.row("operator API, JSON", rates);
    table.note("published for Redis 7 in place of it: 0.56 of the limit");
    table.print();
}

async fn ours() -> f64 {
    let cluster = Cluster::running(Size {
        agents: 100,
        tasks: EVENTS / 100,
    })
    .await;
    let opened = Arc::new(AtomicUsize::new(0));
    let heard = Arc::new(AtomicUsize::new(0));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let (opened, heard) = (Arc::clone(&opened), Arc::clone(&heard));
        readers.spawn(read(cluster.address, opened, heard));
    }
    while opened.load(Ordering::Acquire) < READERS {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let begin = Instant::now();
    for event in 0..EVENTS {
        let mut uuid = [0; 16];
        uuid[..8].copy_from_slice(&(event as u64).to_le_bytes());
        cluster.update(event % 100, event / 100, TaskState::TaskKilling, uuid);
    }
    while readers.join_next().await.is_some() {}
    let spent = begin.elapsed().as_secs_f64();
    assert_eq!(heard.load(Ordering::Acquire), READERS * EVENTS);
    (READERS * EVENTS) as f64 / spent
}

/// Subscribes, and reads until all events have come. A record is one line feed: JSON has none
/// inside.
async fn read(address: SocketAddr, opened: Arc<AtomicUsize>, heard: Arc<AtomicUsize>) {
    let body = r#"{"type":"SUBSCRIBE"}"#;
    let request = format!(
        "POST /api/v1 HTTP/1.1\r\nHost: master\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut buffer = vec![0; 64 * 1024];
    let mut marks = 0;
    let mut seen = 0;
    let mut tail: Vec<u8> = Vec::new();
    let mark = b"\"type\":\"TASK_UPDATED\"";
    while seen < EVENTS {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "cut");
        if marks == 0 && find(&mut tail, &buffer[..read], b"\"type\":\"HEARTBEAT\"") > 0 {
            marks = 1;
            opened.fetch_add(1, Ordering::AcqRel);
            tail.clear();
        } else if marks == 1 {
            seen += find(&mut tail, &buffer[..read], mark);
        }
    }
    heard.fetch_add(seen, Ordering::AcqRel);
}

/// How often `mark` occurs in what was read, over the border of pieces.
fn find(tail: &mut Vec<u8>, piece: &[u8], mark: &[u8]) -> usize {
    tail.extend_from_slice(piece);
    let mut count = 0;
    let mut at = 0;
    while let Some(quote) = tail[at..].windows(mark.len()).position(|text| text == mark) {
        count += 1;
        at += quote + mark.len();
    }
    let keep = tail.len().saturating_sub(mark.len() - 1).max(at);
    tail.drain(..keep);
    count
}

/// Deliveries a second if events are bytes that lie ready: one thread writes, the other reads.
fn limit() -> f64 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut writers = Vec::new();
    let runtime = runtime();
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nonblocking(true).unwrap();
        writers.push(listener.accept().unwrap().0);
        readers.spawn_on(
            async move {
                let mut stream = tokio::net::TcpStream::from_std(stream).unwrap();
                let mut buffer = vec![0; 64 * 1024];
                while stream.read(&mut buffer).await.unwrap() > 0 {}
            },
            runtime.handle(),
        );
    }
    let piece = vec![b'x'; BYTES * 10];
    let begin = Instant::now();
    for _ in 0..EVENTS / 10 {
        for writer in &mut writers {
            writer.write_all(&piece).unwrap();
        }
    }
    drop(writers);
    runtime.block_on(async { while readers.join_next().await.is_some() {} });
    (READERS * EVENTS) as f64 / begin.elapsed().as_secs_f64()
}
