//! Whoever looks at connections to backends, over a lookout that sees what it is told to: what becomes of it when that fails.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dcos_l4lb::{
    Balancer, Begun, Config, Connections, Dataplane, DataplaneError, Lookout, Reader, Repairs,
    Services, View, WAITING, Watcher,
};
use dcos_net::vip::{Change, Protocol, Service};
use dcos_net::{Keeping, Origin};
use dcos_proto::json::{self, Dialect};
use dcos_proto::master::Event;
use dcos_wire::Told;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// What is seen next, and what was asked.
#[derive(Debug, Default)]
struct Seen {
    ended: Vec<Begun>,
    /// So many questions fail.
    failures: usize,
    panics: bool,
    looks: usize,
    /// The services of which suspects were counted last.
    counted: Option<Services>,
    reopened: usize,
}

#[derive(Clone, Debug, Default)]
struct Eyes(Arc<Mutex<Seen>>);

impl Lookout for Eyes {
    fn waiting(&mut self) -> io::Result<Vec<Begun>> {
        let panics = {
            let mut seen = self.0.lock().unwrap();
            if seen.failures > 0 {
                seen.failures -= 1;
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            seen.looks += 1;
            seen.panics
        };
        assert!(!panics, "the test wants it");
        Ok(Vec::new())
    }

    fn ended(&mut self) -> io::Result<Vec<Begun>> {
        Ok(std::mem::take(&mut self.0.lock().unwrap().ended))
    }

    fn given(
        &mut self,
        backends: &[SocketAddr],
        services: &Services,
    ) -> io::Result<Option<BTreeMap<SocketAddr, u64>>> {
        self.0.lock().unwrap().counted = Some(services.clone());
        Ok(Some(backends.iter().map(|one| (*one, 0)).collect()))
    }

    fn is_behind_connect(&self) -> bool {
        false
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.0.lock().unwrap().reopened += 1;
        Ok(())
    }
}

/// A data path that does nothing, and has what an earlier process left.
#[derive(Debug, Default)]
struct Left(Services);

impl Dataplane for Left {
    fn reconcile(&mut self, _: &Services, _: bool) -> Result<Repairs, DataplaneError> {
        Ok(Repairs::default())
    }

    fn apply(&mut self, _: &[Change]) -> Result<(), DataplaneError> {
        Ok(())
    }

    fn adopt(&mut self, _: &BTreeSet<Service>) -> Result<Services, DataplaneError> {
        Ok(self.0.clone())
    }

    fn withdraw(&mut self, _: &[IpAddr]) -> Result<(), DataplaneError> {
        Ok(())
    }

    fn is_untouched(&mut self) -> Result<bool, DataplaneError> {
        Ok(true)
    }

    fn reader(&mut self) -> Result<Box<dyn Reader>, DataplaneError> {
        Ok(Box::new(Self::default()))
    }
}

impl Reader for Left {
    fn connections(&mut self) -> Result<Connections, DataplaneError> {
        Ok(Connections::new())
    }
}

/// A node that balances between two backends, of which one refuses everybody and is known to be dead.
struct Node {
    view: View,
    eyes: Eyes,
    dead: SocketAddr,
    stop: CancellationToken,
    told: mpsc::Sender<Told>,
    _alive: TcpListener,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Node {
    async fn new() -> Self {
        let servers = ["127.0.0.2:0", "127.0.0.3:0"].map(|at| TcpListener::bind(at).unwrap());
        let backends = servers.each_ref().map(|it| it.local_addr().unwrap());
        let (tell, told) = mpsc::channel(WAITING);
        let config = Config {
            told,
            own: Vec::new(),
            reserved: None,
            unreachable: None,
            memory: None,
        };
        let (mut balancer, eyes) = (Balancer::new(config, Left::default()), Eyes::default());
        let watcher = Watcher::new(eyes.clone()).trying_within(Duration::ZERO);
        balancer.avoid(watcher.start(&balancer.view()).unwrap());
        let (view, stop) = (balancer.view(), CancellationToken::new());
        tokio::spawn(balancer.run(stop.clone()));
        let [dead, alive] = servers;
        let node = Self {
            view,
            eyes,
            dead: backends[0],
            stop,
            told: tell,
            _alive: alive,
        };
        node.tell(backends).await;
        node.wait("both reached", || node.view.failures().reached == 2)
            .await;
        drop(dead);
        let to = node.view.list()[0].addresses[0];
        node.eyes.0.lock().unwrap().ended = vec![Begun {
            flow: 7,
            client: "10.0.0.9:40000".parse().unwrap(),
            to: SocketAddr::new(to, 80),
            backend: node.dead,
        }];
        node.wait("led elsewhere", || node.avoids()).await;
        node
    }

    async fn tell(&self, backends: [SocketAddr; 2]) {
        self.told.send(told(backends)).await.unwrap();
    }

    /// Whether the dead one is given nothing.
    fn avoids(&self) -> bool {
        let listed = self.view.list();
        listed.iter().any(|vip| vip.avoided.contains(&self.dead))
    }

    async fn wait(&self, what: &str, is_so: impl Fn() -> bool) {
        wait(what, &self.eyes, is_so).await;
    }

    /// Until it has looked once more.
    async fn look(&self) {
        let looks = || self.eyes.0.lock().unwrap().looks;
        let before = looks();
        self.wait("a look", || looks() > before + 1).await;
    }
}

async fn wait(what: &str, eyes: &Eyes, is_so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        let seen = &eyes.0;
        assert!(
            begun.elapsed() < Duration::from_secs(60),
            "{what}: {seen:?}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A task behind one name at each of these.
fn told(backends: [SocketAddr; 2]) -> Told {
    let all = backends.iter().enumerate();
    let agents = all.clone().map(|(number, at)| {
            format!(
                r#"{{"agent_info": {{"id": {{"value": "S{number}"}}, "hostname": "h"}}, "active": true, "version": "1",
                "pid": "slave(1)@{}:5051"}}"#,
                at.ip()
            )
        });
    let tasks = all.map(|(number, at)| {
            format!(
                r#"{{"name": "web", "task_id": {{"value": "t{number}"}}, "framework_id": {{"value": "f"}},
                "agent_id": {{"value": "S{number}"}}, "state": "TASK_RUNNING", "discovery": {{"visibility": "CLUSTER",
                "ports": {{"ports": [{{"number": {}, "protocol": "tcp",
                "labels": {{"labels": [{{"key": "VIP_0", "value": "/web:80"}}]}}}}]}}}}}}"#,
                at.port()
            )
        });
    let (agents, tasks): (Vec<_>, Vec<_>) = (agents.collect(), tasks.collect());
    let event = format!(
        r#"{{"type": "SUBSCRIBED", "subscribed": {{"get_state": {{"get_agents": {{"agents": [{}]}},
            "get_frameworks": {{"frameworks": [{{"framework_info": {{"id": {{"value": "f"}}, "user": "root",
            "name": "marathon"}}, "active": true, "connected": true, "recovered": false}}]}},
            "get_tasks": {{"tasks": [{}]}}}}}}}}"#,
        agents.join(","),
        tasks.join(",")
    );
    let event: Event = json::from_slice(event.as_bytes(), Dialect::V1).unwrap();
    Told::Event(event.into())
}

#[tokio::test]
async fn nobody_is_avoided_once_the_thread_that_looks_has_panicked() {
    let node = Node::new().await;
    node.eyes.0.lock().unwrap().panics = true;
    node.wait("given connections again", || !node.avoids())
        .await;
    assert_eq!(node.view.failures(), dcos_l4lb::Failures::default());
    // All else goes on.
    let one = "127.0.0.2:1".parse().unwrap();
    node.tell([one, "127.0.0.3:1".parse().unwrap()]).await;
    node.wait("what is told", || {
        let listed = node.view.list();
        listed
            .iter()
            .any(|vip| vip.backends.iter().any(|it| it.address.port() == 1))
    })
    .await;
}

#[tokio::test]
async fn after_an_error_it_begins_anew_with_what_it_knew() {
    let node = Node::new().await;
    node.eyes.0.lock().unwrap().failures = 1;
    node.look().await;
    assert_eq!(node.eyes.0.lock().unwrap().reopened, 1);
    assert!(node.avoids(), "{:?}", node.view.failures());
}

#[tokio::test]
async fn what_fails_twice_is_blind_and_sees_again_later() {
    let node = Node::new().await;
    node.eyes.0.lock().unwrap().failures = 2;
    node.wait("given connections again", || !node.avoids())
        .await;
    node.look().await;
    // Whom it reached before it has to reach anew, and the dead one it does not.
    node.wait("one reached", || node.view.failures().reached == 1)
        .await;
    assert!(!node.avoids());
    let _back = TcpListener::bind(node.dead).unwrap();
    node.wait("both reached", || node.view.failures().reached == 2)
        .await;
}

/// Until a leader tells, what an earlier process left is what connections are balanced by, and counted.
#[tokio::test]
async fn suspects_are_counted_where_the_data_path_leads_to_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let config = || {
        let (tell, told) = mpsc::channel(WAITING);
        let keeping = Keeping::new(path.clone(), Origin::default());
        let config = Config {
            told,
            own: Vec::new(),
            reserved: None,
            unreachable: None,
            memory: Some(keeping),
        };
        (tell, config)
    };
    let servers = ["127.0.0.2:0", "127.0.0.3:0"].map(|at| TcpListener::bind(at).unwrap());
    let backends = servers.each_ref().map(|it| it.local_addr().unwrap());
    let ((tell, first), stop) = (config(), CancellationToken::new());
    let balancer = Balancer::new(first, Left::default());
    let view = balancer.view();
    let running = tokio::spawn(balancer.run(stop.clone()));
    tell.send(told(backends)).await.unwrap();
    let eyes = Eyes::default();
    wait("told", &eyes, || !view.list().is_empty()).await;
    stop.cancel();
    running.await.unwrap();

    // It was given nothing when that process ended.
    let [_, there] = backends;
    let ip = view.list()[0].addresses[0];
    let service = Service {
        protocol: Protocol::Tcp,
        address: SocketAddr::new(ip, 80),
    };
    let left: Services = [(service, vec![there])].into();
    let ((_silent, second), stop) = (config(), CancellationToken::new());
    let mut balancer = Balancer::new(second, Left(left.clone()));
    let view = balancer.view();
    balancer.avoid(Watcher::new(eyes.clone()).start(&view).unwrap());
    let running = tokio::spawn(balancer.run(stop.clone()));
    let open = || {
        let listed = view.list().into_iter().flat_map(|vip| vip.backends);
        listed.filter(|backend| backend.open).count()
    };
    wait("found", &eyes, || open() == 1).await;
    eyes.0.lock().unwrap().ended = vec![Begun {
        flow: 7,
        client: "10.0.0.9:40000".parse().unwrap(),
        to: service.address,
        backend: there,
    }];
    let counted = || eyes.0.lock().unwrap().counted.take();
    let mut seen = None;
    while seen.is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
        seen = counted();
    }
    assert_eq!(seen, Some(left));
    stop.cancel();
    running.await.unwrap();
}
