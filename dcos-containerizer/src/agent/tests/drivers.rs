//! Drivers are heard where their executor is, and nobody else is taken for one.

use super::*;

const DRIVER: &str = "executor(1)@10.0.0.2:7000";
const STRANGER: &str = "executor(1)@10.6.6.6:7000";

impl Node {
    fn hears(&mut self, from: &str, message: impl Into<FromDriver>) {
        self.handle(Input::Driver {
            from: from.to_owned(),
            message: message.into(),
        });
    }

    /// With a task of a custom executor that a driver has registered for.
    fn with_driver() -> Self {
        let mut node = Self::registered();
        node.told(custom_task("t"));
        node.hears(DRIVER, register());
        assert_eq!(
            std::mem::take(&mut node.drivers),
            [(DRIVER.to_owned(), true)]
        );
        node
    }

    fn invalid(&self) -> (u64, u64) {
        let counters = self.agent.view().counters;
        (
            counters.invalid_status_updates,
            counters.invalid_framework_messages,
        )
    }

    /// What came of messages to and from drivers since this was asked last.
    fn heard(&mut self) -> (Vec<event::Type>, Vec<(String, bool)>) {
        let events = std::mem::take(&mut self.events);
        let kinds = events.iter().map(|(_, event)| event.r#type()).collect();
        (kinds, std::mem::take(&mut self.drivers))
    }
}

fn register() -> RegisterExecutorMessage {
    RegisterExecutorMessage {
        framework_id: "f".into(),
        executor_id: "own".into(),
    }
}

fn reregister(updates: Vec<StatusUpdate>) -> ReregisterExecutorMessage {
    ReregisterExecutorMessage {
        framework_id: "f".into(),
        executor_id: "own".into(),
        tasks: Vec::new(),
        updates,
    }
}

/// As libmesos' driver says it.
fn update(state: TaskState, uuid: u8) -> StatusUpdate {
    let mut status = executor_status("t", state, uuid);
    status.agent_id = Some("a1".into());
    StatusUpdate {
        framework_id: "f".into(),
        executor_id: Some("own".into()),
        agent_id: Some("a1".into()),
        uuid: status.uuid.clone(),
        status,
        ..StatusUpdate::default()
    }
}

fn says(update: StatusUpdate) -> StatusUpdateMessage {
    StatusUpdateMessage { update, pid: None }
}

fn message() -> ExecutorToFrameworkMessage {
    ExecutorToFrameworkMessage {
        agent_id: "a1".into(),
        framework_id: "f".into(),
        executor_id: "own".into(),
        data: b"hello".to_vec(),
    }
}

#[test]
fn nobody_takes_over_an_executor_that_runs() {
    let mut node = Node::with_driver();
    node.heard();
    for message in [FromDriver::from(register()), reregister(Vec::new()).into()] {
        node.hears(STRANGER, message);
        // The stranger is told to end; the executor's stream stays, and nothing is said on it.
        assert_eq!(node.heard(), (vec![], vec![(STRANGER.to_owned(), false)]));
    }
    // The executor itself may have sent twice: it is not told to end.
    node.hears(DRIVER, register());
    assert_eq!(node.heard(), (vec![], vec![]));

    let mut node = Node::registered();
    node.told(custom_task("t"));
    node.handle(Input::Subscribe(own(), Subscribe::default()));
    node.heard();
    node.hears(STRANGER, register());
    assert_eq!(node.heard(), (vec![], vec![(STRANGER.to_owned(), false)]));
}

/// Whoever reaches the agent's port says where a message comes from, and the agent answers there.
#[test]
fn forged_messages_end_nobody_and_are_answered_sparingly() {
    let mut node = Node::with_driver();
    node.heard();
    for from in [
        "executor(1)@[::ffff:10.0.0.2]:7000",
        "executor(2)@10.0.0.2:7000",
        "executor(1)@10.0.0.1:5050",
        MASTER,
    ] {
        node.hears(from, register());
        assert_eq!(node.heard(), (vec![], vec![]), "{from}");
    }
    let flood = |node: &mut Node| {
        for number in 0..100 {
            let from = format!("executor(1)@10.6.{number}.6:7000");
            node.hears(&from, register());
        }
        node.heard().1.len()
    };
    // The master and those of the driver were refused as well.
    assert_eq!(flood(&mut node), 6);
    node.now += Duration::from_secs(1);
    assert_eq!(flood(&mut node), 10);
}

#[test]
fn an_executor_that_nobody_launched_is_told_to_end() {
    let mut node = Node::registered();
    node.hears(STRANGER, register());
    node.told(run_task(task("command")));
    let hosted = RegisterExecutorMessage {
        framework_id: "f".into(),
        executor_id: "command".into(),
    };
    node.hears(STRANGER, hosted);
    node.told(custom_task("t"));
    // A new executor has nothing to come back to.
    node.hears(STRANGER, reregister(Vec::new()));
    let refused = (STRANGER.to_owned(), false);
    assert_eq!(node.drivers, [refused.clone(), refused.clone(), refused]);
    node.hears(DRIVER, register());
    assert_eq!(node.drivers.last(), Some(&(DRIVER.to_owned(), true)));
}

#[test]
fn after_a_restart_a_driver_comes_back_from_where_it_was() {
    let mut node = Node::with_driver();
    node.hears(DRIVER, says(update(TaskState::TaskRunning, 1)));
    node.acknowledge_all();
    node.crash();
    node.heard();
    node.hears(STRANGER, reregister(Vec::new()));
    node.hears(STRANGER, register());
    let refused = (STRANGER.to_owned(), false);
    assert_eq!(node.heard(), (vec![], vec![refused.clone(), refused]));
    assert!(node.agent.is_recovering());

    // What it tells of another agent is passed over, what it tells besides is not.
    let mut others = update(TaskState::TaskFailed, 2);
    others.status.agent_id = Some("a2".into());
    // Not all drivers say whose a status is.
    let mut finished = update(TaskState::TaskFinished, 3);
    finished.status.agent_id = None;
    let updates = vec![others, finished];
    node.hears(DRIVER, reregister(updates));
    assert!(!node.agent.is_recovering());
    let (events, drivers) = node.heard();
    assert_eq!(events, [event::Type::Subscribed, event::Type::Acknowledged]);
    assert_eq!(drivers, [(DRIVER.to_owned(), true)]);
    assert_eq!(node.invalid().0, 1);
    node.join();
    node.told(SlaveReregisteredMessage {
        agent_id: "a1".into(),
        ..Default::default()
    });
    assert_eq!(
        node.acknowledge_all(),
        [("t".to_owned(), TaskState::TaskFinished)]
    );
}

#[test]
fn an_executor_on_the_http_api_does_not_come_back_as_a_driver() {
    let mut node = Node::registered();
    node.told(custom_task("t"));
    node.handle(Input::Subscribe(own(), Subscribe::default()));
    node.crash();
    node.heard();
    node.hears(STRANGER, reregister(Vec::new()));
    assert_eq!(node.heard(), (vec![], vec![(STRANGER.to_owned(), false)]));
    node.handle(Input::Subscribe(own(), Subscribe::default()));
    assert!(!node.agent.is_recovering());
}

#[test]
fn drivers_called_repeatedly_may_answer_repeatedly() {
    let mut node = Node::with_driver();
    let again = |settings: &mut Settings| {
        settings.executor_reregistration_retry_interval = Some(Duration::from_millis(500));
    };
    node.crash_with(again);
    node.hears(DRIVER, reregister(Vec::new()));
    node.heard();
    node.hears(DRIVER, reregister(Vec::new()));
    node.hears(STRANGER, reregister(Vec::new()));
    assert_eq!(node.heard(), (vec![], vec![]));
}

#[test]
fn only_its_own_upid_speaks_for_an_executor() {
    let mut node = Node::with_driver();
    node.updates();
    node.hears(STRANGER, says(update(TaskState::TaskFinished, 1)));
    node.hears(STRANGER, message());
    assert_eq!(node.invalid(), (1, 1));
    assert!(node.to_master.is_empty());

    node.hears(DRIVER, says(update(TaskState::TaskRunning, 2)));
    node.hears(DRIVER, message());
    assert_eq!(node.invalid(), (1, 1));
    let [ToMaster::Update(told), ToMaster::ToFramework(said)] = &node.to_master[..] else {
        panic!("{:?}", node.to_master)
    };
    assert_eq!(told.update.status.state(), TaskState::TaskRunning);
    assert_eq!(said.data, b"hello");
}

#[test]
fn an_update_that_nobody_could_acknowledge_is_dropped() {
    let mut node = Node::with_driver();
    node.heard();
    node.updates();
    let broken: [fn(&mut StatusUpdate); 4] = [
        |update| update.uuid = None,
        |update| update.uuid = Some(vec![1; 3]),
        |update| update.agent_id = Some("a2".into()),
        |update| update.status.agent_id = Some("a2".into()),
    ];
    for (number, breaks) in (1..).zip(broken) {
        let mut update = update(TaskState::TaskRunning, 1);
        breaks(&mut update);
        node.hears(DRIVER, says(update));
        assert_eq!(node.invalid(), (number, 0));
    }
    node.pass(Duration::from_mins(20));
    assert_eq!(node.updates(), []);
    assert_eq!(node.heard(), (vec![], vec![]));

    node.hears(DRIVER, says(update(TaskState::TaskStaging, 1)));
    assert_eq!(node.heard().0, [event::Type::Shutdown]);
}

#[test]
fn messages_of_executors_that_are_not_there_stay_here() {
    let mut node = Node::registered();
    node.handle(Input::ExecutorMessage(own(), b"hello".to_vec()));
    node.hears(DRIVER, message());
    assert_eq!(node.invalid(), (0, 2));
    node.told(custom_task("t"));
    node.handle(Input::Subscribe(own(), Subscribe::default()));
    node.handle(Input::ExecutorMessage(own(), b"hello".to_vec()));
    let container = node.launched[0].clone();
    node.ends(&container, 0);
    node.handle(Input::ExecutorMessage(own(), b"hello".to_vec()));
    assert_eq!(node.invalid(), (0, 3));
    let passed = node.to_master.iter();
    let passed = passed.filter(|message| matches!(message, ToMaster::ToFramework(_)));
    assert_eq!(passed.count(), 1);
}

#[test]
fn where_executors_need_tokens_only_drivers_that_were_there_before_are_heard() {
    let mut node = Node::with_driver();
    node.crash_with(|settings| settings.drivers = false);
    node.heard();
    node.hears(STRANGER, says(update(TaskState::TaskFinished, 1)));
    node.hears(STRANGER, message());
    assert_eq!(node.invalid(), (1, 1));
    node.hears(STRANGER, reregister(Vec::new()));
    assert_eq!(node.heard().1, [(STRANGER.to_owned(), false)]);
    node.hears(DRIVER, reregister(vec![update(TaskState::TaskRunning, 1)]));
    node.hears(DRIVER, says(update(TaskState::TaskRunning, 2)));
    assert_eq!(node.heard().1, [(DRIVER.to_owned(), true)]);
    assert_eq!(node.invalid(), (1, 1));
    node.told(custom_task("u"));
    node.hears(STRANGER, register());
    assert_eq!(node.heard().1, [(STRANGER.to_owned(), false)]);
}
