//! Desks and nodes together, over HTTP; the nodes' data paths only remember.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dcos_overlay::{
    CniConfigurations, Dataplane, DataplaneError, Desk, NetworkConfig, Node, NodeConfig, Own, Step,
    Tunnels, View, Wishes,
};
use dcos_proto::mesos::MasterInfo;
use dcos_store::{Fence, MemoryStore, StateStore, Term};
use dcos_wire::{Client, Listener, Masters, Server};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// What a data path was told. Like a kernel, it outlives those who tell it.
#[derive(Clone, Debug, Default)]
struct Double(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    own: Option<Own>,
    tunnels: Tunnels,
    /// Entries that were put or taken, and tunnel ends that changed.
    changes: usize,
    fails: bool,
}

impl Dataplane for Double {
    fn mtu_below(&mut self, _: IpAddr) -> Result<u32, DataplaneError> {
        Ok(1500)
    }

    fn establish(&mut self, own: &Own) -> Result<bool, DataplaneError> {
        let mut told = self.0.lock().unwrap();
        let changed = told.own.as_ref() != Some(own);
        told.changes += usize::from(changed);
        told.own = Some(own.clone());
        Ok(changed)
    }

    fn reconcile(&mut self, wanted: &Tunnels) -> Result<usize, DataplaneError> {
        let steps = self.0.lock().unwrap().tunnels.steps_to(wanted);
        self.apply(&steps)?;
        Ok(steps.len())
    }

    fn apply(&mut self, steps: &[Step]) -> Result<(), DataplaneError> {
        let mut told = self.0.lock().unwrap();
        if std::mem::take(&mut told.fails) {
            let source = std::io::ErrorKind::NotFound.into();
            let what = "entries".to_owned();
            return Err(DataplaneError::Write { what, source });
        }
        told.changes += steps.len();
        for step in steps {
            told.tunnels.take_in(*step);
        }
        Ok(())
    }
}

/// One master after another, on the same store.
struct House {
    store: Arc<dyn StateStore>,
    leading: watch::Sender<Option<Arc<MasterInfo>>>,
    term: u64,
    leader: Option<(CancellationToken, String)>,
}

impl House {
    fn new() -> Self {
        Self {
            store: Arc::new(MemoryStore::new()),
            leading: watch::Sender::new(None),
            term: 0,
            leader: None,
        }
    }

    /// Another master leads.
    async fn elect(&mut self, config: NetworkConfig, patience: Duration) {
        self.depose();
        self.term += 1;
        let stop = CancellationToken::new();
        let desk = Desk::new(config, patience);
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.address().unwrap().to_string();
        tokio::spawn(Server::new(desk.router()).serve(listener, stop.clone()));
        let (store, fence) = (
            Arc::clone(&self.store),
            Fence::new("overlay", Term(self.term)),
        );
        let ended = stop.clone();
        tokio::spawn(async move { desk.lead(store, fence, ended).await.unwrap() });
        self.leading.send_replace(Some(Arc::new(MasterInfo {
            pid: Some(format!("master@{address}")),
            ..MasterInfo::default()
        })));
        self.leader = Some((stop, address));
    }

    fn depose(&mut self) {
        if let Some((stop, _)) = self.leader.take() {
            stop.cancel();
        }
        self.leading.send_replace(None);
    }

    async fn ask(&self, path: &str, body: Option<Value>) -> Value {
        let (_, address) = self.leader.as_ref().unwrap();
        let url = format!("http://{address}/overlay-master/{path}");
        let client = Client::new();
        let answer = match body {
            Some(body) => client.post_json(&url, &body).await,
            None => client.get(&url).await,
        };
        answer
            .unwrap()
            .success()
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }

    async fn status(&self, agent: IpAddr) -> Value {
        let state = self.ask("state", None).await;
        let agents = state["agents"].as_array().unwrap().clone();
        let found = agents
            .into_iter()
            .find(|found| found["ip"] == agent.to_string());
        found.map_or(Value::Null, |found| {
            found["overlays"][0]["state"]["status"].clone()
        })
    }

    fn start(&self, number: u8, folder: &Path, double: &Double) -> Running {
        let ip = Ipv4Addr::new(10, 0, 0, number).into();
        let folder = folder.join(number.to_string());
        let config = NodeConfig {
            masters: Masters::Led(self.leading.subscribe()),
            client: Client::new(),
            ip,
            wishes: Wishes::ALL,
            state: folder.join("given.json"),
            container_mtu: None,
            networks: vec![Arc::new(CniConfigurations::new(
                folder.join("cni"),
                folder.join("leases"),
            ))],
        };
        let node = Node::new(config, double.clone());
        let (stop, view, ready) = (CancellationToken::new(), node.view(), node.ready());
        let task = tokio::spawn(node.run(stop.clone()));
        Running {
            ip,
            stop,
            task,
            view,
            ready,
        }
    }
}

struct Running {
    ip: IpAddr,
    stop: CancellationToken,
    task: JoinHandle<()>,
    view: View,
    ready: watch::Receiver<bool>,
}

impl Running {
    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Waits until something is so.
async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = timeout(Duration::from_secs(60), wait).await;
    assert!(waited.is_ok(), "{what} did not happen");
}

/// The nodes a data path knows the way to.
fn ways(double: &Double) -> Vec<String> {
    let told = double.0.lock().unwrap();
    let entries = told.tunnels.entries();
    let nodes = entries.filter_map(|entry| match entry {
        dcos_overlay::Entry::Agent(agent, end) => Some(format!("{agent} via {end}")),
        _ => None,
    });
    nodes.collect()
}

async fn leads_to(double: &Double, expected: &[&str]) {
    eventually(&format!("{expected:?}"), async || ways(double) == expected).await;
}

/// What a node tells Prometheus.
async fn metrics(view: &View) -> String {
    let stop = CancellationToken::new();
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/v1/metrics/overlay", listener.address().unwrap());
    tokio::spawn(Server::new(view.metrics()).serve(listener, stop.clone()));
    let text = Client::new().get(&url).await.unwrap().text().await.unwrap();
    stop.cancel();
    text
}

const LONG: Duration = Duration::from_secs(600);

#[tokio::test]
async fn nodes_learn_of_each_other_and_keep_everything_through_failures() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::new();
    house.elect(NetworkConfig::default(), LONG).await;
    let doubles: Vec<Double> = (0..4).map(|_| Double::default()).collect();
    let mut nodes = Vec::new();
    for number in 1..=3_u8 {
        let mut node = house.start(number, folder.path(), &doubles[usize::from(number)]);
        // One after the other, so that it is known who gets what.
        node.ready.wait_for(|ready| *ready).await.unwrap();
        nodes.push(node);
    }
    let [one, two, three] = [
        "10.0.0.1 via 44.128.0.1",
        "10.0.0.2 via 44.128.0.2",
        "10.0.0.3 via 44.128.0.3",
    ];
    leads_to(&doubles[1], &[two, three]).await;
    leads_to(&doubles[2], &[one, three]).await;
    leads_to(&doubles[3], &[one, two]).await;
    for node in &nodes {
        eventually("fine", async || house.status(node.ip).await == "STATUS_OK").await;
    }
    assert!(folder.path().join("1/cni/overlay-dcos.conf").exists());
    assert_eq!(doubles[1].0.lock().unwrap().own.as_ref().unwrap().mtu, 1450);

    // A change that the kernel refuses is made up for.
    doubles[1].0.lock().unwrap().fails = true;
    let mut fourth = house.start(4, folder.path(), &Double::default());
    fourth.ready.wait_for(|ready| *ready).await.unwrap();
    let four = "10.0.0.4 via 44.128.0.4";
    leads_to(&doubles[1], &[two, three, four]).await;
    leads_to(&doubles[2], &[one, three, four]).await;
    leads_to(&doubles[3], &[one, two, four]).await;
    eventually("fine", async || {
        house.status(nodes[0].ip).await == "STATUS_OK"
    })
    .await;

    let counted = metrics(&nodes[0].view).await;
    for line in [
        "networks_configured 2",
        "peers 3",
        "update_failures_total 1",
    ] {
        assert!(counted.lines().any(|found| found == line), "{counted}");
    }

    // No master: a node that starts anew has what it had, and touches nothing.
    let changes = || -> Vec<usize> {
        doubles
            .iter()
            .map(|double| double.0.lock().unwrap().changes)
            .collect()
    };
    let before = changes();
    house.depose();
    nodes.remove(0).end().await;
    let mut again = house.start(1, folder.path(), &doubles[1]);
    again.ready.wait_for(|ready| *ready).await.unwrap();
    assert_eq!(ways(&doubles[1]), [two, three, four]);

    // Another master reads what the first one stored: nothing changes on any node.
    house.elect(NetworkConfig::default(), LONG).await;
    let ips: Vec<IpAddr> = nodes
        .iter()
        .chain([&again, &fourth])
        .map(|node| node.ip)
        .collect();
    for ip in ips {
        eventually("fine again", async || house.status(ip).await == "STATUS_OK").await;
    }
    assert_eq!(changes(), before);

    // The store is lost: nodes say what they had, and keep it.
    house.store = Arc::new(MemoryStore::new());
    house.elect(NetworkConfig::default(), LONG).await;
    for (number, ways) in [
        (1, [two, three, four]),
        (2, [one, three, four]),
        (3, [one, two, four]),
    ] {
        // Those who came later are told of as they come: in the end all is as it was.
        leads_to(&doubles[number], &ways).await;
    }
    for node in nodes.into_iter().chain([again, fourth]) {
        eventually("fine", async || house.status(node.ip).await == "STATUS_OK").await;
        node.end().await;
    }
}

#[tokio::test]
async fn who_is_silent_is_forgotten_and_has_the_same_when_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::new();
    house
        .elect(NetworkConfig::default(), Duration::from_secs(2))
        .await;
    let (first, second) = (Double::default(), Double::default());
    let mut one = house.start(1, folder.path(), &first);
    one.ready.wait_for(|ready| *ready).await.unwrap();
    let two = house.start(2, folder.path(), &second);
    leads_to(&first, &["10.0.0.2 via 44.128.0.2"]).await;
    let silent = two.ip;
    two.end().await;
    leads_to(&first, &[]).await;
    eventually("failed", async || {
        house.status(silent).await == "STATUS_FAILED"
    })
    .await;
    // Its place is kept: another one gets the next.
    let third = Double::default();
    let three = house.start(3, folder.path(), &third);
    leads_to(&first, &["10.0.0.3 via 44.128.0.3"]).await;
    let two = house.start(2, folder.path(), &second);
    leads_to(
        &first,
        &["10.0.0.2 via 44.128.0.2", "10.0.0.3 via 44.128.0.3"],
    )
    .await;

    // Deleted, the place is free; but who is there is not deleted.
    two.end().await;
    leads_to(&first, &["10.0.0.3 via 44.128.0.3"]).await;
    let answer = house
        .ask(
            "agents/delete",
            Some(json!({"agents": ["10.0.0.2", "10.0.0.3", "10.0.0.9"]})),
        )
        .await;
    assert_eq!(
        answer,
        json!({"deleted": ["10.0.0.2"], "present": ["10.0.0.3"]})
    );
    let four = house.start(4, folder.path(), &Double::default());
    leads_to(
        &first,
        &["10.0.0.3 via 44.128.0.3", "10.0.0.4 via 44.128.0.2"],
    )
    .await;
    for node in [one, three, four] {
        node.end().await;
    }
}

#[tokio::test]
async fn what_is_told_has_the_originals_form() {
    let folder = tempfile::tempdir().unwrap();
    let mut house = House::new();
    house.elect(NetworkConfig::default(), LONG).await;
    let mut node = house.start(1, folder.path(), &Double::default());
    node.ready.wait_for(|ready| *ready).await.unwrap();
    eventually("fine", async || house.status(node.ip).await == "STATUS_OK").await;
    let backend = json!({"vxlan": {
        "vni": 1024, "vtep_name": "vtep1024", "vtep_ip": "44.128.0.1/20", "vtep_ip6": "fd01:a::1/64",
        "vtep_mac": "70:b3:d5:80:00:01"}});
    let agent = json!({"ip": "10.0.0.1", "configuration_attempts": 1, "backend": backend, "overlays": [
        {"info": {"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24}, "subnet": "9.0.0.0/24",
         "mesos_bridge": {"name": "m-dcos", "ip": "9.0.0.0/25"}, "docker_bridge": {"name": "d-dcos", "ip": "9.0.0.128/25"},
         "backend": backend, "state": {"status": "STATUS_OK"}},
        {"info": {"name": "dcos6", "subnet6": "fd01:b::/64", "prefix6": 80}, "subnet6": "fd01:b::/80",
         "mesos_bridge": {"name": "m-dcos6", "ip6": "fd01:b::/81"},
         "docker_bridge": {"name": "d-dcos6", "ip6": "fd01:b::8000:0:0/81"},
         "backend": backend, "state": {"status": "STATUS_OK"}}]});
    let state = house.ask("state", None).await;
    assert_eq!(
        state,
        json!({"agents": [agent], "network": {
        "vtep_subnet": "44.128.0.0/20", "vtep_subnet6": "fd01:a::/64", "vtep_mac_oui": "70:b3:d5:00:00:00",
        "overlays": [{"name": "dcos", "subnet": "9.0.0.0/8", "prefix": 24},
                     {"name": "dcos6", "subnet6": "fd01:b::/64", "prefix6": 80}]}})
    );

    // The agent itself says the same.
    let stop = CancellationToken::new();
    let listener = Listener::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!(
        "http://{}/overlay-agent/overlay",
        listener.address().unwrap()
    );
    tokio::spawn(Server::new(node.view.router()).serve(listener, stop.clone()));
    let own: Value = Client::new().get(&url).await.unwrap().json().await.unwrap();
    assert_eq!(own, state["agents"][0]);
    stop.cancel();
    node.end().await;
}

#[tokio::test]
async fn many_register_at_once() {
    let mut house = House::new();
    house.elect(NetworkConfig::default(), LONG).await;
    let folder = tempfile::tempdir().unwrap();
    let doubles: Vec<Double> = (0..40).map(|_| Double::default()).collect();
    let numbers = 1..=40_u8;
    let nodes: Vec<Running> = numbers
        .zip(&doubles)
        .map(|(number, double)| house.start(number, folder.path(), double))
        .collect();
    for double in &doubles {
        eventually("39 ways", async || ways(double).len() == 39).await;
    }
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for double in &doubles {
        let own = double.0.lock().unwrap().own.clone().unwrap();
        *ends.entry(own.vtep.ip.to_string()).or_default() += 1;
    }
    assert_eq!(ends.len(), 40);
    for node in nodes {
        node.end().await;
    }
}

#[tokio::test]
async fn no_tunnel_leads_to_loopback() {
    let mut house = House::new();
    house.elect(NetworkConfig::default(), LONG).await;
    let (_, address) = house.leader.as_ref().unwrap();
    let url = format!("http://{address}/overlay-master/agents/register");
    for (ip, is_taken) in [
        ("127.0.0.1", false),
        ("127.0.1.1", false),
        ("0.0.0.0", false),
        ("10.0.0.1", true),
    ] {
        let asked = json!({"ip": ip, "wishes": Wishes::ALL});
        let register = async || {
            let answer = Client::new().post_json(&url, &asked).await.unwrap();
            answer.success().await.is_ok()
        };
        if is_taken {
            // The desk may still be opening.
            eventually("it is taken", register).await;
        } else {
            assert!(!register().await, "{ip}");
        }
    }
    let state = house.ask("state", None).await;
    assert_eq!(state["agents"].as_array().unwrap().len(), 1, "{state}");
}
