//! The rolling upgrade against a slow and obvious world: instances come up late, die, turn unhealthy,
//! and in every state the bounds of the upgrade strategy hold and the end is reached.

use proptest::prelude::*;

use super::*;
use crate::PathId;

fn app(instances: u32, min: f64, over: f64, config: i64) -> App {
    let mut app: App = serde_json::from_value(serde_json::json!({
        "id": "/a", "cmd": "run", "instances": instances,
        "upgradeStrategy": {"minimumHealthCapacity": min, "maximumOverCapacity": over},
    }))
    .unwrap();
    app.version = Timestamp::from_millis(config);
    app
}

fn member(number: usize, config: i64, stage: Stage, ready: bool) -> Member {
    Member {
        id: InstanceId::new(&PathId::from("/a"), &format!("{number:04}")),
        config: Timestamp::from_millis(config),
        version: Timestamp::from_millis(config),
        launched: Timestamp::from_millis(i64::try_from(number).unwrap()),
        leaving: false,
        stage,
        ready,
        failing: false,
        since: Timestamp::from_millis(i64::try_from(number).unwrap()),
        fields: BTreeMap::new(),
    }
}

/// What the world does between two decisions.
#[derive(Clone, Copy, Debug)]
enum Luck {
    /// The nth instance that is not ready becomes ready.
    Ready(usize),
    /// The nth instance that is to go is gone.
    Gone(usize),
    /// The nth instance dies by itself.
    Dies(usize),
    /// The nth running instance fails its check.
    Fails(usize),
}

fn luck() -> impl Strategy<Value = Luck> {
    (0..4_u8, 0..20_usize).prop_map(|(kind, n)| match kind {
        0 => Luck::Ready(n),
        1 => Luck::Gone(n),
        2 => Luck::Dies(n),
        _ => Luck::Fails(n),
    })
}

struct World {
    members: Vec<Member>,
    next: usize,
}

impl World {
    fn apply(&mut self, decision: &Decision, config: Timestamp) {
        for member in &mut self.members {
            member.leaving |= decision.kill.contains(&member.id);
        }
        for _ in 0..decision.launch {
            self.next += 1;
            self.members
                .push(member(self.next, config.millis(), Stage::Staging, false));
        }
    }

    fn meet(&mut self, luck: Luck) {
        let nth = |n: usize, of: Vec<usize>| (!of.is_empty()).then(|| of[n % of.len()]);
        let which = |world: &Self, test: &dyn Fn(&Member) -> bool| -> Vec<usize> {
            (0..world.members.len())
                .filter(|at| test(&world.members[*at]))
                .collect()
        };
        match luck {
            Luck::Ready(n) => {
                if let Some(at) = nth(n, which(self, &|m| !m.ready)) {
                    let member = &mut self.members[at];
                    (member.stage, member.ready, member.failing) = (Stage::Running, true, false);
                }
            }
            Luck::Gone(n) => {
                if let Some(at) = nth(n, which(self, &|m| m.leaving)) {
                    self.members.remove(at);
                }
            }
            Luck::Dies(n) => {
                if let Some(at) = nth(n, which(self, &|_| true)) {
                    self.members.remove(at);
                }
            }
            Luck::Fails(n) => {
                if let Some(at) = nth(n, which(self, &|m| m.stage == Stage::Running)) {
                    (self.members[at].ready, self.members[at].failing) = (false, true);
                }
            }
        }
    }

    /// Everything that can go well does.
    fn settle(&mut self) {
        self.members.retain(|member| !member.leaving);
        for member in &mut self.members {
            (member.stage, member.ready, member.failing) = (Stage::Running, true, false);
        }
    }
}

proptest! {
    #[test]
    fn a_rolling_upgrade_keeps_its_bounds_and_ends(
        before in 0..8_usize,
        instances in 1..8_u32,
        min in 0..=4_u8,
        over in 0..=4_u8,
        lucks in prop::collection::vec(luck(), 0..60),
    ) {
        let spec = app(instances, f64::from(min) / 4.0, f64::from(over) / 4.0, 2);
        let capacity = (spec.max_capacity() as usize).max(spec.min_healthy() as usize + 1);
        let mut world = World {
            members: (0..before).map(|n| member(n, 1, Stage::Running, true)).collect(),
            next: before,
        };
        let drive = Drive::Restart { spec: &spec };
        for luck in lucks.into_iter().map(Some).chain([None; 40]) {
            let healthy = |world: &World| {
                world.members.iter().filter(|m| !m.leaving && m.stage == Stage::Running && !m.failing
                    && (m.ready || m.config != spec.config_version())).count()
            };
            let (count, good) = (world.members.len(), healthy(&world));
            let decision = decide(drive, &world.members);
            world.apply(&decision, spec.config_version());
            prop_assert!(world.members.len() <= capacity.max(count), "never above capacity");
            let floor = (spec.min_healthy() as usize).min(good);
            prop_assert!(healthy(&world) >= floor.min(capacity), "never below the minimum");
            let mut again = decide(drive, &world.members);
            again.done = decision.done;
            prop_assert_eq!(&again.kill, &Vec::new(), "asked twice, nothing new");
            if decision.done && luck.is_none() {
                prop_assert_eq!(world.members.len(), instances as usize);
                prop_assert!(world.members.iter().all(|m| m.config == spec.config_version()));
                return Ok(());
            }
            match luck {
                Some(luck) => world.meet(luck),
                None => world.settle(),
            }
        }
        prop_assert!(false, "no end");
    }

    #[test]
    fn scaling_ends_at_the_wanted_number(
        before in 0..10_usize,
        to in 0..10_u32,
        lucks in prop::collection::vec(luck(), 0..40),
    ) {
        let spec = app(to, 1.0, 1.0, 1);
        let mut world = World {
            members: (0..before).map(|n| member(n, 1, Stage::Running, true)).collect(),
            next: before,
        };
        let named = BTreeSet::from([member(0, 1, Stage::Running, true).id]);
        let drive = Drive::Scale { spec: &spec, to, kill: &named, fresh: Fresh::default() };
        for luck in lucks.into_iter().map(Some).chain([None; 10]) {
            let decision = decide(drive, &world.members);
            world.apply(&decision, spec.config_version());
            let staying = world.members.iter().filter(|m| !m.leaving).count();
            prop_assert!(staying <= (to as usize).max(before));
            match luck {
                Some(luck) => world.meet(luck),
                None => world.settle(),
            }
        }
        prop_assert!(decide(drive, &world.members).done);
        prop_assert_eq!(world.members.len(), to as usize);
        prop_assert!(world.members.iter().all(|m| !named.contains(&m.id)));
    }
}

#[test]
fn the_first_moves_of_typical_upgrades() {
    let old = |count: usize| -> Vec<Member> {
        (0..count)
            .map(|n| member(n, 1, Stage::Running, true))
            .collect()
    };
    for (instances, min, over, running, kills, launches) in [
        (4, 1.0, 1.0, 4, 0, 4),
        (4, 0.5, 0.0, 4, 2, 0),
        (4, 1.0, 0.0, 4, 0, 1),
        (4, 0.0, 0.0, 4, 4, 0),
        (1, 1.0, 1.0, 1, 0, 1),
        (1, 0.0, 0.0, 1, 1, 0),
        (3, 1.0, 1.0, 10, 7, 0),
        (10, 1.0, 1.0, 3, 0, 10),
    ] {
        let spec = app(instances, min, over, 2);
        let decision = decide(Drive::Restart { spec: &spec }, &old(running));
        let found = (decision.kill.len(), decision.launch);
        assert_eq!(
            found,
            (kills, launches),
            "{instances} {min} {over} {running}"
        );
    }
}

#[test]
fn the_youngest_and_least_far_come_go_first() {
    let spec = app(2, 1.0, 1.0, 1);
    let members = [
        member(1, 1, Stage::Running, true),
        member(2, 1, Stage::Running, true),
        member(3, 1, Stage::Running, true),
        member(0, 1, Stage::Staging, false),
    ];
    let none = BTreeSet::new();
    let decision = decide(
        Drive::Scale {
            spec: &spec,
            to: 2,
            kill: &none,
            fresh: Fresh::default(),
        },
        &members,
    );
    assert_eq!(
        decision.kill,
        [members[3].id.clone(), members[2].id.clone()]
    );
}

#[test]
fn groups_stay_even_when_scaling_down() {
    let mut spec = app(2, 1.0, 1.0, 1);
    spec.constraints = vec![
        vec!["rack".to_owned(), "GROUP_BY".to_owned()]
            .try_into()
            .unwrap(),
    ];
    let mut members: Vec<_> = (0..6).map(|n| member(n, 1, Stage::Running, true)).collect();
    for (at, rack) in ["a", "a", "a", "a", "b", "c"].iter().enumerate() {
        members[at]
            .fields
            .insert("rack".to_owned(), (*rack).to_owned());
    }
    let none = BTreeSet::new();
    let decision = decide(
        Drive::Scale {
            spec: &spec,
            to: 3,
            kill: &none,
            fresh: Fresh::default(),
        },
        &members,
    );
    assert_eq!(
        decision.kill,
        [3, 2, 1].map(|at: usize| members[at].id.clone())
    );
}

/// Apps whose instances are spread by rack and host.
fn spread(fields: &[&str]) -> App {
    let mut spec = app(2, 1.0, 1.0, 1);
    let group_by = |field: &&str| vec![(*field).to_owned(), "GROUP_BY".to_owned()];
    let all = fields.iter().map(group_by);
    spec.constraints = all.map(|each| each.try_into().unwrap()).collect();
    spec
}

fn placed(number: usize, rack: usize, host: usize) -> Member {
    let mut member = member(number, 1, Stage::Running, true);
    member.fields = [("zone", rack % 2), ("rack", rack), ("hostname", host)]
        .map(|(field, value)| (field.to_owned(), value.to_string()))
        .into();
    member
}

fn scaled_down(spec: &App, to: u32, members: &[Member]) -> Vec<InstanceId> {
    let kill = &BTreeSet::new();
    let fresh = Fresh::default();
    decide(
        Drive::Scale {
            spec,
            to,
            kill,
            fresh,
        },
        members,
    )
    .kill
}

proptest! {
    /// One after the other, the youngest one in the largest group of each field.
    #[test]
    fn victims_are_as_counting_each_group_anew_finds_them(
        places in prop::collection::vec((0..4_usize, 0..6_usize), 0..40),
        to in 0..40_u32,
        fields in prop::sample::subsequence(vec!["zone", "rack", "hostname"], 1..=3).prop_shuffle(),
    ) {
        let places = places.into_iter().enumerate();
        let members: Vec<_> = places.map(|(n, (rack, host))| placed(n, rack, host)).collect();
        let mut left: Vec<&Member> = members.iter().rev().collect();
        let mut expected = Vec::new();
        while left.len() > to as usize {
            let size = |member: &Member, field: &str| {
                left.iter().filter(|each| each.fields[field] == member.fields[field]).count()
            };
            let mut candidates: Vec<usize> = (0..left.len()).collect();
            for field in &fields {
                let largest = candidates.iter().map(|at| size(left[*at], field)).max().unwrap();
                candidates.retain(|at| size(left[*at], field) == largest);
            }
            expected.push(left.remove(candidates[0]).id.clone());
        }
        prop_assert_eq!(scaled_down(&spread(&fields), to, &members), expected);
    }
}
