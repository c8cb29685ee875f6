//! What is remembered: a node that was begun anew at any moment knows what one knows that went on.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeSet;
use std::time::Duration;

use dcos_core::time::Time;
use dcos_net::vip::VipTable;
use dcos_net::{
    Around, Cluster, Follower, Journal, Keeping, Origin, Remembered, Unreadable, Write,
};
use dcos_proto::json::{self, Dialect};
use dcos_proto::master::Event;
use proptest::collection::{btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use sha1::{Digest as _, Sha1};

/// What happens to a node.
#[derive(Clone, Debug)]
enum Step {
    /// Another master leads: which agents are there, which it awaits, which frameworks and tasks it knows.
    Led([BTreeSet<u8>; 4]),
    Added(u8, &'static str),
    Updated(u8, &'static str, bool),
    Agent(u8),
    AgentGone(u8),
    Framework(u8, bool),
    FrameworkGone(u8),
    Later(u64),
    /// The process is killed, and another one begins.
    Restart,
}

/// Each task is of one framework, on one agent, behind one of two virtual addresses or none.
fn task(number: u8, state: &str) -> String {
    let label = match number % 4 {
        3 => String::new(),
        vip => format!(
            r#", "labels": {{"labels": [{{"key": "VIP_0", "value": "/web{}:80"}}]}}"#,
            vip % 2
        ),
    };
    format!(
        r#"{{"name": "web", "task_id": {{"value": "t{number}"}}, "framework_id": {{"value": "f{}"}},
          "agent_id": {{"value": "S{}"}}, "state": "{state}", "health_check": {{"type": "TCP", "tcp": {{"port": 1}}}},
          "statuses": [{{"task_id": {{"value": "t{number}"}}, "state": "{state}", "timestamp": 1.0, "healthy": true,
            "message": "secret"}}],
          "discovery": {{"visibility": "CLUSTER", "ports": {{"ports": [{{"number": {}, "protocol": "tcp"{label}}}]}}}}}}"#,
        number % 2,
        number % 3,
        31_000 + u32::from(number)
    )
}

fn agent(number: u8) -> String {
    format!(
        r#"{{"agent_info": {{"id": {{"value": "S{number}"}}, "hostname": "h"}}, "active": true, "version": "1.11.0",
          "pid": "slave(1)@10.0.0.{number}:5051"}}"#
    )
}

fn info(number: u8, is_renamed: bool) -> String {
    let name = if is_renamed { "other" } else { "marathon" };
    format!(r#"{{"id": {{"value": "f{number}"}}, "user": "root", "name": "{name}{number}"}}"#)
}

fn framework(number: u8, is_renamed: bool) -> String {
    let info = info(number, is_renamed);
    format!(
        r#"{{"framework_info": {info}, "active": true, "connected": true, "recovered": false}}"#
    )
}

fn told(step: &Step) -> Option<Event> {
    let listed = |numbers: &BTreeSet<u8>, one: &dyn Fn(u8) -> String| {
        let all: Vec<String> = numbers.iter().map(|number| one(*number)).collect();
        all.join(",")
    };
    let text = match step {
        Step::Led([agents, awaited, frameworks, tasks]) => format!(
            r#"{{"type": "SUBSCRIBED", "subscribed": {{"get_state": {{
              "get_agents": {{"agents": [{}], "recovered_agents": [{}]}},
              "get_frameworks": {{"frameworks": [{}]}}, "get_tasks": {{"tasks": [{}]}}}}}}}}"#,
            listed(agents, &agent),
            listed(awaited, &|number| format!(
                r#"{{"id": {{"value": "S{number}"}}, "hostname": "h"}}"#
            )),
            listed(frameworks, &|number| framework(number, false)),
            listed(tasks, &|number| task(number, "TASK_RUNNING")),
        ),
        Step::Added(number, state) => {
            let task = task(*number, state);
            format!(r#"{{"type": "TASK_ADDED", "task_added": {{"task": {task}}}}}"#)
        }
        Step::Updated(number, state, healthy) => format!(
            r#"{{"type": "TASK_UPDATED", "task_updated": {{"framework_id": {{"value": "f{}"}}, "state": "{state}",
              "status": {{"task_id": {{"value": "t{number}"}}, "state": "{state}", "timestamp": 5.0,
                "healthy": {healthy}}}}}}}"#,
            number % 2
        ),
        Step::Agent(number) => {
            let agent = agent(*number);
            format!(r#"{{"type": "AGENT_ADDED", "agent_added": {{"agent": {agent}}}}}"#)
        }
        Step::AgentGone(number) => format!(
            r#"{{"type": "AGENT_REMOVED", "agent_removed": {{"agent_id": {{"value": "S{number}"}}}}}}"#
        ),
        Step::Framework(number, is_renamed) => {
            let framework = framework(*number, *is_renamed);
            format!(
                r#"{{"type": "FRAMEWORK_UPDATED", "framework_updated": {{"framework": {framework}}}}}"#
            )
        }
        Step::FrameworkGone(number) => {
            let info = info(*number, false);
            format!(
                r#"{{"type": "FRAMEWORK_REMOVED", "framework_removed": {{"framework_info": {info}}}}}"#
            )
        }
        Step::Later(_) | Step::Restart => return None,
    };
    Some(json::from_slice(text.as_bytes(), Dialect::V1).unwrap())
}

fn some(of: u8) -> impl Strategy<Value = BTreeSet<u8>> {
    btree_set(0..of, 0..=usize::from(of))
}

fn step() -> impl Strategy<Value = Step> {
    let states = prop::sample::select(vec![
        "TASK_STAGING",
        "TASK_RUNNING",
        "TASK_KILLING",
        "TASK_FAILED",
    ]);
    let updates = (0..12_u8, states.clone(), any::<bool>());
    prop_oneof![
        2 => (some(3), some(3), some(2), some(12)).prop_map(|(a, r, f, t)| Step::Led([a, r, f, t])),
        3 => (0..12_u8, states).prop_map(|(task, state)| Step::Added(task, state)),
        6 => updates.prop_map(|(task, state, healthy)| Step::Updated(task, state, healthy)),
        2 => (0..3_u8).prop_map(Step::Agent),
        1 => (0..3_u8).prop_map(Step::AgentGone),
        2 => (0..2_u8, any::<bool>()).prop_map(|(framework, name)| Step::Framework(framework, name)),
        1 => (0..2_u8).prop_map(Step::FrameworkGone),
        1 => (0..700_u64).prop_map(Step::Later),
        1 => (0..12_u64).prop_map(Step::Later),
        4 => Just(Step::Restart),
    ]
}

/// A node, and the file it writes whenever something happened.
struct Node {
    follower: Follower,
    table: VipTable,
    journal: Journal,
    file: Vec<u8>,
    of: fn() -> Follower,
}

impl Node {
    fn new(of: fn() -> Follower) -> Self {
        Self {
            follower: of(),
            table: VipTable::new([]),
            journal: Journal::default(),
            file: Vec::new(),
            of,
        }
    }

    fn take_in(&mut self, now: Time, step: &Step) {
        match told(step) {
            Some(event) => self.follower.apply(now, &event, &mut self.table),
            None => self.follower.poll(now, &mut self.table),
        }
        self.table.take_changes();
    }

    fn write(&mut self, now: Time) {
        let around = Around::default();
        let entry = self.journal.next(now, &around, &mut self.follower);
        match entry.map(|entry| self.journal.encode(entry)) {
            Some(Write::Replace(text)) => self.file = text,
            Some(Write::Append(text)) => self.file.extend(text),
            None => {}
        }
    }

    fn restart(&mut self, now: Time) {
        let known = Remembered::read(&self.file).unwrap();
        assert_eq!(known.broken, 0);
        let file = std::mem::take(&mut self.file);
        *self = Self {
            file,
            ..Self::new(self.of)
        };
        self.follower.recall(now, known, &mut self.table);
        self.table.take_changes();
    }
}

#[test]
fn of_too_many_changes_it_is_only_known_that_there_are() {
    let (mut journal, mut follower) = (Journal::default(), Follower::of_all());
    let mut write = |follower: &mut Follower| {
        let entry = journal.next(Time::from_secs(1), &Around::default(), follower);
        journal.encode(entry.unwrap())
    };
    assert!(matches!(write(&mut follower), Write::Replace(_)));
    let added = told(&Step::Added(1, "TASK_RUNNING")).unwrap();
    for (count, is_all) in [(10_000, false), (10_001, true)] {
        for number in 0..count {
            let mut added = added.clone();
            let task = &mut added.task_added.as_mut().unwrap().task;
            task.task_id.value = format!("t{number}");
            follower.apply(Time::from_secs(1), &added, &mut ());
        }
        assert_eq!(matches!(write(&mut follower), Write::Replace(_)), is_all);
    }
}

proptest! {
    #[test]
    fn a_node_that_began_anew_knows_what_one_knows_that_went_on(
        steps in vec(step(), 1..40),
        all in any::<bool>(),
    ) {
        let of = if all { Follower::of_all } else { Follower::of_vips };
        let (mut steady, mut shaken) = (Node::new(of), Node::new(of));
        let mut now = Time::from_secs(1000);
        shaken.write(now);
        for step in steps {
            if let Step::Later(seconds) = step {
                now += Duration::from_secs(seconds);
            }
            if matches!(step, Step::Restart) {
                shaken.restart(now);
            }
            steady.take_in(now, &step);
            shaken.take_in(now, &step);
            shaken.write(now);
            prop_assert_eq!(steady.table.told(), shaken.table.told());
            let listed = |node: &Node| node.table.list().collect::<Vec<_>>();
            prop_assert_eq!(listed(&steady), listed(&shaken));
            let named = |node: &Node| node.follower.snapshot(None, Vec::new());
            prop_assert_eq!(named(&steady), named(&shaken));
            prop_assert_eq!(steady.follower.next_deadline(), shaken.follower.next_deadline());
        }
    }

    #[test]
    fn of_what_is_damaged_is_read_what_was_so_at_some_moment_or_nothing(
        steps in vec(step(), 1..20),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u8,
        is_cut in any::<bool>(),
    ) {
        let mut node = Node::new(Follower::of_all);
        let mut now = Time::from_secs(1000);
        let mut files = Vec::new();
        for step in steps {
            now += Duration::from_millis(1);
            node.take_in(now, &step);
            node.write(now);
            files.push(node.file.clone());
        }
        let mut file = node.file;
        let at = at.index(file.len());
        if is_cut {
            file.truncate(at);
        } else {
            file[at] ^= 1 << bit;
        }
        if let Ok(mut known) = Remembered::read(&file) {
            // It is told of, unless the file ends where it once did.
            let ends = is_cut && files.contains(&file);
            prop_assert_eq!(known.broken == 0, ends);
            known.broken = 0;
            let moments = files.iter().map(|file| Remembered::read(file).unwrap());
            prop_assert!(moments.into_iter().any(|moment| moment == known));
        }
    }

    #[test]
    fn what_is_no_memory_is_refused(bytes in vec(any::<u8>(), 0..200), is_begun in any::<bool>()) {
        let begin: &[u8] = if is_begun { b"dcos-net memory 1\n" } else { b"" };
        prop_assert!(Remembered::read(&[begin, &bytes].concat()).is_err());
    }
}

/// A file with one record, whose checksum is right whatever it says.
fn whole(body: &[u8]) -> Vec<u8> {
    let begin = Sha1::new().chain_update([0; 20]).chain_update(b"1\n");
    let checksum = Sha1::new()
        .chain_update(begin.finalize())
        .chain_update(body);
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    let begin = b"dcos-net memory 1\n";
    [begin, &length[..], &checksum.finalize(), body].concat()
}

proptest! {
    #[test]
    fn whatever_a_record_says_can_be_gone_on_with_or_is_refused(
        steps in vec(step(), 1..6),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut node = Node::new(Follower::of_all);
        let now = Time::from_secs(1000);
        for step in steps {
            node.take_in(now, &step);
        }
        node.write(now);
        let body = &node.file[b"dcos-net memory 1\n".len() + 24..];
        prop_assert_eq!(&whole(body), &node.file);
        let mut body = body.to_vec();
        for (at, byte) in changes {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Ok(known) = Remembered::read(&whole(&body)) {
            let mut node = Node::new(Follower::of_all);
            node.follower.recall(now, known, &mut node.table);
            node.table.take_changes();
            node.write(now);
            let named = node.follower.snapshot(None, Vec::new());
            node.restart(now);
            prop_assert_eq!(named, node.follower.snapshot(None, Vec::new()));
        }
    }
}

#[test]
fn a_file_does_not_grow_with_what_happened() {
    let mut node = Node::new(Follower::of_all);
    let now = Time::from_secs(1000);
    let all = |of: u8| (0..of).collect();
    node.take_in(now, &Step::Led([all(3), all(0), all(2), all(12)]));
    let (mut written, mut largest, mut is_healthy) = (0, 0, true);
    for number in (0..12_u8).cycle().take(1500) {
        is_healthy = !is_healthy;
        node.take_in(now, &Step::Updated(number, "TASK_RUNNING", is_healthy));
        let before = node.file.len();
        node.write(now);
        written += node.file.len().saturating_sub(before);
        largest = largest.max(node.file.len());
    }
    assert!(written > 2 * largest, "{written} {largest}");
    let known = Remembered::read(&node.file).unwrap();
    assert_eq!((known.agents.len(), known.tasks.len()), (3, 12));
    // What nobody needs is not there.
    let text = String::from_utf8_lossy(&node.file);
    assert!(text.contains("web0") && !text.contains("secret"));
}

#[test]
fn its_age_is_that_of_what_was_told_last() {
    let mut node = Node::new(Follower::of_all);
    let later = |seconds: u64| Time::from_secs(1000 + seconds);
    node.take_in(later(0), &Step::Agent(1));
    let mut age = |seconds: u64| {
        node.write(later(seconds));
        Remembered::read(&node.file).unwrap().written
    };
    assert_eq!(age(0), later(0));
    assert_eq!(
        age(29),
        later(0),
        "nothing changed, and it was written down a moment ago"
    );
    assert_eq!(age(30), later(30));
    // The clock was wrong, and is set right.
    assert_eq!(age(5), later(5));
    assert_eq!(age(9000), later(9000));
}

fn origin(cluster: &str, boot: Option<u8>, own: &[u8]) -> Origin {
    Origin {
        cluster: Cluster {
            election: "zk:/mesos".to_owned(),
            places: cluster.chars().map(String::from).collect(),
        },
        boot: boot.map(|boot| boot.to_string()),
        own: own.iter().map(|last| [10, 0, 0, *last].into()).collect(),
    }
}

fn keeping(origin: Origin, max_age: u64) -> Keeping {
    Keeping {
        max_age: Duration::from_secs(max_age),
        ..Keeping::new("/nowhere".into(), origin)
    }
}

#[test]
fn what_is_not_used_says_why() {
    let known = Remembered {
        written: Time::from_secs(1000),
        origin: origin("ab", None, &[]),
        ..Remembered::default()
    };
    for (cluster, now, expected) in [
        (
            "cd",
            1000,
            "it is of another cluster (zk:/mesos at a,b), and this one is zk:/mesos at c,d",
        ),
        (
            "bc",
            1101,
            "it was so 101 s ago, and only what was so within 100 s counts",
        ),
        (
            "bc",
            899,
            "it was so 101 s after now, by this host's clock, and only what was so within 100 s counts",
        ),
    ] {
        let keeping = keeping(origin(cluster, None, &[]), 100);
        let error = keeping.judge(Time::from_secs(now), known.clone());
        assert_eq!(error.unwrap_err().to_string(), expected);
    }
}

proptest! {
    #[test]
    fn what_counts_is_of_this_cluster_and_not_long_ago_by_any_clock(
        clusters in (select(vec!["", "a", "ab", "bc"]), select(vec!["", "a", "ab", "bc"])),
        (written, now) in (0..300_u64, 0..300_u64),
        max_age in 0..200_u64,
    ) {
        let known = Remembered {
            written: Time::from_secs(written),
            origin: origin(clusters.0, Some(1), &[]),
            ..Remembered::default()
        };
        let here = keeping(origin(clusters.1, Some(2), &[]), max_age);
        let judged = here.judge(Time::from_secs(now), known.clone());
        let is_ours = clusters.0 == clusters.1 || clusters.0.chars().any(|one| clusters.1.contains(one));
        let counts = max_age > 0 && written.abs_diff(now) <= max_age;
        match judged {
            Ok(judged) => {
                prop_assert!(is_ours && counts);
                prop_assert_eq!(judged, known);
            }
            Err(Unreadable::Elsewhere { .. }) => prop_assert!(!is_ours),
            Err(Unreadable::Old { .. }) => prop_assert!(is_ours && !counts && now >= written),
            Err(Unreadable::Ahead { .. }) => prop_assert!(is_ours && !counts && now < written),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    /// However the clock was set while it ran: what counts is how long it is away, by a clock that is right again.
    #[test]
    fn a_node_that_ran_until_a_moment_ago_uses_what_it_knew(
        jumps in vec((0..200_u64, any::<bool>(), 0..100_000_u64), 0..20),
        away in 0..200_u64,
    ) {
        const MAX_AGE: u64 = 100;
        let mut node = Node::new(Follower::of_all);
        node.journal = Journal::new(origin("a", Some(1), &[]));
        let mut wall = Time::from_secs(1_000_000);
        node.take_in(wall, &Step::Agent(1));
        node.write(wall);
        for (seconds, is_back, jump) in jumps {
            for _ in 0..seconds / 30 {
                wall += Duration::from_secs(30);
                node.write(wall);
            }
            let jump = Duration::from_secs(jump);
            wall = if is_back { wall - jump } else { wall + jump };
        }
        // The clock was right for as long as it is looked whether there is something to note.
        wall += Duration::from_secs(30);
        node.write(wall);
        let known = Remembered::read(&node.file).unwrap();
        let now = wall + Duration::from_secs(away);
        let judged = keeping(origin("a", Some(2), &[]), MAX_AGE).judge(now, known);
        prop_assert_eq!(judged.is_ok(), away <= MAX_AGE);
    }

    #[test]
    fn after_a_reboot_all_is_as_it_was_but_for_the_own_tasks(
        steps in vec(step(), 1..20),
        (was_at, is_at) in (0..3_u8, 0..3_u8),
        (before, after) in (option::of(0..2_u8), option::of(0..2_u8)),
    ) {
        let mut node = Node::new(Follower::of_all);
        node.journal = Journal::new(origin("a", before, &[was_at]));
        let now = Time::from_secs(1000);
        for step in steps {
            node.take_in(now, &step);
        }
        node.write(now);
        let mut expected = Remembered::read(&node.file).unwrap();
        let judged = keeping(origin("a", after, &[is_at]), 1).judge(now, expected.clone()).unwrap();
        if before.is_some() && after.is_some() && before != after {
            let all = expected.tasks.len();
            let agents = &expected.agents;
            expected.tasks.retain(|_, known| {
                let at = agents.get(&known.task.agent_id.value).and_then(|agent| agent.address);
                [was_at, is_at].iter().all(|last| at.map(|at| at.ip()) != Some([10, 0, 0, *last].into()))
            });
            expected.ended = all - expected.tasks.len();
        }
        prop_assert_eq!(judged, expected);
    }
}
