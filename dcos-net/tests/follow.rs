//! What becomes of virtual addresses when a master tells of tasks, and when another one leads.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::time::Duration;

use dcos_core::time::Time;
use dcos_net::vip::VipTable;
use dcos_net::{Census, Counts, Follower};
use dcos_proto::json::{self, Dialect};
use dcos_proto::master::Event;

struct Run {
    follower: Follower,
    table: VipTable,
    now: Time,
}

impl Run {
    fn new() -> Self {
        Self {
            follower: Follower::of_vips(),
            table: VipTable::new([]),
            now: Time::from_secs(1000),
        }
    }

    fn told(&mut self, event: &str) -> Vec<String> {
        let event: Event = json::from_slice(event.as_bytes(), Dialect::V1).unwrap();
        self.follower.apply(self.now, &event, &mut self.table);
        self.backends()
    }

    fn later(&mut self, seconds: u64) -> Vec<String> {
        self.now += Duration::from_secs(seconds);
        self.follower.poll(self.now, &mut self.table);
        self.backends()
    }

    /// The backends of all VIPs.
    fn backends(&mut self) -> Vec<String> {
        self.table.take_changes();
        let backends = self.table.told().values().flatten();
        backends.map(ToString::to_string).collect()
    }
}

const AGENT: &str = r#"{"agent_info": {"id": {"value": "S0"}, "hostname": "h"}, "active": true,
    "version": "1.11.0", "pid": "slave(1)@10.0.0.7:5051"}"#;
const FRAMEWORK: &str = r#"{"framework_info": {"id": {"value": "f"}, "user": "root", "name": "marathon"},
    "active": true, "connected": true, "recovered": false}"#;

fn task(id: &str, state: &str, port: u16) -> String {
    format!(
        r#"{{"name": "web", "task_id": {{"value": "{id}"}}, "framework_id": {{"value": "f"}},
          "agent_id": {{"value": "S0"}}, "state": "{state}",
          "discovery": {{"visibility": "CLUSTER", "ports": {{"ports": [{{"number": {port}, "protocol": "tcp",
            "labels": {{"labels": [{{"key": "VIP_0", "value": "/web:80"}}]}}}}]}}}}}}"#
    )
}

fn subscribed(agents: &str, recovered: &str, frameworks: &str, tasks: &str) -> String {
    format!(
        r#"{{"type": "SUBSCRIBED", "subscribed": {{"get_state": {{
          "get_agents": {{"agents": [{agents}], "recovered_agents": [{recovered}]}},
          "get_frameworks": {{"frameworks": [{frameworks}]}}, "get_tasks": {{"tasks": [{tasks}]}}}}}}}}"#
    )
}

fn added(task: &str) -> String {
    format!(r#"{{"type": "TASK_ADDED", "task_added": {{"task": {task}}}}}"#)
}

fn updated(id: &str, state: &str, healthy: &str) -> String {
    format!(
        r#"{{"type": "TASK_UPDATED", "task_updated": {{"framework_id": {{"value": "f"}}, "state": "{state}",
          "status": {{"task_id": {{"value": "{id}"}}, "state": "{state}", "timestamp": 5.0 {healthy}}}}}}}"#
    )
}

#[test]
fn what_a_master_tells_of_is_counted() {
    let mut census = Census::default();
    let mut counts = |event: &str| {
        let event: Event = json::from_slice(event.as_bytes(), Dialect::V1).unwrap();
        census.apply(&event);
        let Counts {
            agents,
            frameworks,
            tasks,
            waiting,
        } = census.counts();
        [agents, frameworks, tasks, waiting]
    };
    let running = task("a", "TASK_RUNNING", 31_000);
    let state = subscribed(AGENT, "", FRAMEWORK, &running);
    assert_eq!(counts(&state), [1, 1, 1, 0]);
    let staging = added(&task("b", "TASK_STAGING", 31_001));
    assert_eq!(counts(&staging), [1, 1, 2, 0]);
    assert_eq!(counts(&staging), [1, 1, 2, 0], "each counts once");
    assert_eq!(counts(&updated("b", "TASK_RUNNING", "")), [1, 1, 2, 0]);
    assert_eq!(counts(&updated("a", "TASK_FAILED", "")), [1, 1, 1, 0]);
    assert_eq!(counts(&added(&task("c", "TASK_FINISHED", 1))), [1, 1, 1, 0]);
    let removed = r#"{"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "S0"}}}"#;
    assert_eq!(counts(removed), [0, 1, 0, 0]);
    assert_eq!(counts(&staging), [0, 1, 1, 1], "its agent is not known yet");
    let added = format!(r#"{{"type": "AGENT_ADDED", "agent_added": {{"agent": {AGENT}}}}}"#);
    assert_eq!(counts(&added), [1, 1, 1, 0]);
    // Another leader, who knows of nothing yet.
    assert_eq!(counts(&subscribed("", "", "", "")), [0, 0, 0, 0]);
}

#[test]
fn a_task_comes_runs_falls_ill_and_goes() {
    let mut run = Run::new();
    assert!(!run.follower.is_complete());
    let state = subscribed(AGENT, "", FRAMEWORK, &task("a", "TASK_RUNNING", 31_000));
    assert_eq!(run.told(&state), ["10.0.0.7:31000"]);
    assert!(run.follower.is_complete());
    let both = ["10.0.0.7:31000", "10.0.0.7:31001"];
    assert_eq!(
        run.told(&added(&task("b", "TASK_STAGING", 31_001))),
        both[..1]
    );
    assert_eq!(run.told(&updated("b", "TASK_RUNNING", "")), both);
    assert_eq!(
        run.told(&updated("a", "TASK_RUNNING", r#", "healthy": false"#)),
        both[1..]
    );
    assert_eq!(
        run.told(&updated("a", "TASK_RUNNING", r#", "healthy": true"#)),
        both
    );
    assert_eq!(run.told(&updated("b", "TASK_KILLING", "")), both[..1]);
    assert_eq!(
        run.table.list().next().unwrap().backends.len(),
        2,
        "it drains"
    );
    assert_eq!(run.told(&updated("b", "TASK_KILLED", "")), both[..1]);
    assert_eq!(run.table.list().next().unwrap().backends.len(), 1);
    let removed = r#"{"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "S0"}}}"#;
    assert!(run.told(removed).is_empty());
    assert_eq!(run.table.list().count(), 0);
}

#[test]
fn a_task_may_be_told_before_its_agent_and_framework() {
    let mut run = Run::new();
    run.told(&subscribed("", "", "", ""));
    assert!(
        run.told(&added(&task("a", "TASK_RUNNING", 31_000)))
            .is_empty()
    );
    let agent = format!(r#"{{"type": "AGENT_ADDED", "agent_added": {{"agent": {AGENT}}}}}"#);
    assert!(run.told(&agent).is_empty());
    let framework = format!(
        r#"{{"type": "FRAMEWORK_ADDED", "framework_added": {{"framework": {FRAMEWORK}}}}}"#
    );
    assert_eq!(run.told(&framework), ["10.0.0.7:31000"]);
    let removed = r#"{"type": "FRAMEWORK_REMOVED", "framework_removed": {"framework_info":
        {"id": {"value": "f"}, "user": "root", "name": "marathon"}}}"#;
    assert!(run.told(removed).is_empty());
}

#[test]
fn no_task_takes_the_place_of_an_agent() {
    let mut run = Run::new();
    let claim = task("a", "TASK_RUNNING", 31_000).replace("/web:80", "10.0.0.8:5051");
    let state = subscribed(AGENT, "", FRAMEWORK, &claim);
    assert_eq!(run.told(&state), ["10.0.0.7:31000"]);
    let other = AGENT.replace("S0", "S1").replace("10.0.0.7", "10.0.0.8");
    let added = format!(r#"{{"type": "AGENT_ADDED", "agent_added": {{"agent": {other}}}}}"#);
    assert!(run.told(&added).is_empty());
    // Told again by another leader, and by one that has only read of the agent.
    let both = format!("{AGENT}, {other}");
    assert!(
        run.told(&subscribed(&both, "", FRAMEWORK, &claim))
            .is_empty()
    );
    let recovered = r#"{"id": {"value": "S1"}, "hostname": "h"}"#;
    assert!(
        run.told(&subscribed(AGENT, recovered, FRAMEWORK, &claim))
            .is_empty()
    );
    let removed = r#"{"type": "AGENT_REMOVED", "agent_removed": {"agent_id": {"value": "S1"}}}"#;
    assert_eq!(run.told(removed), ["10.0.0.7:31000"]);
}

#[test]
fn a_failover_empties_no_vip() {
    let mut run = Run::new();
    let tasks = [
        task("a", "TASK_RUNNING", 31_000),
        task("b", "TASK_RUNNING", 31_001),
    ]
    .join(",");
    let both = ["10.0.0.7:31000", "10.0.0.7:31001"];
    assert_eq!(run.told(&subscribed(AGENT, "", FRAMEWORK, &tasks)), both);
    // The next leader has only read of the agent.
    let recovered = r#"{"id": {"value": "S0"}, "hostname": "h"}"#;
    assert_eq!(run.told(&subscribed("", recovered, "", "")), both);
    assert!(!run.follower.is_complete());
    assert_eq!(run.later(300), both);
    let agent = format!(r#"{{"type": "AGENT_ADDED", "agent_added": {{"agent": {AGENT}}}}}"#);
    assert_eq!(run.told(&agent), both);
    assert_eq!(run.told(&added(&task("a", "TASK_RUNNING", 31_000))), both);
    assert_eq!(run.later(9), both);
    // The other one was not told of again: it is gone.
    assert_eq!(run.later(2), both[..1]);
    assert!(run.follower.is_complete());
    assert_eq!(run.follower.next_deadline(), None);
}

#[test]
fn an_agent_that_never_comes_back_is_given_up() {
    let mut run = Run::new();
    let state = subscribed(AGENT, "", FRAMEWORK, &task("a", "TASK_RUNNING", 31_000));
    run.told(&state);
    let recovered = r#"{"id": {"value": "S0"}, "hostname": "h"}"#;
    run.told(&subscribed("", recovered, FRAMEWORK, ""));
    assert_eq!(
        run.follower.next_deadline(),
        Some(run.now + Duration::from_secs(600))
    );
    assert_eq!(run.later(599), ["10.0.0.7:31000"]);
    assert!(run.later(2).is_empty());
}

#[test]
fn all_tasks_are_known_with_and_without_virtual_addresses() {
    let mut follower = Follower::of_all();
    let now = Time::from_secs(1000);
    let plain = r#"{"name": "db", "task_id": {"value": "db.1"}, "framework_id": {"value": "f"},
        "agent_id": {"value": "S0"}, "state": "TASK_RUNNING",
        "resources": [{"name": "mem", "type": "SCALAR", "scalar": {"value": 1.0}},
          {"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": 31007, "end": 31007}]}}]}"#;
    let tasks = format!("{plain}, {}", task("t", "TASK_RUNNING", 80));
    let told = subscribed(AGENT, "", FRAMEWORK, &tasks);
    let event: Event = json::from_slice(told.as_bytes(), Dialect::V1).unwrap();
    follower.apply(now, &event, &mut ());
    let leader = "10.0.0.1:5050".parse().unwrap();
    let masters = vec!["10.0.0.1".parse().unwrap()];
    let snapshot = follower.snapshot(Some(leader), masters.clone());
    // The same as if it had been asked for.
    let state = event
        .subscribed
        .as_ref()
        .unwrap()
        .get_state
        .as_ref()
        .unwrap();
    let asked = dcos_net::Snapshot::read(state, Some(leader), masters.clone());
    assert_eq!(snapshot, asked);
    assert_eq!((snapshot.tasks.len(), snapshot.claims.len()), (2, 1));
    assert_eq!(snapshot.tasks[0].ports, [31007]);

    // Another process begins with what this one knew, and then hears of a leader that waits for the agent.
    let mut later = Follower::of_all();
    later.begin(now, &follower.state(), &mut ());
    assert_eq!(later.snapshot(Some(leader), masters.clone()), snapshot);
    let recovered = r#"{"id": {"value": "S0"}, "hostname": "h"}"#;
    let told = subscribed("", recovered, FRAMEWORK, "");
    let event: Event = json::from_slice(told.as_bytes(), Dialect::V1).unwrap();
    later.apply(now, &event, &mut ());
    assert_eq!(later.snapshot(Some(leader), masters.clone()), snapshot);
    later.poll(now + Duration::from_secs(601), &mut ());
    assert_eq!(later.snapshot(Some(leader), masters).tasks, []);
}
