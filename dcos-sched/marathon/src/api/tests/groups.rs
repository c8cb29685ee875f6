//! `/v2/groups`.

use serde_json::{Value, json};

use super::status;
use crate::shell::tests::Running;

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
