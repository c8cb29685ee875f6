use dcos_core::resources::Resources;
use dcos_marathon::core::Input;
use dcos_marathon::engine::Machine as _;
use dcos_marathon::instance::Instance;
use dcos_proto::mesos::{Offer, TaskState, TaskStatus};
use dcos_proto::scheduler::{Event, event};

use super::*;

const NOW: Time = Time::from_secs(1_000);

/// The copies, an agent, and what it was told.
struct World {
    copies: Directed<Copies>,
    killed: Vec<String>,
}

impl World {
    fn new(apps: &[String]) -> Self {
        let config = Arc::new(Config::default());
        let apps = apps
            .iter()
            .map(|app| Fleet::read(&config, app.as_bytes()).unwrap());
        let apps = apps.collect();
        let orchestrator = Orchestrator { config, apps };
        let copies = orchestrator.recover(Seed::new(1), NOW, &[]).unwrap();
        let mut world = Self {
            copies,
            killed: Vec::new(),
        };
        let subscribed = event::Subscribed {
            framework_id: "copies".into(),
            ..event::Subscribed::default()
        };
        world.hear(event::Type::Subscribed, |event| {
            event.subscribed = Some(subscribed)
        });
        world
    }

    /// Returns how many tasks were launched then.
    fn hear(&mut self, kind: event::Type, fill: impl FnOnce(&mut Event)) -> usize {
        let mut event = Event {
            r#type: Some(kind as i32),
            ..Event::default()
        };
        fill(&mut event);
        self.copies.handle(NOW, Input::Event(Box::new(event)));
        let mut launched = 0;
        for call in self.copies.take(NOW).calls {
            self.killed.extend(call.kill.map(|kill| kill.task_id.value));
            let operations = call.accept.into_iter().flat_map(|accept| accept.operations);
            let launches = operations.filter_map(|operation| operation.launch);
            launched += launches
                .map(|launch| launch.task_infos.len())
                .sum::<usize>();
        }
        launched
    }

    fn offer(&mut self) -> usize {
        let offer = Offer {
            agent_id: "agent".into(),
            resources: Resources::parse("cpus:8;mem:4096;ports:[31000-32000]")
                .unwrap()
                .to_messages(),
            ..Offer::default()
        };
        let offers = vec![offer];
        self.hear(event::Type::Offers, |event| {
            event.offers = Some(event::Offers { offers })
        })
    }

    fn tell(&mut self, task: &str, state: TaskState, healthy: Option<bool>) {
        let status = TaskStatus {
            task_id: task.into(),
            state: state as i32,
            healthy,
            ..TaskStatus::default()
        };
        self.hear(event::Type::Update, |event| {
            event.update = Some(event::Update { status })
        });
    }

    /// Those launched after `others`.
    fn tasks(&self, others: &[String]) -> Vec<String> {
        let view = self.copies.view(NOW);
        let tasks = view
            .instances()
            .map(|one: &Arc<Instance>| one.task_id.clone());
        tasks.filter(|task| !others.contains(task)).collect()
    }
}

#[test]
fn healthy_copies_give_way_to_the_next_step_by_step() {
    let app = |command: &str| {
        format!(
            r#"{{"id": "/web", "cmd": "{command}", "instances": 3, "cpus": 0.1, "mem": 32,
                "healthChecks": [{{"protocol": "COMMAND", "command": {{"value": "true"}}}}],
                "upgradeStrategy": {{"minimumHealthCapacity": 0.5, "maximumOverCapacity": 0}}}}"#
        )
    };
    let mut world = World::new(&[app("old"), app("new")]);
    assert_eq!((world.offer(), world.offer()), (3, 0));
    let old = world.tasks(&[]);
    for task in &old {
        world.tell(task, TaskState::TaskRunning, None);
    }
    assert!(world.killed.is_empty(), "nobody is known to be healthy");
    for task in &old {
        world.tell(task, TaskState::TaskRunning, Some(true));
    }
    // Half of three, rounded up, have to serve; one may go.
    assert_eq!(world.killed.len(), 1);
    for step in 1..=3 {
        let victim = world.killed[step - 1].clone();
        world.tell(&victim, TaskState::TaskKilled, None);
        assert_eq!(world.offer(), 1, "in step {step}");
        assert_eq!(world.killed.len(), step, "the new one is not healthy yet");
        for task in world.tasks(&old) {
            world.tell(&task, TaskState::TaskRunning, Some(true));
        }
        assert_eq!(world.killed.len(), (step + 1).min(3));
    }
    let new = world.tasks(&old);
    assert_eq!((new.len(), world.tasks(&[]).len()), (3, 3));
    // One that fails is replaced, once its delay is over.
    world.tell(&new[0], TaskState::TaskFailed, None);
    assert_eq!((world.offer(), world.tasks(&old).len()), (0, 2));
}
