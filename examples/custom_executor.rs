//! A framework with an executor of its own: tasks are computed inside one process on the agent,
//! and their results travel back as messages.
//!
//! ```text
//! cargo run -p examples --example custom_executor -- 127.0.0.1:5050 5
//! ```
//!
//! The program is both halves: started by hand it is the scheduler, started by an agent (which
//! must be on this machine, since the binary is not fetched) it is the executor. It prints
//!
//! ```text
//! there are 1229 primes below 10000
//! …
//! 5 tasks finished
//! ```
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::sync::Arc;

use async_trait::async_trait;
use dcos_core::resources::Resources;
use dcos_proto::mesos::{
    AgentId, CommandInfo, ExecutorId, ExecutorInfo, FrameworkId, FrameworkInfo, KillPolicy,
    MasterInfo, Offer, TaskId, TaskInfo, TaskState, TaskStatus, executor_info,
};
use dcos_sched::sdk::{
    DriverConfig, Executor, ExecutorConfig, ExecutorDriver, ExecutorHandle, Handle,
    HttpExecutorTransport, HttpTransport, Scheduler, SchedulerDriver,
};
use dcos_wire::MediaType;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::var_os("MESOS_EXECUTOR_ID").is_some() {
        return execute().await;
    }
    schedule().await
}

/// The half on the agent.
async fn execute() -> anyhow::Result<()> {
    let config = ExecutorConfig::from_env()?;
    let transport = Arc::new(HttpExecutorTransport::new(&config, MediaType::Protobuf));
    let end = ExecutorDriver::new(config, transport)
        .run(&mut Counter)
        .await?;
    println!("the executor ended: {end:?}");
    Ok(())
}

/// Counts primes; a task's data is the bound.
struct Counter;

#[async_trait]
impl Executor for Counter {
    async fn launch(&mut self, handle: &ExecutorHandle, task: TaskInfo) {
        let handle = handle.clone();
        handle.update(task.task_id.clone(), TaskState::TaskRunning);
        tokio::spawn(async move {
            let bound: Option<u64> = String::from_utf8_lossy(task.data()).parse().ok();
            let Some(bound) = bound else {
                return handle.update(task.task_id, TaskState::TaskFailed);
            };
            let count = tokio::task::spawn_blocking(move || primes(bound)).await;
            let text = format!(
                "there are {} primes below {bound}",
                count.unwrap_or_default()
            );
            let told = handle.message(text.into_bytes()).await;
            let state = if told.is_ok() {
                TaskState::TaskFinished
            } else {
                TaskState::TaskFailed
            };
            handle.update(task.task_id, state);
        });
    }

    async fn kill(&mut self, handle: &ExecutorHandle, task: TaskId, _: Option<KillPolicy>) {
        // Counting takes no time worth interrupting.
        handle.update(task, TaskState::TaskKilled);
    }
}

fn primes(bound: u64) -> usize {
    let is_prime = |n: &u64| (2..=n.isqrt()).all(|d| !n.is_multiple_of(d));
    (2..bound).filter(is_prime).count()
}

/// The half that decides.
async fn schedule() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let master = words.next().unwrap_or_else(|| "127.0.0.1:5050".to_owned());
    let count = words.next().map_or(Ok(5), |count| count.parse())?;
    let framework = FrameworkInfo {
        user: "root".to_owned(),
        name: "primes".to_owned(),
        ..FrameworkInfo::default()
    };
    let mut asker = Asker {
        program: std::env::current_exe()?.display().to_string(),
        count,
        need: Resources::parse("cpus:0.1;mem:32")?,
        launched: false,
        finished: 0,
        told: 0,
    };
    let transport = Arc::new(HttpTransport::new([master], MediaType::Protobuf));
    let driver = SchedulerDriver::new(DriverConfig::new(framework), transport);
    driver.run(&mut asker, &CancellationToken::new()).await?;
    println!("{} tasks finished", asker.finished);
    anyhow::ensure!(asker.finished == count, "{count} were wanted");
    Ok(())
}

/// Launches all tasks on one executor with the first offer that has room.
struct Asker {
    program: String,
    count: usize,
    /// Of each task, and of the executor.
    need: Resources,
    launched: bool,
    finished: usize,
    told: usize,
}

#[async_trait]
impl Scheduler for Asker {
    async fn subscribed(&mut self, _: &Handle, id: FrameworkId, _: Option<MasterInfo>) {
        println!("subscribed as {id}");
    }

    async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>) {
        for offer in offers {
            let mut left = Resources::from_messages(&offer.resources);
            let needs = (0..=self.count).all(|_| {
                let fits = left.contains(&self.need);
                left -= &self.need;
                fits
            });
            let tasks = if needs && !self.launched {
                self.launched = true;
                self.tasks(handle, &offer)
            } else {
                Vec::new()
            };
            if let Err(error) = handle.launch(vec![offer.id], tasks, None).await {
                println!("launching: {error}");
            }
        }
    }

    async fn update(&mut self, handle: &Handle, status: TaskStatus) {
        match status.state() {
            TaskState::TaskStaging | TaskState::TaskStarting | TaskState::TaskRunning => {}
            TaskState::TaskFinished => {
                self.finished += 1;
                self.end_if_done(handle).await;
            }
            state => {
                println!(
                    "{}: {} {}",
                    status.task_id,
                    state.as_str_name(),
                    status.message()
                );
                handle.teardown().await.ok();
            }
        }
    }

    async fn message(&mut self, handle: &Handle, _: AgentId, _: ExecutorId, data: Vec<u8>) {
        println!("{}", String::from_utf8_lossy(&data));
        self.told += 1;
        self.end_if_done(handle).await;
    }
}

impl Asker {
    fn tasks(&self, handle: &Handle, offer: &Offer) -> Vec<TaskInfo> {
        let executor = ExecutorInfo {
            r#type: Some(executor_info::Type::Custom.into()),
            executor_id: "primes".into(),
            framework_id: handle.framework_id(),
            name: Some("counts primes".to_owned()),
            command: Some(CommandInfo {
                value: Some(self.program.clone()),
                ..CommandInfo::default()
            }),
            resources: self.need.to_messages(),
            ..ExecutorInfo::default()
        };
        let task = |n: usize| TaskInfo {
            name: format!("primes-{n}"),
            task_id: format!("primes-{n}").into(),
            agent_id: offer.agent_id.clone(),
            resources: self.need.to_messages(),
            executor: Some(executor.clone()),
            data: Some((n * 10_000).to_string().into_bytes()),
            ..TaskInfo::default()
        };
        (1..=self.count).map(task).collect()
    }

    /// Messages and updates take different ways and may overtake each other.
    async fn end_if_done(&self, handle: &Handle) {
        if self.finished == self.count && self.told == self.count {
            handle.teardown().await.ok();
        }
    }
}
