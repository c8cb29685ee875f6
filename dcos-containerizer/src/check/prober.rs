//! Carries out probes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use dcos_proto::mesos::{CommandInfo, ContainerId};
use dcos_wire::tls::Trust;
use dcos_wire::{Client, ClientConfig, Dial, Stream};
use http::{HeaderValue, Uri};

use super::network::{connect, foreign_namespace};
use super::{Outcome, Probe};
use crate::containerizer::{
    ContainerClass, ContainerConfig, Containerizer, ContainerizerError, Stdio,
};

/// Whom a probe looks at.
#[derive(Debug, Clone)]
pub struct ProbeTarget {
    /// The task's container.
    pub container: ContainerId,
    /// The task's environment, for commands; the command's own variables come on top.
    pub environment: BTreeMap<String, String>,
    /// Who the task runs as, for commands that do not say.
    pub user: Option<String>,
    /// Where the task's command starts, as seen from inside.
    pub working_directory: Option<PathBuf>,
}

/// Carries out probes: commands inside the container, connections in its network namespace.
#[derive(Debug, Clone)]
pub struct Prober {
    containerizer: Arc<dyn Containerizer>,
    count: Arc<AtomicU64>,
}

impl Prober {
    /// Runs commands and finds namespaces through `containerizer`.
    pub fn new(containerizer: Arc<dyn Containerizer>) -> Self {
        Self {
            containerizer,
            count: Arc::default(),
        }
    }

    /// Tries `probe` on `target`, for `timeout` at most.
    pub async fn probe(&self, target: &ProbeTarget, probe: &Probe, timeout: Duration) -> Outcome {
        let (port, ipv6) = match probe {
            Probe::Command(command) => return self.command(target, command, timeout).await,
            Probe::Tcp { port, ipv6 } | Probe::Http { port, ipv6, .. } => (*port, *ipv6),
        };
        // Whom the node itself would reach at that port is somebody else.
        let Some(namespace) = self.namespace(target).await else {
            return Outcome::Skipped;
        };
        match probe {
            Probe::Http { scheme, path, .. } => {
                let host = if ipv6 { "[::1]" } else { "127.0.0.1" };
                let url = format!("{scheme}://{host}:{port}{path}");
                let inside = Inside {
                    namespace,
                    port,
                    ipv6,
                    timeout,
                };
                match tokio::time::timeout(timeout, http_get(&url, inside)).await {
                    Ok(outcome) => outcome,
                    Err(_) => Outcome::Failed(timed_out(timeout)),
                }
            }
            _ => match connect(namespace.as_ref(), port, ipv6, timeout).await {
                Ok(_) => Outcome::Tcp(true),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    Outcome::Failed(timed_out(timeout))
                }
                Err(_) => Outcome::Tcp(false),
            },
        }
    }

    /// The network namespace of the task, if it is not ours; nothing at all if that can't be told now: the task has no
    /// process yet or any more, or whoever runs it does not answer.
    async fn namespace(&self, target: &ProbeTarget) -> Option<Option<File>> {
        let status = self.containerizer.status(&target.container).await.ok()?;
        foreign_namespace(status.executor_pid?).ok()
    }

    async fn command(
        &self,
        target: &ProbeTarget,
        command: &CommandInfo,
        timeout: Duration,
    ) -> Outcome {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let id = target
            .container
            .child(format!("check-{}-{number}", std::process::id()));
        let mut environment = target.environment.clone();
        for variable in command.environment.iter().flat_map(|all| &all.variables) {
            let value = variable.value.clone().unwrap_or_default();
            environment.insert(variable.name.clone(), value);
        }
        let config = ContainerConfig {
            class: ContainerClass::Debug,
            command: Some(command.clone()),
            environment,
            user: target.user.clone(),
            working_directory: target.working_directory.clone(),
            stdio: Stdio::null(),
            ..ContainerConfig::default()
        };
        let outcome = match self.containerizer.launch(&id, config).await {
            // The task ended meanwhile, or is not there yet.
            Err(
                ContainerizerError::NoParent(_)
                | ContainerizerError::Unknown(_)
                | ContainerizerError::Destroyed(_)
                | ContainerizerError::Broken { .. },
            ) => return Outcome::Skipped,
            Err(error) => return Outcome::Failed(error.to_string()),
            Ok(()) => match tokio::time::timeout(timeout, self.containerizer.wait(&id)).await {
                Ok(Ok(end)) => match end.exit_code() {
                    Some(code) => Outcome::Command(code),
                    None => Outcome::Failed(format!("Command {}", end.describe())),
                },
                Ok(Err(_)) => Outcome::Skipped,
                Err(_) => {
                    if let Err(error) = self.containerizer.destroy(&id).await {
                        tracing::warn!(container = %id, %error, "could not end a check");
                    }
                    Outcome::Failed(timed_out(timeout))
                }
            },
        };
        self.containerizer.remove(&id).await.ok();
        outcome
    }
}

async fn http_get(url: &str, inside: Inside) -> Outcome {
    let config = ClientConfig {
        connect_timeout: inside.timeout,
        answer_timeout: inside.timeout,
        // As `curl -k`: who answers on the task's own loopback address is not in doubt.
        trust: Trust::Anyone,
        user_agent: HeaderValue::from_static("dcos-health-check"),
        dial: Some(Arc::new(inside)),
        ..ClientConfig::default()
    };
    let client = match Client::with_config(config) {
        Ok(client) => client,
        Err(error) => return Outcome::Failed(error.to_string()),
    };
    match client.get(url).await {
        Ok(answer) => Outcome::Http(answer.status().as_u16()),
        Err(error) => Outcome::Failed(dcos_core::error::chain(&error).to_string()),
    }
}

fn timed_out(timeout: Duration) -> String {
    format!("timed out after {timeout:?}")
}

/// Connects inside a network namespace, to where the URL says (a redirect may name another port).
#[derive(Debug)]
struct Inside {
    namespace: Option<File>,
    port: u16,
    ipv6: bool,
    timeout: Duration,
}

#[async_trait]
impl Dial for Inside {
    async fn dial(&self, url: &Uri) -> io::Result<Stream> {
        let port = url.port_u16().unwrap_or(self.port);
        let stream = connect(self.namespace.as_ref(), port, self.ipv6, self.timeout).await?;
        Ok(Stream::new(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containerizer::Processes;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn task(containers: &Processes, directory: &std::path::Path) -> ProbeTarget {
        let id = ContainerId::root("task");
        let config = ContainerConfig {
            command: Some(shell("sleep 1000")),
            directory: directory.to_owned(),
            ..ContainerConfig::default()
        };
        containers.launch(&id, config).await.unwrap();
        ProbeTarget {
            container: id,
            environment: [("PATH".to_owned(), "/bin:/usr/bin".to_owned())].into(),
            user: None,
            working_directory: None,
        }
    }

    fn shell(value: &str) -> CommandInfo {
        CommandInfo {
            value: Some(value.into()),
            ..CommandInfo::default()
        }
    }

    #[tokio::test]
    async fn commands_run_beside_the_task_and_are_ended_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let containers = Processes::new();
        let target = task(&containers, dir.path()).await;
        let prober = Prober::new(Arc::new(containers.clone()));
        let try_for = async |command: &str, timeout| {
            prober
                .probe(&target, &Probe::Command(shell(command)), timeout)
                .await
        };
        let minute = Duration::from_secs(60);
        assert_eq!(try_for("exit 4", minute).await, Outcome::Command(4));
        let slow = try_for("sleep 1000", Duration::from_millis(50)).await;
        assert_eq!(slow, Outcome::Failed("timed out after 50ms".into()));
        assert_eq!(containers.containers().await.len(), 1, "checks are removed");
        containers.destroy(&target.container).await.unwrap();
        assert_eq!(try_for("exit 0", minute).await, Outcome::Skipped);
    }

    #[tokio::test]
    async fn who_has_no_process_is_not_looked_for_on_the_node() {
        let containers = Processes::new();
        let target = ProbeTarget {
            container: ContainerId::root("task"),
            environment: BTreeMap::new(),
            user: None,
            working_directory: None,
        };
        let config = ContainerConfig {
            class: ContainerClass::Holder,
            ..ContainerConfig::default()
        };
        containers.launch(&target.container, config).await.unwrap();
        let prober = Prober::new(Arc::new(containers));
        let stranger = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = stranger.local_addr().unwrap().port();
        let tcp = Probe::Tcp { port, ipv6: false };
        let outcome = prober.probe(&target, &tcp, Duration::from_secs(60)).await;
        assert_eq!(outcome, Outcome::Skipped);
    }

    #[tokio::test]
    async fn http_and_tcp_reach_the_loopback_address() {
        let dir = tempfile::tempdir().unwrap();
        let containers = Processes::new();
        let target = task(&containers, dir.path()).await;
        let prober = Prober::new(Arc::new(containers.clone()));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                if stream.read(&mut request).await.unwrap_or(0) > 0 {
                    let answer = "HTTP/1.1 418 Teapot\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        let minute = Duration::from_secs(60);
        let tcp = Probe::Tcp { port, ipv6: false };
        assert_eq!(
            prober.probe(&target, &tcp, minute).await,
            Outcome::Tcp(true)
        );
        let get = Probe::Http {
            scheme: "http".into(),
            port,
            path: "/health?deep".into(),
            ipv6: false,
        };
        assert_eq!(
            prober.probe(&target, &get, minute).await,
            Outcome::Http(418)
        );
        server.await.unwrap();
        assert_eq!(
            prober.probe(&target, &tcp, minute).await,
            Outcome::Tcp(false)
        );
        containers.destroy(&target.container).await.unwrap();
        // Nobody knows where it is: what the node has at that port says nothing of it.
        let _stranger = tokio::net::TcpListener::bind(("127.0.0.1", port)).await;
        for probe in [tcp, get] {
            let outcome = prober.probe(&target, &probe, minute).await;
            assert_eq!(outcome, Outcome::Skipped, "{probe:?}");
        }
    }
}
