//! Who talks in a network drill: a server that says its name, run in containers, and clients that note how they fare.
//!
//! All are this program under another first word. Clients print a line for each thing that happens, with the times of a
//! clock all processes of the machine share ([`clock`]).

use std::{
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::Path,
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    signal::unix::{SignalKind, signal},
    task::JoinSet,
    time::{interval, timeout},
};

use crate::probe::clock;

/// A connection or an answer that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);

/// Between two attempts in a row.
const KNOCKS: Duration = Duration::from_millis(20);
/// Between two words on a stream.
const WORDS: Duration = Duration::from_millis(20);

/// The first words that make this program one of these.
pub const WORDS_OF_TALK: [&str; 5] = ["serve", "ask", "get", "knock", "stream"];

/// TCP or UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A connection each.
    Tcp,
    /// A socket of its own each.
    Udp,
}

impl Over {
    /// As on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Does what the command line says: `serve UDP_ADDRESS PORT NAME`, `ask|knock tcp|udp HOST:PORT`, `get URL`, `stream HOST:PORT`.
///
/// # Errors
/// What it says makes no sense, or what cannot be done at all.
pub async fn run(arguments: &[String]) -> anyhow::Result<()> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let over = |word| match word {
        "tcp" => Ok(Over::Tcp),
        "udp" => Ok(Over::Udp),
        other => bail!("what is {other:?}?"),
    };
    match *words {
        ["serve", ip, port, name] => serve(ip.parse()?, port.parse()?, name).await,
        ["ask", word, to] => {
            match ask(over(word)?, resolve(to).await?, PATIENCE).await {
                Ok(name) => println(&name),
                Err(error) => println(&format!("- {error:#}")),
            }
            Ok(())
        }
        ["get", url] => {
            let request = http::Request::get(url).body(String::new().into())?;
            let answer = dcos_wire::Client::new().send(request).await?;
            println(&answer.success().await?.text().await?);
            Ok(())
        }
        ["knock", word, to] => knock(over(word)?, resolve(to).await?).await,
        ["stream", to] => stream(resolve(to).await?).await,
        _ => bail!("what is {words:?}?"),
    }
}

fn println(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
}

async fn resolve(to: &str) -> anyhow::Result<SocketAddr> {
    let mut found = tokio::net::lookup_host(to)
        .await
        .with_context(|| format!("resolving {to}"))?;
    found
        .find(SocketAddr::is_ipv4)
        .with_context(|| format!("{to} has no IPv4 address"))
}

/// Answers each line of a connection, each datagram to `ip` and each HTTP request with `name`. From SIGUSR1 to SIGUSR2 new
/// connections are refused.
async fn serve(ip: IpAddr, port: u16, name: &str) -> anyhow::Result<()> {
    let mut tcp = Some(listen(port)?);
    let udp = UdpSocket::bind((ip, port)).await?;
    let mut close = signal(SignalKind::user_defined1())?;
    let mut open = signal(SignalKind::user_defined2())?;
    let mut clients = JoinSet::new();
    let mut datagram = [0; 512];
    loop {
        let accepted = async {
            match &tcp {
                Some(tcp) => tcp.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = close.recv() => tcp = None,
            _ = open.recv() => tcp = Some(listen(port)?),
            accepted = accepted => {
                if let Ok((client, _)) = accepted {
                    clients.spawn(answer(client, name.to_owned()));
                }
            }
            received = udp.recv_from(&mut datagram) => {
                if let Ok((_, client)) = received {
                    let _ = udp.send_to(name.as_bytes(), client).await;
                }
            }
            _ = clients.join_next(), if !clients.is_empty() => {}
        }
    }
}

/// One that is stopped soon leaves connections unanswered: so many wait to be taken in.
fn listen(port: u16) -> io::Result<TcpListener> {
    const BACKLOG: u32 = 64;
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([0, 0, 0, 0], port)))?;
    socket.listen(BACKLOG)
}

async fn answer(client: TcpStream, name: String) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut client = BufReader::new(client);
    let mut line = String::new();
    while client.read_line(&mut line).await? > 0 {
        if line.starts_with("GET ") {
            let length = name.len();
            let head =
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
            client.write_all((head + &name).as_bytes()).await?;
            return client.shutdown().await;
        }
        client
            .write_all(format!("{name} {line}").as_bytes())
            .await?;
        line.clear();
    }
    Ok(())
}

/// Who answers.
async fn ask(over: Over, to: SocketAddr, patience: Duration) -> anyhow::Result<String> {
    let asked = async {
        match over {
            Over::Tcp => {
                let mut stream = BufReader::new(TcpStream::connect(to).await?);
                stream.write_all(b"?\n").await?;
                let mut line = String::new();
                if stream.read_line(&mut line).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
                Ok(line.split(' ').next().unwrap_or_default().to_owned())
            }
            Over::Udp => {
                let socket = UdpSocket::bind("0.0.0.0:0").await?;
                socket.connect(to).await?;
                socket.send(b"?").await?;
                let mut name = [0; 512];
                let length = socket.recv(&mut name).await?;
                Ok(String::from_utf8_lossy(&name[..length]).into_owned())
            }
        }
    };
    let asked = timeout(patience, asked).await;
    Ok(asked.with_context(|| format!("{to} does not answer"))??)
}

/// Asks all the time, and prints `<from> <to> <name>`, or `<from> <to> - <why not>`.
async fn knock(over: Over, to: SocketAddr) -> anyhow::Result<()> {
    let mut knocking = JoinSet::new();
    let mut ticks = interval(KNOCKS);
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                knocking.spawn(async move { (clock(), ask(over, to, PATIENCE).await) });
            }
            Some(Ok((from, asked))) = knocking.join_next() => {
                let name = asked.unwrap_or_else(|error| format!("- {error:#}"));
                println(&format!("{from} {} {name}", clock()));
            }
        }
    }
}

/// Opens one connection and says words on it for ever; prints `<clock> <name>` for each that comes back, and
/// `<clock> - <why>` when it ends.
async fn stream(to: SocketAddr) -> anyhow::Result<()> {
    let talking = async {
        let mut stream = BufReader::new(timeout(PATIENCE, TcpStream::connect(to)).await??);
        stream.get_ref().set_nodelay(true)?;
        let mut ticks = interval(WORDS);
        for number in 0_u64.. {
            ticks.tick().await;
            stream.write_all(format!("{number}\n").as_bytes()).await?;
            let mut line = String::new();
            timeout(10 * PATIENCE, stream.read_line(&mut line)).await??;
            let (name, word) = line
                .trim_end()
                .split_once(' ')
                .context("the stream ended")?;
            anyhow::ensure!(
                word == number.to_string(),
                "{word} is no answer to {number}"
            );
            println(&format!("{} {name}", clock()));
        }
        Ok::<_, anyhow::Error>(())
    };
    if let Err(error) = talking.await {
        println(&format!("{} - {error:#}", clock()));
    }
    Ok(())
}

/// What a client printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// When it began to ask; of streams, when it was answered.
    pub asked: u64,
    /// When it was answered, or gave up.
    pub answered: u64,
    /// Who answered, or why nobody.
    pub by: Result<String, String>,
}

/// All that a client wrote to this file.
pub fn heard(log: &Path) -> Vec<Heard> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    // A line that is only half written has no end yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Heard> {
    let (asked, rest) = line.split_once(' ')?;
    let asked = asked.parse().ok()?;
    let (answered, rest) = rest
        .split_once(' ')
        .and_then(|(time, rest)| Some((time.parse().ok()?, rest)))
        .unwrap_or((asked, rest));
    let by = match rest.strip_prefix("- ") {
        Some(why) => Err(why.to_owned()),
        None => Ok(rest.to_owned()),
    };
    Some(Heard {
        asked,
        answered,
        by,
    })
}

/// A server in a container, as this machine sees it.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its process.
    pub pid: u32,
    /// Its task.
    pub task: String,
    /// The address of the host it is on.
    pub host: String,
    /// Its network namespace.
    pub network: String,
}

/// All servers that run.
pub fn servers() -> Vec<Server> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let found = processes.filter_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let command = std::fs::read(process.path().join("cmdline")).ok()?;
        let mut words = command.split(|byte| *byte == 0);
        let program = words.next()?;
        if !program.ends_with(b"cluster-drill") || words.next()? != b"serve" {
            return None;
        }
        let environment = std::fs::read(process.path().join("environ")).ok()?;
        let variable = |name: &str| {
            let mut all = environment.split(|byte| *byte == 0);
            let value =
                all.find_map(|one| one.strip_prefix(name.as_bytes())?.strip_prefix(b"="))?;
            Some(String::from_utf8_lossy(value).into_owned())
        };
        let network = std::fs::read_link(process.path().join("ns/net")).ok()?;
        Some(Server {
            pid,
            task: variable("MESOS_TASK_ID")?,
            host: variable("HOST")?,
            network: network.to_string_lossy().into_owned(),
        })
    });
    found.collect()
}

/// From where a client talks.
#[derive(Clone, Debug)]
pub enum From {
    /// A host, by its name.
    Host(String),
    /// A container, by a process in it.
    Container(u32),
}

impl From {
    /// This program there, with these words.
    ///
    /// # Errors
    /// This program has no path.
    pub fn command(&self, words: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.program(std::env::current_exe()?);
        command.args(words);
        Ok(command)
    }

    /// A program there.
    pub fn program(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match self {
            Self::Host(name) => crate::process::command(Some(name), program),
            Self::Container(pid) => {
                let mut command = Command::new("nsenter");
                command
                    .arg(format!("--net=/proc/{pid}/ns/net"))
                    .arg(program);
                command
            }
        }
    }

    /// Asks once; who answered.
    ///
    /// # Errors
    /// Nobody did; the error says why.
    pub async fn ask(&self, over: Over, to: &str) -> anyhow::Result<String> {
        let command = self.command(&["ask", over.word(), to])?;
        let asked = tokio::process::Command::from(command).output().await?;
        let said = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
        match said.strip_prefix("- ") {
            Some(why) => bail!("{why}"),
            None if asked.status.success() => Ok(said),
            None => bail!("{}", String::from_utf8_lossy(&asked.stderr).trim()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_who_answered_and_when() {
        let heard = parse("5 17 10.99.0.11").unwrap();
        assert_eq!(
            (heard.asked, heard.answered, heard.by),
            (5, 17, Ok("10.99.0.11".to_owned()))
        );
        let heard = parse("5 17 - no answer").unwrap();
        assert_eq!(heard.by, Err("no answer".to_owned()));
        let heard = parse("5 10.99.0.11").unwrap();
        assert_eq!((heard.answered, heard.by), (5, Ok("10.99.0.11".to_owned())));
        let heard = parse("5 - broken pipe").unwrap();
        assert_eq!(heard.by, Err("broken pipe".to_owned()));
    }
}
