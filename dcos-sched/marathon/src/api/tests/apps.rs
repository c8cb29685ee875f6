//! `/v2/apps`.

use serde_json::{Value, json};

use super::{app, status};
use crate::shell::tests::Running;

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
            "POST",
            "/v2/apps",
            json!({"id": "/web"}),
            422,
            "Object is not valid",
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
async fn a_plan_tells_and_changes_nothing() {
    let marathon = Running::new().await;
    marathon.create(app("/web")).await;
    marathon.idle().await;
    let plan = async |body: Value| {
        let answer = marathon.send("POST", "/v2/plan", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    let same = plan(json!({"id": "/web", "instances": 1})).await;
    assert_eq!(same, json!({"steps": [], "changes": []}));
    let scaled = plan(json!({"id": "/web", "instances": 3})).await;
    assert_eq!(
        scaled["changes"],
        json!([{"id": "/web", "pod": false, "change": "scale", "instances": {"from": 1, "to": 3},
            "fields": [{"path": "/instances", "from": 1, "to": 3}]}])
    );
    let many = plan(json!([{"id": "/web", "env": {"A": "b"}}, {"id": "/new", "cmd": "run"}])).await;
    assert_eq!(many["changes"][0]["change"], "create");
    assert_eq!(many["changes"][1]["change"], "restart");
    assert_eq!(
        many["changes"][1]["fields"],
        json!([{"path": "/env/A", "from": null, "to": "b"}])
    );
    assert_eq!(many["steps"][0]["actions"][0]["action"], "StartApplication");
    // A group is what it says, and nothing else.
    let gone = plan(json!({"id": "/", "apps": []})).await;
    assert_eq!(gone["changes"][0]["change"], "remove");
    let pod = plan(
        json!({"id": "/pod", "containers": [{"name": "one", "resources": {"cpus": 0.1, "mem": 32},
        "exec": {"command": {"shell": "run"}}}]}),
    )
    .await;
    assert_eq!(pod["steps"][0]["actions"][0]["action"], "StartPod");
    let bad = json!({"id": "/web", "instances": -1});
    assert_eq!(marathon.send("POST", "/v2/plan", &bad).await.status, 422);
    assert_eq!(
        marathon.get("/v2/apps").await["apps"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(marathon.get("/v2/apps//web").await["app"]["instances"], 1);
}

#[tokio::test]
async fn a_simulation_tells_where_instances_would_run() {
    let marathon = Running::new().await;
    marathon.create(app("/web")).await;
    marathon.idle().await;
    let offer = |host: &str, cpus: f64| {
        json!({"id": {"value": "o"}, "framework_id": {"value": "f"}, "agent_id": {"value": host}, "hostname": host,
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": cpus}},
                {"name": "mem", "type": "SCALAR", "scalar": {"value": 1000.0}}]})
    };
    let offers = json!([offer("one", 0.25), offer("two", 0.15)]);
    let change = json!({"id": "/web", "instances": 6, "portDefinitions": []});
    let body = json!({"change": change, "offers": offers});
    let answer = marathon.send("POST", "/v2/simulate", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let found = answer.json();
    let placed = |host: &str, instances| json!({"id": "/web", "agentId": host, "hostname": host, "instances": instances});
    // Another definition replaces the instance that runs.
    assert_eq!(
        found["placements"],
        json!([placed("one", 2), placed("two", 1)])
    );
    let waiting = &found["waiting"][0];
    assert_eq!(
        (&waiting["count"], &waiting["app"]["id"]),
        (&json!(3), &json!("/web"))
    );
    let refused = &waiting["processedOffersSummary"]["rejectSummaryLaunchAttempt"][4];
    assert_eq!(
        refused,
        &json!({"reason": "InsufficientCpus", "declined": 2, "processed": 2})
    );
    assert_eq!(marathon.get("/v2/apps//web").await["app"]["instances"], 1);

    for other in [json!([]), json!("x"), json!(1), json!(true)] {
        let (code, why) = status(&marathon, "POST", "/v2/simulate", &other).await;
        assert!(
            code == 422 && why.contains("change"),
            "{other}: {code} {why}"
        );
    }
    let unread = json!({"change": {"id": "/web"}, "offers": [{"hostname": 1}]});
    let (code, why) = status(&marathon, "POST", "/v2/simulate", &unread).await;
    assert!(code == 422 && why.starts_with("offers: "), "{code} {why}");
}
