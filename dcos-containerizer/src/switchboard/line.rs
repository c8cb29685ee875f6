//! The agent's side of a line.

use std::io;
use std::path::Path;

use bytes::{Buf, Bytes, BytesMut};
use dcos_launcher::short_name;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::Switchboard;
use super::frame::{
    self, ACCEPTED, BUSY, DATA, END, Greeting, HEAD, MAX_PAYLOAD, STDERR, STDOUT, WINDOW,
};

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LineError {
    /// Somebody else has the input line.
    #[error("multiple input connections are not allowed")]
    Busy,
    /// The switchboard is gone: its container has ended, and whoever listened has heard it all.
    #[error("connecting to the container's switchboard")]
    Gone(#[source] io::Error),
}

/// Which stream a piece of output is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Standard output; with a terminal, all output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Some output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where it was written to.
    pub source: Source,
    /// What was written.
    pub data: Bytes,
}

impl Switchboard {
    /// A line that hears what the container says from now on. Not reading holds the container up,
    /// after a buffer.
    ///
    /// # Errors
    /// [`LineError::Gone`].
    pub async fn output(&self) -> Result<OutputLine, LineError> {
        let stream = self.call(Greeting::Output).await?;
        let buffer = BytesMut::new();
        Ok(OutputLine { stream, buffer })
    }

    /// The one line that speaks to the container's standard input.
    ///
    /// # Errors
    /// [`LineError`].
    pub async fn input(&self) -> Result<InputLine, LineError> {
        let stream = self.call(Greeting::Input).await?;
        Ok(InputLine { stream })
    }

    /// Tells the switchboard that its container has ended; one that is gone is fine.
    pub async fn end(&self) {
        self.call(Greeting::Ended).await.ok();
    }

    async fn call(&self, greeting: Greeting) -> Result<UnixStream, LineError> {
        let connect = async |socket: &Path| {
            let (_folder, short) = short_name(socket)?;
            let mut stream = UnixStream::connect(short).await?;
            stream.write_all(&[greeting.byte()]).await?;
            let answer = stream.read_u8().await?;
            Ok((stream, answer))
        };
        match connect(&self.socket).await {
            Ok((stream, ACCEPTED)) => Ok(stream),
            Ok((_, BUSY)) => Err(LineError::Busy),
            Ok(_) => Err(LineError::Gone(io::ErrorKind::InvalidData.into())),
            Err(error) => Err(LineError::Gone(error)),
        }
    }
}

/// Hears what a container says.
#[derive(Debug)]
pub struct OutputLine {
    stream: UnixStream,
    buffer: BytesMut,
}

impl OutputLine {
    /// The next piece of output; `None` once there will be no more. A future dropped half-way
    /// loses nothing.
    ///
    /// # Errors
    /// The line broke.
    pub async fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.whole_piece()? {
                return Ok(Some(piece));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn whole_piece(&mut self) -> io::Result<Option<Piece>> {
        let Some(head) = self.buffer.first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let (kind, length) = frame::parse(*head).ok_or_else(invalid)?;
        let source = match kind {
            STDOUT => Source::Stdout,
            STDERR => Source::Stderr,
            _ => return Err(invalid()),
        };
        if self.buffer.len() < HEAD + length {
            self.buffer.reserve(HEAD + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        let data = self.buffer.split_to(length).freeze();
        Ok(Some(Piece { source, data }))
    }
}

/// Speaks to a container.
#[derive(Debug)]
pub struct InputLine {
    stream: UnixStream,
}

impl InputLine {
    /// Hands bytes to the container's standard input; waits while it does not take them.
    ///
    /// # Errors
    /// The container has ended.
    pub async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        for piece in data.chunks(MAX_PAYLOAD) {
            self.frame(DATA, piece).await?;
        }
        Ok(())
    }

    /// Ends standard input. A terminal has no such end: there, the character for it is data.
    ///
    /// # Errors
    /// The container has ended.
    pub async fn end(&mut self) -> io::Result<()> {
        self.frame(END, &[]).await
    }

    /// Tells a terminal its size; for pipes it means nothing.
    ///
    /// # Errors
    /// The container has ended.
    pub async fn resize(&mut self, rows: u16, columns: u16) -> io::Result<()> {
        let ([a, b], [c, d]) = (rows.to_be_bytes(), columns.to_be_bytes());
        self.frame(WINDOW, &[a, b, c, d]).await
    }

    /// Waits until the container has ended.
    pub async fn closed(&mut self) {
        // The switchboard says nothing on this line.
        let _ = self.stream.read(&mut [0]).await;
    }

    async fn frame(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        self.stream
            .write_all(&frame::head(kind, payload.len()))
            .await?;
        self.stream.write_all(payload).await
    }
}
