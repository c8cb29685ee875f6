//! `/v2/events`, and who this is.

use dcos_wire::Origins;
use serde_json::{Value, json};

use super::app;
use crate::Config;
use crate::shell::tests::Running;

#[tokio::test]
async fn listeners_hear_what_they_asked_for() {
    use http_body_util::BodyExt;
    let marathon = Running::new().await;
    let stream = tokio::net::TcpStream::connect(marathon.address)
        .await
        .unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let uri = "/v2/events?event_type=deployment_success&event_type=status_update_event";
    let request = http::Request::get(uri)
        .header("host", "x")
        .body(http_body_util::Empty::<bytes::Bytes>::new())
        .unwrap();
    let response = sender.send_request(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    marathon.create(app("/web")).await;
    let mut body = response.into_body();
    let mut text = String::new();
    while !text.contains("deployment_success") {
        let frame = tokio::time::timeout(std::time::Duration::from_secs(10), body.frame());
        let frame = frame.await.unwrap().unwrap().unwrap();
        text += std::str::from_utf8(frame.data_ref().unwrap()).unwrap();
    }
    assert!(
        text.starts_with("event: status_update_event\ndata: {"),
        "{text}"
    );
    assert!(!text.contains("instance_changed_event"), "{text}");
}

#[tokio::test]
async fn who_this_is() {
    let marathon = Running::new().await;
    for (accept, kind, text) in [
        ("*/*", "text/plain", "pong"),
        ("application/json", "application/json", "\"pong\""),
        ("text/html", "text/html", "pong"),
    ] {
        let answer = marathon
            .send_raw("GET", "/ping", String::new(), accept)
            .await;
        assert_eq!(
            (
                answer.text.as_str(),
                answer.headers["content-type"].to_str().unwrap()
            ),
            (text, kind)
        );
    }
    assert_eq!(
        marathon
            .send_raw("GET", "/ping", String::new(), "image/png")
            .await
            .status,
        204
    );
    let info = marathon.get("/v2/info").await;
    assert_eq!(
        (&info["name"], &info["elected"]),
        (&json!("marathon"), &json!(true))
    );
    assert_eq!(
        marathon.get("/v2/leader").await["leader"],
        json!(marathon.address.to_string())
    );
    assert_eq!(marathon.get("/v2/plugins").await, json!({"plugins": []}));
    let measured = marathon.get("/metrics").await;
    assert!(measured["gauges"]["marathon.apps.active.gauge"].is_object());
    assert_eq!(
        measured["gauges"]["marathon.http.requests.active.gauge"]["value"],
        1
    );
    let timers = &measured["timers"];
    let gets = &timers["marathon.http.requests.get.duration.timer.seconds"];
    assert!(
        gets["count"].as_u64() > Some(0) && gets["max"].as_f64() > Some(0.0),
        "{gets}"
    );
    let all = &timers["marathon.http.requests.duration.timer.seconds"];
    assert!(all["count"].as_u64() >= gets["count"].as_u64(), "{all}");
    let well = &measured["meters"]["marathon.http.responses.2xx.rate.meter"]["count"];
    assert!(well.as_u64() > Some(0), "{well}");
    let sent = &measured["counters"]["marathon.http.responses.size.counter.bytes"]["count"];
    assert!(sent.as_u64() > Some(0), "{sent}");
    let text = marathon
        .send("GET", "/metrics/prometheus", &Value::Null)
        .await
        .text;
    assert!(
        text.contains("# TYPE marathon_apps_active_gauge gauge\nmarathon_apps_active_gauge 0\n")
    );
    assert!(
        text.contains("\nmarathon_tasks_launched_counter 0\n"),
        "{text}"
    );
    let answer = marathon.send("GET", "/", &Value::Null).await;
    assert_eq!(
        (answer.status, answer.headers["location"].to_str().unwrap()),
        (302, "/ui/")
    );
    assert!(
        marathon
            .send("GET", "/ui/", &Value::Null)
            .await
            .text
            .contains("Marathon")
    );
}

/// The names that its documentation calls important, but for those of the Java machine and of a collector there is none of here.
#[tokio::test]
async fn what_is_measured_has_the_originals_names() {
    let marathon = Running::new().await;
    marathon.create(json!({"id": "/a", "cmd": "run it"})).await;
    marathon.idle().await;
    let measured = marathon.get("/metrics").await;
    let named = |kind: &str, name: &str| {
        let value = &measured[kind][format!("marathon.{name}")];
        assert!(value.is_object(), "{kind}: {name}");
        value.clone()
    };
    for name in [
        "instances.inflight-kills.gauge",
        "instances.inflight-kill-attempts.gauge",
        "instances.launch-overdue.gauge",
        "http.event-streams.active.gauge",
    ] {
        assert_eq!(named("gauges", name)["value"], 0, "{name}");
    }
    for name in ["uptime.gauge.seconds", "leadership.duration.gauge.seconds"] {
        assert!(
            named("gauges", name)["value"].as_f64() > Some(0.0),
            "{name}"
        );
    }
    for (name, count) in [
        ("mesos.offer-operations.launch.counter", 1),
        ("mesos.offer-operations.launch-group.counter", 0),
        ("mesos.offer-operations.reserve.counter", 0),
        ("mesos.task-updates.task-running.counter", 1),
        ("mesos.task.oom.memory-limit-exceeded.counter", 0),
        ("http.responses.event-stream.size.counter.bytes", 0),
    ] {
        assert_eq!(named("counters", name)["count"], count, "{name}");
    }
    let name = "debug.persistence.operations.store.duration.timer.seconds";
    assert!(named("timers", name)["count"].as_u64() > Some(1));
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let origins = Origins::new(["https://ui.example".to_owned()]).unwrap();
    let marathon = Running::configured(Config {
        origins,
        ..Config::default()
    })
    .await;
    marathon.create(json!({"id": "/a", "cmd": "run it"})).await;
    marathon.idle().await;
    let restart = "/v2/apps/a/restart";
    let ask = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        marathon
            .send_with(method, path, String::new(), headers)
            .await
    };
    let elsewhere = ("origin", "http://elsewhere.example");
    let refused = ask("POST", restart, &[elsewhere]).await;
    assert_eq!(refused.status, 403);
    let message = &refused.json()["message"];
    assert!(
        message
            .as_str()
            .unwrap()
            .contains("http://elsewhere.example")
    );
    assert_eq!(ask("GET", "/v2/apps", &[elsewhere]).await.status, 200);
    for origin in ["http://marathon", "https://ui.example"] {
        let answer = ask("POST", restart, &[("origin", origin)]).await;
        assert_eq!(answer.status, 200, "{origin}: {answer:?}");
        marathon.idle().await;
    }
    let asks = ("access-control-request-method", "GET");
    let answer = ask(
        "OPTIONS",
        "/v2/apps",
        &[("origin", "https://ui.example"), asks],
    )
    .await;
    let allowed = &answer.headers["access-control-allow-origin"];
    assert_eq!(
        (answer.status, allowed.to_str().unwrap()),
        (200, "https://ui.example")
    );
    let answer = ask("GET", "/v2/apps", &[elsewhere]).await;
    assert!(!answer.headers.contains_key("access-control-allow-origin"));
    let shown = &marathon.get("/v2/info").await["marathon_config"];
    assert_eq!(
        shown["access_control_allow_origin"],
        json!(["https://ui.example"])
    );
}

#[tokio::test]
async fn how_it_is_set_up_and_how_much_it_logs() {
    let marathon = Running::new().await;
    let config = marathon.get("/config").await;
    assert_eq!(config["marathon"]["framework_name"], json!("marathon"));
    let logging = async |change: Value| marathon.send("POST", "/logging", &change).await;
    assert_eq!(marathon.get("/logging").await, json!({"ROOT": "INFO"}));
    let change = json!({"level": "trace", "logger": "ROOT", "durationSeconds": 3600});
    let answer = logging(change.clone()).await;
    assert_eq!((answer.status, answer.json()), (200, change));
    assert_eq!(marathon.get("/logging").await, json!({"ROOT": "TRACE"}));
    for (change, path) in [
        (
            json!({"level": "trace", "logger": "mesosphere.marathon"}),
            "/logger",
        ),
        (json!({"level": "error", "logger": "ROOT"}), "/level"),
        (json!({"level": "loud", "logger": "ROOT"}), "/level"),
    ] {
        let answer = logging(change).await;
        assert_eq!(
            (answer.status, &answer.json()["details"][0]["path"]),
            (422, &json!(path))
        );
    }
    logging(json!({"level": "info", "logger": "root"})).await;
    assert_eq!(marathon.get("/logging").await, json!({"ROOT": "INFO"}));
    for method in ["GET", "POST", "DELETE"] {
        let answer = marathon
            .send(
                method,
                "/v2/eventSubscriptions?callbackUrl=http://x",
                &Value::Null,
            )
            .await;
        let message = answer.json()["message"].to_string();
        assert!(
            answer.status == 404 && message.contains("/v2/events"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn a_log_that_is_shared_with_a_master_is_not_changed() {
    let config = Config {
        log_is_shared: true,
        ..Config::default()
    };
    let marathon = Running::configured(config).await;
    for level in ["trace", "debug", "info"] {
        let change = json!({"level": level, "logger": "ROOT", "durationSeconds": 1});
        let answer = marathon.send("POST", "/logging", &change).await;
        let message = answer.json()["message"].to_string();
        assert!(
            answer.status == 422 && message.contains("SET_LOGGING_LEVEL"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn deployments_say_more_to_those_who_ask() {
    let marathon = Running::new().await;
    let mut large = app("/large");
    large["cpus"] = json!(1000);
    let path = "/v2/apps?deadline=600&onDeadline=rollback";
    assert_eq!(marathon.send("POST", path, &large).await.status, 201);
    let keys = |value: &Value| {
        let keys = value.as_object().unwrap().keys();
        keys.cloned().collect::<Vec<_>>()
    };
    let plain = marathon.get("/v2/deployments").await;
    let known = [
        "affectedApps",
        "affectedPods",
        "currentActions",
        "currentStep",
        "id",
        "steps",
        "totalSteps",
        "version",
    ];
    assert_eq!(keys(&plain[0]), known, "clients fail over other fields");
    let action = &plain[0]["currentActions"][0];
    assert_eq!(keys(action), ["action", "app", "readinessCheckResults"]);
    let path = "/v2/deployments?embed=waitingFor";
    let refused = |all: &Value| {
        let waiting = &all[0]["currentActions"][0]["waitingFor"][0];
        waiting["refused"] == json!([{"reason": "InsufficientCpus", "agents": 1}])
    };
    let asked = marathon.until("a refusal", path, refused).await;
    assert_eq!(asked[0]["onDeadline"], "rollback");
    let left = asked[0]["timeLeftSeconds"].as_f64().unwrap();
    assert!(left > 0.0 && left <= 600.0, "{left}");
    // What takes it back, and what kills and scales, begins a deployment as well.
    let id = asked[0]["id"].as_str().unwrap();
    let by_force = format!("/v2/deployments/{id}?force=true&deadline=5");
    let refusal = marathon.send("DELETE", &by_force, &Value::Null).await;
    assert_eq!(refusal.status, 400);
    for wrong in [
        "deadline=0",
        "deadline=soon",
        "onDeadline=rollback",
        "deadline=1&onDeadline=x",
    ] {
        let answer = marathon
            .send("POST", &format!("/v2/apps?{wrong}"), &app("/never"))
            .await;
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
    }
    assert_eq!(
        marathon.get("/v2/apps").await["apps"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}
