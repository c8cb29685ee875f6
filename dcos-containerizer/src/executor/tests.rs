//! Hosted executors driven by hand, and by chance.

use std::collections::BTreeMap;
use std::time::Duration;

use dcos_proto::mesos::{DurationInfo, Resource};
use proptest::prelude::*;

use super::*;
use dcos_core::states::is_terminal;

fn task(id: &str) -> TaskInfo {
    TaskInfo {
        name: id.to_owned(),
        task_id: id.into(),
        ..TaskInfo::default()
    }
}

fn container(id: &str) -> ContainerId {
    ContainerId::root("root").child(id)
}

fn group(ids: &[&str]) -> Vec<(TaskInfo, ContainerId)> {
    ids.iter().map(|id| (task(id), container(id))).collect()
}

fn at(millis: u64) -> Time {
    Time::from_millis(millis)
}

/// What an executor wants, one word an action.
fn told(hosted: &mut Hosted) -> String {
    let mut words = Vec::new();
    while let Some(action) = hosted.poll() {
        words.push(match action {
            HostedAction::Update(status) => {
                let state = status.state().as_str_name().trim_start_matches("TASK_");
                let reason = status.reason.map_or("", |_| status.reason().as_str_name());
                let reason = reason.trim_start_matches("REASON_");
                format!(
                    "{}:{state}{}{reason}",
                    status.task_id,
                    if reason.is_empty() { "" } else { "/" }
                )
            }
            HostedAction::Launch(task, _) => format!("launch({})", task.task_id),
            HostedAction::StartChecks(task, _) => format!("check({})", task.task_id),
            HostedAction::Signal(container, signal) => {
                format!("signal({},{signal})", container.value)
            }
            HostedAction::Destroy(container) => format!("destroy({})", container.value),
            HostedAction::Exit => "exit".to_owned(),
        });
    }
    words.join(" ")
}

fn launched(id: &str) -> HostedInput {
    HostedInput::Launched(container(id), ContainerStatus::default())
}

fn exited(id: &str, code: i32) -> HostedInput {
    HostedInput::Ended(container(id), ContainerTermination::exited(code << 8))
}

/// A default executor that runs the given group.
fn running(ids: &[&str]) -> Hosted {
    let mut hosted = Hosted::new(HostedKind::Default, false);
    hosted.handle(at(0), HostedInput::Launch(0, group(ids)));
    for id in ids {
        hosted.handle(at(0), launched(id));
    }
    told(&mut hosted);
    hosted
}

#[test]
fn a_task_starts_runs_and_ends() {
    let mut hosted = Hosted::new(HostedKind::Command, false);
    hosted.handle(at(0), HostedInput::Launch(0, group(&["a"])));
    assert_eq!(told(&mut hosted), "launch(a)");
    hosted.handle(at(0), launched("a"));
    assert_eq!(told(&mut hosted), "a:STARTING a:RUNNING");
    hosted.handle(at(0), exited("a", 0));
    assert_eq!(told(&mut hosted), "a:FINISHED exit");
}

#[test]
fn how_a_command_ended_is_told_in_the_words_of_mesos() {
    let message = |termination: ContainerTermination| {
        let mut hosted = running(&["a"]);
        hosted.handle(at(0), HostedInput::Ended(container("a"), termination));
        let Some(HostedAction::Update(status)) = hosted.poll() else {
            panic!("no update")
        };
        (status.state(), status.message.unwrap())
    };
    let (state, text) = message(ContainerTermination::exited(3 << 8));
    assert_eq!(
        (state, &*text),
        (TaskState::TaskFailed, "Command exited with status 3")
    );
    let (state, text) = message(ContainerTermination::exited(9));
    assert_eq!(
        (state, &*text),
        (
            TaskState::TaskFailed,
            "Command terminated with signal Killed"
        )
    );
    let limited = ContainerTermination {
        reason: Some(Reason::ContainerLimitationMemory),
        limited: vec![Resource::default()],
        message: Some("Memory limit exceeded".to_owned()),
        ..ContainerTermination::exited(9)
    };
    let (state, text) = message(limited);
    assert_eq!(
        (state, &*text),
        (TaskState::TaskFailed, "Memory limit exceeded")
    );
}

#[test]
fn a_kill_escalates_after_its_grace() {
    let mut hosted = running(&["a"]);
    hosted.handle(at(0), HostedInput::Kill("a".into(), None));
    assert_eq!(told(&mut hosted), "signal(a,15)");
    assert_eq!(hosted.next_deadline(), Some(at(3000)));
    hosted.tick(at(2999));
    assert_eq!(told(&mut hosted), "");
    hosted.tick(at(3000));
    assert_eq!(told(&mut hosted), "destroy(a)");
    hosted.handle(
        at(3001),
        HostedInput::Ended(container("a"), ContainerTermination::exited(9)),
    );
    assert_eq!(told(&mut hosted), "a:KILLED exit");
}

#[test]
fn a_later_kill_only_shortens_the_grace() {
    let policy = |secs: u64| KillPolicy {
        grace_period: Some(DurationInfo {
            nanoseconds: i64::try_from(Duration::from_secs(secs).as_nanos()).unwrap(),
        }),
    };
    let mut hosted = running(&["a"]);
    let kill = |secs| HostedInput::Kill("a".into(), Some(policy(secs)));
    hosted.handle(at(0), kill(20));
    hosted.handle(at(1000), kill(60));
    assert_eq!(hosted.next_deadline(), Some(at(20_000)));
    hosted.handle(at(2000), kill(5));
    assert_eq!(hosted.next_deadline(), Some(at(5000)));
    assert_eq!(told(&mut hosted), "signal(a,15)");
}

#[test]
fn a_kill_during_the_launch_ends_the_launch() {
    let mut hosted = Hosted::new(HostedKind::Command, true);
    hosted.handle(at(0), HostedInput::Launch(0, group(&["a"])));
    hosted.handle(at(0), HostedInput::Kill("a".into(), None));
    assert_eq!(told(&mut hosted), "launch(a) destroy(a)");
    let failed = HostedInput::LaunchFailed(
        container("a"),
        Reason::ContainerLaunchFailed,
        "destroyed".to_owned(),
    );
    hosted.handle(at(0), failed);
    assert_eq!(told(&mut hosted), "a:KILLED/TASK_KILLED_DURING_LAUNCH exit");
}

#[test]
fn a_failed_member_ends_its_group_and_no_other() {
    let mut hosted = running(&["a", "b"]);
    hosted.handle(at(0), HostedInput::Launch(1, group(&["c"])));
    hosted.handle(at(0), launched("c"));
    told(&mut hosted);
    hosted.handle(at(0), exited("a", 1));
    assert_eq!(told(&mut hosted), "a:FAILED signal(b,15)");
    hosted.handle(at(0), exited("b", 0));
    assert_eq!(told(&mut hosted), "b:KILLED");
    hosted.handle(at(0), exited("c", 0));
    assert_eq!(told(&mut hosted), "c:FINISHED exit");
}

#[test]
fn a_finished_member_leaves_its_group_alone() {
    let mut hosted = running(&["a", "b"]);
    hosted.handle(at(0), exited("a", 0));
    assert_eq!(told(&mut hosted), "a:FINISHED");
}

#[test]
fn tasks_end_at_their_completion_time() {
    let mut hosted = Hosted::new(HostedKind::Command, true);
    let mut slow = task("a");
    slow.max_completion_time = Some(DurationInfo {
        nanoseconds: 1_000_000_000,
    });
    hosted.handle(at(0), HostedInput::Launch(0, vec![(slow, container("a"))]));
    hosted.handle(at(500), launched("a"));
    told(&mut hosted);
    hosted.tick(at(1500));
    assert_eq!(told(&mut hosted), "a:KILLING signal(a,15)");
    hosted.handle(
        at(1600),
        HostedInput::Ended(container("a"), ContainerTermination::exited(15)),
    );
    assert_eq!(
        told(&mut hosted),
        "a:FAILED/MAX_COMPLETION_TIME_REACHED exit"
    );
}

#[test]
fn unhealthy_tasks_are_killed() {
    let mut hosted = running(&["a"]);
    let health = |healthy, kill| HostedInput::Health {
        task: "a".into(),
        healthy,
        kill,
    };
    hosted.handle(at(0), health(true, false));
    hosted.handle(at(0), health(false, true));
    let update = "a:RUNNING/TASK_HEALTH_CHECK_STATUS_UPDATED";
    assert_eq!(told(&mut hosted), format!("{update} {update} signal(a,15)"));
    hosted.handle(
        at(0),
        HostedInput::Ended(container("a"), ContainerTermination::exited(15)),
    );
    let Some(HostedAction::Update(status)) = hosted.poll() else {
        panic!("no update")
    };
    assert_eq!(
        (status.state(), status.healthy),
        (TaskState::TaskKilled, Some(false))
    );
}

#[test]
fn recovered_tasks_go_on() {
    let mut hosted = Hosted::new(HostedKind::Default, false);
    let running = TaskStatus {
        state: TaskState::TaskRunning.into(),
        healthy: Some(true),
        ..TaskStatus::default()
    };
    hosted.recover(at(0), task("a"), container("a"), Some(&running), 0);
    hosted.recover(at(0), task("b"), container("b"), None, 0);
    hosted.handle(at(0), HostedInput::Wake);
    hosted.handle(at(0), launched("a"));
    hosted.handle(at(0), launched("b"));
    assert_eq!(told(&mut hosted), "b:STARTING b:RUNNING");
    hosted.handle(at(0), exited("a", 1));
    assert_eq!(told(&mut hosted), "a:FAILED signal(b,15)");
}

#[test]
fn an_executor_recovered_after_its_last_task_ends() {
    let mut hosted = Hosted::new(HostedKind::Default, false);
    hosted.handle(at(0), HostedInput::Wake);
    assert_eq!(told(&mut hosted), "exit");
}

/// Something that may happen to an executor; numbers choose among what is possible.
#[derive(Debug, Clone)]
enum Chance {
    Launch(u8),
    Kill(u8),
    ContainerEnds(u8, bool),
    LaunchEnds(u8, bool),
    Shutdown,
    Pass(u16),
}

fn chances() -> impl Strategy<Value = Vec<Chance>> {
    let chance = prop_oneof![
        3 => (1..4_u8).prop_map(Chance::Launch),
        2 => any::<u8>().prop_map(Chance::Kill),
        4 => (any::<u8>(), any::<bool>()).prop_map(|(n, ok)| Chance::ContainerEnds(n, ok)),
        5 => (any::<u8>(), any::<bool>()).prop_map(|(n, ok)| Chance::LaunchEnds(n, ok)),
        1 => Just(Chance::Shutdown),
        2 => (0..5000_u16).prop_map(Chance::Pass),
    ];
    proptest::collection::vec(chance, 0..60)
}

/// The containers around an executor: what it was told to do to them, and what is possible.
#[derive(Default)]
struct World {
    launching: Vec<ContainerId>,
    running: Vec<ContainerId>,
    destroyed: Vec<ContainerId>,
    states: BTreeMap<TaskId, Vec<TaskState>>,
    exited: bool,
}

impl World {
    fn carry_out(&mut self, hosted: &mut Hosted) {
        while let Some(action) = hosted.poll() {
            assert!(!self.exited, "nothing follows the exit");
            match action {
                HostedAction::Update(status) => {
                    self.states
                        .entry(status.task_id.clone())
                        .or_default()
                        .push(status.state());
                }
                HostedAction::Launch(_, container) => self.launching.push(container),
                HostedAction::Destroy(container) => self.destroyed.push(container),
                HostedAction::Signal(container, _) => assert!(self.running.contains(&container)),
                HostedAction::StartChecks(..) => {}
                HostedAction::Exit => self.exited = true,
            }
        }
    }
}

fn pick(from: &mut Vec<ContainerId>, number: u8) -> Option<ContainerId> {
    (!from.is_empty()).then(|| from.remove(usize::from(number) % from.len()))
}

proptest! {
    /// Whatever happens: each task that was launched gets exactly one terminal update, as its
    /// last; the executor exits once, after all of them.
    #[test]
    fn each_task_ends_once_and_the_executor_last(chances in chances()) {
        let mut hosted = Hosted::new(HostedKind::Default, true);
        let (mut world, mut now, mut tasks) = (World::default(), at(0), 0_u64);
        let mut given = Vec::new();
        let finish = [Chance::Shutdown];
        for chance in chances.into_iter().chain(finish) {
            if world.exited {
                break;
            }
            match chance {
                Chance::Launch(count) => {
                    let ids: Vec<_> = (0..count).map(|n| format!("{}", tasks + u64::from(n))).collect();
                    let names: Vec<_> = ids.iter().map(String::as_str).collect();
                    hosted.handle(now, HostedInput::Launch(tasks, group(&names)));
                    tasks += u64::from(count);
                    given.extend(ids.into_iter().map(TaskId::from));
                }
                Chance::Kill(number) if tasks > 0 => {
                    let id = (u64::from(number) % tasks).to_string();
                    hosted.handle(now, HostedInput::Kill(id.into(), None));
                }
                Chance::LaunchEnds(number, ok) => if let Some(id) = pick(&mut world.launching, number) {
                    if ok {
                        world.running.push(id.clone());
                        hosted.handle(now, HostedInput::Launched(id, ContainerStatus::default()));
                    } else {
                        let reason = Reason::ContainerLaunchFailed;
                        hosted.handle(now, HostedInput::LaunchFailed(id, reason, String::new()));
                    }
                },
                Chance::ContainerEnds(number, ok) => if let Some(id) = pick(&mut world.running, number) {
                    let status = ContainerTermination::exited(i32::from(!ok) << 8);
                    hosted.handle(now, HostedInput::Ended(id, status));
                },
                Chance::Shutdown => hosted.handle(now, HostedInput::Shutdown),
                Chance::Pass(millis) => {
                    now += Duration::from_millis(millis.into());
                    hosted.tick(now);
                }
                Chance::Kill(_) => {}
            }
            world.carry_out(&mut hosted);
        }
        // Time passes, launches come to an end, containers that are destroyed end.
        for _ in 0..200 {
            if let Some(due) = hosted.next_deadline() {
                now = now.max(due);
                hosted.tick(now);
                world.carry_out(&mut hosted);
            }
            if let Some(id) = pick(&mut world.launching, 0) {
                world.running.push(id.clone());
                hosted.handle(now, HostedInput::Launched(id, ContainerStatus::default()));
                world.carry_out(&mut hosted);
            }
            let running = std::mem::take(&mut world.running);
            let (gone, left) = running.into_iter().partition(|id| world.destroyed.contains(id));
            world.running = left;
            for id in gone {
                hosted.handle(now, HostedInput::Ended(id, ContainerTermination::exited(9)));
                world.carry_out(&mut hosted);
            }
        }
        prop_assert!(world.exited, "left: {:?}", hosted);
        for id in &given {
            let states = world.states.get(id).cloned().unwrap_or_default();
            let terminal = states.iter().filter(|state| is_terminal(**state)).count();
            prop_assert_eq!(terminal, 1, "{} went through {:?}", id, states);
            prop_assert!(is_terminal(*states.last().unwrap()));
        }
    }
}
