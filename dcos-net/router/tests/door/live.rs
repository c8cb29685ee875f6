//! Following a master and a Marathon: what they tell is known at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use dcos_proto::master::{Event, event, response};
use dcos_proto::mesos::{AgentId, AgentInfo, FrameworkId, FrameworkInfo};
use dcos_proto::recordio;
use dcos_router::Sources;
use dcos_router::world::Scheme;
use dcos_wire::{Body, Client, Listener, Server};
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::backend::backend;
use crate::setup::{Served, Wishes, router};

/// Open streams, by who sends them.
type Streams = BTreeMap<&'static str, mpsc::UnboundedSender<Vec<u8>>>;

/// A master and a Marathon whose words a test chooses.
#[derive(Clone, Default)]
struct Told {
    apps: Arc<Mutex<Value>>,
    streams: Arc<Mutex<Streams>>,
}

impl Told {
    fn open(&self, name: &'static str) -> Response {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.streams.lock().unwrap().insert(name, sender);
        let pieces = futures::stream::unfold(receiver, |mut receiver| async move {
            let piece: Vec<u8> = receiver.recv().await?;
            Some((Ok::<_, std::io::Error>(piece), receiver))
        });
        Body::from_stream(pieces).into_response()
    }

    /// Waits until somebody listens, and tells that one.
    async fn tell(&self, name: &'static str, bytes: Vec<u8>) {
        loop {
            let sender = self.streams.lock().unwrap().get(name).cloned();
            if let Some(sender) = sender
                && sender.send(bytes.clone()).is_ok()
            {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    async fn mesos(&self, event: Event) {
        self.tell("mesos", recordio::encode(&event.encode_to_vec()).to_vec())
            .await;
    }
}

async fn serve(told: Told) -> std::net::SocketAddr {
    let routes = axum::Router::new()
        .route(
            "/api/v1",
            post(async |State(told): State<Told>| told.open("mesos")),
        )
        .route(
            "/v2/events",
            get(async |State(told): State<Told>| told.open("marathon")),
        )
        .route("/v2/leader", get(async || r#"{"leader":"10.9.9.9:8080"}"#))
        .route(
            "/v2/apps",
            get(async |State(told): State<Told>| told.apps.lock().unwrap().to_string()),
        )
        .with_state(told);
    let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.address().unwrap();
    tokio::spawn(Server::new(routes).serve(listener, CancellationToken::new()));
    address
}

async fn following(address: std::net::SocketAddr) -> (Served, watch::Sender<Vec<String>>) {
    let (masters, named) = watch::channel(vec![address.to_string()]);
    let sources = Sources {
        masters: named,
        scheme: Scheme::Http,
        master_client: Client::new(),
        marathon: Some(format!("http://{address}").parse().unwrap()),
        marathon_client: Client::new(),
    };
    let served = router(Wishes {
        sources: Some(sources),
        ..Wishes::default()
    })
    .await;
    (served, masters)
}

fn framework(id: &str, name: &str, url: &str) -> response::get_frameworks::Framework {
    response::get_frameworks::Framework {
        framework_info: FrameworkInfo {
            id: Some(FrameworkId::from(id)),
            name: name.to_owned(),
            webui_url: Some(url.to_owned()),
            ..FrameworkInfo::default()
        },
        ..response::get_frameworks::Framework::default()
    }
}

fn state() -> Event {
    let agent = |id: &str, pid: String| response::get_agents::Agent {
        agent_info: AgentInfo {
            id: Some(AgentId::from(id)),
            ..AgentInfo::default()
        },
        pid: Some(pid),
        ..response::get_agents::Agent::default()
    };
    let get_state = response::GetState {
        get_agents: Some(response::GetAgents {
            agents: vec![agent("S1", "slave(1)@127.0.0.1:1".to_owned())],
            ..response::GetAgents::default()
        }),
        ..response::GetState::default()
    };
    Event {
        r#type: Some(event::Type::Subscribed.into()),
        subscribed: Some(event::Subscribed {
            get_state: Some(get_state),
            heartbeat_interval_seconds: Some(15.0),
        }),
        ..Event::default()
    }
}

/// Waits until what is known fulfils the condition.
async fn until(
    served: &Served,
    what: &str,
    condition: impl Fn(&dcos_router::world::World) -> bool,
) {
    let mut worlds = served.worlds.subscribe();
    let known = worlds.wait_for(|world| condition(world));
    let known = tokio::time::timeout(std::time::Duration::from_secs(30), known).await;
    assert!(known.is_ok(), "{what}");
}

#[tokio::test]
async fn frameworks_and_agents_are_known_as_the_master_tells() {
    let told = Told::default();
    *told.apps.lock().unwrap() = json!({"apps": []});
    let address = serve(told.clone()).await;
    let (served, masters) = following(address).await;
    // Whoever names masters once need not stay.
    drop(masters);
    told.mesos(state()).await;
    until(&served, "the agent", |world| {
        world
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.agent("S1").is_some())
    })
    .await;
    let backend = backend().await.reflect();
    let framework = framework("f", "/nest/ui", &format!("http://{backend}/ui/"));
    let added = Event {
        r#type: Some(event::Type::FrameworkAdded.into()),
        framework_added: Some(event::FrameworkAdded { framework }),
        ..Event::default()
    };
    told.mesos(added).await;
    until(&served, "the framework", |world| {
        world
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.framework("ui.nest").is_some())
    })
    .await;
    let seen = served.get("/service/nest/ui/x?y").await.text();
    assert!(seen.starts_with("GET /ui/x?y "), "{seen}");
    let leader = served.worlds.borrow().mesos_leader.clone().unwrap();
    assert_eq!(leader.to_string(), format!("http://{address}"));
}

#[tokio::test]
async fn services_are_looked_for_when_marathon_says_so() {
    let told = Told::default();
    *told.apps.lock().unwrap() = json!({"apps": []});
    let address = serve(told.clone()).await;
    let (served, _masters) = following(address).await;
    told.mesos(state()).await;
    until(&served, "the first look", |world| world.apps.is_some()).await;
    let backend = backend().await.reflect();
    let app = json!({
        "id": "/s",
        "labels": {"DCOS_SERVICE_NAME": "s", "DCOS_SERVICE_SCHEME": "http", "DCOS_SERVICE_PORT_INDEX": "0"},
        "tasks": [{"state": "TASK_RUNNING", "host": "127.0.0.1", "ports": [backend.port()]}],
    });
    *told.apps.lock().unwrap() = json!({"apps": [app]});
    let event = b"event: api_post_event\ndata: {\"eventType\":\"api_post_event\"}\n\n";
    told.tell("marathon", event.to_vec()).await;
    until(&served, "the service", |world| {
        world
            .apps
            .as_ref()
            .is_some_and(|apps| apps.by_name.contains_key("s"))
    })
    .await;
    assert!(
        served
            .get("/service/s/x")
            .await
            .text()
            .starts_with("GET /x ")
    );
    let leader = served.worlds.borrow().marathon_leader.clone();
    assert_eq!(leader.unwrap().to_string(), "http://10.9.9.9:8080");
}

#[tokio::test]
async fn what_was_known_stays_when_a_stream_breaks_and_is_replaced_by_the_next() {
    let told = Told::default();
    *told.apps.lock().unwrap() = json!({"apps": []});
    let address = serve(told.clone()).await;
    let (served, masters) = following(address).await;
    told.mesos(state()).await;
    let has_agent = |world: &dcos_router::world::World| {
        world
            .cluster
            .as_ref()
            .is_some_and(|cluster| cluster.agent("S1").is_some())
    };
    until(&served, "the agent", has_agent).await;
    told.streams.lock().unwrap().clear();
    assert!(has_agent(&served.worlds.borrow().clone()));
    let other = Told::default();
    let address = serve(other.clone()).await;
    masters.send_replace(vec![address.to_string()]);
    let empty = Event {
        subscribed: Some(event::Subscribed::default()),
        ..state()
    };
    other.mesos(empty).await;
    until(&served, "the other master", |world| !has_agent(world)).await;
}
