//! Names of instances and tasks: `prod_db.instance-<uuid>` and `prod_db.instance-<uuid>._app.1`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::PathId;

/// The name of an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct InstanceId(Arc<str>);

impl InstanceId {
    /// The name of an instance of `app`.
    pub fn new(app: &PathId, uuid: &str) -> Self {
        Self(format!("{}.instance-{uuid}", app.safe()).into())
    }

    /// The name of its task in its `incarnation`th life.
    pub fn task(&self, incarnation: u32) -> String {
        format!("{}._app.{incarnation}", self.0)
    }

    /// The name of the task of one of its containers, if it is one of a pod.
    pub fn container_task(&self, container: &str, incarnation: u32) -> String {
        format!("{}.{container}.{incarnation}", self.0)
    }

    /// The name of its executor, if it is one of a pod.
    pub fn executor(&self) -> String {
        let (app, rest) = self.0.rsplit_once('.').unwrap_or((&self.0, ""));
        let (prefix, uuid) = rest.split_once('-').unwrap_or(("instance", rest));
        format!("{prefix}-{app}.{uuid}")
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The app it belongs to.
    pub fn app(&self) -> PathId {
        let safe = self.0.rsplit_once('.').map_or(&*self.0, |(app, _)| app);
        PathId::from_safe(safe)
    }
}

/// The instance a task belongs to; `None` if the name is none Marathon gives.
pub fn task_instance(task: &str) -> Option<InstanceId> {
    let mark = [".instance-", ".marathon-"]
        .into_iter()
        .find_map(|mark| task.find(mark));
    let Some(mark) = mark else {
        return before_instances(task);
    };
    let rest = &task[mark + 1..];
    let end = rest.find('.').map_or(task.len(), |at| mark + 1 + at);
    Some(InstanceId(task[..end].into()))
}

/// The same for names from before there were instances (Marathon up to 1.3 for tasks, up to 1.7 for what is reserved):
/// `prod_db.<uuid>` and, where something is reserved, `prod_db.<uuid>.2`. The original calls them `prod_db.marathon-<uuid>`.
fn before_instances(task: &str) -> Option<InstanceId> {
    let is_uuid = |text: &str| {
        let dashes = text.bytes().enumerate().filter(|(_, byte)| *byte == b'-');
        text.len() == 36
            && text
                .bytes()
                .all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
            && dashes.map(|(at, _)| at).eq([8, 13, 18, 23])
    };
    let life = task
        .rsplit_once('.')
        .filter(|(_, life)| life.parse::<u64>().is_ok());
    let name = life.map_or(task, |(name, _)| name);
    let (app, uuid) = name.rsplit_once(['.', '_'])?;
    is_uuid(uuid).then(|| InstanceId(format!("{app}.marathon-{uuid}").into()))
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<String> for InstanceId {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<InstanceId> for String {
    fn from(id: InstanceId) -> Self {
        id.0.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_lead_back_to_instances_and_apps() {
        let app = PathId::from("/prod/db.two");
        let id = InstanceId::new(&app, "0f0e0d0c-0000-4000-8000-000000000000");
        let task = id.task(1);
        assert_eq!(
            task,
            "prod_db.two.instance-0f0e0d0c-0000-4000-8000-000000000000._app.1"
        );
        assert_eq!(task_instance(&task), Some(id.clone()));
        assert_eq!(id.app(), app);
        let of_pod = id.container_task("side-car", 1);
        assert_eq!(task_instance(&of_pod), Some(id.clone()));
        assert_eq!(
            id.executor(),
            "instance-prod_db.two.0f0e0d0c-0000-4000-8000-000000000000"
        );
        for old in [
            "prod_db.two.0f0e0d0c-0000-4000-8000-000000000000",
            "prod_db.two_0f0e0d0c-0000-4000-8000-000000000000.12",
        ] {
            let found = task_instance(old).unwrap();
            assert_eq!(
                found.as_str(),
                "prod_db.two.marathon-0f0e0d0c-0000-4000-8000-000000000000"
            );
            assert_eq!(found.app(), app);
        }
        assert_eq!(task_instance("something else"), None);
        assert_eq!(task_instance("ct:1579011660000:0:job:12"), None);
    }
}
