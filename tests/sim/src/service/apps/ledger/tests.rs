//! Histories, as a Marathon would write them: lawful ones pass, and each law has one that breaks it.
//!
//! A line is a transaction at that second; what is in it is as the core writes it (see [`Scribe::write`]). Versions and
//! configurations are seconds, too.

use std::sync::Arc;

use dcos_marathon::core::{DeploymentView, Limit};
use dcos_marathon::deployment::Plan;
use dcos_marathon::instance::{Agent, Instance, InstanceId};
use dcos_marathon::model::{App, RootGroup};
use dcos_marathon::{Timestamp, event};
use dcos_proto::mesos::resource::disk_info::Persistence;
use dcos_proto::mesos::{Label, Labels, Resource, TaskInfo, TaskStatus, resource};
use dcos_proto::scheduler::{call, event as mesos};
use dcos_sched::sdk::operations;
use serde_json::json;

use super::*;

/// Writes rows, events and calls from words.
#[derive(Default)]
struct Scribe {
    ledger: Ledger,
    batch: Batch,
    copies: BTreeMap<String, Value>,
    now: u64,
}

fn stamp(seconds: u64) -> Value {
    json!(Timestamp::from_millis(
        i64::try_from(seconds * 1000).unwrap()
    ))
}

/// What follows a name and `=`.
fn value<'a>(words: &[&'a str], name: &str) -> Option<&'a str> {
    let mut found = words.iter().filter_map(|word| word.strip_prefix(name));
    found.find_map(|rest| rest.strip_prefix('='))
}

fn number(words: &[&str], name: &str) -> Option<u64> {
    value(words, name).map(|text| text.parse().unwrap())
}

/// The instance of `/a` that is called so.
fn id(name: &str) -> String {
    format!("{}.instance-{}", &name[..1], &name[1..])
}

/// The volume of an instance.
fn volume(name: &str) -> String {
    format!("volume-{name}")
}

fn task(name: &str, words: &[&str]) -> String {
    format!("{}._app.{}", id(name), value(words, "life").unwrap_or("1"))
}

/// What is reserved for an instance; a volume, if that is named.
fn kept(name: &str, volume: Option<&str>) -> Resource {
    let label = Label {
        key: "marathon_task_id".into(),
        value: Some(id(name)),
    };
    let labels = Some(Labels {
        labels: vec![label],
    });
    let persistence = volume.map(|id| Persistence {
        id: id.into(),
        ..Persistence::default()
    });
    let disk = resource::DiskInfo {
        persistence,
        ..resource::DiskInfo::default()
    };
    Resource {
        reservation: Some(resource::ReservationInfo {
            labels,
            ..resource::ReservationInfo::default()
        }),
        disk: volume.map(|_| Box::new(disk)),
        ..Resource::default()
    }
}

impl Scribe {
    fn put(&mut self, key: &str, value: &Value) {
        self.batch
            .rows
            .push(Row::put(format!("marathon/{key}"), value));
    }

    fn tell(&mut self, kind: &'static str, document: Value) {
        let now = Timestamp::default();
        self.batch
            .events
            .push(event::Event::new(kind, now, document));
    }

    fn write(&mut self, words: &[&str]) {
        let has = |word: &str| words.contains(&word);
        let name = words.get(1).copied().unwrap_or_default();
        match words[0] {
            // An app of a version; a user asked for it.
            "app" => {
                self.app(name, words);
                let instances = number(words, "promised")
                    .or(number(words, "n"))
                    .unwrap_or(1);
                self.promise(
                    name,
                    Wanted::Like(json!({"instances": instances})),
                    has("unasked"),
                );
            }
            "delete" => {
                self.batch
                    .rows
                    .push(Row::delete(format!("marathon/app/{name}")));
                self.promise(name, Wanted::Gone, has("unasked"));
            }
            "back" => {
                self.put(&format!("app/{name}"), &stamp(number(words, "v").unwrap()));
                let before = text(&stamp(number(words, "to").unwrap()));
                self.promise(name, Wanted::Again(Some(before)), has("unasked"));
            }
            "deploy" => self.deploy(name, words),
            "launch" | "is" | "leaves" => self.copy(name, words),
            "gone" => {
                self.copies.remove(name);
                let row = Row::delete(format!("marathon/instance/{}", id(name)));
                self.batch.rows.push(row);
                if !has("silent") {
                    self.tell(
                        "instance_changed_event",
                        json!({"instanceId": id(name), "condition": "Killed"}),
                    );
                }
            }
            "kill" => self.batch.calls.push(Call {
                kill: Some(call::Kill {
                    task_id: task(name, words).into(),
                    ..call::Kill::default()
                }),
                ..Call::default()
            }),
            "reserve" => self.accept(operations::reserve(vec![kept(name, None)])),
            "make" => self.accept(operations::create(vec![kept(name, words.get(2).copied())])),
            "give" => self.accept(operations::unreserve(vec![kept(name, None)])),
            "named" => self.ledger.named(&id(name)),
            "wiped" => self.ledger.wiped(&id(name)),
            "passes" | "fails" => {
                let now = Time::from_secs(self.now);
                self.ledger.probed(now, &id(name), 0, words[0] == "passes");
            }
            "hears" => {
                let state = TaskState::from_str_name(words[2]).unwrap();
                self.ledger.hears(&Event {
                    update: Some(mesos::Update {
                        status: TaskStatus {
                            task_id: task(name, words).into(),
                            state: state.into(),
                            ..TaskStatus::default()
                        },
                    }),
                    ..Event::default()
                });
            }
            "tells" => {
                let told = json!({"taskId": task(name, words), "taskStatus": words[2]});
                self.tell("status_update_event", told);
            }
            "sick" => self.tell(
                "unhealthy_instance_kill_event",
                json!({"instanceId": id(name)}),
            ),
            other => panic!("{other} is no word of a scribe"),
        }
    }

    fn promise(&mut self, app: &str, wanted: Wanted, unasked: bool) {
        if !unasked {
            self.ledger.promise.apps.insert(format!("/{app}"), wanted);
        }
    }

    fn app(&mut self, name: &str, words: &[&str]) {
        let version = number(words, "v").unwrap();
        let config = number(words, "config").unwrap_or(version);
        let share = |name| {
            number(words, name).map_or(1.0, |percent| {
                f64::from(u32::try_from(percent).unwrap()) / 100.0
            })
        };
        let needs: Vec<String> = value(words, "after")
            .iter()
            .map(|it| format!("/{it}"))
            .collect();
        let checks = number(words, "checks")
            .map(|most| json!({"gracePeriodSeconds": 0, "maxConsecutiveFailures": most}));
        let spec = json!({
            "id": format!("/{name}"),
            "instances": number(words, "n").unwrap_or(1),
            "version": stamp(version),
            "versionInfo": {"lastConfigChangeAt": stamp(config)},
            "upgradeStrategy": {"minimumHealthCapacity": share("least"), "maximumOverCapacity": share("more")},
            "killSelection": value(words, "first").unwrap_or("YOUNGEST_FIRST"),
            "dependencies": needs,
            "healthChecks": checks.into_iter().collect::<Vec<_>>(),
            "container": {"volumes": value(words, "volume").map(|path| json!({"containerPath": path, "persistent": {"size": 8}}))
                .into_iter().collect::<Vec<_>>()},
        });
        let key = text(&stamp(version));
        self.put(&format!("spec/{name}@{key}"), &spec);
        self.put(&format!("app/{name}"), &stamp(version));
    }

    /// `deploy d Restart:a Scale:b,Scale:c` begins; `step=1` says that the first step is done, `end` that all is, `fail`
    /// that a user ended it, `late` that its deadline did. `stop=9` and `rollback=9` are deadlines a user gave it.
    fn deploy(&mut self, name: &str, words: &[&str]) {
        let has = |word: &str| words.contains(&word);
        let steps = words[2..].iter().filter(|word| word.contains(':'));
        let action = |word: &str| {
            let (kind, app) = word.split_once(':').unwrap();
            json!({"action": format!("{kind}Application"), "app": format!("/{app}")})
        };
        let step =
            |word: &&str| json!({"actions": word.split(',').map(action).collect::<Vec<_>>()});
        let steps: Vec<Value> = steps.map(step).collect();
        let plan = json!({"id": name, "version": "", "steps": steps});
        let event = |at: usize| json!({"id": name, "plan": plan, "currentStep": steps[at]});
        let key = format!("deployment/{name}");
        let done = number(words, "step").map(|step| usize::try_from(step).unwrap());
        if let Some(done) = done {
            self.tell("deployment_step_success", event(done - 1));
            if done < steps.len() {
                self.tell("deployment_info", event(done));
            }
        }
        if has("fail") && !has("unasked") {
            self.ledger.promise.ended.push(name.to_owned());
        }
        if has("end") {
            self.tell("deployment_success", event(0));
        } else if has("fail") || has("late") {
            let mut event = event(0);
            let reason = if has("late") {
                "its deadline passed"
            } else {
                "canceled"
            };
            event["reason"] = json!(reason);
            self.tell("deployment_failed", event);
        }
        if has("end") || has("fail") || has("late") {
            if !has("stays") {
                self.batch.rows.push(Row::delete(format!("marathon/{key}")));
            }
        } else if done.is_none() {
            let limits = ["stop", "rollback"].map(|then| Some((then, number(words, then)?)));
            let limit = limits.into_iter().flatten().next();
            let limit = limit
                .map(|(then, at)| json!({"at": stamp(at), "since": stamp(self.now), "then": then}));
            if let Some(limit) = limit.clone().filter(|_| !has("unlimited")) {
                let limit: Limit = serde_json::from_value(limit).unwrap();
                self.ledger.promise.deadline = Some((name.to_owned(), limit.into()));
            }
            let limit = limit.filter(|_| !has("forgotten"));
            self.put(&key, &json!({"id": name, "limit": limit}));
            if !has("silent") {
                self.tell("deployment_info", event(0));
            }
        }
    }

    fn copy(&mut self, name: &str, words: &[&str]) {
        let has = |word: &str| words.contains(&word);
        let is_launch = words[0] == "launch";
        let now = stamp(self.now);
        let version = number(words, "v").map(stamp);
        if is_launch {
            let config = number(words, "config").map(stamp).or(version.clone());
            let mut row = json!({
                "id": id(name), "app": format!("/{}", &name[..1]), "version": version, "configVersion": config,
                "goal": "Running", "condition": "Provisioned", "stagedAt": now, "since": now, "taskId": task(name, words),
            });
            if let Some(path) = value(words, "volume") {
                let volume = json!({"persistenceId": volume(name), "containerPath": path});
                row["reservation"] = json!({
                    "confirmed": !has("unconfirmed"),
                    "incarnation": number(words, "life").unwrap_or(1),
                    "volumes": [volume],
                });
            }
            row["agent"] = json!({"id": value(words, "on").unwrap_or("S1")});
            self.copies.insert(name.to_owned(), row);
        }
        let row = self.copies.get_mut(name).unwrap();
        if words[0] == "leaves" {
            let keeps = !row["reservation"].is_null() && !has("forsaken");
            row["goal"] = json!(if keeps { "Stopped" } else { "Decommissioned" });
        }
        if has("stays") {
            row["goal"] = json!("Running");
        }
        if has("other") {
            row["version"] = stamp(99);
        }
        if let Some(condition) = value(words, "as") {
            (row["condition"], row["since"]) = (json!(condition), now.clone());
            if condition == "Running" {
                row["startedAt"] = now;
            }
        }
        let row = row.clone();
        let agent = text(&row["agent"]["id"]);
        if !has("unwritten") {
            self.put(&format!("instance/{}", id(name)), &row);
        }
        if !has("silent") {
            let told =
                value(words, "told").map_or_else(|| row["condition"].clone(), |it| json!(it));
            let told = json!({"instanceId": id(name), "condition": told});
            self.tell("instance_changed_event", told);
        }
        if is_launch && !has("unsent") {
            let used = value(words, "uses").unwrap_or(name);
            let of_volume = value(words, "volume").filter(|_| !has("bare"));
            let task = TaskInfo {
                task_id: task(name, words).into(),
                agent_id: value(words, "at").unwrap_or(&agent).into(),
                resources: of_volume
                    .map(|_| kept(used, Some(&volume(name))))
                    .into_iter()
                    .collect(),
                ..TaskInfo::default()
            };
            self.accept(dcos_sched::sdk::operations::launch(vec![task]));
        }
    }

    /// Writes a line, and has it judged.
    fn line(&mut self, line: &str) -> Result<(), String> {
        let (now, words) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
        self.now = now.parse().unwrap_or_else(|_| panic!("no time: {line}"));
        let now = Time::from_secs(self.now);
        for words in words.split(';').filter(|it| !it.trim().is_empty()) {
            let words: Vec<&str> = words.split_whitespace().collect();
            match words[0] {
                "rest" => self.ledger.judge_rest()?,
                "reborn" => self.ledger.begin(now, &View::default())?,
                "again" => self.ledger.wake(now),
                _ => self.write(&words),
            }
        }
        let batch = std::mem::take(&mut self.batch);
        self.ledger.judge(now, &batch)
    }

    fn accept(&mut self, operation: Operation) {
        self.batch.calls.push(Call {
            accept: Some(call::Accept {
                operations: vec![operation],
                ..call::Accept::default()
            }),
            ..Call::default()
        });
    }
}

/// What is said of a history.
fn judged(history: &str) -> Result<(), String> {
    let mut scribe = Scribe {
        ledger: Ledger::new(&Config::default()),
        ..Scribe::default()
    };
    history.lines().try_for_each(|line| scribe.line(line))
}

/// A lawful history, what is added to it to break a law, and what is said then.
fn check(lawful: &str, breach: &str, expected: &str) {
    assert_eq!(judged(lawful), Ok(()), "{lawful}");
    match judged(breach) {
        Ok(()) => panic!("nobody minds that {expected}:\n{breach}"),
        Err(wrong) => assert!(
            wrong.contains(expected),
            "{wrong}, not {expected}:\n{breach}"
        ),
    }
}

/// The same for each of several breaches that are added to what is lawful.
fn check_each(lawful: &str, breaches: &[(&str, &str)]) {
    for (breach, expected) in breaches {
        check(lawful, &format!("{lawful}{breach}"), expected);
    }
}

/// An app of two instances that run.
const RUNS: &str = "1 app a v=1 n=2; deploy d Scale:a
2 launch a1 v=1
3 launch a2 v=1
4 is a1 as=Running
5 is a2 as=Running; deploy d Scale:a step=1 end\n";

/// The same with an upgrade that has begun.
const UPGRADED: &str = "11 app a v=11 n=2; deploy e Restart:a\n";

#[test]
fn what_a_user_was_told_is_written_down_and_nothing_else_changes() {
    check_each(
        RUNS,
        &[
            (
                "6 app a v=6 n=3 promised=4",
                "/a is not as was asked for: 3 instead of 4",
            ),
            (
                "6 app a v=6 n=3 unasked",
                "/a is changed, which nobody asked for",
            ),
            (
                "6 delete a unasked",
                "/a is changed, which nobody asked for",
            ),
            ("6 reborn", "after a restart {} are wanted"),
        ],
    );
}

#[test]
fn every_life_begins_with_what_the_one_before_wrote() {
    let mut ledger = Ledger::default();
    let root = Arc::new(RootGroup::default());
    let nothing = (BTreeMap::new(), BTreeMap::new());
    let plan = Plan::new("d".into(), Arc::clone(&root), root, &nothing.0, &nothing.1);
    let deployment = DeploymentView {
        plan: Arc::new(plan),
        step: 0,
        limit: None,
    };
    let app: App = serde_json::from_value(json!({"id": "/a", "cmd": "run"})).unwrap();
    let (name, agent) = (InstanceId::new(&app.id, "1"), Agent::default());
    let one = Instance::launched(name, &app, agent, Vec::new(), Timestamp::default());
    let all = BTreeMap::from([(one.id.clone(), Arc::new(one))]);
    let mut view = View::default();
    view.instances.insert(app.id, Arc::new(all));
    let wrong = ledger.begin(Time::MAX, &view).unwrap_err();
    assert!(
        wrong.contains("there is an instance a.instance-1"),
        "{wrong}"
    );
    view.deployments.push(deployment);
    let wrong = ledger.begin(Time::MAX, &view).unwrap_err();
    assert!(wrong.contains("there is a deployment d"), "{wrong}");
    let wrong = ledger
        .refused(&BTreeSet::new(), &["d".to_owned()])
        .unwrap_err();
    assert!(wrong.contains("locked by d, which is over"), "{wrong}");
    assert_eq!(ledger.begin(Time::MAX, &View::default()), Ok(()));
}

#[test]
fn taking_back_restores_the_very_version() {
    let scaled = format!("{RUNS}6 app a v=6 config=1 n=3\n");
    check(
        &format!("{scaled}7 back a v=1 to=1"),
        &format!("{scaled}7 back a v=6 to=1"),
        "/a is not as was asked for: is of",
    );
}

#[test]
fn deployments_take_their_steps_in_order_and_by_themselves() {
    let two = "1 app a v=1 n=0; app b v=1 n=0; deploy d Scale:a Scale:b\n";
    check_each(
        two,
        &[
            (
                "2 deploy d Scale:a Scale:b step=2",
                "a step of d is done that is not its next one",
            ),
            (
                "2 deploy d Scale:a Scale:b end",
                "d succeeds, and is not done",
            ),
            ("2 deploy e Scale:b", "e and d change /b at once"),
            (
                "2 deploy e Scale:b fail",
                "e fails, which was not under way",
            ),
            (
                "2 deploy d Scale:a Scale:b fail stays",
                "d was to end, and goes on",
            ),
            (
                "2 app c v=2 n=0; deploy e Scale:c silent",
                "are deployments in the store",
            ),
        ],
    );
    check(
        two,
        "1 app b v=1 n=0; app a v=1 n=0 after=b; deploy d Scale:a Scale:b",
        "in d /a has its turn before /b",
    );
}

#[test]
fn a_step_that_is_done_has_done_what_it_says() {
    let begun = "1 app a v=1 n=1; deploy d Scale:a\n2 launch a1 v=1\n";
    check(
        begun,
        "1 app a v=1 n=1; deploy d Scale:a\n2 deploy d Scale:a step=1",
        "ends with 0 of 1",
    );
    let old = format!("{RUNS}{UPGRADED}12 deploy e Restart:a step=1");
    check(
        RUNS,
        &old,
        "/a is restarted, and a.instance-1 is not new and ready",
    );
    let stop = "6 delete a; deploy e Stop:a\n7 deploy e Stop:a step=1";
    check(
        RUNS,
        &format!("{RUNS}{stop}"),
        "StopApplication of /a ends, and",
    );
    let sick =
        "1 app a v=1 n=1 checks=3; deploy d Restart:a\n2 launch a1 v=1\n3 is a1 as=Running\n";
    let done = "5 deploy d Restart:a step=1";
    check(
        &format!("{sick}4 passes a1\n{done}"),
        &format!("{sick}{done}"),
        "is not new and ready",
    );
}

#[test]
fn instances_are_launched_for_an_empty_place_only() {
    check_each(
        RUNS,
        &[
            ("6 launch a3 v=1", "/a gets 3 instances, 2 are wanted"),
            (
                "6 app a v=6 n=2\n7 gone a1; launch a3 v=1",
                "is not of the version /a is to have",
            ),
            (
                "6 app b v=6; delete b; launch b1 v=6",
                "is launched, though /b is gone",
            ),
            (
                "6 gone a1; launch a3 v=1 unsent",
                "is written down and not launched",
            ),
            (
                "6 gone a1; launch a3 v=1 unwritten silent",
                "is launched and not written down",
            ),
            ("6 gone a1\n7 launch a1 v=1", "is launched a second time"),
            (
                "6 launch a1 v=1 life=2",
                "a.instance-1 is launched again while it is Running",
            ),
        ],
    );
    check(
        &format!("{RUNS}6 gone a1\n7 launch a3 v=1"),
        &format!("{RUNS}6 is a1 other"),
        "a.instance-1 is another one",
    );
}

#[test]
fn who_waits_for_others_stays_as_it_was() {
    let waits = "11 app b v=11 n=0; app a v=11 n=2; deploy e Scale:b Restart:a\n";
    let lawful = format!("{RUNS}{waits}12 gone a1\n13 launch a3 v=1\n");
    check(
        &lawful,
        &format!("{RUNS}{waits}12 leaves a1"),
        "a.instance-1 goes before the turn of /a",
    );
    check(
        &lawful,
        &format!("{RUNS}{waits}12 gone a1; launch a3 v=11"),
        "is launched before the turn of /a",
    );
    // Between a launch and a dismissal its turn may come.
    let turns = format!(
        "{RUNS}{waits}12 gone a1; launch a3 v=1; leaves a3; deploy e Scale:b Restart:a step=1"
    );
    assert_eq!(judged(&turns), Ok(()));
    // In another life its turn comes again, and what it got stays.
    let turn = format!(
        "{RUNS}6 app a v=6 config=1 n=2\n{waits}12 deploy e Scale:b Restart:a step=1; gone a1\n"
    );
    let again =
        |version: u64| format!("{turn}13 launch a3 v=11\n14 again; gone a2; launch a4 v={version}");
    check(&again(6), &again(1), "is of no version /a may have");
    assert_eq!(judged(&again(11)), Ok(()));
}

#[test]
fn nobody_goes_but_for_a_reason() {
    check_each(
        RUNS,
        &[
            (
                "6 leaves a1",
                "a.instance-1 goes, and 1 of 2 of /a are left",
            ),
            ("6 kill a1", "a.instance-1._app.1 is killed for no reason"),
            (
                "6 app a v=6 config=1 n=1; leaves a1; deploy e Scale:a",
                "a.instance-1 goes, and it is the turn of a.instance-2",
            ),
            (
                "6 app a v=6 config=1 n=1 first=OLDEST_FIRST; leaves a2; deploy e Scale:a",
                "a.instance-2 goes, and it is the turn of",
            ),
        ],
    );
    for lawful in [
        "6 named a1; leaves a1; kill a1",
        "6 app a v=6 config=1 n=1; leaves a2; kill a2; deploy e Scale:a",
        "6 delete a; leaves a1; leaves a2; kill a1; deploy e Stop:a",
    ] {
        assert_eq!(judged(&format!("{RUNS}{lawful}")), Ok(()), "{lawful}");
    }
    let left = format!("{RUNS}6 named a1; leaves a1\n");
    check_each(
        &left,
        &[("7 is a1 stays", "a.instance-1 was to leave, and stays")],
    );
}

#[test]
fn launches_and_sick_instances_are_given_up_in_time() {
    let checked = "1 app a v=1 n=1 checks=2; deploy d Scale:a\n2 launch a1 v=1\n3 is a1 as=Running\n4 fails a1\n";
    let sick = format!("{checked}5 fails a1; sick a1; kill a1");
    check(
        &sick,
        &format!("{checked}5 kill a1"),
        "is killed for no reason",
    );
    check(
        &sick,
        &format!("{checked}5 sick a1"),
        "a.instance-1 is called unhealthy, and is not",
    );
    let again = format!("{sick}\n6 is a1 as=Unreachable\n9 kill a1");
    assert_eq!(judged(&again), Ok(()), "until it is over");
    let launched = "1 app a v=1 n=1; deploy d Scale:a\n2 launch a1 v=1\n";
    check(
        &format!("{launched}400 kill a1"),
        &format!("{launched}30 kill a1"),
        "is killed for no reason",
    );
}

#[test]
fn an_upgrade_stays_within_its_strategy() {
    let upgrade =
        |strategy: &str| format!("{RUNS}11 app a v=11 n=2 {strategy}; deploy e Restart:a\n");
    let full = upgrade("");
    check(
        &format!("{full}12 launch a3 v=11\n13 launch a4 v=11\n14 is a3 as=Running\n15 leaves a1\n"),
        &format!("{full}12 launch a3 v=11\n14 leaves a1"),
        "a.instance-1 goes, and 1 of /a serve, not 2",
    );
    let tight = upgrade("least=50 more=0");
    check(
        &format!("{tight}12 leaves a1\n13 gone a1\n14 launch a3 v=11"),
        &format!("{tight}12 launch a3 v=11"),
        "3 instances of /a are there, 2 may be",
    );
    check_each(
        &format!("{full}12 launch a3 v=11\n13 is a3 as=Running\n"),
        &[(
            "14 leaves a3",
            "a.instance-3 goes, and is new and no one too many",
        )],
    );
}

/// An instance with a volume that runs.
const KEPT: &str = "1 app a v=1 n=1 volume=data; deploy d Scale:a
2 launch a1 v=1 volume=data; reserve a1; make a1 volume-a1
3 is a1 as=Running\n";

#[test]
fn what_is_kept_for_an_instance_stays_with_it() {
    let unconfirmed = KEPT.replace("volume=data; reserve", "volume=data unconfirmed; reserve");
    check_each(
        KEPT,
        &[
            ("4 gone a1", "a.instance-1 loses what is kept for it"),
            (
                "4 named a1; gone a1",
                "a.instance-1 loses what is kept for it",
            ),
            (
                "4 give a1",
                "what is kept for a.instance-1 is given back, though it is there",
            ),
            (
                "4 leaves a1 forsaken",
                "a.instance-1 is to lose what is kept for it, though /a is there",
            ),
            (
                "4 is a1 as=Reserved told=Killed; reserve a1",
                "a second time",
            ),
            ("4 make a1 volume-a1", "volume-a1 is made a second time"),
            (
                "4 make a1 other",
                "other is made for a.instance-1, which has no such volume",
            ),
            (
                "4 reserve a9",
                "something is reserved for a.instance-9, which is not there",
            ),
        ],
    );
    for lawful in [
        "4 wiped a1; gone a1; give a1",
        "4 delete a; gone a1; give a1",
        "4 delete a; leaves a1 forsaken; gone a1; give a1",
        "4 hears a1 TASK_GONE_BY_OPERATOR; gone a1",
        "4 is a1 as=Reserved silent; gone a1 silent; wiped a1",
    ] {
        assert_eq!(judged(&format!("{KEPT}{lawful}")), Ok(()), "{lawful}");
    }
    // Nobody may know yet that it was made; but whoever heard of the task does.
    let lost = format!("{unconfirmed}4 gone a1; give a1");
    assert_eq!(judged(&lost), Ok(()), "{lost}");
    let heard = unconfirmed.replace("3 is a1", "3 hears a1 TASK_RUNNING; is a1");
    check(
        &heard,
        &format!("{heard}4 gone a1; give a1"),
        "loses what is kept for it",
    );
}

#[test]
fn an_instance_comes_back_to_its_own_volumes() {
    let parked = format!("{KEPT}4 is a1 as=Reserved told=Killed\n");
    check_each(
        &format!("{parked}5 launch a1 v=1 life=2 volume=data\n"),
        &[
            (
                "6 is a1 as=Reserved told=Killed\n7 launch a1 v=1 life=3 volume=data on=S2",
                "a.instance-1 is another one",
            ),
            (
                "6 is a1 as=Reserved told=Killed\n7 launch a1 v=1 life=3 volume=data at=S2",
                "is launched on S2, and is of S1",
            ),
            (
                "6 is a1 as=Reserved told=Killed\n7 launch a1 v=1 life=3 volume=data bare",
                "is launched with the volumes {}, not",
            ),
            (
                "6 is a1 as=Reserved told=Killed\n7 launch a1 v=1 life=3 volume=data uses=a2",
                "is launched on what is kept for a.instance-2",
            ),
            (
                "6 is a1 as=Reserved told=Killed\n7 launch a1 v=1 life=3 volume=log",
                "is launched with volumes at",
            ),
            (
                "6 is a1 as=Reserved told=Killed\n7 launch a2 v=1 volume=data",
                "a.instance-2 gets volumes, and a.instance-1 waits for its own",
            ),
        ],
    );
    // One that is lost may run after all, but not one that ended.
    let taken_on = |end: &str| {
        format!(
            "{KEPT}4 hears a1 {end}; tells a1 {end}; is a1 as=Reserved told=Killed\n5 hears a1 TASK_RUNNING; tells a1 TASK_RUNNING; is a1 as=Running"
        )
    };
    check(
        &taken_on("TASK_UNKNOWN"),
        &taken_on("TASK_FAILED"),
        "is told to be TASK_RUNNING after its end",
    );
    // Of more that are wanted, one may get new ones while another waits.
    let both =
        format!("{parked}5 app a v=5 config=1 n=2 volume=data; launch a2 v=5 config=1 volume=data");
    assert_eq!(judged(&both), Ok(()));
}

#[test]
fn what_agents_keep_is_what_should_be_kept() {
    let mut scribe = Scribe::default();
    for line in KEPT.lines() {
        scribe.line(line).unwrap();
    }
    let mut found = scribe.ledger.kept();
    assert_eq!(scribe.ledger.compare(&found), Ok(()));
    let other = found["a.instance-1"].clone();
    assert_eq!(other.volumes, BTreeSet::from(["volume-a1".to_owned()]));
    found.insert("a.instance-2".into(), other);
    let wrong = scribe.ledger.compare(&found).unwrap_err();
    assert!(
        wrong.contains("is kept for a.instance-2, and None should be"),
        "{wrong}"
    );
    found.clear();
    let wrong = scribe.ledger.compare(&found).unwrap_err();
    assert!(
        wrong.contains("at rest None is kept for a.instance-1"),
        "{wrong}"
    );
}

#[test]
fn a_scaling_waits_for_what_it_launched() {
    let added = format!(
        "{RUNS}11 app a v=11 config=1 n=3 checks=0; deploy e Scale:a\n12 launch a3 v=11 config=1\n13 is a3 as=Running\n"
    );
    let end = "deploy e Scale:a step=1 end";
    check(
        &format!("{added}14 passes a3; {end}"),
        &format!("{added}14 {end}"),
        "ends, and of 1 new ones 0 are ready",
    );
    // What there was may be as it is.
    let both = format!("{added}14 passes a3; fails a3; passes a3; fails a1; {end}");
    assert_eq!(judged(&both), Ok(()));
}

#[test]
fn a_deployment_ends_by_its_deadline() {
    let limited = |then: &str| format!("{RUNS}11 app a v=11 n=2; deploy e Restart:a {then}=20\n");
    check_each(
        &limited("stop"),
        &[
            ("20 ", "e goes on beyond its deadline"),
            ("19 deploy e Restart:a late", "e ends before its deadline"),
            (
                "20 deploy e Restart:a late; back a v=1 to=1 unasked",
                "/a is changed, which nobody asked for",
            ),
        ],
    );
    check_each(
        &limited("rollback"),
        &[
            (
                "20 deploy e Restart:a late",
                "/a is not as was asked for: is of",
            ),
            (
                "19 back a v=1 to=1 unasked",
                "/a is changed, which nobody asked for",
            ),
        ],
    );
    for lawful in [
        format!("{}20 deploy e Restart:a late", limited("stop")),
        format!(
            "{}20 deploy e Restart:a late; back a v=1 to=1 unasked",
            limited("rollback")
        ),
        format!("{}12 deploy e Restart:a fail", limited("stop")),
    ] {
        assert_eq!(judged(&lawful), Ok(()), "{lawful}");
    }
    // By a clock that is behind all its time is left.
    check_each(
        &format!("{}5 again\n", limited("stop")),
        &[
            ("14 ", "e goes on beyond its deadline"),
            ("13 deploy e Restart:a late", "e ends before its deadline"),
        ],
    );
    let behind = format!("{}5 again\n14 deploy e Restart:a late", limited("stop"));
    assert_eq!(judged(&behind), Ok(()));
    check_each(
        &format!("{RUNS}{UPGRADED}"),
        &[
            (
                "12 deploy e Restart:a late",
                "e ends for a deadline, and has none",
            ),
            (
                "12 deploy e Restart:a fail unasked",
                "e ends, which nobody asked for",
            ),
        ],
    );
    // It may go on until then, and its instances go at once for what follows.
    let half_way = format!(
        "{RUNS}11 app a v=11 n=2 least=50 more=50; deploy e Restart:a rollback=20
12 launch a3 v=11\n13 is a3 as=Running\n14 leaves a1\n15 gone a1\n16 launch a4 v=11\n"
    );
    let back = "deploy e Restart:a late; back a v=1 to=1 unasked; deploy f Restart:a";
    check(
        &format!("{half_way}20 leaves a2; {back}; leaves a4"),
        &format!("{half_way}20 leaves a2; leaves a4; {back}"),
        "goes, and",
    );
    let half_way = format!(
        "{RUNS}11 app a v=11 n=2 least=50 more=100; deploy e Restart:a stop=20
12 launch a3 v=11\n13 is a3 as=Running\n14 launch a4 v=11\n"
    );
    let end = "deploy e Restart:a late";
    check(
        &format!("{half_way}20 leaves a1; {end}; leaves a4"),
        &format!("{half_way}20 leaves a1; leaves a4; {end}"),
        "goes, and",
    );
    for words in ["stop=20 forgotten", "stop=20 unlimited"] {
        let wrong = judged(&format!(
            "{RUNS}11 app a v=11 n=2; deploy e Restart:a {words}"
        ));
        assert!(wrong.unwrap_err().contains("e has the deadline"), "{words}");
    }
}

#[test]
fn events_tell_what_the_store_tells() {
    let lawful = format!("{RUNS}6 hears a1 TASK_FAILED; tells a1 TASK_FAILED; gone a1\n");
    check_each(
        &lawful,
        &[(
            "7 hears a1 TASK_RUNNING; tells a1 TASK_RUNNING",
            "is told to be TASK_RUNNING after its end",
        )],
    );
    check_each(
        RUNS,
        &[
            (
                "6 is a1 as=Killing silent",
                "a.instance-1 is Killing, and Running is told",
            ),
            (
                "6 gone a1 silent",
                "a.instance-1 is gone, and Running is told",
            ),
            (
                "6 hears a1 TASK_FAILED; tells a1 TASK_KILLED",
                "is told to be TASK_KILLED, not",
            ),
            (
                "6 tells a1 TASK_RUNNING",
                "is told to be TASK_RUNNING, not None",
            ),
        ],
    );
}

#[test]
fn at_rest_everything_is_as_it_is_wanted() {
    check_each(
        &format!("{RUNS}6 rest\n"),
        &[
            ("7 gone a1\n8 rest", "at rest /a has 1 of 2 instances"),
            (
                "7 is a1 as=Killing\n8 rest",
                "at rest a.instance-1 is Killing",
            ),
            (
                "7 app a v=7 n=2\n8 rest",
                "at rest a.instance-1 is of an old version",
            ),
            (
                "7 delete a\n8 rest",
                "a.instance-1 is left of an app that is gone",
            ),
        ],
    );
    // An upgrade that was ended by force leaves two versions.
    let ended = format!("{RUNS}{UPGRADED}12 deploy e Restart:a fail\n13 rest");
    assert_eq!(judged(&ended), Ok(()));
    let outdated = "6 app a v=6 config=1 n=2; is a1 as=UnreachableInactive; launch a3 v=6 config=1; deploy e Scale:a\n";
    let upgraded = format!("{RUNS}{outdated}7 deploy e Scale:a step=1 end\n");
    let other = upgraded
        .replace("config=1 n=2", "config=5 n=2")
        .replace("v=6 config=1;", "v=6 config=5;");
    check(
        &upgraded,
        &other,
        "/a is deployed, and a.instance-1 is of an old version",
    );
}
