use axum::extract::Request;
use dcos_store::Term;
use dcos_wire::{Answer, Listener, Origins, Server};
use tokio::task::JoinSet;

mod tls;

use super::*;
use crate::{Guard, entrance};

/// A leader that says what it was asked, a standby in front of it, and who is known to lead.
struct Front {
    leading: watch::Sender<Option<Leader>>,
    leader: String,
    standby: String,
    elected: CancellationToken,
    client: Client,
    _servers: JoinSet<()>,
}

fn serve(servers: &mut JoinSet<()>, router: Router, listener: Listener) {
    servers.spawn(async move {
        Server::new(router)
            .serve(listener, CancellationToken::new())
            .await;
    });
}

async fn front() -> Front {
    front_behind(None).await
}

/// The same, with a guard before both.
async fn front_behind(guard: Option<&Guard>) -> Front {
    let origins = Origins::new(["https://ui.example".to_owned()]).unwrap();
    let guarded = |router| entrance(&origins, guard, router);
    let mut servers = JoinSet::new();
    let bind = || Listener::tcp(([127, 0, 0, 1], 0).into());
    let (listener, other) = (bind().await.unwrap(), bind().await.unwrap());
    let leader = listener.address().unwrap().to_string();
    let standby = other.address().unwrap().to_string();
    let echo = |request: Request| async move {
        let (parts, body) = request.into_parts();
        let header = |name: &str| {
            let value = parts.headers.get(name).cloned();
            value.map_or("-".to_owned(), |value| value.to_str().unwrap().to_owned())
        };
        let (via, hops) = (header("x-marathon-via"), header("x-forwarded-for"));
        let asked = header("x-forwarded-host");
        let (host, length) = (header("host"), axum::body::to_bytes(body, 1 << 20).await);
        let length = length.unwrap().len();
        let text = format!(
            "{} {} {host} {asked} {via} {hops} {length}",
            parts.method, parts.uri
        );
        (StatusCode::CREATED, [("x-marathon-leader", "me")], text)
    };
    let leading = guarded(Router::new().fallback(echo));
    serve(&mut servers, leading, listener);
    let leading = watch::Sender::new(None);
    let elected = CancellationToken::new();
    let router = router(&standby, leading.subscribe(), elected.clone(), None).unwrap();
    serve(&mut servers, guarded(router), other);
    let client = Client::with_config(ClientConfig {
        max_redirects: 0,
        authorization: guard.map(Guard::authorization),
        ..ClientConfig::default()
    });
    Front {
        leading,
        leader,
        standby,
        elected,
        client: client.unwrap(),
        _servers: servers,
    }
}

impl Front {
    fn lead(&self, address: &str) {
        self.leading.send_replace(Some(Leader {
            term: Term(1),
            candidate: address.to_owned().into(),
        }));
    }

    async fn put(&self, path: &str, body: &'static str, via: Option<&str>) -> Answer {
        let mut request = http::Request::builder()
            .method("PUT")
            .uri(format!("http://{}{path}", self.standby))
            .header("x-forwarded-for", "192.0.2.1");
        if let Some(via) = via {
            request = request.header("x-marathon-via", via);
        }
        let request = request.body(Body::from(body)).unwrap();
        self.client.send_streaming(request).await.unwrap()
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_answered_by_standbys_as_by_leaders() {
    let front = front().await;
    front.lead(&front.leader);
    let ask = async |method: &str, path: &str, origin: &str| {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", front.standby))
            .header("origin", origin)
            .header("x-forwarded-host", "outer.example")
            .header("access-control-request-method", "GET");
        let request = request.body(Body::empty()).unwrap();
        let answer = front.client.send_streaming(request).await.unwrap();
        let shown = answer.headers().get_all("access-control-allow-origin");
        let shown: Vec<_> = shown.iter().cloned().collect();
        (answer.status().as_u16(), shown)
    };
    let known = "https://ui.example";
    for (method, path, status) in [
        ("GET", "/v2/apps", 201),
        ("POST", "/v2/apps", 201),
        ("OPTIONS", "/v2/apps", 200),
        // Those are sent to the leader.
        ("GET", "/v2/events", 302),
    ] {
        let answer = ask(method, path, known).await;
        assert_eq!(
            answer,
            (status, vec![known.parse().unwrap()]),
            "{method} {path}"
        );
    }
    let elsewhere = "https://elsewhere.example";
    assert_eq!(ask("POST", "/v2/apps", elsewhere).await, (403, Vec::new()));
    assert_eq!(ask("GET", "/v2/apps", elsewhere).await, (201, Vec::new()));
    for own in ["http://outer.example", &format!("http://{}", front.standby)] {
        assert_eq!(
            ask("POST", "/v2/apps", own).await,
            (201, Vec::new()),
            "{own}"
        );
    }
}

#[tokio::test]
async fn a_standby_says_what_the_leader_says() {
    let front = front().await;
    front.lead(&front.leader);
    let answer = front.put("/v2/apps//a?force=true", "12345", None).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    assert_eq!(answer.headers()["x-marathon-leader"], "me");
    let mark = format!("1.1 {}", front.standby);
    assert_eq!(answer.headers()["x-marathon-via"], *mark);
    assert_eq!(
        answer.text().await.unwrap(),
        format!(
            "PUT /v2/apps//a?force=true {} {} {mark} 192.0.2.1,127.0.0.1 5",
            front.leader, front.standby
        )
    );
}

#[tokio::test]
async fn what_a_standby_is_shown_the_leader_is_shown() {
    let guard = Guard::new("Mesosphere", "ops:secret").unwrap();
    let front = front_behind(Some(&guard)).await;
    front.lead(&front.leader);
    let answer = front.put("/v2/apps", "", None).await;
    assert_eq!(answer.status(), StatusCode::CREATED);
    for path in ["/v2/apps", "/v2/events", "/ping"] {
        let url = format!("http://{}{path}", front.standby);
        let answer = Client::new().get(&url).await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert!(answer.headers().get("x-marathon-via").is_none());
    }
}

#[tokio::test]
async fn event_streams_are_redirected_and_loops_found() {
    let front = front().await;
    front.lead(&front.leader);
    let answer = front.put("/v2/events?event_type=x", "", None).await;
    assert_eq!(answer.status(), StatusCode::FOUND);
    let there = format!("http://{}/v2/events?event_type=x", front.leader);
    assert_eq!(answer.headers()["location"], *there);
    let mark = format!("1.1 {}", front.standby);
    let answer = front.put("/v2/apps", "", Some(&mark)).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(answer.text().await.unwrap(), "Detected proxying loop.");
}

#[tokio::test]
async fn without_a_leader_requests_wait_a_little() {
    let front = front().await;
    let (answer, ()) = tokio::join!(front.put("/ping", "", None), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        front.lead(&front.leader);
    });
    assert_eq!(answer.status(), StatusCode::CREATED);
    // Elected itself, but not serving yet: nobody to ask.
    front.lead(&front.standby);
    let answer = front.put("/ping", "", None).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    // It serves: those who still waited are sent there. Here that is the standby again.
    front.elected.cancel();
    let answer = front.put("/ping", "", None).await;
    assert_eq!(answer.text().await.unwrap(), "Detected proxying loop.");
    // Even if somebody else was the last one known to lead.
    front.lead(&front.leader);
    let answer = front.put("/ping", "", None).await;
    assert_eq!(answer.text().await.unwrap(), "Detected proxying loop.");
}

#[tokio::test]
async fn a_leader_that_is_gone() {
    let front = front().await;
    front.lead("127.0.0.1:1");
    let answer = front.put("/ping", "", None).await;
    assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
    assert_eq!(
        answer.text().await.unwrap(),
        "Connection to leader refused."
    );
}
