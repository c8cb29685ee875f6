//! The plan format: what is written is read, and nothing else is.

use dcos_launcher::{
    Cgroup, CgroupVersion, Credentials, DecodeError, Filter, First, MAX_PLAN, Mount, Namespaces,
    Plan, Rlimit, Root, VERSION, Variable,
};
use proptest::collection::vec;
use proptest::prelude::*;

prop_compose! {
    fn plans()(
        id in "[a-z0-9.-]{1,40}",
        arguments in vec("[^\0]{0,20}", 0..6),
        names in vec("[A-Z]{1,8}", 0..6),
        targets in vec("/[a-z/]{0,20}", 0..6),
        groups in vec(0..u32::MAX, 0..4),
        instructions in vec(any::<u64>(), 1..20),
        limits in vec((any::<u32>(), any::<u64>()), 0..4),
        flags in any::<[bool; 4]>(),
    ) -> Plan {
        Plan {
            id,
            new: Namespaces { mount: true, pid: flags[0], ipc: flags[1], ..Namespaces::default() },
            cgroups: vec![Cgroup { path: "/sys/fs/cgroup/x".into(), version: CgroupVersion::V2 }],
            root: flags[2].then(|| Root { path: "/r".into(), readonly: flags[3] }),
            mounts: targets.into_iter().map(|target| Mount {
                target: target.into(),
                source: "/s".into(),
                flags: 7,
                ..Mount::default()
            }).collect(),
            rlimits: limits.into_iter()
                .map(|(resource, soft)| Rlimit { resource, soft, hard: u64::MAX }).collect(),
            credentials: Some(Credentials { uid: 1, gid: 2, groups }),
            seccomp: vec![Filter { instructions }],
            first: if flags[3] { First::Init } else { First::Command },
            arguments,
            environment: names.into_iter()
                .map(|name| Variable { value: name.clone(), name }).collect(),
            ..Plan::default()
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(plan in plans()) {
        prop_assert_eq!(Plan::decode(&plan.encode()), Ok(plan));
    }

    #[test]
    fn no_bytes_do_harm(bytes in vec(any::<u8>(), 0..600)) {
        let _ = Plan::decode(&bytes);
        let versioned = [vec![VERSION], bytes].concat();
        let _ = Plan::decode(&versioned);
    }

    #[test]
    fn damaged_plans_do_no_harm(
        plan in plans(),
        damages in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = plan.encode();
        for (place, byte) in damages {
            *place.get_mut(&mut bytes) = byte;
        }
        // Whatever is read is a plan that can be written again.
        if let Ok(read) = Plan::decode(&bytes) {
            prop_assert_eq!(Plan::decode(&read.encode()), Ok(read));
        }
    }

    #[test]
    fn cut_plans_are_refused(plan in plans(), place in any::<prop::sample::Index>()) {
        let bytes = plan.encode();
        prop_assert!(Plan::decode(&bytes[..place.index(bytes.len())]).is_err());
        prop_assert_eq!(Plan::decode(&[bytes, vec![0]].concat()), Err(DecodeError::Long));
    }
}

#[test]
fn a_false_count_reserves_nothing() {
    // The id, then namespaces, then four billion joins.
    let mut bytes = vec![VERSION, 1, 0, 0, 0, b'a'];
    bytes.extend([0; 7]);
    bytes.extend([255; 4]);
    assert_eq!(Plan::decode(&bytes), Err(DecodeError::Short));
    assert!(matches!(
        Plan::decode(&vec![VERSION; MAX_PLAN + 1]),
        Err(DecodeError::Rule(_))
    ));
}

#[test]
fn plans_of_other_versions_are_refused() {
    let mut bytes = Plan {
        id: "a".into(),
        ..Plan::default()
    }
    .encode();
    bytes[0] = 77;
    assert_eq!(Plan::decode(&bytes), Err(DecodeError::Version(77)));
}

#[test]
fn plans_that_cannot_be_carried_out_are_refused() {
    let check = |change: fn(&mut Plan), rule: &str| {
        let mut plan = Plan {
            id: "a".into(),
            ..Plan::default()
        };
        change(&mut plan);
        match plan.check() {
            Err(DecodeError::Rule(said)) => assert!(said.contains(rule), "{said}"),
            other => panic!("{rule}: {other:?}"),
        }
    };
    check(|plan| plan.id.clear(), "an id");
    check(
        |plan| {
            plan.root = Some(Root {
                path: "/".into(),
                readonly: true,
            })
        },
        "mount namespace",
    );
    for number in 0..3 {
        let mut who = [1; 3];
        who[number] = u32::MAX;
        let plan = Plan {
            id: "a".into(),
            credentials: Some(Credentials {
                uid: who[0],
                gid: who[1],
                groups: vec![4, who[2]],
            }),
            ..Plan::default()
        };
        assert!(matches!(plan.check(), Err(DecodeError::Rule(_))), "{who:?}");
    }
    check(|plan| plan.hostname = Some("h".into()), "UTS");
    check(
        |plan| {
            plan.new.mount = true;
            plan.masked_paths = vec!["proc".into()];
        },
        "absolute",
    );
    check(
        |plan| {
            plan.environment = vec![Variable {
                name: "A=B".into(),
                value: String::new(),
            }]
        },
        "variable",
    );
}
