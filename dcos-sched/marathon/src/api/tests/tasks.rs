//! `/v2/tasks`, `/v2/queue`, and the tasks of one app.

use dcos_proto::mesos::TaskState;
use serde_json::{Value, json};

use super::app;
use crate::shell::tests::Running;

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
