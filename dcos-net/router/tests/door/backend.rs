//! Those behind the router: sockets that a test speaks through by hand.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::setup::{chunk, head, header};

/// A backend whose connections a test takes one by one.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    listener: TcpListener,
}

pub(crate) async fn backend() -> Backend {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    Backend { address, listener }
}

impl Backend {
    pub(crate) async fn accept(&self) -> TcpStream {
        self.listener.accept().await.unwrap().0
    }

    /// Answers each request with what it looked like: its head, and how many bytes its body had.
    pub(crate) fn reflect(self) -> SocketAddr {
        let address = self.address;
        tokio::spawn(async move {
            loop {
                let mut stream = self.accept().await;
                tokio::spawn(async move {
                    loop {
                        let head = head(&mut stream).await;
                        if head.is_empty() {
                            return;
                        }
                        let length = drain(&mut stream, &head).await;
                        let body = format!("{head}body={length}");
                        let size = body.len();
                        let answer =
                            format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n{body}");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        address
    }

    /// Answers every request with these bytes.
    pub(crate) fn say(self, answer: &'static str) -> SocketAddr {
        let address = self.address;
        tokio::spawn(async move {
            loop {
                let mut stream = self.accept().await;
                let head = head(&mut stream).await;
                drain(&mut stream, &head).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        address
    }
}

/// Reads the body behind a head.
async fn drain(stream: &mut TcpStream, head: &str) -> usize {
    let mut length = 0;
    if let Some(announced) = header(head, "content-length") {
        let mut left: usize = announced.parse().unwrap();
        let mut piece = vec![0; 64 << 10];
        while left > 0 {
            let most = left.min(piece.len());
            match stream.read(&mut piece[..most]).await {
                Ok(0) | Err(_) => break,
                Ok(read) => {
                    left -= read;
                    length += read;
                }
            }
        }
    } else if header(head, "transfer-encoding").is_some() {
        while let Some(chunk) = chunk(stream).await {
            length += chunk.len();
        }
    }
    length
}
