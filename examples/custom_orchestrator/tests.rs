use super::*;
use dcos_core::resources::Resources;
use dcos_proto::mesos::TaskState;

/// The copies, an agent, and what it was told.
struct World {
    copies: Copies,
    now: Timestamp,
    killed: Vec<String>,
}

impl World {
    fn obey(&mut self, calls: Vec<Call>) {
        let kills = calls.into_iter().filter_map(|call| call.kill);
        self.killed.extend(kills.map(|kill| kill.task_id.value));
    }

    fn offer(&mut self) -> u64 {
        let offer = Offer {
            agent_id: "agent".into(),
            resources: Resources::parse("cpus:8;mem:4096;ports:[31000-32000]")
                .unwrap()
                .to_messages(),
            ..Offer::default()
        };
        answer(&mut self.copies, self.now, vec![offer], &Config::default()).launched
    }

    fn tell(&mut self, task: &str, state: TaskState, healthy: Option<bool>) {
        let status = TaskStatus {
            task_id: task.into(),
            state: state as i32,
            healthy,
            ..TaskStatus::default()
        };
        let calls = self.copies.status(self.now, &status);
        self.obey(calls);
    }

    fn tasks(&self, version: i64) -> Vec<String> {
        let version = Timestamp::from_millis(version);
        let all = self.copies.instances.values();
        let all = all.filter(|one| one.config_version == version);
        all.map(|one| one.task_id.clone()).collect()
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
    let copies = Copies::new(&[app("old"), app("new")], Seed::new(1)).unwrap();
    let (now, killed) = (Timestamp::from_millis(1), Vec::new());
    let mut world = World {
        copies,
        now,
        killed,
    };
    let calls = world.copies.settle(world.now);
    world.obey(calls);
    assert_eq!((world.offer(), world.offer()), (3, 0));
    let old = world.tasks(0);
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
        for task in world.tasks(1) {
            world.tell(&task, TaskState::TaskRunning, Some(true));
        }
        assert_eq!(world.killed.len(), (step + 1).min(3));
    }
    assert_eq!((world.tasks(0).len(), world.tasks(1).len()), (0, 3));
    // One that fails is replaced.
    let lost = world.tasks(1)[0].clone();
    world.tell(&lost, TaskState::TaskFailed, None);
    assert_eq!(world.offer(), 1);
}
