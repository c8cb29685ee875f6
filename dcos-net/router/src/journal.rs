//! The access log: a line a request, written by a thread of its own.
//!
//! Nobody waits for it: while its disk is slow, lines are dropped and counted. (Admin Router once stood still because
//! its log did.) The file is opened for appending and never held otherwise, so `copytruncate` of logrotate works.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use jiff::Timestamp;

/// Lines on their way to the disk: some tenths of a second of a busy router.
const WAITING: usize = 8192;

/// Where lines go.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    lines: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

/// What is told of a request.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) client: Option<SocketAddr>,
    pub(crate) host: String,
    pub(crate) request: String,
    pub(crate) agent: String,
    pub(crate) tag: &'static str,
    pub(crate) upstream: String,
    pub(crate) status: u16,
    pub(crate) received: u64,
    pub(crate) sent: u64,
    pub(crate) until_head: Duration,
    pub(crate) whole: Duration,
}

impl Journal {
    /// A log in the file at `path`; `-` is standard error.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stderr())
        } else {
            Box::new(OpenOptions::new().create(true).append(true).open(path)?)
        };
        let (lines, receiver) = sync_channel(WAITING);
        let lost = Arc::new(AtomicU64::new(0));
        let told = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || write_all(&receiver, BufWriter::new(file), &told))?;
        Ok(Self { lines, lost })
    }

    /// Writes a line, or drops it.
    pub(crate) fn write(&self, line: Line) {
        if self.lines.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Writes until nobody is left who could send a line. It flushes whenever nothing waits.
fn write_all(lines: &Receiver<Line>, mut file: impl Write, lost: &AtomicU64) {
    loop {
        let line = match lines.try_recv() {
            Ok(line) => line,
            Err(TryRecvError::Disconnected) => break,
            Err(TryRecvError::Empty) => {
                let _ = file.flush();
                match lines.recv() {
                    Ok(line) => line,
                    Err(_) => break,
                }
            }
        };
        let missing = lost.swap(0, Ordering::Relaxed);
        if missing > 0 {
            let _ = writeln!(
                file,
                "{} {missing} requests are not in this log",
                Timestamp::now()
            );
        }
        // A full disk must not end the router.
        let _ = writeln!(file, "{} {line}", Timestamp::now());
    }
    let _ = file.flush();
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.client {
            Some(client) => write!(f, "{client}")?,
            None => f.write_str("-")?,
        }
        let Self {
            tag,
            status,
            received,
            sent,
            ..
        } = self;
        let (host, request, agent) = (
            quoted(&self.host),
            quoted(&self.request),
            quoted(&self.agent),
        );
        write!(
            f,
            "> {host} \"{request}\" \"{agent}\" len={received} <{tag} {} ",
            quoted(&self.upstream)
        )?;
        let (head, whole) = (self.until_head.as_secs_f64(), self.whole.as_secs_f64());
        write!(f, "code={status} len={sent} {head:.3} {whole:.3}")
    }
}

/// Text of strangers in a line: it can't end the line or its quotes.
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(request: &str) -> Line {
        Line {
            client: Some("10.0.0.1:1234".parse().unwrap()),
            host: "dcos".to_owned(),
            request: request.to_owned(),
            agent: "curl".to_owned(),
            tag: "Mesos",
            upstream: "10.0.0.2:5050".to_owned(),
            status: 200,
            received: 0,
            sent: 12,
            until_head: Duration::from_millis(3),
            whole: Duration::from_millis(5),
        }
    }

    #[test]
    fn strangers_can_not_write_lines_of_their_own() {
        let text = line("GET /\"\n HTTP/1.1").to_string();
        let expected = "10.0.0.1:1234> dcos \"GET /\\\"\\x0a HTTP/1.1\" \"curl\" len=0 \
                        <Mesos 10.0.0.2:5050 code=200 len=12 0.003 0.005";
        assert_eq!(text, expected);
    }

    #[test]
    fn lines_reach_the_file_and_too_many_are_counted() {
        let lost = AtomicU64::new(3);
        let (sender, receiver) = sync_channel(2);
        sender.send(line("GET /a")).unwrap();
        sender.send(line("GET /b")).unwrap();
        drop(sender);
        let mut file = Vec::new();
        write_all(&receiver, &mut file, &lost);
        let text = String::from_utf8(file).unwrap();
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("3 requests are not in this log") && text.contains("GET /b"));
    }
}
