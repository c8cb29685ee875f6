//! A switchboard in this process, for a command whose streams end with this process anyway.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;

use dcos_proto::mesos::TtyInfo;
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};

use super::ends::{listen, open_pipes, open_terminal};
use super::server::Server;
use super::{Descriptors, Switchboard};
use crate::containerizer::{Stdio, Stream};

impl Switchboard {
    /// Starts a switchboard as a thread of this process, with a socket in `folder`, and returns the
    /// streams that its command is to have. It ends, and its socket goes, once the command has
    /// closed them and whoever listens has heard it all, or a while after [`end`](Self::end).
    ///
    /// A terminal that is asked for passes on each byte as it is: the command is behind another
    /// one, of whatever runs it, and only takes the window's size from this one.
    ///
    /// # Errors
    /// The system gives no more descriptors or threads, or the folder cannot be written.
    pub fn local(folder: &Path, terminal: Option<&TtyInfo>) -> io::Result<(Self, Stdio)> {
        let (streams, [stdin, stdout, stderr]) = match terminal {
            Some(info) => open_terminal(info, None, None)?,
            None => open_pipes(None)?,
        };
        if terminal.is_some() {
            let mut modes = tcgetattr(&streams[0])?;
            modes.make_raw();
            tcsetattr(&streams[0], OptionalActions::Now, &modes)?;
        }
        let (listener, socket) = listen(folder)?;
        let null = || File::options().write(true).open("/dev/null");
        let descriptors = Descriptors {
            listener: listener.into(),
            stdout_log: null()?.into(),
            stderr_log: null()?.into(),
            stdin,
            stdout,
            stderr,
        };
        let server = Server::new(descriptors, terminal.is_some(), true)?;
        let path = socket.clone();
        let serve = move || {
            if let Err(error) = server.serve() {
                tracing::warn!(%error, "a switchboard broke");
            }
            fs::remove_file(path).ok();
        };
        std::thread::Builder::new()
            .name("switchboard".to_owned())
            .spawn(serve)?;
        let [input, output, error] = streams.map(|file| Stream::File(Arc::new(file)));
        let board = Self {
            socket,
            terminal: terminal.is_some(),
        };
        let stdio = Stdio {
            input,
            output,
            error,
        };
        Ok((board, stdio))
    }
}
