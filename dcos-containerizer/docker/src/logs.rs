//! A container's output, from the engine to the container logger: each byte once.
//!
//! The engine keeps output as entries with a time. They are followed from the beginning, and how
//! far they were taken over is kept beside ([`journal`]), so that the next agent goes on exactly
//! there. A container whose log driver keeps nothing (`none`) is heard live instead, and what it
//! prints while no agent runs is lost.

mod journal;

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::{AttachContainerOptionsBuilder, LogsOptionsBuilder};
use dcos_containerizer::logger::Logs;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use tokio::sync::{mpsc, watch};

use crate::engine::{Engine, is_status};
use journal::{Channel, Entry};

pub(crate) use journal::nanoseconds as time_of;

/// How many entries may wait for a write, and are then written at once: of 16 KB at most each.
const BATCH: usize = 512;

/// How long the engine, or the disk, may stand still over the last words of a container that
/// ended.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// For those who wait as long as the container runs.
const FOREVER: Duration = Duration::from_hours(24 * 365 * 100);

/// How long after its end the followed log may go on.
const LINGER: Duration = Duration::from_secs(2);

/// Takes over what one container prints.
#[derive(Debug)]
pub(crate) struct Tap {
    engine: Engine,
    name: String,
    tty: bool,
    channels: [Arc<Mutex<Channel>>; 2],
}

/// Output heard from before the start of a container.
pub(crate) type Live = BoxStream<'static, Result<LogOutput, Error>>;

impl Tap {
    /// Opens the tap of the container that the engine calls `name`; what was taken over is kept
    /// in `folder`.
    pub(crate) fn open(
        engine: Engine,
        name: String,
        tty: bool,
        logs: Logs,
        folder: &Path,
    ) -> io::Result<Self> {
        let channel = |file: File, stream| {
            let channel = Channel::open(file, &folder.join(format!("logs.{stream}")))?;
            Ok::<_, io::Error>(Arc::new(Mutex::new(channel)))
        };
        Ok(Self {
            engine,
            name,
            tty,
            channels: [channel(logs.stdout, 1)?, channel(logs.stderr, 2)?],
        })
    }

    /// Listens to a container that is not started yet.
    pub(crate) async fn listen(engine: &Engine, name: &str) -> Result<Live, Error> {
        let options = AttachContainerOptionsBuilder::new()
            .stream(true)
            .stdout(true)
            .stderr(true)
            .build();
        let attached = engine.api().attach_container(name, Some(options)).await?;
        Ok(attached.output)
    }

    /// Writes what is heard until the container ends.
    pub(crate) async fn hear(&self, live: Live) {
        let live = live.map(|one| one.map(|output| (output, false)));
        self.write_all(live, None).await.ok();
    }

    /// Follows the log until `ended`, and takes over the rest then.
    pub(crate) async fn follow(&self, mut ended: watch::Receiver<bool>) {
        let mut pause = Duration::from_millis(100);
        while !*ended.borrow() {
            let follow = self.write_all(self.entries(true), None);
            tokio::select! {
                followed = follow => {
                    // The engine went away, or the container ended and we do not know it yet.
                    if let Err(error) = followed {
                        if is_status(&error, 404) {
                            return;
                        }
                        tracing::debug!(container = self.name, %error, "its log broke off");
                    }
                }
                () = lingered(&mut ended) => break,
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
            pause = (pause * 2).min(Duration::from_secs(5));
        }
        match self.write_all(self.entries(false), Some(LAST_WORDS)).await {
            Ok(()) => {}
            Err(error) if is_status(&error, 404) => {}
            Err(error) => {
                let error = self.engine.text(&error);
                tracing::warn!(
                    container = self.name,
                    error,
                    "its last words may be missing"
                );
            }
        }
    }

    fn entries(&self, follow: bool) -> impl Stream<Item = Result<(LogOutput, bool), Error>> {
        for channel in &self.channels {
            lock(channel).rewind();
        }
        let since = self.channels.iter().map(|channel| lock(channel).since());
        let since = match since.collect::<Vec<_>>()[..] {
            // A stream that has said nothing yet is as far as the other one, but for the moment
            // that it takes two writers to get into one log.
            [0, other] | [other, 0] => other,
            [one, other] => one.min(other),
            _ => 0,
        };
        let options = LogsOptionsBuilder::new()
            .follow(follow)
            .stdout(true)
            .stderr(true)
            .timestamps(true)
            .since(i32::try_from(since.saturating_sub(5)).unwrap_or(0))
            .build();
        let entries = self.engine.api().logs(&self.name, Some(options));
        entries.map(|entry| entry.map(|output| (output, true)))
    }

    /// Reads and writes at the same time, so that what came during a write is the next one.
    /// Neither waits longer than `patience`.
    async fn write_all(
        &self,
        outputs: impl Stream<Item = Result<(LogOutput, bool), Error>>,
        patience: Option<Duration>,
    ) -> Result<(), Error> {
        let long = patience.unwrap_or(FOREVER);
        let (sender, mut receiver) = mpsc::channel(BATCH);
        let read = async move {
            let mut outputs = std::pin::pin!(outputs);
            loop {
                let output = tokio::time::timeout(long, outputs.next()).await;
                let Some(output) = output.map_err(|_| Error::RequestTimeoutError)? else {
                    return Ok(());
                };
                let (output, stamped) = output?;
                let (stream, entry) = self.entry(output, stamped);
                if let Some(entry) = entry
                    && sender.send((stream, entry)).await.is_err()
                {
                    // Whoever writes has given up.
                    return Err(Error::RequestTimeoutError);
                }
            }
        };
        let write = async move {
            let mut batch = Vec::with_capacity(BATCH);
            while receiver.recv_many(&mut batch, BATCH).await > 0 {
                let mut entries = [Vec::new(), Vec::new()];
                for (stream, entry) in batch.drain(..) {
                    entries[stream].push(entry);
                }
                for (channel, entries) in self.channels.iter().zip(entries) {
                    if !self.write(channel, entries, long).await {
                        return;
                    }
                }
            }
        };
        tokio::join!(read, write).0
    }

    fn entry(&self, output: LogOutput, stamped: bool) -> (usize, Option<Entry>) {
        let (stream, bytes) = match output {
            LogOutput::StdErr { message } => (1, message),
            LogOutput::StdOut { message }
            | LogOutput::Console { message }
            | LogOutput::StdIn { message } => (0, message),
        };
        let entry = if stamped {
            Entry::parse(&bytes, self.tty)
        } else {
            Some(Entry { time: 0, bytes })
        };
        (stream, entry)
    }

    /// Writes, again and again for so `long` if the disk is full: the engine keeps what we do not
    /// take. Tells whether all was written.
    async fn write(
        &self,
        channel: &Arc<Mutex<Channel>>,
        mut entries: Vec<Entry>,
        long: Duration,
    ) -> bool {
        let began = tokio::time::Instant::now();
        let mut told = false;
        while !entries.is_empty() {
            let channel = Arc::clone(channel);
            let written = tokio::task::spawn_blocking(move || {
                let mut channel = lock(&channel);
                let written = channel.write(&mut entries);
                (entries, written)
            });
            let Ok((left, written)) = written.await else {
                return false;
            };
            entries = left;
            if let Err(error) = written {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(container = self.name, %error, "writing its output");
                }
                if began.elapsed() >= long {
                    return false;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        true
    }
}

async fn lingered(ended: &mut watch::Receiver<bool>) {
    // If the sender is gone, so is the container.
    ended.wait_for(|ended| *ended).await.ok();
    tokio::time::sleep(LINGER).await;
}

fn lock(channel: &Mutex<Channel>) -> std::sync::MutexGuard<'_, Channel> {
    channel.lock().unwrap_or_else(PoisonError::into_inner)
}
