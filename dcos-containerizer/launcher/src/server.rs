//! The launcher's loop: connections, signals and reports of starting containers.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::SendFlags;

use crate::codec::{Input, Wire};
use crate::frame::{self, Incoming};
use crate::message::{Answer, Message, Request, Scope};
use crate::plan::Plan;
use crate::process;
use crate::sys;
use crate::table::{Asker, News, Table};
use crate::upgrade;

/// Connections at a time: the agent, its successor, and people who look.
const MAX_CLIENTS: usize = 16;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;

/// Bytes that may wait for a client which does not read; then it is cut off, and finds
/// everything again when it connects anew.
const MAX_WAITING: usize = 8 << 20;

/// A running launcher.
pub(crate) struct Server {
    pub(crate) listener: UnixListener,
    /// Held as long as a launcher serves this socket.
    pub(crate) lock: OwnedFd,
    pub(crate) table: Table,
    signals: OwnedFd,
    clients: Vec<Connection>,
    next_client: u64,
    stopping: bool,
    /// Asked for, and waiting until no container is starting.
    upgrade: Option<(Asker, String)>,
}

struct Connection {
    number: u64,
    stream: UnixStream,
    incoming: Incoming,
    outgoing: VecDeque<u8>,
    /// It was to be told something too large for a frame.
    too_much: bool,
}

impl Connection {
    fn say(&mut self, message: &Message) {
        match frame::encode(&message.to_bytes(), 0) {
            Ok(frame) => self.outgoing.extend(frame),
            // A list of tens of thousands of containers could be; its asker is cut off.
            Err(_) => self.too_much = true,
        }
    }

    /// Sends what the client takes now; whether it can stay.
    fn flush(&mut self) -> bool {
        while !self.outgoing.is_empty() && !self.too_much {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&self.stream, self.outgoing.as_slices().0, flags) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return self.outgoing.len() <= MAX_WAITING,
                Err(_) => return false,
            }
        }
        !self.too_much
    }
}

impl Server {
    pub(crate) fn new(listener: UnixListener, lock: OwnedFd, table: Table) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        // Whoever connects is told by the kernel who listened last: this process, not the one that went to the background.
        rustix::net::listen(&listener, BACKLOG)?;
        sys::block_signals();
        let signals = sys::signal_fd()?;
        Ok(Self {
            listener,
            lock,
            table,
            signals,
            clients: Vec::new(),
            next_client: 1,
            stopping: false,
            upgrade: None,
        })
    }

    /// Serves until told to stop and all containers are gone, or nothing is remembered for an agent that has gone.
    pub(crate) fn serve(&mut self, socket: &Path) -> io::Result<()> {
        // Children may have ended before their signal could be blocked.
        self.reap();
        loop {
            if self.stopping && self.table.is_empty() {
                self.clients.retain_mut(Connection::flush);
                return Ok(());
            }
            if self.clients.is_empty() && self.next_client > 1 && self.leave(socket) {
                return Ok(());
            }
            let reporting = self.wait()?;
            let clients: Vec<_> = self.clients.iter().map(|one| one.number).collect();
            for number in clients {
                self.listen_to(number);
            }
            for id in reporting {
                let news = self.table.hear(&id);
                self.tell(news.into_iter().collect());
            }
            self.take_signals();
            self.accept();
            self.clients.retain_mut(Connection::flush);
            if let Some((asker, program)) = self.upgrade.take_if(|_| self.table.is_settled()) {
                let error = upgrade::execute(Path::new(&program), self);
                self.answer(asker, invalid(&error));
            }
        }
    }

    /// Whether nobody misses it: there is nothing to be told, and nobody came while the door was closed.
    fn leave(&mut self, socket: &Path) -> bool {
        if !self.table.entries.is_empty() {
            return false;
        }
        let aside = socket.with_added_extension("closed");
        let closed = fs::rename(socket, &aside);
        // Where it cannot be closed whoever comes after this look is cut off, and starts the next one.
        self.accept();
        let left = self.clients.is_empty();
        let _ = match closed {
            Ok(()) if left => fs::remove_file(&aside),
            Ok(()) => fs::rename(&aside, socket),
            Err(_) => Ok(()),
        };
        left
    }

    /// Sleeps until there is something to do: signals, a new client, requests, reports. Only what may be many is told: the
    /// containers that have reported; of the others none is waited for when they are asked.
    fn wait(&self) -> io::Result<Vec<String>> {
        let mut fds = vec![
            PollFd::new(&self.signals, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        for client in &self.clients {
            let mut wanted = PollFlags::IN;
            wanted.set(PollFlags::OUT, !client.outgoing.is_empty());
            fds.push(PollFd::new(&client.stream, wanted));
        }
        let others = fds.len();
        let starting: Vec<_> = self.table.starting().collect();
        let pipes = starting.iter().map(|(_, pipe)| *pipe);
        fds.extend(pipes.map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
        let reports = starting.into_iter().zip(&fds[others..]);
        let reporting = reports.filter(|(_, fd)| !fd.revents().is_empty());
        Ok(reporting.map(|((id, _), _)| id.clone()).collect())
    }

    fn take_signals(&mut self) {
        while let Some(signal) = sys::take_signal(Some(0)) {
            if signal == libc::SIGTERM || signal == libc::SIGINT {
                self.stop();
            }
        }
        self.reap();
    }

    fn reap(&mut self) {
        while let Some((pid, status)) = sys::reap() {
            let news = self.table.reaped(pid, status);
            self.tell(news);
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        let living = self.table.living();
        living.for_each(|entry| entry.signal(libc::SIGKILL, Scope::All));
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let own = rustix::process::geteuid();
            // What runs in a container may be root and see the socket; it gives no orders.
            let trusted = rustix::net::sockopt::socket_peercred(&stream).is_ok_and(|peer| {
                (peer.uid == own || peer.uid.is_root()) && !process::is_ours(peer.pid)
            });
            let full = self.clients.len() >= MAX_CLIENTS;
            if !trusted || full || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let number = self.next_client;
            self.next_client += 1;
            let mut client = Connection {
                number,
                stream,
                incoming: Incoming::default(),
                outgoing: VecDeque::new(),
                too_much: false,
            };
            for container in self.table.list() {
                if let Some(exit) = container.exit {
                    client.say(&Message::Exited { exit });
                }
            }
            self.clients.push(client);
        }
    }

    /// Takes in what a client sends; one that closes or talks nonsense goes.
    fn listen_to(&mut self, number: u64) {
        let mut talking = true;
        while let Some(client) = self.clients.iter_mut().find(|it| it.number == number) {
            if std::mem::take(&mut talking) {
                match client.incoming.fill(&client.stream) {
                    Ok(count) if count > 0 => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => return self.clients.retain(|client| client.number != number),
                }
            }
            let handled = match client.incoming.next() {
                Ok(None) => return,
                Ok(Some((body, fds))) => self.handle(number, &body, fds),
                Err(_) => None,
            };
            if handled.is_none() {
                self.clients.retain(|client| client.number != number);
            }
        }
    }

    /// Does what was asked for; `None` if it cannot even be answered.
    fn handle(&mut self, client: u64, body: &[u8], fds: Vec<OwnedFd>) -> Option<()> {
        let mut input = Input::new(body);
        let sequence = u64::take(&mut input).ok()?;
        let asker = Asker { client, sequence };
        let request = Request::take(&mut input);
        let request = request.and_then(|request| input.end().map(|()| request));
        let answer = match request {
            Err(error) => Some(invalid(&error)),
            Ok(Request::Launch { plan }) => self.launch(&plan, fds, asker).err(),
            Ok(Request::Kill { id, signal, scope }) => {
                Some(known(self.table.kill(&id, signal, scope)))
            }
            Ok(Request::Acknowledge { id }) => Some(known(self.table.acknowledge(&id))),
            Ok(Request::List) => Some(Answer::Containers {
                containers: self.table.list(),
            }),
            Ok(Request::Upgrade { program }) => {
                self.upgrade = Some((asker, program));
                None
            }
            Ok(Request::Stop) => {
                self.stop();
                Some(Answer::Done)
            }
        };
        if let Some(answer) = answer {
            self.answer(asker, answer);
        }
        Some(())
    }

    /// Starts a container, whose first process will tell more; or the answer why not.
    fn launch(&mut self, plan: &[u8], fds: Vec<OwnedFd>, asker: Asker) -> Result<(), Answer> {
        let plan = Plan::decode(plan).map_err(|error| invalid(&error))?;
        if self.table.entries.contains_key(&plan.id) {
            return Err(Answer::Exists);
        }
        if self.stopping {
            return Err(invalid(&"the launcher is stopping"));
        }
        let launched = self.table.launch(&plan, fds, asker);
        launched.map_err(|failure| Answer::Failed { failure })
    }

    fn answer(&mut self, asker: Asker, answer: Answer) {
        let Asker { client, sequence } = asker;
        let mut clients = self.clients.iter_mut();
        if let Some(client) = clients.find(|one| one.number == client) {
            client.say(&Message::Answer { sequence, answer });
        }
    }

    fn tell(&mut self, news: Vec<News>) {
        for news in news {
            match news {
                News::Answer(asker, answer) => self.answer(asker, answer),
                News::Exited(exit) => {
                    let message = Message::Exited { exit };
                    self.clients
                        .iter_mut()
                        .for_each(|client| client.say(&message));
                }
            }
        }
    }
}

fn known(found: bool) -> Answer {
    if found { Answer::Done } else { Answer::Unknown }
}

fn invalid(reason: &dyn std::fmt::Display) -> Answer {
    Answer::Invalid {
        reason: reason.to_string(),
    }
}
