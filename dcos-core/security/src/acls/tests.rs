//! Rules against subjects and objects, as the table in `docs/authorizer.md` of Mesos has them.

use dcos_proto::mesos::{
    CommandInfo, ContainerId, ExecutorInfo, FrameworkInfo, Resource, Task, framework_info,
    resource::ReservationInfo,
};
use proptest::prelude::*;

use super::*;
use crate::Object;

fn acls(text: &str) -> Acls {
    text.parse().unwrap()
}

#[test]
fn the_first_match_decides() {
    // Who, whom; then what is expected of a, b and nobody, for the users x and y and any user.
    let table = [
        ("[]", [[true; 3]; 3]),
        (
            r#"[{"principals":{"values":["a"]},"users":{"values":["x"]}}]"#,
            [[true; 3], [true; 3], [true; 3]],
        ),
        (
            r#"[{"principals":{"values":["a"]},"users":{"values":["x"]}},
                {"principals":{"values":["a"]},"users":{"type":"NONE"}}]"#,
            [[true, false, false], [true; 3], [true; 3]],
        ),
        (
            r#"[{"principals":{"type":"NONE"},"users":{"values":["x"]}}]"#,
            [
                [false, true, true],
                [false, true, true],
                [false, true, true],
            ],
        ),
        (
            r#"[{"principals":{"values":["a"]},"users":{"type":"ANY"}},
                {"principals":{"type":"ANY"},"users":{"type":"NONE"}}]"#,
            [[true; 3], [false; 3], [false; 3]],
        ),
        (
            r#"[{"principals":{"type":"ANY"},"users":{"values":["x"]}},
                {"principals":{"type":"NONE"},"users":{"type":"ANY"}}]"#,
            [
                [true, false, false],
                [true, false, false],
                [true, false, false],
            ],
        ),
    ];
    for (rules, expected) in table {
        let acls = acls(&format!(r#"{{"view_frameworks": {rules}}}"#));
        for (who, expected) in [Some("a"), Some("b"), None].into_iter().zip(expected) {
            let who = who.map(Principal::new);
            for (user, expected) in [Some("x"), Some("y"), None].into_iter().zip(expected) {
                let framework = user.map(|user| FrameworkInfo {
                    user: user.to_owned(),
                    ..FrameworkInfo::default()
                });
                let object = framework.as_ref().map_or(Object::ANY, Object::framework);
                let found = acls.authorized(who.as_ref(), Action::ViewFramework, &object);
                assert_eq!(
                    found, expected,
                    "{rules}: {who:?} sees frameworks of {user:?}"
                );
            }
        }
    }
}

#[test]
fn roles_stand_in_a_hierarchy() {
    let acls = acls(
        r#"{"permissive": false, "register_frameworks": [
            {"principals": {"values": ["a"]}, "roles": {"values": ["x/%", "y"]}}]}"#,
    );
    let a = Principal::new("a");
    let check = |roles: &[&str]| {
        let kind = framework_info::capability::Type::MultiRole;
        let framework = FrameworkInfo {
            roles: roles.iter().map(ToString::to_string).collect(),
            capabilities: vec![framework_info::Capability {
                r#type: Some(kind.into()),
            }],
            ..FrameworkInfo::default()
        };
        acls.authorized(
            Some(&a),
            Action::RegisterFramework,
            &Object::framework(&framework),
        )
    };
    assert!(check(&["x/1"]) && check(&["x/1/2", "y"]));
    assert!(!check(&["x"]) && !check(&["xx/1"]) && !check(&["x/1", "z"]));
    assert!(!check(&[]), "no role: what is permissive decides");
}

#[test]
fn objects_are_known_by_what_the_original_looks_at() {
    let acls = acls(
        r#"{"permissive": false,
        "run_tasks": [{"principals": {"type": "ANY"}, "users": {"values": ["u"]}}],
        "view_tasks": [{"principals": {"type": "ANY"}, "users": {"values": ["u"]}}],
        "access_sandboxes": [{"principals": {"type": "ANY"}, "users": {"values": ["u"]}}],
        "unreserve_resources": [
            {"principals": {"type": "ANY"}, "reserver_principals": {"values": ["p"]}}],
        "reserve_resources": [{"principals": {"type": "ANY"}, "roles": {"values": ["r"]}}],
        "teardown_frameworks": [
            {"principals": {"type": "ANY"}, "framework_principals": {"values": ["p"]}}]}"#,
    );
    let check = |action, object: &Object<'_>| acls.authorized(None, action, object);
    let framework = |user: &str| FrameworkInfo {
        user: user.to_owned(),
        principal: Some("p".to_owned()),
        ..FrameworkInfo::default()
    };
    let command = |user: &str| CommandInfo {
        user: Some(user.to_owned()),
        ..CommandInfo::default()
    };
    let executor = ExecutorInfo {
        command: Some(command("u")),
        ..ExecutorInfo::default()
    };
    let (root, own) = (framework("root"), framework("u"));
    let mut task = dcos_proto::mesos::TaskInfo::default();
    assert!(check(Action::RunTask, &Object::launch(&task, &own)));
    assert!(!check(Action::RunTask, &Object::launch(&task, &root)));
    task.executor = Some(executor.clone());
    assert!(check(Action::RunTask, &Object::launch(&task, &root)));
    task.command = Some(command("root"));
    assert!(!check(Action::RunTask, &Object::launch(&task, &own)));

    let mut record = Task::default();
    assert!(check(Action::ViewTask, &Object::task(&record, &own)));
    record.user = Some("root".to_owned());
    assert!(!check(Action::ViewTask, &Object::task(&record, &own)));
    assert!(check(
        Action::AccessSandbox,
        &Object::executor(&executor, &root)
    ));
    assert!(check(Action::TeardownFramework, &Object::framework(&root)));

    let reserved = Resource {
        reservations: vec![
            ReservationInfo::default(),
            ReservationInfo {
                role: Some("r".to_owned()),
                principal: Some("p".to_owned()),
                ..ReservationInfo::default()
            },
        ],
        ..Resource::default()
    };
    assert!(check(
        Action::ReserveResources,
        &Object::resource(&reserved)
    ));
    assert!(check(
        Action::UnreserveResources,
        &Object::resource(&reserved)
    ));
    let plain = Resource::default();
    assert!(!check(Action::ReserveResources, &Object::resource(&plain)));
    assert!(!check(
        Action::UnreserveResources,
        &Object::resource(&plain)
    ));
}

#[test]
fn claims_allow_what_their_own_container_needs() {
    let acls = acls("{}");
    let executor = Principal::of_claims([("cid", "c1")]);
    let nested = |root: &str| ContainerId {
        value: "n".to_owned(),
        parent: Some(Box::new(ContainerId {
            value: root.to_owned(),
            parent: None,
        })),
    };
    let check = |action, id: &ContainerId| {
        acls.authorized(Some(&executor), action, &Object::ANY.in_container(id))
    };
    assert!(check(Action::LaunchNestedContainer, &nested("c1")));
    assert!(!check(Action::LaunchNestedContainer, &nested("c2")));
    assert!(!check(Action::LaunchStandaloneContainer, &nested("c1")));
    assert!(!check(Action::ViewFramework, &nested("c1")));
    let bare = Principal::of_claims([("fid", "f")]);
    let object = nested("c1");
    let object = Object::ANY.in_container(&object);
    assert!(!acls.authorized(Some(&bare), Action::KillNestedContainer, &object));
}

#[test]
fn nested_containers_need_both_users() {
    let acls = acls(
        r#"{"permissive": false,
        "launch_nested_containers_as_user": [
            {"principals": {"values": ["a"]}, "users": {"values": ["u"]}}],
        "launch_nested_containers_under_parent_with_user": [
            {"principals": {"values": ["a"]}, "users": {"values": ["root"]}}]}"#,
    );
    let a = Principal::new("a");
    let framework = FrameworkInfo {
        user: "root".to_owned(),
        ..FrameworkInfo::default()
    };
    let check = |user: &str| {
        let command = CommandInfo {
            user: Some(user.to_owned()),
            ..CommandInfo::default()
        };
        let object = Object::framework(&framework).running(Some(&command));
        acls.authorized(Some(&a), Action::LaunchNestedContainer, &object)
    };
    assert!(check("u") && !check("root"));
}

#[test]
fn quota_is_updated_by_one_list_for_both_calls() {
    let acls = acls(
        r#"{"permissive": false,
            "update_quotas": [{"principals": {"type": "ANY"}, "roles": {"values": ["r"]}}]}"#,
    );
    for action in [Action::UpdateQuota, Action::UpdateQuotaWithConfig] {
        assert!(acls.authorized(None, action, &Object::value("r")));
        assert!(!acls.authorized(None, action, &Object::value("s")));
    }
}

#[test]
fn mistakes_are_told() {
    let check = |text: &str, expected: &str| {
        let error = text.parse::<Acls>().unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
    };
    check("{", "reading access rules");
    check(
        r#"{"run_task": []}"#,
        r#"there is no list "run_task" of access rules"#,
    );
    check(
        r#"{"run_tasks": [{"principals": {"type": "ALL"}, "users": {}}]}"#,
        r#"an entity of access rules has the type "ALL"; there are SOME, ANY and NONE"#,
    );
    check(
        r#"{"view_flags": [{"principals": {"type": "ANY"}, "flags": {"values": ["x"]}}]}"#,
        "ACL.ViewFlags type must be either NONE or ANY",
    );
    check(
        r#"{"get_endpoints": [{"principals": {"type": "ANY"}, "paths": {"values": ["/x"]}}]}"#,
        "Path: '/x' is not an authorizable path",
    );
    check(
        r#"{"run_tasks": [{"users": {"type": "ANY"}}]}"#,
        "understanding access rules",
    );
}

proptest! {
    /// A rule that matches nothing changes nothing, wherever it stands; a rule behind one that
    /// matches everything never counts.
    #[test]
    fn order_is_all_that_matters(
        kinds in proptest::collection::vec((0_usize..3, 0_usize..3), 0..6),
        permissive: bool,
        at in 0_usize..6,
    ) {
        let entity = |kind: usize, some: &str| match kind {
            0 => format!(r#"{{"values": ["{some}"]}}"#),
            1 => r#"{"type": "ANY"}"#.to_owned(),
            _ => r#"{"type": "NONE"}"#.to_owned(),
        };
        let rule = |&(who, whom): &(usize, usize)| {
            format!(r#"{{"principals": {}, "users": {}}}"#, entity(who, "a"), entity(whom, "x"))
        };
        let build = |rules: &[String]| acls(&format!(
            r#"{{"permissive": {permissive}, "view_tasks": [{}]}}"#, rules.join(",")));
        let rules: Vec<String> = kinds.iter().map(rule).collect();
        let mut more = rules.clone();
        more.insert(at.min(rules.len()), r#"{"principals": {"values": ["nobody"]}, "users": {"values": []}}"#.to_owned());
        let mut cut = rules.clone();
        let all = |&(who, whom): &(usize, usize)| who > 0 && whom > 0;
        cut.truncate(kinds.iter().position(all).map_or(rules.len(), |first| first + 1));
        let framework = |user: &str| FrameworkInfo { user: user.to_owned(), ..FrameworkInfo::default() };
        for who in [None, Some(Principal::new("a")), Some(Principal::new("b"))] {
            for user in ["x", "y"] {
                let framework = framework(user);
                let ask = |acls: &Acls| acls.authorized(who.as_ref(), Action::ViewTask, &Object::framework(&framework));
                let expected = ask(&build(&rules));
                prop_assert_eq!(ask(&build(&more)), expected);
                prop_assert_eq!(ask(&build(&cut)), expected);
            }
        }
    }
}
