//! Requests and answers, as clients of the original expect them.

use dcos_proto::mesos::TaskState;
use serde_json::{Value, json};

use crate::shell::tests::Running;

fn app(id: &str) -> Value {
    json!({"id": id, "cmd": "run it", "cpus": 0.1, "mem": 1})
}

async fn status(marathon: &Running, method: &str, path: &str, body: &Value) -> (u16, String) {
    let answer = marathon.send(method, path, body).await;
    let message = serde_json::from_str::<Value>(&answer.text)
        .ok()
        .and_then(|body| body["message"].as_str().map(str::to_owned));
    (answer.status, message.unwrap_or_default())
}

#[tokio::test]
async fn creating_answers_like_the_original() {
    let marathon = Running::new().await;
    let answer = marathon.create(app("web")).await;
    let body = answer.json();
    assert_eq!(answer.headers["location"], "/web");
    assert_eq!(
        answer.headers["marathon-deployment-id"],
        body["deployments"][0]["id"].as_str().unwrap()
    );
    assert_eq!(
        answer.headers["x-marathon-leader"],
        format!("http://{}", marathon.address).as_str()
    );
    assert_eq!(
        answer.headers["cache-control"],
        "no-cache, no-store, must-revalidate"
    );
    assert_eq!(
        (&body["id"], &body["tasksRunning"]),
        (&json!("/web"), &json!(0))
    );
    marathon.idle().await;
    let shown = marathon.get("/v2/apps//web").await;
    let task = &shown["app"]["tasks"][0];
    assert_eq!(task["state"], "TASK_RUNNING");
    assert_eq!(task["appId"], "/web");
    assert_eq!(task["servicePorts"], json!([10000]));
    assert!(task["id"].as_str().unwrap().starts_with("web.instance-"));
    assert_eq!(
        shown["app"]["versionInfo"]["lastScalingAt"],
        shown["app"]["version"]
    );
}

#[tokio::test]
async fn refusals_have_the_originals_words() {
    let marathon = Running::new().await;
    marathon.create(app("/web")).await;
    marathon.idle().await;
    let none = Value::Null;
    let table = [
        (
            "POST",
            "/v2/apps",
            app("/web"),
            409,
            "An app with id [/web] already exists.",
        ),
        (
            "GET",
            "/v2/apps/none",
            none.clone(),
            404,
            "App '/none' does not exist",
        ),
        (
            "DELETE",
            "/v2/apps/none",
            none.clone(),
            404,
            "App '/none' does not exist",
        ),
        (
            "PATCH",
            "/v2/apps/none",
            json!({"instances": 1}),
            404,
            "App '/none' does not exist",
        ),
        (
            "POST",
            "/v2/apps/none/restart",
            none.clone(),
            404,
            "App '/none' does not exist",
        ),
        (
            "GET",
            "/v2/apps/web/versions/2020-01-01T00:00:00.000Z",
            none.clone(),
            404,
            "App '/web' does not exist in version 2020-01-01T00:00:00.000Z",
        ),
        (
            "GET",
            "/v2/groups/none",
            none.clone(),
            404,
            "Group '/none' does not exist",
        ),
        (
            "GET",
            "/v2/apps/none/*",
            none.clone(),
            404,
            "Group '/none' does not exist",
        ),
        (
            "DELETE",
            "/v2/apps/web/tasks/none",
            none.clone(),
            404,
            "Task 'none' does not exist",
        ),
        (
            "DELETE",
            "/v2/apps/web/tasks?scale=true&wipe=true",
            none.clone(),
            400,
            "You cannot use scale and wipe at the same time.",
        ),
        (
            "DELETE",
            "/v2/deployments/none",
            none.clone(),
            404,
            "DeploymentPlan none does not exist",
        ),
        (
            "DELETE",
            "/v2/queue//web/delay",
            none.clone(),
            404,
            "Application /web not found in tasks queue.",
        ),
        (
            "POST",
            "/v2/tasks/delete",
            json!({"ids": ["x"]}),
            400,
            "Invalid task id 'x'. [x]",
        ),
        (
            "POST",
            "/v2/apps",
            json!({"id": "/A", "cmd": "run"}),
            422,
            "Object is not valid",
        ),
        (
            "POST",
            "/v2/apps",
            json!({"id": "/a", "cmd": 1}),
            422,
            "Invalid JSON",
        ),
        (
            "PUT",
            "/v2/apps/web",
            json!({"version": "2020-01-01T00:00:00.000Z", "cpus": 1}),
            422,
            "Object is not valid",
        ),
        (
            "POST",
            "/v2/groups",
            json!({"id": "/web/x", "apps": [app("y")]}),
            422,
            "Object is not valid",
        ),
        (
            "GET",
            "/v2/apps?label=a%20b",
            none.clone(),
            422,
            "Can not parse label selector 'a b'",
        ),
        ("GET", "/v3/nothing", none.clone(), 404, "URI not found"),
        (
            "PUT",
            "/v2/apps/web/restart",
            none.clone(),
            400,
            "Invalid JSON",
        ),
    ];
    for (method, path, body, code, message) in table {
        let found = status(&marathon, method, path, &body).await;
        assert_eq!(found, (code, message.to_owned()), "{method} {path} {body}");
    }
    let answer = marathon
        .send_raw("POST", "/v2/apps", "{".into(), "*/*")
        .await;
    assert_eq!(
        (answer.status, &answer.json()["message"]),
        (400, &json!("Invalid JSON"))
    );
}

#[tokio::test]
async fn locked_apps_say_by_what() {
    let marathon = Running::new().await;
    let mut large = app("/web");
    large["cpus"] = json!(100);
    let first = marathon.create(large).await.json()["deployments"][0]["id"].clone();
    let answer = marathon
        .send("PUT", "/v2/apps/web", &json!({"cpus": 0.1}))
        .await;
    assert_eq!(answer.status, 409);
    assert_eq!(answer.json()["deployments"], json!([{"id": first}]));
    let queue = marathon.until("a refusal", "/v2/queue", |queue| {
        queue["queue"][0]["processedOffersSummary"]["unusedOffersCount"] == json!(1)
    });
    let summary = queue.await["queue"][0]["processedOffersSummary"].clone();
    let cpus = summary["rejectSummaryLastOffers"]
        .as_array()
        .unwrap()
        .iter();
    let cpus: Vec<_> = cpus
        .filter(|step| step["reason"] == "InsufficientCpus")
        .collect();
    assert_eq!(
        cpus,
        [&json!({"reason": "InsufficientCpus", "declined": 1, "processed": 1})]
    );
    let unused = marathon.get("/v2/queue?embed=lastUnusedOffers").await;
    let unused = &unused["queue"][0]["lastUnusedOffers"][0];
    assert_eq!(unused["reason"], json!(["InsufficientCpus"]));
    assert_eq!(unused["offer"]["hostname"], "127.0.0.1");

    let answer = marathon
        .send("PUT", "/v2/apps/web?force=true", &json!({"cpus": 0.1}))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    marathon.idle().await;
}

#[tokio::test]
async fn versions_and_going_back() {
    let marathon = Running::new().await;
    marathon.create(app("/web")).await;
    marathon.idle().await;
    let first = marathon.get("/v2/apps/web/versions").await["versions"][0].clone();
    let first = first.as_str().unwrap();
    marathon
        .send("PUT", "/v2/apps/web", &json!({"cmd": "run other"}))
        .await;
    marathon.idle().await;
    assert_eq!(
        marathon.get("/v2/apps/web/versions").await["versions"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        marathon
            .get(&format!("/v2/apps/web/versions/{first}"))
            .await["cmd"],
        "run it"
    );
    let answer = marathon
        .send("PUT", "/v2/apps/web", &json!({"version": first}))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    marathon.idle().await;
    assert_eq!(marathon.get("/v2/apps/web").await["app"]["cmd"], "run it");
}

#[tokio::test]
async fn lists_are_filtered() {
    let marathon = Running::new().await;
    let mut one = app("/prod/one");
    one["labels"] = json!({"tier": "web"});
    marathon.create(one).await;
    let mut two = app("/prod/two");
    two["cmd"] = json!("other command");
    marathon.create(two).await;
    marathon.idle().await;
    for (query, expected) in [
        ("", vec!["/prod/one", "/prod/two"]),
        ("?cmd=OTHER", vec!["/prod/two"]),
        ("?id=One", vec!["/prod/one"]),
        ("?label=tier==web", vec!["/prod/one"]),
        ("?label=tier!=web", vec!["/prod/two"]),
    ] {
        let found = marathon.get(&format!("/v2/apps{query}")).await;
        let ids: Vec<_> = found["apps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|app| app["id"].clone())
            .collect();
        assert_eq!(ids, expected, "{query}");
    }
    let all = marathon.get("/v2/apps/prod/*").await;
    assert_eq!(all["*"].as_array().unwrap().len(), 2);
    assert_eq!(
        marathon.get("/v2/tasks?status=running").await["tasks"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        marathon.get("/v2/tasks?status=staging").await["tasks"],
        json!([])
    );
    let text = marathon
        .send_raw("GET", "/v2/tasks", String::new(), "text/plain")
        .await
        .text;
    assert!(text.starts_with("prod_one\t10000\t127.0.0.1:31"), "{text}");
}

#[tokio::test]
async fn groups_change_as_one() {
    let marathon = Running::new().await;
    let group = json!({"id": "/shop", "groups": [
        {"id": "db", "apps": [{"id": "store", "cmd": "run it", "cpus": 0.1, "mem": 1}]},
        {"id": "web", "dependencies": ["/shop/db"],
            "apps": [{"id": "front", "cmd": "run it", "cpus": 0.1, "mem": 1}]},
    ]});
    let answer = marathon.send("POST", "/v2/groups", &group).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.headers["location"], "/shop");
    marathon.idle().await;
    let first = answer.json()["version"].clone();
    assert_eq!(status(&marathon, "POST", "/v2/groups", &group).await.0, 409);

    let shown = marathon.get("/v2/groups/shop").await;
    assert_eq!(shown["groups"][0]["apps"][0]["id"], "/shop/db/store");
    assert_eq!(shown["enforceRole"], json!(false));
    assert!(
        marathon
            .get("/v2/groups?embed=group.groups")
            .await
            .get("apps")
            .is_none()
    );

    let dry = marathon
        .send("PUT", "/v2/groups/shop?dryRun=true", &json!({"scaleBy": 2}))
        .await;
    assert_eq!(
        dry.json()["steps"][0]["actions"][0]["action"],
        "ScaleApplication"
    );
    marathon
        .send("PUT", "/v2/groups/shop", &json!({"scaleBy": 2}))
        .await;
    marathon.idle().await;
    assert_eq!(marathon.mesos.tasks().len(), 4);

    let smaller = json!({"id": "/shop", "groups": [{"id": "db"}]});
    assert_eq!(
        status(&marathon, "PUT", "/v2/groups", &smaller).await.0,
        200
    );
    marathon.idle().await;
    assert_eq!(marathon.mesos.tasks().len(), 2);

    let versions = marathon.get("/v2/groups/shop/versions").await;
    assert!(versions.as_array().unwrap().contains(&first));
    let earlier = marathon
        .get(&format!(
            "/v2/groups/shop/versions/{}",
            first.as_str().unwrap()
        ))
        .await;
    assert_eq!(earlier["groups"].as_array().unwrap().len(), 2);
    assert_eq!(
        status(
            &marathon,
            "PUT",
            "/v2/groups/shop",
            &json!({"version": first})
        )
        .await
        .0,
        200
    );
    marathon.idle().await;
    assert_eq!(
        marathon
            .get("/v2/groups/shop/apps")
            .await
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(marathon.mesos.tasks().len(), 2);

    assert_eq!(
        status(
            &marathon,
            "PATCH",
            "/v2/groups/shop",
            &json!({"enforceRole": true})
        )
        .await
        .0,
        200
    );
    assert_eq!(
        marathon.get("/v2/groups/shop").await["enforceRole"],
        json!(true)
    );
    assert_eq!(
        marathon
            .send("DELETE", "/v2/groups/shop", &Value::Null)
            .await
            .status,
        200
    );
    marathon.idle().await;
    assert!(marathon.mesos.tasks().is_empty());
}

#[tokio::test]
async fn tasks_are_killed_and_scaled_away() {
    let marathon = Running::new().await;
    let mut web = app("/web");
    web["instances"] = json!(3);
    marathon.create(web).await;
    marathon.idle().await;
    let tasks = marathon.mesos.tasks();
    let first = tasks.first().unwrap();
    let answer = marathon
        .send(
            "DELETE",
            &format!("/v2/apps/web/tasks/{first}"),
            &Value::Null,
        )
        .await;
    assert_eq!(answer.json()["task"]["id"], json!(first));
    marathon
        .until("a new one", "/v2/apps/web", |app| {
            app["app"]["tasksRunning"] == json!(3)
                && !app["app"]["tasks"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|task| task["id"] == json!(first))
        })
        .await;
    let last = marathon.mesos.tasks().last().unwrap().clone();
    let answer = marathon
        .send(
            "POST",
            "/v2/tasks/delete?scale=true",
            &json!({"ids": [last]}),
        )
        .await;
    assert!(answer.json()["deploymentId"].is_string(), "{answer:?}");
    marathon.idle().await;
    assert_eq!(marathon.mesos.tasks().len(), 2);
    assert_eq!(
        marathon.get("/v2/apps/web").await["app"]["instances"],
        json!(2)
    );
}

#[tokio::test]
async fn failures_are_shown_and_hold_launches_back() {
    let marathon = Running::new().await;
    let mut web = app("/web");
    web["backoffSeconds"] = json!(100);
    marathon.create(web).await;
    marathon.idle().await;
    marathon.mesos.end_all(TaskState::TaskFailed);
    let queue = marathon.until("a delay", "/v2/queue", |queue| {
        queue["queue"][0]["delay"]["overdue"] == json!(false)
    });
    assert!(
        queue.await["queue"][0]["delay"]["timeLeftSeconds"]
            .as_u64()
            .unwrap()
            > 90
    );
    let failure = marathon.get("/v2/apps/web").await["app"]["lastTaskFailure"].clone();
    assert_eq!(
        (&failure["state"], &failure["message"]),
        (&json!("TASK_FAILED"), &json!("as told"))
    );
    let answer = marathon
        .send("DELETE", "/v2/queue/web/delay", &Value::Null)
        .await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    marathon
        .until("a new one", "/v2/apps/web", |app| {
            app["app"]["tasksRunning"] == json!(1)
        })
        .await;
}

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
    assert!(marathon.get("/metrics").await["gauges"]["marathon.apps.active.gauge"].is_object());
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
