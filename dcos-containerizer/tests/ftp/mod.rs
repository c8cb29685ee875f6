//! A small FTP server: joe, whose password is `s3cret`, and anybody, who are shown one folder.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use dcos_wire::tls;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// `/pub/app.tar.gz` is there; `breaks` ends too early, `lies` says it is longer, `stalls` stands still.
#[derive(Clone)]
pub(crate) struct Content {
    pub(crate) archive: Bytes,
    /// Knows `EPSV`.
    pub(crate) extended: bool,
    pub(crate) tls: Option<TlsAcceptor>,
    /// How often a file was asked for.
    pub(crate) asked: Arc<AtomicUsize>,
    /// Connections that are open.
    pub(crate) open: Arc<AtomicUsize>,
}

impl Content {
    pub(crate) fn new(archive: Bytes) -> Self {
        Self {
            archive,
            extended: true,
            tls: None,
            asked: Arc::default(),
            open: Arc::default(),
        }
    }

    pub(crate) fn with_tls(self) -> Self {
        let config = tls::server(&certificate("server.pem"), &certificate("server.key"), None);
        Self {
            tls: Some(TlsAcceptor::from(config.unwrap())),
            ..self
        }
    }

    /// Serves until the handle aborts.
    pub(crate) async fn serve(self) -> (SocketAddr, Running) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let content = self.clone();
                tokio::spawn(async move {
                    content.open.fetch_add(1, Ordering::Relaxed);
                    content.session(stream).await.ok();
                    content.open.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        (address, Running(serving.abort_handle()))
    }

    async fn session(&self, stream: TcpStream) -> io::Result<()> {
        let mut control = BufReader::new(self.secure(stream).await?);
        let (mut folder, mut user) = (PathBuf::from("/home"), String::new());
        let (mut data, mut private) = (None, false);
        let mut line = String::from("HELLO");
        loop {
            let (command, argument) = line
                .trim_end()
                .split_once(' ')
                .unwrap_or((line.trim_end(), ""));
            let answer = match command {
                "HELLO" => "220-welcome\r\n 220 of many lines\r\n220 here".into(),
                "USER" => {
                    argument.clone_into(&mut user);
                    "331 who says so?".into()
                }
                "PASS" if user == "anonymous" || (user == "joe" && argument == "s3cret") => {
                    "230 come in".into()
                }
                "PASS" => "530 Login incorrect.".into(),
                "PBSZ" | "TYPE" => "200 so be it".into(),
                "PROT" => {
                    private = argument == "P";
                    "200 so be it".into()
                }
                "CWD" => {
                    folder = folder.join(argument);
                    "250 there we are".into()
                }
                "SIZE" => match argument {
                    "lies" => format!("213 {}", self.archive.len() + 1),
                    _ => format!("213 {}", self.archive.len()),
                },
                "EPSV" if !self.extended => "500 what?".into(),
                "EPSV" | "PASV" => {
                    let listener = TcpListener::bind("127.0.0.1:0").await?;
                    let port = listener.local_addr()?.port();
                    data = Some(listener);
                    match command {
                        "EPSV" => format!("229 at (|||{port}|)"),
                        // An address that nobody is to believe.
                        _ => format!("227 at (192,0,2,1,{},{})", port >> 8, port & 0xff),
                    }
                }
                "RETR" if folder != Path::new("/pub") => "550 No such file.".into(),
                "RETR" => {
                    assert_eq!(
                        private,
                        self.tls.is_some(),
                        "data is as private as the rest"
                    );
                    self.asked.fetch_add(1, Ordering::Relaxed);
                    control.write_all(b"150 there it comes\r\n").await?;
                    let (stream, _) = data.take().unwrap().accept().await?;
                    let mut stream = self.secure(stream).await?;
                    let half = self.archive.len() / 2;
                    match argument {
                        "breaks" => {
                            stream.write_all(&self.archive[..half]).await?;
                            return Ok(());
                        }
                        "stalls" => {
                            stream.write_all(&self.archive[..half]).await?;
                            stream.flush().await?;
                            // Until the other side is gone.
                            control.read_line(&mut line).await?;
                            return Ok(());
                        }
                        _ => stream.write_all(&self.archive).await?,
                    }
                    stream.shutdown().await?;
                    "226 that was it".into()
                }
                _ => "500 what?".to_owned(),
            };
            control
                .write_all(format!("{answer}\r\n").as_bytes())
                .await?;
            line.clear();
            if control.read_line(&mut line).await? == 0 {
                return Ok(());
            }
        }
    }

    async fn secure(&self, stream: TcpStream) -> io::Result<Box<dyn Stream>> {
        Ok(match &self.tls {
            Some(acceptor) => Box::new(acceptor.accept(stream).await?),
            None => Box::new(stream),
        })
    }
}

/// A file of the throw-away authority that signed `localhost`.
pub(crate) fn certificate(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dcos-core/wire/tests/tls");
    folder.join(name)
}

pub(crate) struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
