//! `dcos task`: tasks, their files and logs, and commands inside their containers.

mod download;
mod input;
mod metrics;
mod session;
mod terminal;

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dcos_proto::mesos::ContainerId;
use serde_json::{Value, json};

use super::{Context, door, items, text};
use crate::cli::Task;
use crate::http::Server;
use crate::output;
use session::{Exec, Place};

/// How often a followed file is asked for more.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);
/// How many bytes are asked for at a time; the server may give fewer.
const PIECE: u64 = 64 << 10;

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
            let wanted = Wanted {
                running: !completed,
                ended: all || completed,
            };
            list(context, filter.as_deref(), wanted, agent_id.as_deref()).await
        }
        Task::Log {
            task,
            file,
            follow,
            lines,
            all,
            completed,
        } => {
            let sandbox = Sandbox::find(context, &task, completed).await?;
            sandbox
                .log(&file, if all { None } else { Some(lines) }, follow)
                .await
        }
        Task::Ls {
            task,
            path,
            long,
            completed,
        } => {
            let sandbox = Sandbox::find(context, &task, completed).await?;
            sandbox.list(context, &path, long).await
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

/// The one task that `name` names.
async fn found(context: &Context, name: &str, completed: bool) -> anyhow::Result<Found> {
    let master = context.master().await?;
    let state = master.get("/state").await?;
    let wanted = Wanted {
        running: true,
        ended: completed,
    };
    let mut found = tasks(&state, wanted);
    let exact = |known: &&(&Value, &Value)| text(known.1, "id") == name;
    if found.iter().any(|known| exact(&known)) {
        found.retain(|known| exact(&known));
    } else {
        found.retain(|(_, known)| text(known, "id").contains(name));
    }
    let (framework, task) = match found.as_slice() {
        [only] => *only,
        [] => bail!("no task matches {name:?}; see `dcos task list`, or add --completed"),
        several => {
            let ids: Vec<_> = several.iter().map(|(_, task)| text(task, "id")).collect();
            bail!("several tasks match {name:?}: {}", ids.join(", "));
        }
    };
    let id = text(task, "slave_id");
    let agents = items(&state, "slaves");
    let agent = agents
        .iter()
        .find(|agent| text(agent, "id") == id)
        .with_context(|| format!("the task's agent {id} is not registered"))?;
    let pid = text(agent, "pid");
    let (_, address) = pid
        .split_once('@')
        .with_context(|| format!("bad agent pid {pid}"))?;
    Ok(Found {
        framework: text(framework, "id"),
        task: task.clone(),
        agent: match door(&master) {
            Some(door) => master.beside(&format!("{door}/agent/{id}")),
            None => master.beside(address),
        },
    })
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
struct Sandbox {
    agent: Server,
    directory: String,
}

impl Sandbox {
    async fn find(context: &Context, task: &str, completed: bool) -> anyhow::Result<Self> {
        let found = found(context, task, completed).await?;
        let agent = found.agent;
        let state = agent.get("/state").await?;
        let id = text(&found.task, "id");
        let directory = directory(&state, &found.framework, &id)
            .with_context(|| format!("the sandbox of {id} is gone"))?;
        Ok(Self { agent, directory })
    }

    async fn log(&self, file: &str, lines: Option<usize>, follow: bool) -> anyhow::Result<()> {
        let path = format!("{}/{file}", self.directory);
        let mut offset = match lines {
            None => 0,
            Some(lines) => self.tail(&path, lines).await?,
        };
        loop {
            let data = self.read(&path, offset, PIECE).await?;
            if data.is_empty() && !follow {
                return Ok(());
            }
            if data.is_empty() {
                tokio::time::sleep(FOLLOW_INTERVAL).await;
            }
            offset += data.len() as u64;
            output::raw(&data);
        }
    }

    /// Where the last `lines` lines of a file begin.
    async fn tail(&self, path: &str, lines: usize) -> anyhow::Result<u64> {
        let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
        let listing = self.browse(folder).await?;
        let size = items(&json!({"files": listing}), "files")
            .iter()
            .find(|info| text(info, "path") == *path)
            .and_then(|info| info["size"].as_u64())
            .with_context(|| format!("there is no file {path}; see `dcos task ls`"))?;
        let (mut start, mut found) = (size, 0);
        while start > 0 {
            let from = start.saturating_sub(PIECE);
            let piece = self.read(path, from, start - from).await?;
            for (index, byte) in piece.iter().enumerate().rev() {
                // The line feed that ends the file begins no line.
                if *byte == b'\n' && from + index as u64 + 1 < size {
                    found += 1;
                    if found == lines {
                        return Ok(from + index as u64 + 1);
                    }
                }
            }
            start = from;
        }
        Ok(if lines == 0 { size } else { 0 })
    }

    /// Some bytes of a file, through the operator API: `/files/read` only speaks text.
    async fn read(&self, path: &str, offset: u64, length: u64) -> anyhow::Result<Vec<u8>> {
        let call = json!({"type": "READ_FILE",
            "read_file": {"path": path, "offset": offset, "length": length}});
        let answer = self.agent.send("POST", "/api/v1", Some(&call)).await?;
        let data = text(&answer["read_file"], "data");
        STANDARD
            .decode(&data)
            .with_context(|| format!("the agent sent bad data of {path}"))
    }

    /// What is in a folder, in the keys of `/files/browse`.
    async fn browse(&self, folder: &str) -> anyhow::Result<Value> {
        let call = json!({"type": "LIST_FILES", "list_files": {"path": folder}});
        let mut answer = self.agent.send("POST", "/api/v1", Some(&call)).await?;
        Ok(answer["list_files"]["file_infos"].take())
    }

    async fn list(&self, context: &Context, path: &str, long: bool) -> anyhow::Result<()> {
        let folder = match path {
            "." => self.directory.clone(),
            path => format!("{}/{}", self.directory, path.trim_end_matches('/')),
        };
        let files = self.browse(&folder).await?;
        if context.json {
            output::json(&files);
            return Ok(());
        }
        let name = |file: &Value| {
            let path = text(file, "path");
            path.rsplit_once('/')
                .map_or(path.clone(), |(_, name)| name.to_owned())
        };
        let files = files.as_array().map(Vec::as_slice).unwrap_or_default();
        if long {
            let keys = ["mode", "nlink", "uid", "gid", "size"];
            let row = |file: &Value| {
                let mut row: Vec<_> = keys.iter().map(|key| text(file, key)).collect();
                row[0] = format!("{:o}", file["mode"].as_u64().unwrap_or_default());
                row.push(name(file));
                row
            };
            output::table(
                &["MODE", "LINKS", "USER", "GROUP", "SIZE", "NAME"],
                files.iter().map(row),
            );
        } else {
            output::lines(files.iter().map(name));
        }
        Ok(())
    }
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
