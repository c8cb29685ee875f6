//! What an answer about a cluster's own names costs, beside NSD and Knot with the same zone, and a responder that looks
//! nothing up (the limit), in the same run: CPU time of all threads and processes of the server, and answers a second.
//!
//! One client on loopback keeps 64 questions under way: eight of ten for the address of a task, one for its SRV records, one for
//! a name that is not there. Each server has one worker for queries; what ours has beside it (the threads of a runtime) is counted, and its zone
//! has TXT records and pointers, too, which nobody asks for. Takes `nsd` and `knotd` from PATH or from `PEERS` (a directory into which
//! their Debian packages, and the libraries these need, are unpacked); what is not there is left out.
//! `cargo bench -p dcos-dns`; `-- [--tasks 1000] [--questions 100000] [--json]`.
#![expect(clippy::print_stdout, reason = "a bench says what it leaves out")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use bench::Table;
use dcos_dns::{Config, Server, Upstream};
use dcos_net::names::{self, publish};
use dcos_net::{Agent, Discovery, Port, Snapshot, Task};
use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Errors of a bench end it; they need no type.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// As in the programs.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
/// Questions under way.
const WINDOW: usize = 64;
/// Different questions; they are asked in turn.
const DIFFERENT: usize = 4096;

fn main() -> Outcome {
    let tasks = bench::argument("--tasks").unwrap_or(1000);
    if let Some(address) = bench::argument::<SocketAddr>("--serve") {
        return serve(address, tasks);
    }
    if let Some(address) = bench::argument::<SocketAddr>("--respond") {
        return respond(address);
    }
    let questions = questions(tasks)?;
    let folder = tempfile::tempdir()?;
    let zone = folder.path().join("mesos.zone");
    fs::write(&zone, zone_file(&cluster(tasks))?)?;
    let mut servers = vec![
        ("a responder", own("--respond", tasks)?),
        ("dcos-dns", own("--serve", tasks)?),
    ];
    for (name, program, start) in [
        ("NSD", "nsd", nsd as fn(&Path, &Path) -> Outcome<Process>),
        ("Knot", "knotd", knot),
    ] {
        match self::program(program) {
            Some(program) => servers.push((name, start(&program, folder.path())?)),
            None => println!("without {name}: {program} is neither in PATH nor in PEERS"),
        }
    }
    for (name, server) in &mut servers {
        server.wait(&questions[0], name)?;
    }
    let count = bench::argument("--questions").unwrap_or(100_000);
    let mut samples: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (name, server) in &servers {
            let (cpu, begin) = (server.cpu()?, Instant::now());
            let answers = load(server.address, &questions, count)?;
            let (cpu, wall) = (server.cpu()? - cpu, begin.elapsed().as_secs_f64());
            let mut add = |kind, value| samples.entry((kind, *name)).or_default().push(value);
            add("cpu", cpu / 1000.0 / f64::from(answers));
            add("rate", f64::from(answers) / wall);
        }
    }
    for (kind, topic, unit) in [
        ("cpu", "CPU time of the server an answer", "us"),
        ("rate", "answers, 64 questions under way", "answers/s"),
    ] {
        let mut table = Table::new(format!("{topic}, {tasks} tasks"), unit);
        for (name, _) in &servers {
            let samples = samples.remove(&(kind, *name)).unwrap_or_default();
            match *name {
                "a responder" => table.limit(*name, samples),
                _ => table.row(*name, samples),
            }
        }
        table.print();
    }
    Ok(())
}

/// A server in processes of its own.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        // A daemon ends its workers when it is told to end.
        let asked = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        if asked.is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(command: &mut Command, address: SocketAddr) -> Outcome<Self> {
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn()?;
        Ok(Self { child, address })
    }

    /// Waits until a question is answered, and rightly.
    fn wait(&mut self, question: &[u8], name: &str) -> Outcome {
        let begin = Instant::now();
        let socket = client(self.address)?;
        let mut answer = [0; 4096];
        while begin.elapsed() < Duration::from_secs(20) {
            socket.send(question).ok();
            if let Ok(length) = socket.recv(&mut answer)
                && length >= question.len()
                && (answer[7] > 0 || name == "a responder")
            {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                // Such as for a port that somebody else took meanwhile.
                return Err(format!("{name} ended at its start: {status}").into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Err(format!("{name} does not answer").into())
    }

    /// CPU time of all its threads, and those of its children, in nanoseconds.
    fn cpu(&self) -> Outcome<f64> {
        let mut parents: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let parent = stat
                .rsplit_once(')')
                .and_then(|(_, rest)| rest.split_whitespace().nth(1));
            if let Some(parent) = parent.and_then(|parent| parent.parse().ok()) {
                parents.entry(parent).or_default().push(pid);
            }
        }
        let (mut all, mut at) = (vec![self.child.id()], 0);
        while let Some(pid) = all.get(at) {
            let children = parents.get(pid).cloned().unwrap_or_default();
            all.extend(children);
            at += 1;
        }
        let mut nanoseconds = 0.0;
        for pid in all {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
                let times = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
                let on_cpu = times.split(' ').next().unwrap_or_default();
                nanoseconds += on_cpu.parse::<f64>().unwrap_or_default();
            }
        }
        Ok(nanoseconds)
    }
}

fn free() -> Outcome<SocketAddr> {
    Ok(UdpSocket::bind("127.0.0.1:0")?.local_addr()?)
}

/// This program in one of its other parts.
fn own(part: &str, tasks: u32) -> Outcome<Process> {
    let address = free()?;
    let mut command = Command::new(env::current_exe()?);
    command.args([part, &address.to_string(), "--tasks", &tasks.to_string()]);
    Process::start(&mut command, address)
}

fn nsd(program: &Path, folder: &Path) -> Outcome<Process> {
    let address = free()?;
    let (ip, port, folder) = (address.ip(), address.port(), folder.display());
    let config = format!(
        "server:\n  ip-address: {ip}@{port}\n  server-count: 1\n  username: \"\"\n  database: \"\"\n  zonesdir: \"{folder}\"\n  \
         zonelistfile: \"{folder}/nsd.zones\"\n  xfrdfile: \"{folder}/nsd.xfrd\"\n  xfrdir: \"{folder}\"\n  pidfile: \"{folder}/nsd.pid\"\n  \
         logfile: \"{folder}/nsd.log\"\n  rrl-ratelimit: 0\n\
         remote-control:\n  control-enable: no\n\
         zone:\n  name: mesos\n  zonefile: mesos.zone\n"
    );
    let file = PathBuf::from(format!("{folder}/nsd.conf"));
    fs::write(&file, config)?;
    Process::start(
        with_libraries(program).arg("-d").arg("-c").arg(file),
        address,
    )
}

fn knot(program: &Path, folder: &Path) -> Outcome<Process> {
    let address = free()?;
    let (ip, port, folder) = (address.ip(), address.port(), folder.display());
    let config = format!(
        "server:\n  rundir: \"{folder}\"\n  listen: {ip}@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         database:\n  storage: \"{folder}/knot\"\n\
         zone:\n  - domain: mesos\n    file: \"{folder}/mesos.zone\"\n    zonefile-sync: -1\n    journal-content: none\n"
    );
    fs::create_dir_all(format!("{folder}/knot"))?;
    let file = PathBuf::from(format!("{folder}/knot.conf"));
    fs::write(&file, config)?;
    Process::start(with_libraries(program).arg("-c").arg(file), address)
}

/// Of a peer that is only unpacked the libraries are beside it.
fn with_libraries(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(peers) = env::var_os("PEERS").map(PathBuf::from) {
        command.env("LD_LIBRARY_PATH", peers.join("usr/lib/x86_64-linux-gnu"));
    }
    command
}

fn program(name: &str) -> Option<PathBuf> {
    let peers = env::var_os("PEERS").map(PathBuf::from);
    let own = peers.iter().map(|root| root.join("usr/sbin"));
    let path = env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = env::split_paths(&path).collect();
    let beside = ["/usr/sbin".into(), "/usr/local/sbin".into()];
    own.chain(path)
        .chain(beside)
        .map(|folder: PathBuf| folder.join(name))
        .find(|file| file.is_file())
}

/// Tasks with a port each on a hundred agents.
fn cluster(tasks: u32) -> Snapshot {
    let ip = |number: u32| [10, 0, 1, u8::try_from(number % 100).unwrap_or_default()].into();
    let port = |number| Port {
        number: 8000 + u16::try_from(number % 1000).unwrap_or_default(),
        name: "http".into(),
        protocol: "tcp".into(),
    };
    Snapshot {
        leader: "10.0.0.1:5050".parse().ok(),
        masters: vec![[10, 0, 0, 1].into()],
        agents: (0..100)
            .map(|number| Agent::new(format!("a-S{number}"), ip(number), 5051))
            .collect(),
        frameworks: vec![],
        tasks: (0..tasks)
            .map(|number| {
                let name = format!("task-{number}");
                Task {
                    discovery: Some(Discovery {
                        name: name.clone(),
                        ports: vec![port(number)],
                        about: Vec::new(),
                    }),
                    ..Task::new(
                        format!("{name}.1"),
                        name,
                        "marathon",
                        format!("a-S{}", number % 100),
                    )
                }
            })
            .collect(),
        ..Snapshot::default()
    }
}

/// The zone as NSD and Knot read it.
fn zone_file(cluster: &Snapshot) -> Outcome<String> {
    let published = publish(cluster, &names::Config::default());
    let zone = &published.mesos;
    let (soa, ttl) = (zone.soa(), zone.ttl());
    let mut text = format!(
        "$TTL {ttl}\nmesos. SOA {} {} 1 {} {} {} {}\nmesos. NS {}\n",
        soa.mname, soa.rname, soa.refresh, soa.retry, soa.expire, soa.minimum, soa.mname
    );
    for (name, records) in zone.names() {
        for ip in &records.a {
            writeln!(text, "{name} A {ip}")?;
        }
        for srv in &records.srv {
            writeln!(text, "{name} SRV 0 1 {} {}", srv.port, srv.target)?;
        }
    }
    Ok(text)
}

fn questions(tasks: u32) -> Outcome<Vec<Vec<u8>>> {
    let question = |number: usize| -> Outcome<Vec<u8>> {
        // In another order than they lie in.
        let task = (number * 7919) % usize::try_from(tasks)?;
        let (name, kind) = match number % 10 {
            8 => (
                format!("_task-{task}._tcp.marathon.mesos."),
                RecordType::SRV,
            ),
            9 => (format!("none-{task}.marathon.mesos."), RecordType::A),
            _ => (format!("task-{task}.marathon.mesos."), RecordType::A),
        };
        let mut query = Message::query();
        query.add_query(Query::query(Name::from_ascii(name)?, kind));
        Ok(query.to_vec()?)
    };
    (0..DIFFERENT).map(question).collect()
}

fn client(server: SocketAddr) -> Outcome<UdpSocket> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    Ok(socket)
}

/// Asks so many questions, and says how many were answered.
fn load(server: SocketAddr, questions: &[Vec<u8>], count: u32) -> Outcome<u32> {
    let socket = client(server)?;
    let mut asked = questions.iter().cycle();
    let mut ask = || -> Outcome {
        socket.send(asked.next().ok_or("there are questions")?)?;
        Ok(())
    };
    for _ in 0..WINDOW {
        ask()?;
    }
    let (mut answers, mut lost, mut answer) = (0, 0, [0; 4096]);
    while answers < count {
        match socket.recv(&mut answer) {
            Ok(_) => {
                answers += 1;
                ask()?;
            }
            // What was lost is asked again.
            Err(_) if lost < 100 => {
                lost += 1;
                for _ in 0..WINDOW {
                    ask()?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(answers)
}

/// Our server, as a program has it.
fn serve(address: SocketAddr, tasks: u32) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let config = Config {
            listen: vec![address],
            http: None,
            upstream: Upstream::Named(Vec::new()),
            ..Config::default()
        };
        let server = Server::bind(config).await?;
        let (_snapshots, latest) = watch::channel(Arc::new(cluster(tasks)));
        server.run(latest, CancellationToken::new()).await;
        Ok(())
    })
}

/// What no server can do without: a question comes, and as many bytes go back.
fn respond(address: SocketAddr) -> Outcome {
    let socket = UdpSocket::bind(address)?;
    let mut packet = [0; 4096];
    loop {
        let (length, client) = socket.recv_from(&mut packet)?;
        packet[2] |= 0x80;
        socket.send_to(&packet[..length], client)?;
    }
}
