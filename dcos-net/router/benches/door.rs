//! What a request costs at the router, beside nginx and `HAProxy` in the same run: requests a second, p99, CPU time
//! of the proxy a request; and the memory of 10,000 idle connections.
//!
//! `wrk`, 64 connections, 612 bytes from an nginx on loopback, each proxy with one worker. Takes `nginx`, `haproxy` and
//! `wrk` from PATH or from `PEERS` (a directory into which their Debian packages are unpacked); what is not there is
//! left out. `cargo bench -p dcos-router`; `-- --json` for machines.
#![expect(clippy::print_stdout, reason = "a bench prints its table")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use bench::Table;
use dcos_router::decide::{RouterAt, Rules};
use dcos_router::world::{AppService, Apps, Cluster, Scheme};
use dcos_router::{About, Config, Port, Router, limits, route};
use dcos_wire::{Listener, Origins};
use tokio_util::sync::CancellationToken;

/// Errors of a bench end it; they need no type.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

/// As in `dcos-master`.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const IDLE: usize = 10_000;

fn main() -> Outcome {
    if let Some(backend) = bench::argument::<SocketAddr>("--serve") {
        return serve(backend);
    }
    let (Some(nginx), Some(wrk)) = (program("nginx"), program("wrk")) else {
        println!("skipped: nginx and wrk are needed, in PATH or PEERS");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let backend = Process::backend(&nginx, folder.path())?;
    let mut proxies = vec![("router", Process::router(backend.address, folder.path())?)];
    proxies.push((
        "nginx",
        Process::nginx(&nginx, backend.address, folder.path())?,
    ));
    if let Some(haproxy) = program("haproxy") {
        proxies.push((
            "HAProxy",
            Process::haproxy(&haproxy, backend.address, folder.path())?,
        ));
    }
    let mut samples: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for (name, proxy) in &proxies {
            let run = load(&wrk, proxy)?;
            samples
                .entry(("requests", name))
                .or_default()
                .push(run.rate);
            samples.entry(("p99", name)).or_default().push(run.p99);
            samples.entry(("cpu", name)).or_default().push(run.cpu);
        }
    }
    for (kind, topic, unit) in [
        (
            "requests",
            "requests through a proxy, 64 connections",
            "requests/s",
        ),
        ("p99", "99 of 100 are faster", "us"),
        ("cpu", "CPU time of the proxy a request", "us"),
    ] {
        let mut table = Table::new(topic, unit);
        for name in ["nginx", "HAProxy", "router"] {
            let Some(samples) = samples.remove(&(kind, name)) else {
                continue;
            };
            match name {
                "nginx" => table.limit(name, samples),
                _ => table.row(name, samples),
            }
        }
        table.print();
    }
    idle(&proxies)
}

/// A process on a port.
struct Process {
    child: Child,
    address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(command: &mut Command, address: SocketAddr) -> Outcome<Self> {
        let child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let process = Self { child, address };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            if begun.elapsed() > Duration::from_secs(20) {
                return Err(format!("nobody listens on {address}").into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(process)
    }

    fn backend(nginx: &Path, folder: &Path) -> Outcome<Self> {
        fs::write(folder.join("612"), "x".repeat(612))?;
        let address = free()?;
        let config = format!(
            "location / {{ root {}; try_files /612 =404; }} keepalive_requests 1000000000;",
            folder.display()
        );
        Self::start(
            &mut with_config(nginx, folder, "backend", "", &config, address)?,
            address,
        )
    }

    fn nginx(nginx: &Path, backend: SocketAddr, folder: &Path) -> Outcome<Self> {
        let address = free()?;
        let upstream = format!(
            "upstream app {{ server {backend}; keepalive 64; keepalive_requests 1000000000; }}"
        );
        let config = "location ~ ^/service/app/(?<rest>.*)$ { proxy_http_version 1.1; proxy_set_header Connection ''; \
                      proxy_set_header Host $http_host; proxy_set_header X-Real-IP $remote_addr; \
                      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_buffering off; \
                      proxy_pass http://app/$rest; } keepalive_requests 1000000000;";
        Self::start(
            &mut with_config(nginx, folder, "proxy", &upstream, config, address)?,
            address,
        )
    }

    fn haproxy(haproxy: &Path, backend: SocketAddr, folder: &Path) -> Outcome<Self> {
        let address = free()?;
        let file = folder.join("haproxy.cfg");
        let config = format!(
            "global\n  nbthread 1\n  maxconn 20000\n  no strict-limits\ndefaults\n  mode http\n  option forwardfor\n  http-reuse always\n  timeout connect 5s\n  \
             timeout client 1h\n  timeout server 1h\nfrontend f\n  bind {address}\n  \
             http-request replace-path /service/app/(.*) /\\1\n  default_backend b\nbackend b\n  server s {backend}\n"
        );
        fs::write(&file, config)?;
        Self::start(
            Command::new(haproxy).arg("-db").arg("-f").arg(&file),
            address,
        )
    }

    /// This program again, as a router on one thread.
    fn router(backend: SocketAddr, folder: &Path) -> Outcome<Self> {
        let port = folder.join("port");
        let mut command = Command::new(env::current_exe()?);
        command
            .arg("--serve")
            .arg(backend.to_string())
            .env("PORT_FILE", &port);
        let child = command.stdout(Stdio::null()).spawn()?;
        let begun = Instant::now();
        loop {
            if let Ok(address) = fs::read_to_string(&port).unwrap_or_default().parse() {
                return Ok(Self { child, address });
            }
            if begun.elapsed() > Duration::from_secs(20) {
                return Err("the router does not start".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// CPU time so far, in microseconds.
    fn cpu(&self) -> Outcome<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        let fields = stat.rsplit_once(')').ok_or("no stat")?.1;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
        // The kernel counts in hundredths of a second.
        Ok(ticks * 10_000.0)
    }

    /// Memory that is its own, in kilobytes.
    fn memory(&self) -> Outcome<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let size = line.and_then(|line| line.split_whitespace().next());
        Ok(size.ok_or("no VmRSS")?.parse()?)
    }
}

/// nginx in the foreground, with one worker in its own process.
fn with_config(
    nginx: &Path,
    folder: &Path,
    name: &str,
    upstream: &str,
    server: &str,
    address: SocketAddr,
) -> Outcome<Command> {
    let file = folder.join(format!("{name}.conf"));
    let root = folder.display();
    let text = format!(
        "daemon off; master_process off; worker_rlimit_nofile 30000; pid {root}/{name}.pid; error_log /dev/null;\n\
         events {{ worker_connections 25000; }}\n\
         http {{ access_log off; keepalive_timeout 1h; client_body_temp_path {root}/b; proxy_temp_path {root}/p;\n\
         fastcgi_temp_path {root}/f; uwsgi_temp_path {root}/u; scgi_temp_path {root}/s; {upstream}\n\
         server {{ listen {address} backlog=4096; {server} }} }}\n"
    );
    fs::write(&file, text)?;
    let mut command = Command::new(nginx);
    command.arg("-c").arg(&file).arg("-e").arg("/dev/null");
    Ok(command)
}

struct Run {
    rate: f64,
    p99: f64,
    cpu: f64,
}

fn load(wrk: &Path, proxy: &Process) -> Outcome<Run> {
    let before = proxy.cpu()?;
    let output = Command::new(wrk)
        .args(["-t1", "-c64", "-d3s", "--latency"])
        .arg(format!("http://{}/service/app/x", proxy.address))
        .output()?;
    let used = proxy.cpu()? - before;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let word = |begin: &str| {
        let line = text
            .lines()
            .find_map(|line| line.trim().strip_prefix(begin));
        line.and_then(|line| line.split_whitespace().next())
            .map(str::to_owned)
    };
    let total: f64 = text
        .lines()
        .find(|line| line.contains(" requests in "))
        .and_then(|line| line.split_whitespace().next())
        .ok_or_else(|| format!("wrk: {text}"))?
        .parse()?;
    if text.contains("Non-2xx") {
        return Err(format!("wrk: {text}").into());
    }
    Ok(Run {
        rate: word("Requests/sec:").ok_or("no rate")?.parse()?,
        p99: microseconds(&word("99%").ok_or("no p99")?)?,
        cpu: used / total,
    })
}

fn microseconds(text: &str) -> Outcome<f64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let factor = match &text[digits.len()..] {
        "us" => 1.0,
        "ms" => 1_000.0,
        _ => 1_000_000.0,
    };
    Ok(digits.parse::<f64>()? * factor)
}

/// Memory for connections that have asked once and then stay silent.
fn idle(proxies: &[(&str, Process)]) -> Outcome {
    let mut table = Table::new("memory for 10,000 idle connections", "MB");
    for (name, proxy) in proxies {
        let before = proxy.memory()?;
        let mut open = Vec::with_capacity(IDLE);
        for _ in 0..IDLE {
            let mut stream = TcpStream::connect(proxy.address)?;
            std::io::Write::write_all(
                &mut stream,
                b"GET /service/app/x HTTP/1.1\r\nHost: a\r\n\r\n",
            )?;
            let mut answer = [0; 2048];
            let mut read = 0;
            while read < 612 {
                read += std::io::Read::read(&mut stream, &mut answer)?.max(1);
            }
            open.push(stream);
        }
        table.row(*name, vec![(proxy.memory()? - before) / 1024.0]);
    }
    table.print();
    Ok(())
}

fn free() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn program(name: &str) -> Option<PathBuf> {
    let peers = env::var_os("PEERS").map(PathBuf::from);
    let own = peers
        .iter()
        .flat_map(|root| [root.join("usr/sbin"), root.join("usr/bin")]);
    let path = env::var_os("PATH").unwrap_or_default();
    let path: Vec<PathBuf> = env::split_paths(&path).collect();
    own.chain(path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// A router whose one service is the backend.
fn serve(backend: SocketAddr) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let config = Config {
            rules: Rules {
                routes: route::MASTER,
                parts: BTreeMap::new(),
                scheme: Scheme::Http,
                masters: RouterAt::http(80),
                agents: RouterAt::http(61001),
                own_hosts: BTreeSet::from(["127.0.0.1".to_owned()]),
                origins: Origins::default(),
            },
            about: About::default(),
            sources: None,
            tls: None,
            authenticate: None,
            access_log: None,
            patience: Duration::ZERO,
            limits: limits(),
        };
        let router = Router::new(config, CancellationToken::new())?;
        let app = AppService {
            base: format!("http://{backend}").parse()?,
            rewrites: true,
            buffers: true,
        };
        router.worlds().send_modify(|world| {
            let world = Arc::make_mut(world);
            world.cluster = Some(Cluster::default());
            world.apps = Some(Arc::new(Apps {
                by_name: BTreeMap::from([("app".to_owned(), app)]),
                ..Apps::default()
            }));
        });
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await?;
        let address = listener.address().ok_or("no address")?;
        fs::write(env::var("PORT_FILE")?, address.to_string())?;
        let port = Port {
            listener,
            tls: None,
            elsewhere: None,
        };
        router.serve(vec![port]).await;
        Ok(())
    })
}
