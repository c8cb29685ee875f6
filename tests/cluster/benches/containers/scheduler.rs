//! A framework that launches what it is told to and waits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use dcos_core::resources::Resources;
use dcos_proto::mesos::{
    CommandInfo, ContainerInfo, Filters, FrameworkId, FrameworkInfo, Image, MasterInfo, Offer,
    TaskId, TaskInfo, TaskState, TaskStatus, container_info, image,
};
use dcos_sched::sdk::{DriverConfig, Handle, HttpTransport, Scheduler, SchedulerDriver};
use dcos_wire::MediaType;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;

const NEED: &str = "cpus:0.01;mem:32";

/// A subscribed framework.
pub(crate) struct Framework {
    handle: Handle,
    happening: UnboundedReceiver<Happening>,
    offers: Vec<Offer>,
    running: BTreeSet<TaskId>,
    count: usize,
    /// What tasks run in, if not on the node's files.
    image: Option<ContainerInfo>,
}

enum Happening {
    Subscribed(Handle),
    Offers(Vec<Offer>),
    Update(Box<TaskStatus>),
}

struct Relay(UnboundedSender<Happening>);

#[async_trait]
impl Scheduler for Relay {
    async fn subscribed(&mut self, handle: &Handle, _: FrameworkId, _: Option<MasterInfo>) {
        self.0.send(Happening::Subscribed(handle.clone())).ok();
    }

    async fn offers(&mut self, _: &Handle, offers: Vec<Offer>) {
        self.0.send(Happening::Offers(offers)).ok();
    }

    async fn update(&mut self, _: &Handle, status: TaskStatus) {
        self.0.send(Happening::Update(Box::new(status))).ok();
    }
}

impl Framework {
    pub(crate) async fn subscribe(master: &str) -> Self {
        let framework = FrameworkInfo {
            user: "root".to_owned(),
            name: "bench".to_owned(),
            checkpoint: Some(true),
            ..FrameworkInfo::default()
        };
        let transport = HttpTransport::new([master.to_owned()], MediaType::Protobuf);
        let driver = SchedulerDriver::new(DriverConfig::new(framework), Arc::new(transport));
        let (tell, mut happening) = unbounded_channel();
        tokio::spawn(async move {
            let driven = driver
                .run(&mut Relay(tell), &CancellationToken::new())
                .await;
            driven.map(drop).unwrap();
        });
        let Some(Happening::Subscribed(handle)) = happening.recv().await else {
            panic!("not subscribed");
        };
        Self {
            handle,
            happening,
            offers: Vec::new(),
            running: BTreeSet::new(),
            count: 0,
            image: None,
        }
    }

    /// Runs `count` tasks to their end.
    pub(crate) async fn run(&mut self, count: usize, command: &str) {
        self.accept(count, command).await;
        self.until(count, TaskState::TaskFinished).await;
    }

    /// Launches `count` tasks that go on.
    pub(crate) async fn launch(&mut self, count: usize, command: &str) {
        self.accept(count, command).await;
        self.until(count, TaskState::TaskRunning).await;
    }

    /// Milliseconds that tasks take one after the other.
    pub(crate) async fn latencies(&mut self, count: usize) -> Vec<f64> {
        let mut taken = Vec::new();
        for _ in 0..count {
            self.offered().await;
            let begin = Instant::now();
            self.run(1, "true").await;
            taken.push(begin.elapsed().as_secs_f64() * 1000.0);
        }
        taken
    }

    /// Milliseconds until a task with this image runs.
    pub(crate) async fn launch_image(&mut self, image: &str) -> f64 {
        self.offered().await;
        let docker = image::Docker {
            name: image.to_owned(),
            ..image::Docker::default()
        };
        let image = Image {
            r#type: image::Type::Docker.into(),
            docker: Some(docker),
            ..Image::default()
        };
        self.image = Some(ContainerInfo {
            r#type: container_info::Type::Mesos.into(),
            mesos: Some(container_info::MesosInfo { image: Some(image) }),
            ..ContainerInfo::default()
        });
        let begin = Instant::now();
        self.launch(1, "exec sleep 1000000").await;
        self.image = None;
        begin.elapsed().as_secs_f64() * 1000.0
    }

    pub(crate) async fn kill_all(&mut self) {
        let running: Vec<_> = self.running.iter().cloned().collect();
        for task in &running {
            self.handle.kill(task.clone(), None, None).await.unwrap();
        }
        self.until(running.len(), TaskState::TaskKilled).await;
    }

    async fn offered(&mut self) {
        while self.offers.is_empty() {
            self.next().await;
        }
    }

    /// Whether what is offered is enough for so many tasks: what ended comes back piece by piece.
    fn has_room_for(&self, count: usize) -> bool {
        let offered = self.offers.iter().flat_map(|offer| &offer.resources);
        let offered = Resources::from_messages(offered).unallocated();
        let need = Resources::parse(NEED).unwrap();
        let mut all = Resources::new();
        for _ in 0..count {
            all += &need;
        }
        offered.contains(&all)
    }

    async fn accept(&mut self, count: usize, command: &str) {
        self.offered().await;
        while !self.has_room_for(count) {
            self.next().await;
        }
        let need = Resources::parse(NEED).unwrap().to_messages();
        let agent = self.offers[0].agent_id.clone();
        let tasks = (0..count).map(|_| {
            self.count += 1;
            TaskInfo {
                name: "bench".to_owned(),
                task_id: format!("bench-{}", self.count).into(),
                agent_id: agent.clone(),
                resources: need.clone(),
                command: Some(CommandInfo {
                    value: Some(command.to_owned()),
                    ..CommandInfo::default()
                }),
                container: self.image.clone(),
                ..TaskInfo::default()
            }
        });
        let tasks = tasks.collect();
        let filters = Filters {
            refuse_seconds: Some(0.0),
        };
        let offers = self.offers.drain(..).map(|offer| offer.id).collect();
        let accepted = self.handle.launch(offers, tasks, Some(filters)).await;
        accepted.unwrap();
    }

    async fn until(&mut self, mut count: usize, wanted: TaskState) {
        while count > 0 {
            match self.next().await {
                Some(state) if state == wanted => count -= 1,
                None | Some(TaskState::TaskStarting | TaskState::TaskRunning) => {}
                Some(other) => panic!("a task is {other:?}"),
            }
        }
    }

    /// Takes in what happens next; the state of a task.
    async fn next(&mut self) -> Option<TaskState> {
        match self.happening.recv().await.expect("subscribed") {
            Happening::Subscribed(_) => None,
            Happening::Offers(offers) => {
                self.offers.extend(offers);
                None
            }
            Happening::Update(status) => {
                if status.state() == TaskState::TaskRunning {
                    self.running.insert(status.task_id.clone());
                } else {
                    self.running.remove(&status.task_id);
                }
                Some(status.state())
            }
        }
    }
}
