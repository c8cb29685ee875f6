//! Requests and answers, as clients of the original expect them.

mod apps;
mod groups;
mod rest;
mod tasks;

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
