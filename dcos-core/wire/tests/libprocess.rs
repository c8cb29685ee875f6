//! Messages between processes, each side with its own server and connections.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use dcos_wire::libprocess::{Actor, Event, Messenger, MessengerConfig, Upid};
use dcos_wire::{Client, Listener, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

struct Process {
    messenger: Messenger,
    _running: DropGuard,
}

async fn process(config: MessengerConfig) -> Process {
    serve(config, ServerConfig::default()).await
}

async fn serve(config: MessengerConfig, server: ServerConfig) -> Process {
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let messenger = Messenger::with_config(listener.address().unwrap(), config);
    let router = Router::new().route("/health", get(async || "fine"));
    let stop = CancellationToken::new();
    let server = messenger.server(router).config(server);
    tokio::spawn(server.serve(listener, stop.clone()));
    Process {
        messenger,
        _running: stop.drop_guard(),
    }
}

async fn next(actor: &mut Actor) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(10), actor.recv()).await;
    event.expect("an event in time").unwrap()
}

fn text(event: &Event) -> String {
    match event {
        Event::Message(message) => {
            let body = String::from_utf8_lossy(&message.body);
            format!("{} {} {body}", message.from.name(), message.name)
        }
        Event::Exited(upid) => format!("{} exited", upid.name()),
    }
}

#[tokio::test]
async fn messages_arrive_in_order_beside_ordinary_requests() {
    let one = process(MessengerConfig::default()).await;
    let two = process(MessengerConfig::default()).await;
    let mut master = one.messenger.actor("master").unwrap();
    let agent = two.messenger.actor("slave(1)").unwrap();
    for n in 0..5000 {
        agent.send(master.upid(), "test.Count", n.to_string().into());
    }
    for n in 0..5000 {
        assert_eq!(
            text(&next(&mut master).await),
            format!("slave(1) test.Count {n}")
        );
    }
    let url = format!("http://{}/health", one.messenger.address());
    let answer = Client::new().get(&url).await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "fine");
    assert!(one.messenger.actor("master").is_err());
}

#[tokio::test]
async fn an_actor_of_the_same_process_is_reached_too() {
    let one = process(MessengerConfig::default()).await;
    let mut master = one.messenger.actor("master").unwrap();
    let agent = one.messenger.actor("slave(1)").unwrap();
    agent.send_message(
        master.upid(),
        &dcos_proto::internal::PongSlaveMessage::default(),
    );
    let expected = "slave(1) mesos.internal.PongSlaveMessage ";
    assert_eq!(text(&next(&mut master).await), expected);
}

#[tokio::test]
async fn what_is_made_of_events_stays_in_order_however_little_room_there_is() {
    let config = MessengerConfig {
        inbox: 2,
        ..MessengerConfig::default()
    };
    let one = process(config).await;
    let read = |event: Event| match event {
        Event::Message(message) => String::from_utf8(message.body.to_vec()).unwrap(),
        Event::Exited(upid) => format!("{upid} exited"),
    };
    let mut master = one.messenger.reading_actor("master", read).unwrap();
    assert!(one.messenger.actor("master").is_err());
    let two = process(MessengerConfig::default()).await;
    for sender in [&one, &two] {
        let agent = sender.messenger.actor("slave(1)").unwrap();
        for n in 0..200 {
            agent.send(master.upid(), "test.Count", n.to_string().into());
        }
        for n in 0..200 {
            assert_eq!(master.recv().await.unwrap(), n.to_string());
        }
    }
    drop(master);
    assert!(one.messenger.actor("master").is_ok());
}

#[tokio::test]
async fn a_linked_peer_that_goes_away_is_told_once() {
    let one = process(MessengerConfig::default()).await;
    let mut master = one.messenger.actor("master").unwrap();

    let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upid = Upid::new("scheduler-1", peer.local_addr().unwrap());
    master.link(&upid);
    master.link(&upid);
    let (mut connection, _) = peer.accept().await.unwrap();
    master.send(&upid, "test.Hello", "x".into());
    let mut head = [0; 12];
    connection.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"POST /schedu");
    // Answers are drained, and say nothing about the link.
    connection
        .write_all(b"HTTP/1.1 404 Not Found\r\n\r\n")
        .await
        .unwrap();
    drop(connection);
    assert_eq!(text(&next(&mut master).await), "scheduler-1 exited");
    assert!(master.try_recv().is_none());

    // The next send opens a new connection, which nobody is linked to.
    master.send(&upid, "test.Again", "".into());
    let (connection, _) = peer.accept().await.unwrap();
    drop(connection);

    // Nobody listens any more: a link ends at once.
    drop(peer);
    master.link(&upid);
    assert_eq!(text(&next(&mut master).await), "scheduler-1 exited");
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_cut() {
    let config = MessengerConfig {
        outbox_messages: 10,
        ..MessengerConfig::default()
    };
    let one = process(config).await;
    let mut master = one.messenger.actor("master").unwrap();
    let peer = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upid = Upid::new("slave(1)", peer.local_addr().unwrap());
    master.link(&upid);
    let (_stuck, _) = peer.accept().await.unwrap();
    let large = bytes::Bytes::from(vec![0; 1 << 20]);
    let exited = async {
        loop {
            master.send(&upid, "test.Large", large.clone());
            tokio::task::yield_now().await;
            if let Some(event) = master.try_recv() {
                return text(&event);
            }
        }
    };
    let exited = tokio::time::timeout(Duration::from_secs(20), exited).await;
    assert_eq!(exited.unwrap(), "slave(1) exited");
}

#[tokio::test]
async fn pipelined_requests_are_answered_one_by_one() {
    let strict = MessengerConfig {
        require_peer_match: true,
        ..MessengerConfig::default()
    };
    let one = process(strict).await;
    let mut master = one.messenger.actor("master").unwrap();
    let mut stream = TcpStream::connect(one.messenger.address()).await.unwrap();
    let post = |path: &str, from: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nUser-Agent: libprocess/{from}\r\nLibprocess-From: {from}\r\n\
             Connection: Keep-Alive\r\nHost: \r\nTransfer-Encoding: chunked\r\n\r\n\
             2\r\nhi\r\n0\r\n\r\n"
        )
    };
    let requests = [
        post("/master/test.A", "a@127.0.0.1:1"),
        post("/master/test.B", "a@10.0.0.1:1"),
        post("/other/test.C", "a@127.0.0.1:1"),
        post("/master/test.D", "nobody"),
        post("/master", "a@127.0.0.1:1"),
        post("/master/test.F", "a@127.0.0.1:1"),
    ];
    stream
        .write_all(requests.concat().as_bytes())
        .await
        .unwrap();
    assert_eq!(text(&next(&mut master).await), "a test.A hi");
    assert_eq!(text(&next(&mut master).await), "a test.F hi");
    stream.shutdown().await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let statuses: Vec<&str> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["202", "400", "404", "500", "500", "202"]);
}

#[tokio::test]
async fn a_link_to_an_unroutable_address_ends() {
    let config = MessengerConfig {
        connect_timeout: Duration::from_millis(100),
        ..MessengerConfig::default()
    };
    let one = process(config).await;
    let mut master = one.messenger.actor("master").unwrap();
    let nowhere: SocketAddr = "192.0.2.1:5051".parse().unwrap();
    master.link(&Upid::new("slave(1)", nowhere));
    assert_eq!(text(&next(&mut master).await), "slave(1) exited");
}

/// The start of a message with a body of `length` bytes.
fn head(actor: &str, length: usize) -> String {
    format!(
        "POST /{actor}/test.Hello HTTP/1.1\r\nLibprocess-From: a@127.0.0.1:1\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn other_requests_follow_messages_on_one_connection() {
    let one = process(MessengerConfig::default()).await;
    let mut master = one.messenger.actor("master").unwrap();
    let mut stream = TcpStream::connect(one.messenger.address()).await.unwrap();
    // Of the first message and of the last request, a part has to be waited for.
    let first = head("master", 5) + "he";
    stream.write_all(first.as_bytes()).await.unwrap();
    let rest = format!("llo{}GET /hea", head("nobody", 0));
    stream.write_all(rest.as_bytes()).await.unwrap();
    assert_eq!(text(&next(&mut master).await), "a test.Hello hello");
    let rest = b"lth HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(rest).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let statuses: Vec<&str> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["202", "404", "200"]);
    assert!(answers.ends_with("fine"), "{answers:?}");
}

#[tokio::test]
async fn a_head_that_trickles_in_has_one_patience_whatever_came_before() {
    let patience = ServerConfig {
        header_timeout: Duration::from_millis(200),
        ..ServerConfig::default()
    };
    let one = serve(MessengerConfig::default(), patience).await;
    let mut master = one.messenger.actor("master").unwrap();
    let stream = TcpStream::connect(one.messenger.address()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    writer
        .write_all(head("master", 0).as_bytes())
        .await
        .unwrap();
    assert_eq!(text(&next(&mut master).await), "a test.Hello ");
    let trickle = async {
        // Each byte comes in time, all of them together do not.
        for byte in head("master", 0).bytes() {
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut answers = Vec::new();
    tokio::select! {
        () = trickle => panic!("nobody ended it"),
        // What was answered may be lost with the bytes nobody reads any more.
        _ = reader.read_to_end(&mut answers) => {}
    }
}

#[tokio::test]
async fn whoever_reads_answers_has_them_at_once_and_libprocess_soon() {
    let one = process(MessengerConfig::default()).await;
    let _master = one.messenger.actor("master").unwrap();
    let agent = "Content-Length: 0\r\nUser-Agent: libprocess/a@127.0.0.1:1\r\n\r\n";
    let libprocess = head("master", 0).replace("Content-Length: 0\r\n\r\n", agent);
    for request in [head("master", 0), libprocess] {
        let mut stream = TcpStream::connect(one.messenger.address()).await.unwrap();
        for _ in 0..2 {
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut status = [0; 44];
            let read = stream.read_exact(&mut status);
            let read = tokio::time::timeout(Duration::from_secs(10), read).await;
            read.expect("an answer").unwrap();
            assert!(status.starts_with(b"HTTP/1.1 202 Accepted\r\n"));
        }
    }
}

#[tokio::test]
async fn chosen_connections_are_served_elsewhere() {
    let aside = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("aside")
        .enable_all()
        .build()
        .unwrap();
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address().unwrap();
    let messenger = Messenger::new(address);
    let thread = async || std::thread::current().name().unwrap_or_default().to_owned();
    let router = Router::new().route("/{*path}", get(thread));
    let chosen = |line: &str| line == "GET /long HTTP/1.1\r";
    let server = messenger
        .server(router)
        .aside(aside.handle().clone(), chosen);
    let stop = CancellationToken::new();
    let serving = tokio::spawn(server.serve(listener, stop.clone()));
    let served = async |path: &str| {
        let url = format!("http://{address}/{path}");
        // A client of its own has a connection of its own.
        let answer = Client::new().get(&url).await.unwrap();
        answer.text().await.unwrap()
    };
    assert_eq!(served("long").await, "aside");
    assert_ne!(served("short").await, "aside");
    stop.cancel();
    assert_eq!(serving.await.unwrap().aborted, 0);
    aside.shutdown_background();
}

#[tokio::test]
async fn clients_of_http_do_not_shut_out_those_who_send_messages() {
    let config = ServerConfig {
        max_connections: 4,
        max_connections_per_host: 4,
        ..ServerConfig::default()
    };
    let load = config.load.clone();
    let one = serve(MessengerConfig::default(), config).await;
    let mut master = one.messenger.actor("master").unwrap();
    let address = one.messenger.address();
    let request = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n";
    let ask = async || {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(request).await.unwrap();
        let mut status = [0; 12];
        client.read_exact(&mut status).await.unwrap();
        (client, String::from_utf8(status.to_vec()).unwrap())
    };
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (client, status) = ask().await;
        assert_eq!(status, "HTTP/1.1 200");
        clients.push(client);
    }
    let (mut refused, status) = ask().await;
    assert_eq!((status.as_str(), load.refused()), ("HTTP/1.1 503", 1));
    let mut rest = Vec::new();
    refused.read_to_end(&mut rest).await.unwrap();

    let two = process(MessengerConfig::default()).await;
    let agent = two.messenger.actor("slave(1)").unwrap();
    agent.send(master.upid(), "test.Hello", "hello".into());
    assert_eq!(text(&next(&mut master).await), "slave(1) test.Hello hello");
    assert_eq!(load.open(), 4);
    drop(clients);
}
