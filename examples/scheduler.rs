//! A framework: runs a command N times on the cluster and reports.
//!
//! ```text
//! cargo run -p examples --example scheduler -- 127.0.0.1:5050 20 'echo hello; sleep 1'
//! ```
//!
//! It prints each task as it ends, and then
//!
//! ```text
//! 20 tasks in 2.3 s: 20 finished, 0 failed
//! ```
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use dcos_core::resources::Resources;
use dcos_proto::mesos::{
    CommandInfo, Filters, FrameworkId, FrameworkInfo, MasterInfo, Offer, TaskInfo, TaskState,
    TaskStatus,
};
use dcos_sched::sdk::{DriverConfig, Handle, HttpTransport, Scheduler, SchedulerDriver};
use dcos_wire::MediaType;
use tokio_util::sync::CancellationToken;

/// Launches tasks until `waiting` is 0 and stops when all have ended.
struct Repeat {
    command: String,
    waiting: usize,
    count: usize,
    ended: BTreeMap<String, TaskState>,
    need: Resources,
}

#[async_trait]
impl Scheduler for Repeat {
    async fn subscribed(&mut self, _: &Handle, id: FrameworkId, _: Option<MasterInfo>) {
        println!("subscribed as {id}");
    }

    async fn offers(&mut self, handle: &Handle, offers: Vec<Offer>) {
        for offer in offers {
            let mut left = Resources::from_messages(&offer.resources);
            let mut tasks = Vec::new();
            while self.waiting > 0 && left.contains(&self.need) {
                left -= &self.need;
                tasks.push(self.task(&offer));
                self.waiting -= 1;
            }
            // Enough for now: what is left over need not be offered again soon.
            let refuse = if self.waiting > 0 { 1.0 } else { 3600.0 };
            let filters = Filters {
                refuse_seconds: Some(refuse),
            };
            if let Err(error) = handle.launch(vec![offer.id], tasks, Some(filters)).await {
                println!("launching: {error}");
            }
        }
    }

    async fn update(&mut self, handle: &Handle, status: TaskStatus) {
        if !matches!(
            status.state(),
            TaskState::TaskFinished | TaskState::TaskFailed
        ) {
            return;
        }
        println!(
            "{}: {} {}",
            status.task_id,
            status.state().as_str_name(),
            status.message()
        );
        self.ended
            .insert(status.task_id.value.clone(), status.state());
        if self.ended.len() == self.count {
            handle.acknowledge(&status).await.ok();
            handle.teardown().await.ok();
        }
    }
}

impl Repeat {
    fn task(&self, offer: &Offer) -> TaskInfo {
        let id = format!("repeat-{}", self.waiting);
        TaskInfo {
            name: id.clone(),
            task_id: id.into(),
            agent_id: offer.agent_id.clone(),
            resources: self.need.to_messages(),
            command: Some(CommandInfo {
                value: Some(self.command.clone()),
                ..CommandInfo::default()
            }),
            ..TaskInfo::default()
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut words = std::env::args().skip(1);
    let master = words.next().unwrap_or_else(|| "127.0.0.1:5050".to_owned());
    let count = words.next().map_or(Ok(10), |count| count.parse())?;
    let command = words.next().unwrap_or_else(|| "true".to_owned());

    let framework = FrameworkInfo {
        user: "root".to_owned(),
        name: "repeat".to_owned(),
        ..FrameworkInfo::default()
    };
    let need = Resources::parse("cpus:0.1;mem:32")?;
    let mut repeat = Repeat {
        command,
        waiting: count,
        count,
        ended: BTreeMap::new(),
        need,
    };
    let transport = Arc::new(HttpTransport::new([master], MediaType::Protobuf));
    let driver = SchedulerDriver::new(DriverConfig::new(framework), transport);

    let start = Instant::now();
    driver.run(&mut repeat, &CancellationToken::new()).await?;
    let finished = repeat
        .ended
        .values()
        .filter(|state| **state == TaskState::TaskFinished)
        .count();
    println!(
        "{count} tasks in {:.1} s: {finished} finished, {} failed",
        start.elapsed().as_secs_f64(),
        count - finished
    );
    Ok(())
}
