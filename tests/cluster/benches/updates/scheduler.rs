//! A master, and a framework in its process that acknowledges whatever it is told.

use std::net::SocketAddr;
use std::sync::Arc;

use dcos_core::resources::Resources;
use dcos_proto::mesos::{
    AgentId, CommandInfo, ExecutorInfo, Filters, FrameworkId, FrameworkInfo, Offer, TaskId,
    TaskInfo, TaskState, TaskStatus, executor_info, offer,
};
use dcos_proto::scheduler::{Call, Event, call};
use dcos_sched::master::{Config, MasterHandle, Node};
use dcos_sched::sdk::{SchedulerTransport, Subscription};
use dcos_store::{Fence, MemoryStore, Term};
use dcos_wire::Listener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::Size;

/// What a task needs; an agent has 1000 times that.
const TASK: &str = "cpus:0.1;mem:32";

/// Acknowledgements wait for the master's answer side by side in so many lanes: a task's are always
/// in the same one.
const LANES: usize = 64;

pub(crate) struct Master {
    pub(crate) address: SocketAddr,
    handle: MasterHandle,
    _running: JoinSet<()>,
    _stop: DropGuard,
}

impl Master {
    pub(crate) async fn start() -> Self {
        let stop = CancellationToken::new();
        let listener = Listener::tcp(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.address().unwrap();
        let node = Node::new(Config::default());
        let handle = node.handle();
        let fence = Fence::new("bench", Term(1));
        let mut running = JoinSet::new();
        let run = node.run(Arc::new(MemoryStore::new()), fence, listener, stop.clone());
        running.spawn(async move { run.await.unwrap() });
        Self {
            address,
            handle,
            _running: running,
            _stop: stop.drop_guard(),
        }
    }
}

pub(crate) struct Scheduler {
    id: FrameworkId,
    subscription: Subscription,
    transport: MasterHandle,
    /// Where acknowledgements are handed in.
    lanes: Vec<mpsc::Sender<Call>>,
    _lanes: JoinSet<()>,
}

impl Scheduler {
    pub(crate) async fn subscribe(master: &Master) -> Self {
        let info = FrameworkInfo {
            user: "root".to_owned(),
            name: "bench".to_owned(),
            checkpoint: Some(true),
            ..FrameworkInfo::default()
        };
        let subscribe = call::Subscribe {
            framework_info: info,
            ..call::Subscribe::default()
        };
        let call = Call {
            r#type: Some(call::Type::Subscribe.into()),
            subscribe: Some(subscribe),
            ..Call::default()
        };
        let transport = master.handle.clone();
        let mut subscription = transport.subscribe(call).await.unwrap();
        let first = subscription.events.recv().await.unwrap();
        let id = first.subscribed.unwrap().framework_id;
        let mut tasks = JoinSet::new();
        let lanes = (0..LANES).map(|_| {
            let (sender, mut calls) = mpsc::channel::<Call>(1024);
            let (transport, stream) = (transport.clone(), subscription.stream_id.clone());
            tasks.spawn(async move {
                while let Some(call) = calls.recv().await {
                    transport.call(&stream, call).await.unwrap();
                }
            });
            sender
        });
        let lanes = lanes.collect();
        Self {
            id,
            subscription,
            transport,
            lanes,
            _lanes: tasks,
        }
    }

    /// Launches all tasks of all agents; returns when each has told that it runs.
    pub(crate) async fn launch(&mut self, size: Size) {
        let (mut served, mut running) = (Vec::<AgentId>::new(), 0);
        while running < size.agents * size.tasks {
            let event = self.subscription.events.recv().await.unwrap();
            for offer in event.offers.iter().flat_map(|offers| &offers.offers) {
                if !served.contains(&offer.agent_id) {
                    served.push(offer.agent_id.clone());
                    let call = self.accept(offer, size.tasks);
                    let stream = &self.subscription.stream_id;
                    self.transport.call(stream, call).await.unwrap();
                }
            }
            running += usize::from(self.acknowledge(event).await);
        }
    }

    /// Acknowledges so many updates.
    pub(crate) async fn acknowledge_all(&mut self, count: usize) {
        let mut done = 0;
        while done < count {
            let event = self.subscription.events.recv().await.unwrap();
            done += usize::from(self.acknowledge(event).await);
        }
    }

    /// Whether there was an update to acknowledge.
    async fn acknowledge(&self, event: Event) -> bool {
        let Some(update) = event.update else {
            return false;
        };
        let status = update.status;
        assert_eq!(status.state(), TaskState::TaskRunning, "{status:?}");
        let lane = status.task_id.value.bytes().map(usize::from).sum::<usize>() % LANES;
        let call = self.acknowledgement(status);
        self.lanes[lane].send(call).await.unwrap();
        true
    }

    fn acknowledgement(&self, status: TaskStatus) -> Call {
        Call {
            framework_id: Some(self.id.clone()),
            r#type: Some(call::Type::Acknowledge.into()),
            acknowledge: Some(call::Acknowledge {
                agent_id: status.agent_id.unwrap(),
                task_id: status.task_id,
                uuid: status.uuid.unwrap(),
            }),
            ..Call::default()
        }
    }

    fn accept(&self, offer: &Offer, tasks: usize) -> Call {
        let executor = ExecutorInfo {
            executor_id: "executor".into(),
            framework_id: Some(self.id.clone()),
            r#type: Some(executor_info::Type::Custom.into()),
            command: Some(CommandInfo::default()),
            ..ExecutorInfo::default()
        };
        let task = |number: usize| TaskInfo {
            name: "t".to_owned(),
            task_id: TaskId::from(format!("{}-{number}", offer.agent_id)),
            agent_id: offer.agent_id.clone(),
            resources: Resources::parse(TASK).unwrap().to_messages(),
            executor: Some(executor.clone()),
            ..TaskInfo::default()
        };
        let launch = offer::Operation {
            r#type: Some(offer::operation::Type::Launch.into()),
            launch: Some(offer::operation::Launch {
                task_infos: (0..tasks).map(task).collect(),
            }),
            ..offer::Operation::default()
        };
        Call {
            framework_id: Some(self.id.clone()),
            r#type: Some(call::Type::Accept.into()),
            accept: Some(call::Accept {
                offer_ids: vec![offer.id.clone()],
                operations: vec![launch],
                filters: Some(Filters::default()),
            }),
            ..Call::default()
        }
    }
}
