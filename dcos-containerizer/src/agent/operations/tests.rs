//! Operations on an agent that may crash between any two steps.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use dcos_core::resources::convert::dynamic_reservation;
use dcos_core::resources::scalar_resource;
use dcos_core::seed::Seed;
use dcos_proto::internal::{
    ReregisterSlaveMessage, ResourceVersionUuid, RunTaskMessage, SlaveRegisteredMessage,
    SlaveReregisteredMessage,
};
use dcos_proto::mesos::offer::operation as kinds;
use dcos_proto::mesos::resource::DiskInfo;
use dcos_proto::mesos::resource::disk_info::Persistence;
use dcos_proto::mesos::task_status::Reason;
use dcos_proto::mesos::{
    AgentInfo, CommandInfo, FrameworkInfo, TaskInfo, TaskState, Volume, volume,
};
use proptest::prelude::*;

use super::super::tests::settings;
use super::super::{FromMaster, Input, ToMaster, volumes};
use super::*;
use crate::checkpoint::Store;
use crate::containerizer::ContainerTermination;

const MASTER: &str = "master@10.0.0.1:5050";

/// An agent, its disk, and what it told the master.
struct Node {
    dir: tempfile::TempDir,
    agent: Agent,
    now: Time,
    told: Vec<ToMaster>,
    starts: u64,
    /// Steps until the agent dies.
    life: usize,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let dir = dir.unwrap();
        let now = Time::from_secs(1_000_000);
        let agent = start(&dir, now, 0);
        let mut node = Self {
            dir,
            agent,
            now,
            told: Vec::new(),
            starts: 0,
            life: usize::MAX,
        };
        node.join();
        node
    }

    fn join(&mut self) {
        self.handle(Input::Detected(Some(MASTER.to_owned())));
        self.now += Duration::from_secs(3);
        self.agent.tick(self.now);
        self.carry_out();
        let message = match self.agent.id().cloned() {
            None => FromMaster::from(SlaveRegisteredMessage {
                agent_id: "a1".into(),
                connection: None,
            }),
            Some(agent_id) => FromMaster::from(SlaveReregisteredMessage {
                agent_id,
                ..SlaveReregisteredMessage::default()
            }),
        };
        self.hear(message);
    }

    fn hear(&mut self, message: impl Into<FromMaster>) {
        self.handle(Input::Message {
            from: MASTER.to_owned(),
            message: message.into(),
        });
    }

    fn handle(&mut self, input: Input) {
        self.agent.handle(self.now, input);
        self.carry_out();
    }

    /// As the shell does: writes first, volumes before what follows them.
    fn carry_out(&mut self) {
        let mut actions = self.decided();
        while !actions.is_empty() {
            let action = actions.remove(0);
            match action {
                Action::Send(_, message) => self.told.push(*message),
                Action::Volumes(work) => {
                    if !self.lives() {
                        return;
                    }
                    let done = volumes::change(&work).map_err(|error| error.to_string());
                    let done = done.map(|aside| volumes::discard(&aside));
                    let input = Input::Volumes(work.operation, done);
                    self.agent.handle(self.now, input);
                    actions.extend(self.decided());
                }
                Action::Stop { reason, .. } => panic!("{reason}"),
                _ => {}
            }
        }
    }

    fn decided(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        let mut store = Store::open(self.dir.path()).unwrap();
        store.read("boot").unwrap();
        while let Some(action) = self.agent.poll() {
            match action {
                Action::Write(write) => {
                    if !self.lives() {
                        return Vec::new();
                    }
                    store.apply(&[*write]).unwrap();
                }
                action => actions.push(action),
            }
        }
        actions
    }

    /// Whether the agent lives to take one more step.
    fn lives(&mut self) -> bool {
        self.life = self.life.saturating_sub(1);
        self.life > 0
    }

    /// Another agent takes up what this one left.
    fn restart(&mut self) {
        self.life = usize::MAX;
        self.starts += 1;
        self.told.clear();
        self.agent = start(&self.dir, self.now, self.starts);
        self.carry_out();
        self.join();
    }

    fn apply(&mut self, number: u8, info: offer::Operation) {
        self.hear(ApplyOperationMessage {
            framework_id: Some("f".into()),
            operation_info: info,
            operation_uuid: uuid(number),
            resource_version_uuid: ResourceVersionUuid {
                resource_provider_id: None,
                uuid: self.agent.operations.version.clone(),
            },
        });
    }

    /// The master launches a command.
    fn run(&mut self, task: &str, resources: &str) {
        self.hear(RunTaskMessage {
            framework: FrameworkInfo {
                id: Some("f".into()),
                ..FrameworkInfo::default()
            },
            task: TaskInfo {
                task_id: task.into(),
                agent_id: "a1".into(),
                command: Some(CommandInfo::default()),
                resources: Resources::parse(resources).unwrap().to_messages(),
                ..TaskInfo::default()
            },
            ..RunTaskMessage::default()
        });
    }

    fn statuses(&mut self) -> Vec<UpdateOperationStatusMessage> {
        let told = std::mem::take(&mut self.told).into_iter();
        told.filter_map(|message| match message {
            ToMaster::UpdateOperation(update) => Some(update),
            _ => None,
        })
        .collect()
    }

    /// The directories that are volumes.
    fn directories(&self) -> BTreeSet<String> {
        let Ok(entries) = fs::read_dir(self.dir.path().join("volumes/roles/db")) else {
            return BTreeSet::new();
        };
        let names = entries.flatten().map(|entry| entry.file_name());
        names.filter_map(|name| name.into_string().ok()).collect()
    }

    fn volumes(&self) -> BTreeSet<String> {
        let volumes = self.agent.total().iter();
        let volumes = volumes.filter(|resource| resource.is_persistent_volume());
        let ids = volumes.filter_map(|volume| {
            let disk = volume.disk.as_ref()?;
            Some(disk.persistence.as_ref()?.id.clone())
        });
        ids.collect()
    }
}

fn start(dir: &tempfile::TempDir, now: Time, seed: u64) -> Agent {
    let state = Store::open(dir.path()).unwrap().read("boot").unwrap();
    let info = AgentInfo {
        hostname: "node".to_owned(),
        resources: Resources::parse("cpus:9;disk:90").unwrap().to_messages(),
        ..AgentInfo::default()
    };
    let settings = settings(dir.path().to_owned());
    Agent::recover(
        now,
        settings,
        &Seed::new(seed),
        info,
        state,
        BTreeMap::new(),
    )
}

fn uuid(number: u8) -> Uuid {
    Uuid {
        value: vec![number; 16],
    }
}

fn reserved(name: &str, amount: f64) -> Resource {
    let mut resource = scalar_resource(name, amount);
    resource.reservations.push(dynamic_reservation("db", None));
    resource
}

fn on_disk(amount: f64) -> Resource {
    let mut disk = reserved("disk", amount);
    disk.disk = Some(Box::new(DiskInfo {
        persistence: Some(Persistence {
            id: format!("v{amount}"),
            principal: None,
        }),
        volume: Some(Volume {
            container_path: "data".to_owned(),
            mode: volume::Mode::Rw.into(),
            ..Volume::default()
        }),
        source: None,
    }));
    disk
}

fn operation(kind: u8, amount: f64) -> offer::Operation {
    let of = |kind: kinds::Type| offer::Operation {
        r#type: Some(kind.into()),
        ..offer::Operation::default()
    };
    match kind {
        0 => offer::Operation {
            reserve: Some(kinds::Reserve {
                resources: vec![reserved("disk", amount)],
                source: Vec::new(),
            }),
            ..of(kinds::Type::Reserve)
        },
        1 => offer::Operation {
            unreserve: Some(kinds::Unreserve {
                resources: vec![reserved("disk", amount)],
            }),
            ..of(kinds::Type::Unreserve)
        },
        2 => offer::Operation {
            create: Some(kinds::Create {
                volumes: vec![on_disk(amount)],
            }),
            ..of(kinds::Type::Create)
        },
        _ => offer::Operation {
            destroy: Some(kinds::Destroy {
                volumes: vec![on_disk(amount)],
            }),
            ..of(kinds::Type::Destroy)
        },
    }
}

#[test]
fn an_operation_is_told_until_it_is_acknowledged() {
    let mut node = Node::new();
    node.statuses();
    node.apply(1, operation(0, 2.0));
    let told = node.statuses();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].status.state(), OperationState::OperationFinished);
    assert_eq!(node.agent.total().reserved("db").disk(), Some(2.0));
    node.now += Duration::from_secs(10);
    node.agent.tick(node.now);
    node.carry_out();
    assert_eq!(node.statuses(), told, "it is told again");
    node.restart();
    let update = node.told.iter().find_map(|message| match message {
        ToMaster::UpdateAgent(update) => update.operations.clone(),
        _ => None,
    });
    assert_eq!(update.unwrap().operations.len(), 1);
    assert_eq!(node.statuses(), told, "by the next agent, too");
    node.hear(AcknowledgeOperationStatusMessage {
        status_uuid: told[0].status.uuid.clone().unwrap(),
        operation_uuid: uuid(1),
        resource_provider_id: None,
    });
    assert!(node.agent.operations().is_empty());
    node.restart();
    assert!(node.agent.operations().is_empty());
    assert_eq!(node.agent.total().reserved("db").disk(), Some(2.0));
}

#[test]
fn what_does_not_fit_fails_and_changes_nothing() {
    let mut node = Node::new();
    node.statuses();
    let before = node.agent.total().clone();
    node.apply(1, operation(2, 1.0));
    let told = node.statuses();
    assert_eq!(told[0].status.state(), OperationState::OperationFailed);
    assert!(
        told[0]
            .status
            .message
            .as_ref()
            .unwrap()
            .contains("does not contain")
    );
    assert_eq!(*node.agent.total(), before);
    // A file stands where the volume should be.
    node.apply(2, operation(0, 1.0));
    fs::create_dir_all(node.dir.path().join("volumes/roles/db")).unwrap();
    fs::write(node.dir.path().join("volumes/roles/db/v1"), "").unwrap();
    node.apply(3, operation(2, 1.0));
    let told = node.statuses();
    let last = told.last().unwrap();
    assert_eq!(last.status.state(), OperationState::OperationFailed);
    assert!(node.volumes().is_empty());
}

/// One of two went before the other one could not.
#[test]
fn what_could_not_be_destroyed_stays_whole() {
    let mut node = Node::new();
    node.apply(1, operation(0, 3.0));
    node.apply(2, operation(2, 1.0));
    node.apply(3, operation(2, 2.0));
    let both = ["v1".to_owned(), "v2".to_owned()].into();
    assert_eq!(node.directories(), both);
    let volumes = node.dir.path().join("volumes");
    fs::remove_dir(volumes.join("roles/db/v1")).unwrap();
    // Nothing can be put aside.
    fs::write(volumes.join(".deleted"), "").unwrap();
    node.statuses();
    let mut two = operation(3, 1.0);
    two.destroy.as_mut().unwrap().volumes.push(on_disk(2.0));
    node.apply(4, two);
    let told = node.statuses();
    assert_eq!(told[0].status.state(), OperationState::OperationFailed);
    assert_eq!(node.volumes(), both);
    assert_eq!(node.directories(), both);
}

#[test]
fn the_master_learns_what_never_arrived() {
    let mut node = Node::new();
    node.handle(Input::Disconnected(MASTER.to_owned()));
    node.apply(1, operation(0, 1.0));
    assert!(node.agent.operations().is_empty(), "it is not registered");
    node.now += Duration::from_secs(3);
    node.agent.tick(node.now);
    node.carry_out();
    let asks =
        |message: &ToMaster| matches!(message, ToMaster::Reregister(ReregisterSlaveMessage { .. }));
    assert!(node.told.iter().any(asks));
    node.hear(SlaveReregisteredMessage {
        agent_id: "a1".into(),
        ..SlaveReregisteredMessage::default()
    });
    node.statuses();
    let asked = |number| dcos_proto::internal::reconcile_operations_message::Operation {
        operation_uuid: Some(uuid(number)),
        operation_id: None,
        resource_provider_id: None,
    };
    node.apply(2, operation(0, 1.0));
    node.statuses();
    node.hear(ReconcileOperationsMessage {
        operations: vec![asked(1), asked(2)],
        framework_id: None,
    });
    let told = node.statuses();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].operation_uuid, Some(uuid(1)));
    assert_eq!(told[0].status.state(), OperationState::OperationDropped);
    // It waited in a connection of before: what was told stays true.
    node.apply(1, operation(0, 1.0));
    assert!(node.statuses().is_empty());
    assert_eq!(node.agent.total().reserved("db").disk(), Some(1.0));
}

/// The master decided it when it still knew the agent of before: it will book what this one said it has.
#[test]
fn what_was_decided_for_an_earlier_agent_is_dropped() {
    let mut node = Node::new();
    let before = ResourceVersionUuid {
        resource_provider_id: None,
        uuid: node.agent.operations.version.clone(),
    };
    node.restart();
    node.statuses();
    let late = ApplyOperationMessage {
        framework_id: Some("f".into()),
        operation_info: operation(0, 1.0),
        operation_uuid: uuid(1),
        resource_version_uuid: before,
    };
    node.hear(late);
    let told = node.statuses();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].operation_uuid, Some(uuid(1)));
    assert_eq!(told[0].status.state(), OperationState::OperationDropped);
    assert_eq!(told[0].status.uuid, None, "nobody need acknowledge it");
    assert!(node.agent.operations().is_empty());
    assert!(node.agent.total().reserved("db").is_empty());
}

#[test]
fn a_master_that_says_all_there_is_has_its_way() {
    let mut node = Node::new();
    let volume = on_disk(3.0);
    node.hear(CheckpointResourcesMessage {
        resources: vec![volume, reserved("cpus", 1.0)],
    });
    assert_eq!(node.directories(), BTreeSet::from(["v3".to_owned()]));
    node.restart();
    assert_eq!(node.agent.total().reserved("db").cpus(), Some(1.0));
    node.hear(CheckpointResourcesMessage { resources: vec![] });
    assert!(node.directories().is_empty());
    assert_eq!(
        *node.agent.total(),
        Resources::parse("cpus:9;disk:90").unwrap()
    );
}

/// The master booked what an operation was to make, and goes on from there, while the operation failed.
#[test]
fn what_a_task_has_is_nobody_elses() {
    let mut node = Node::new();
    node.run("one", "cpus:9;disk:80");
    node.statuses();
    let before = node.agent.total().clone();
    node.apply(1, operation(0, 20.0));
    let told = node.statuses();
    assert_eq!(told[0].status.state(), OperationState::OperationFailed);
    assert_eq!(*node.agent.total(), before);
    node.apply(2, operation(0, 10.0));
    let told = node.statuses();
    assert_eq!(told[0].status.state(), OperationState::OperationFinished);

    node.told.clear();
    node.run("two", "cpus:0.1");
    let ToMaster::Update(update) = &node.told[0] else {
        panic!("{:?}", node.told);
    };
    let status = &update.update.status;
    assert_eq!(status.task_id, "two".into());
    assert_eq!(status.state(), TaskState::TaskLost);
    assert_eq!(status.reason(), Reason::InvalidOffers);
    assert_eq!(node.agent.tasks().count(), 1);

    // One that ends leaves all of it.
    let container = node.agent.executors().next().unwrap().container.clone();
    let ended = ContainerTermination::exited(0);
    node.handle(Input::Ended(container, ended));
    node.run("three", "cpus:9;disk:80");
    node.apply(3, operation(1, 10.0));
    let told = node.statuses();
    assert_eq!(told[0].status.state(), OperationState::OperationFinished);
    let is_there = |id: &str| node.agent.tasks().any(|task| task.task_id == id.into());
    assert!(is_there("three") && !is_there("two"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Wherever the agent dies: amounts stay what they are, there is a directory for each volume
    /// and none else, and every operation that was noted is told in the end, once.
    #[test]
    fn a_crash_loses_nothing(steps in proptest::collection::vec((0..4_u8, 1..4_u8, 0..8_usize), 1..20)) {
        let mut node = Node::new();
        let amounts = node.agent.total().scalar_quantities();
        for (number, (kind, amount, life)) in steps.into_iter().enumerate() {
            let number = u8::try_from(number).unwrap();
            node.life = if life == 0 { usize::MAX } else { life };
            node.apply(number, operation(kind, amount.into()));
            if life != 0 {
                node.restart();
            }
            prop_assert_eq!(node.agent.total().scalar_quantities(), amounts.clone());
            prop_assert_eq!(node.volumes(), node.directories());
            let own = Resources::parse("cpus:9;disk:90").unwrap();
            let kept = node.agent.total().checkpointed();
            prop_assert_eq!(&own.with_checkpointed(&kept).unwrap(), node.agent.total());
        }
        node.restart();
        let listed: BTreeSet<_> = node.agent.operations().into_iter().map(|one| one.uuid.value).collect();
        let told = node.statuses();
        prop_assert_eq!(told.len(), listed.len());
        for update in told {
            prop_assert!(is_final(update.status.state()));
            node.hear(AcknowledgeOperationStatusMessage {
                status_uuid: update.status.uuid.clone().unwrap(),
                operation_uuid: update.operation_uuid.clone().unwrap(),
                resource_provider_id: None,
            });
        }
        prop_assert!(node.agent.operations().is_empty());
    }
}
