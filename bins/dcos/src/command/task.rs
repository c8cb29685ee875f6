//! `dcos task`: tasks, their files and logs, and commands inside their containers.

mod download;
mod input;
pub(crate) mod log;
mod metrics;
mod session;
mod terminal;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use dcos_proto::mesos::ContainerId;
use serde_json::{Map, Value, json};

use super::{Context, agent, items, text};
use crate::cli::Task;
use crate::http::Server;
use crate::output;
use session::{Exec, Place};

pub(crate) async fn run(context: &Context, command: Task) -> anyhow::Result<ExitCode> {
    let done = match command {
        Task::Exec {
            interactive,
            tty,
            user,
            task,
            cmd,
            args,
        } => {
            let place = found(context, &task, false).await?.place()?;
            let exec = Exec {
                program: cmd,
                arguments: args,
                user,
                interactive,
                tty,
            };
            return session::exec(place, exec).await;
        }
        Task::Attach { no_stdin, task } => {
            let place = found(context, &task, false).await?.place()?;
            return session::attach(place, !no_stdin).await;
        }
        Task::Download {
            task,
            path,
            target_dir,
        } => {
            let sandbox = Sandbox::find(context, &task, true).await?;
            let target = target_dir.unwrap_or_else(|| ".".into());
            sandbox.download(&path, &target).await
        }
        Task::Metrics(command) => metrics::run(context, command).await,
        Task::List {
            filter,
            all,
            completed,
            agent_id,
        } => {
            let wanted = Wanted::of(all, completed);
            list(context, filter.as_deref(), wanted, agent_id.as_deref()).await
        }
        Task::Log {
            task,
            file,
            form,
            all,
            completed,
        } => {
            let wanted = Wanted::of(all, completed);
            let sandboxes = Sandbox::find_all(context, &task, wanted).await?;
            let files = sandboxes.into_iter().map(|sandbox| sandbox.file(&file));
            log::print(&files.collect::<Vec<_>>(), &form).await
        }
        Task::Ls {
            task,
            path,
            long,
            all,
            completed,
        } => {
            let wanted = Wanted::of(all, completed);
            let sandboxes = Sandbox::find_all(context, &task, wanted).await?;
            list_files(context, &sandboxes, &path, long).await
        }
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// Which tasks to look at.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    running: bool,
    ended: bool,
}

impl Wanted {
    fn of(all: bool, completed: bool) -> Self {
        Self {
            running: !completed,
            ended: all || completed,
        }
    }
}

/// The tasks of all frameworks, each with its framework's user beside it.
fn tasks(state: &Value, wanted: Wanted) -> Vec<(&Value, &Value)> {
    let frameworks = items(state, "frameworks")
        .iter()
        .chain(items(state, "completed_frameworks"));
    let mut found = Vec::new();
    for framework in frameworks {
        let mut keys = Vec::new();
        if wanted.running {
            keys.extend(["tasks", "unreachable_tasks"]);
        }
        if wanted.ended {
            keys.push("completed_tasks");
        }
        for key in keys {
            found.extend(items(framework, key).iter().map(|task| (framework, task)));
        }
    }
    found
}

async fn list(
    context: &Context,
    filter: Option<&str>,
    wanted: Wanted,
    agent: Option<&str>,
) -> anyhow::Result<()> {
    let state = context.master().await?.get("/state").await?;
    let mut found = tasks(&state, wanted);
    found.retain(|(_, task)| {
        let named =
            |filter: &str| text(task, "id").contains(filter) || text(task, "name").contains(filter);
        filter.is_none_or(named) && agent.is_none_or(|agent| text(task, "slave_id") == agent)
    });
    if context.json {
        output::json(&found.into_iter().map(|(_, task)| task.clone()).collect());
        return Ok(());
    }
    if context.quiet {
        output::lines(found.iter().map(|(_, task)| text(task, "id")));
        return Ok(());
    }
    let host = |task: &Value| {
        let id = &task["slave_id"];
        let agent = items(&state, "slaves")
            .iter()
            .find(|agent| agent["id"] == *id);
        agent
            .map(|agent| text(agent, "hostname"))
            .unwrap_or_default()
    };
    let rows = found.iter().map(|(framework, task)| {
        let user = match text(task, "user") {
            user if user.is_empty() => text(framework, "user"),
            user => user,
        };
        let state = text(task, "state");
        let state = state.strip_prefix("TASK_").unwrap_or(&state).to_owned();
        let framework = text(framework, "name");
        vec![
            text(task, "name"),
            host(task),
            user,
            state,
            framework,
            text(task, "id"),
        ]
    });
    output::table(&["NAME", "HOST", "USER", "STATE", "FRAMEWORK", "ID"], rows);
    Ok(())
}

/// A task, and where it is.
struct Found {
    /// Its framework's id.
    framework: String,
    task: Value,
    /// The address of its agent.
    agent: Server,
}

/// The one task that `name` names, which has ended only if those are looked at `also`.
async fn found(context: &Context, name: &str, also: bool) -> anyhow::Result<Found> {
    let wanted = Wanted::of(also, false);
    let mut all = all_found(context, name, wanted).await?;
    if all.len() > 1 {
        let known = all.iter().flatten();
        let ids: Vec<_> = known.map(|found| text(&found.task, "id")).collect();
        bail!("several tasks match {name:?}: {}", ids.join(", "));
    }
    all.pop().context("there is a task")?
}

/// The task with this id, or those that are called so, or else all whose ids contain it; never none. One whose agent is gone
/// is an error of its own.
async fn all_found(
    context: &Context,
    name: &str,
    wanted: Wanted,
) -> anyhow::Result<Vec<anyhow::Result<Found>>> {
    let master = context.master().await?;
    let state = master.get("/state").await?;
    let mut found = tasks(&state, wanted);
    let is_called = |key, known: &(&Value, &Value)| text(known.1, key) == name;
    let exact = ["id", "name"].into_iter();
    let mut exact = exact.filter(|key| found.iter().any(|known| is_called(key, known)));
    match exact.next() {
        Some(key) => found.retain(|known| is_called(key, known)),
        None => found.retain(|(_, known)| text(known, "id").contains(name)),
    }
    if found.is_empty() {
        bail!("no task matches {name:?}; see `dcos task list`, or add --all");
    }
    let located = |(framework, task): (&Value, &Value)| {
        let id = text(task, "slave_id");
        let agent = agent(&master, items(&state, "slaves"), &id);
        Ok(Found {
            framework: text(framework, "id"),
            task: task.clone(),
            agent: agent.with_context(|| format!("the agent of {}", text(task, "id")))?,
        })
    };
    Ok(found.into_iter().map(located).collect())
}

impl Found {
    /// Its container, as its last status that knows one tells.
    fn container(&self) -> anyhow::Result<ContainerId> {
        let statuses = items(&self.task, "statuses").iter().rev();
        let mut known = statuses.map(|status| &status["container_status"]["container_id"]);
        let id = known.find(|id| id.is_object());
        let id = id.with_context(|| {
            let (id, state) = (text(&self.task, "id"), text(&self.task, "state"));
            format!("{id} has no container yet ({state})")
        })?;
        Ok(container_id(id))
    }

    fn place(&self) -> anyhow::Result<Place> {
        Ok(Place {
            agent: self.agent.for_conversations()?,
            container: self.container()?,
        })
    }
}

fn container_id(id: &Value) -> ContainerId {
    let value = text(id, "value");
    match &id["parent"] {
        parent @ Value::Object(_) => container_id(parent).child(value),
        _ => ContainerId::root(value),
    }
}

/// A task's directory on its agent.
#[derive(Debug)]
pub(crate) struct Sandbox {
    task: String,
    agent: Server,
    directory: String,
}

impl Sandbox {
    /// That of the one task that `name` names.
    pub(crate) async fn find(context: &Context, name: &str, ended: bool) -> anyhow::Result<Self> {
        Self::of(found(context, name, ended).await?).await
    }

    /// Those of all that `name` names; of several, one that is gone is told and left out.
    async fn find_all(context: &Context, name: &str, wanted: Wanted) -> anyhow::Result<Vec<Self>> {
        let (mut sandboxes, mut failed) = (Vec::new(), None);
        for found in all_found(context, name, wanted).await? {
            let sandbox = match found {
                Ok(found) => Self::of(found).await,
                Err(error) => Err(error),
            };
            match sandbox {
                Ok(sandbox) => sandboxes.push(sandbox),
                Err(error) => {
                    if let Some(former) = failed.replace(error) {
                        output::error(&former);
                    }
                }
            }
        }
        match failed {
            Some(error) if sandboxes.is_empty() => Err(error),
            failed => {
                failed.iter().for_each(output::error);
                Ok(sandboxes)
            }
        }
    }

    async fn of(found: Found) -> anyhow::Result<Self> {
        let agent = found.agent;
        let state = agent.get("/state").await?;
        let task = text(&found.task, "id");
        let directory = directory(&state, &found.framework, &task)
            .with_context(|| format!("the sandbox of {task} is gone"))?;
        Ok(Self {
            task,
            agent,
            directory,
        })
    }

    /// A file in it.
    pub(crate) fn file(self, name: &str) -> log::File {
        log::File {
            owner: self.task,
            server: self.agent,
            path: format!("{}/{name}", self.directory),
        }
    }

    /// What is in a folder, in the keys of `/files/browse`.
    async fn browse(&self, folder: &str) -> anyhow::Result<Value> {
        let call = json!({"type": "LIST_FILES", "list_files": {"path": folder}});
        let mut answer = self.agent.send("POST", "/api/v1", Some(&call)).await?;
        Ok(answer["list_files"]["file_infos"].take())
    }
}

/// What is in a folder of sandboxes; where there are several, each below the name of its task.
async fn list_files(
    context: &Context,
    sandboxes: &[Sandbox],
    path: &str,
    long: bool,
) -> anyhow::Result<()> {
    let mut all = Map::new();
    for sandbox in sandboxes {
        let folder = match path {
            "." => sandbox.directory.clone(),
            path => format!("{}/{}", sandbox.directory, path.trim_end_matches('/')),
        };
        let files = sandbox.browse(&folder).await?;
        if !context.json && sandboxes.len() > 1 {
            output::line(format!("===> {} <===", sandbox.task));
        }
        if !context.json {
            show_files(&files, long);
        }
        all.insert(sandbox.task.clone(), files);
    }
    if context.json {
        let only = all
            .values()
            .next()
            .filter(|_| sandboxes.len() == 1)
            .cloned();
        output::json(&only.unwrap_or(Value::Object(all)));
    }
    Ok(())
}

fn show_files(files: &Value, long: bool) {
    let name = |file: &Value| {
        let path = text(file, "path");
        path.rsplit_once('/')
            .map_or(path.clone(), |(_, name)| name.to_owned())
    };
    let files = files.as_array().map(Vec::as_slice).unwrap_or_default();
    if !long {
        output::lines(files.iter().map(name));
        return;
    }
    let row = |file: &Value| {
        let mode = format!("{:o}", file["mode"].as_u64().unwrap_or_default());
        let owners = ["nlink", "uid", "gid", "size"].map(|key| text(file, key));
        let rest = [date(&file["mtime"]), name(file)];
        [mode].into_iter().chain(owners).chain(rest).collect()
    };
    output::table(
        &["MODE", "LINKS", "USER", "GROUP", "SIZE", "DATE", "NAME"],
        files.iter().map(row),
    );
}

/// A moment on this machine's clock, to the minute.
fn date(moment: &Value) -> String {
    let nanos = moment["nanoseconds"].as_i64().map(i128::from);
    let moment = nanos.and_then(|nanos| jiff::Timestamp::from_nanosecond(nanos).ok());
    let local = moment.map(|moment| moment.to_zoned(jiff::tz::TimeZone::system()));
    local.map_or_else(String::new, |at| at.strftime("%Y-%m-%d %H:%M").to_string())
}

/// The directory of a task in an agent's state.
fn directory(state: &Value, framework: &str, task: &str) -> Option<String> {
    let both = |value: &'_ Value, key: &str| -> Vec<Value> {
        let completed = format!("completed_{key}");
        items(value, key)
            .iter()
            .chain(items(value, &completed))
            .cloned()
            .collect()
    };
    for known in both(state, "frameworks")
        .iter()
        .filter(|known| text(known, "id") == framework)
    {
        for executor in both(known, "executors") {
            let mut tasks = both(&executor, "tasks");
            tasks.extend(items(&executor, "queued_tasks").iter().cloned());
            let holds = tasks.iter().any(|known| text(known, "id") == task);
            if text(&executor, "id") == task || holds {
                let directory = text(&executor, "directory");
                let pod = text(&executor, "type") == "DEFAULT";
                return Some(if pod {
                    format!("{directory}/tasks/{task}")
                } else {
                    directory
                });
            }
        }
    }
    None
}
