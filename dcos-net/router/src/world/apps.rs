//! Services that Marathon runs and that say by their labels how they are reached.
//!
//! Source: dcos/dcos 2.2 `lib/cache.lua` (`fetch_and_store_marathon_apps`). Departures: an app that can't be
//! understood costs nothing but itself, the first task that runs is found wherever it stands in the list, and of two
//! apps with one name the first by id wins, always.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::base::{Base, Scheme};
use super::name::normalize;

/// A service that Marathon runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppService {
    /// Where one of its tasks is.
    pub base: Base,
    /// Whether `/service/<name>` is taken off the path (`DCOS_SERVICE_REWRITE_REQUEST_URLS`).
    pub rewrites: bool,
    /// Whether it expects whole requests (`DCOS_SERVICE_REQUEST_BUFFERING`). Here all are streamed; who says it does not
    /// gets more time to answer.
    pub buffers: bool,
}

/// All of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apps {
    /// By name, as [`normalize`] writes it.
    pub by_name: BTreeMap<String, AppService>,
    /// The ids of all apps with a service name, those without a task included: what happens to them matters.
    pub watched: BTreeSet<String>,
    /// Why apps with a service name are not among the services, by id.
    pub skipped: BTreeMap<String, &'static str>,
}

/// Why a list of apps is none.
#[derive(Debug, thiserror::Error)]
#[error("the answer has no list of apps")]
pub struct AppsError;

/// The services in the answer to `/v2/apps?embed=apps.tasks&label=DCOS_SERVICE_NAME`.
///
/// # Errors
/// It holds no list of apps.
pub fn apps(document: &Value) -> Result<Apps, AppsError> {
    let mut all = Apps::default();
    let listed = document["apps"].as_array().ok_or(AppsError)?;
    let mut listed: Vec<_> = listed.iter().map(|app| (app["id"].as_str(), app)).collect();
    listed.sort_by_key(|(id, _)| *id);
    for (id, app) in listed {
        let Some(id) = id else { continue };
        let Some(name) = label(app, "DCOS_SERVICE_NAME") else {
            continue;
        };
        all.watched.insert(id.to_owned());
        match service(app) {
            Ok(service) => {
                all.by_name.entry(normalize(name)).or_insert(service);
            }
            Err(why) => {
                all.skipped.insert(id.to_owned(), why);
            }
        }
    }
    Ok(all)
}

fn label<'a>(app: &'a Value, name: &str) -> Option<&'a str> {
    app["labels"][name].as_str()
}

fn service(app: &Value) -> Result<AppService, &'static str> {
    let scheme = match label(app, "DCOS_SERVICE_SCHEME") {
        Some("http") => Scheme::Http,
        Some("https") => Scheme::Https,
        Some(_) => return Err("DCOS_SERVICE_SCHEME is neither http nor https"),
        None => return Err("it has no DCOS_SERVICE_SCHEME"),
    };
    let index = label(app, "DCOS_SERVICE_PORT_INDEX").ok_or("it has no DCOS_SERVICE_PORT_INDEX")?;
    let index: usize = index
        .trim()
        .parse()
        .map_err(|_| "DCOS_SERVICE_PORT_INDEX is no number")?;
    let task = app["tasks"].as_array().into_iter().flatten();
    let task = task.clone().find(|task| task["state"] == "TASK_RUNNING");
    let task = task.ok_or("none of its tasks runs")?;
    let own_address = is_on_a_container_network(app);
    let host = if own_address {
        task["ipAddresses"][0]["ipAddress"].as_str()
    } else {
        task["host"].as_str()
    };
    let host = host.ok_or("its task has no address yet")?;
    let mapped = own_address
        .then(|| mapped_port(app, index))
        .transpose()?
        .flatten();
    let port = match mapped {
        Some(port) => port,
        None => task["ports"][index]
            .as_u64()
            .ok_or("its task has no port of that index")?,
    };
    let host = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    let base = Base::at(scheme, &format!("{host}:{port}"));
    Ok(AppService {
        base: base.map_err(|_| "its address is none")?,
        rewrites: label(app, "DCOS_SERVICE_REWRITE_REQUEST_URLS") != Some("false"),
        buffers: label(app, "DCOS_SERVICE_REQUEST_BUFFERING") != Some("false"),
    })
}

fn is_on_a_container_network(app: &Value) -> bool {
    app["container"].is_object() && app["networks"][0]["mode"] == "container"
}

/// The port inside of the container; `None` if it is the one the node gave.
fn mapped_port(app: &Value, index: usize) -> Result<Option<u64>, &'static str> {
    let mapping = &app["container"]["portMappings"][index];
    if mapping.is_null() {
        return Err("it has no port mapping of that index");
    }
    Ok(mapping["containerPort"].as_u64().filter(|port| *port != 0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn app(id: &str, labels: &Value, tasks: &Value) -> Value {
        json!({"id": id, "labels": labels, "tasks": tasks, "networks": [{"mode": "host"}]})
    }

    fn labels(name: &str) -> Value {
        json!({"DCOS_SERVICE_NAME": name, "DCOS_SERVICE_SCHEME": "http", "DCOS_SERVICE_PORT_INDEX": "1"})
    }

    fn running() -> Value {
        json!([
            {"state": "TASK_STAGING", "host": "10.0.0.1", "ports": [1, 2]},
            {"state": "TASK_RUNNING", "host": "10.0.0.2", "ports": [31000, 31001]},
        ])
    }

    fn read(list: &[Value]) -> Apps {
        apps(&json!({"apps": list})).unwrap()
    }

    #[test]
    fn the_first_running_task_is_where_a_service_is() {
        let all = read(&[app("/nest/app", &labels("/nest/app"), &running())]);
        let service = &all.by_name["app.nest"];
        assert_eq!(service.base.to_string(), "http://10.0.0.2:31001");
        assert!(service.rewrites && service.buffers);
    }

    #[test]
    fn a_bad_app_costs_only_itself() {
        let mut no_scheme = labels("a");
        no_scheme
            .as_object_mut()
            .unwrap()
            .remove("DCOS_SERVICE_SCHEME");
        let mut bad_index = labels("b");
        bad_index["DCOS_SERVICE_PORT_INDEX"] = json!("first");
        let mut far_index = labels("c");
        far_index["DCOS_SERVICE_PORT_INDEX"] = json!("7");
        let mut bad_scheme = labels("d");
        bad_scheme["DCOS_SERVICE_SCHEME"] = json!("javascript");
        let all = read(&[
            app("/a", &no_scheme, &running()),
            app("/b", &bad_index, &running()),
            app("/c", &far_index, &running()),
            app("/d", &bad_scheme, &running()),
            app("/e", &labels("e"), &json!(null)),
            app(
                "/f",
                &labels("f"),
                &json!([{"state": "TASK_RUNNING", "host": "a b", "ports": [1, 2]}]),
            ),
            json!({"labels": 3}),
            json!(null),
            app("/z", &labels("z"), &running()),
        ]);
        assert_eq!(all.by_name.keys().collect::<Vec<_>>(), ["z"]);
        assert_eq!(all.skipped.len(), 6);
        assert_eq!(all.watched.len(), 7);
        assert!(apps(&json!({"message": "no"})).is_err());
    }

    #[test]
    fn tasks_with_addresses_of_their_own_are_reached_there() {
        let mut app = app("/o", &labels("o"), &running());
        app["networks"] = json!([{"mode": "container", "name": "dcos"}]);
        app["container"] =
            json!({"portMappings": [{"containerPort": 80}, {"containerPort": 8080}]});
        app["tasks"][1]["ipAddresses"] = json!([{"ipAddress": "9.0.0.5", "protocol": "IPv4"}]);
        let base = |app: &Value| {
            read(std::slice::from_ref(app))
                .by_name
                .get("o")
                .map(|service| service.base.to_string())
        };
        assert_eq!(base(&app).as_deref(), Some("http://9.0.0.5:8080"));
        app["container"]["portMappings"][1]["containerPort"] = json!(0);
        assert_eq!(base(&app).as_deref(), Some("http://9.0.0.5:31001"));
        app["container"]["portMappings"] = json!([]);
        assert_eq!(base(&app), None);
        app["networks"] = json!([{"mode": "container/bridge"}]);
        assert_eq!(base(&app).as_deref(), Some("http://10.0.0.2:31001"));
    }

    #[test]
    fn only_the_word_false_switches_off() {
        for (value, on) in [("yes", true), ("", true), ("False", true), ("false", false)] {
            let mut labels = labels("a");
            labels["DCOS_SERVICE_REWRITE_REQUEST_URLS"] = json!(value);
            labels["DCOS_SERVICE_REQUEST_BUFFERING"] = json!(value);
            let all = read(&[app("/a", &labels, &running())]);
            let service = &all.by_name["a"];
            assert_eq!((service.rewrites, service.buffers), (on, on), "{value}");
        }
    }
}
