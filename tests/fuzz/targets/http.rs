//! Any bytes, sent to a server that negotiates, decodes calls and takes libprocess messages: the
//! connection ends, what is answered is HTTP, and the next client is served.
#![no_main]

use std::sync::LazyLock;
use std::time::Duration;

use axum::Router;
use axum::response::Response;
use axum::routing::{any, post};
use bytes::Bytes;
use dcos_proto::scheduler::Call;
use dcos_wire::libprocess::Messenger;
use dcos_wire::{Listener, MediaType, Pipe, Refusal, ServerConfig, reply};
use http::HeaderMap;
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

struct World {
    runtime: Runtime,
    pipe: Pipe,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_time().build().expect("a runtime");
    let (pipe, listener) = Listener::pipe();
    let patience = Duration::from_millis(20);
    let config = ServerConfig {
        first_byte_timeout: patience,
        header_timeout: patience,
        body_timeout: patience,
        idle_timeout: patience,
        body_limit: 4096,
        message_limit: 4096,
        ..ServerConfig::default()
    };
    let messenger = Messenger::new(([127, 0, 0, 1], 5050).into());
    let master = messenger.actor("master").expect("a free name");
    let router = Router::new()
        .route("/api/v1/scheduler", post(call))
        .fallback(any(async |body: Bytes| body));
    let server = messenger.server(router).config(config);
    runtime.spawn(server.serve(listener, CancellationToken::new()));
    runtime.spawn(async move {
        let mut master = master;
        while master.recv().await.is_some() {}
    });
    World { runtime, pipe }
});

async fn call(headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let call: Call = MediaType::of_content(&headers)?.decode(&body)?;
    Ok(reply::message(
        MediaType::of_answer(&headers)?,
        MediaType::Json.encode(&call),
    ))
}

/// What the server answers until it closes. With `hang_up` the client ends its side first, since a
/// connection that carried a libprocess message may stay silent for ever.
async fn exchange(pipe: &Pipe, request: &[u8], hang_up: bool) -> Vec<u8> {
    let stream = pipe.connect().await.expect("the server listens");
    let (mut reader, mut writer) = tokio::io::split(stream);
    let write = async {
        // The server may close before it has taken everything.
        let _ = writer.write_all(request).await;
        if hang_up {
            let _ = writer.shutdown().await;
        }
    };
    let mut answer = Vec::new();
    let read = async {
        let _ = reader.read_to_end(&mut answer).await;
    };
    let both = async { tokio::join!(write, read) };
    tokio::time::timeout(Duration::from_secs(5), both)
        .await
        .expect("the server closes");
    answer
}

fuzz_target!(|request: &[u8]| {
    let World { runtime, pipe } = &*WORLD;
    runtime.block_on(async {
        let answer = exchange(pipe, request, true).await;
        let is_http2 = request.starts_with(b"PRI");
        assert!(answer.is_empty() || is_http2 || answer.starts_with(b"HTTP/1."));
        let ping = b"GET /ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert!(
            exchange(pipe, ping, false)
                .await
                .starts_with(b"HTTP/1.1 200")
        );
    });
});
