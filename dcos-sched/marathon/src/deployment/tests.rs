//! Plans for trees that change.

use serde_json::json;

use super::*;
use crate::model::Group;

fn root(apps: &[(&str, u32, i64, &[&str])]) -> Arc<RootGroup> {
    let mut root = RootGroup::default();
    for (id, instances, config, dependencies) in apps {
        let mut app: App = serde_json::from_value(
            json!({"id": id, "cmd": "run", "instances": instances, "dependencies": dependencies}),
        )
        .unwrap();
        app.version = Timestamp::from_millis(*config);
        root.put_app(app, Timestamp::default(), false);
    }
    Arc::new(root)
}

fn plan(original: &Arc<RootGroup>, target: &Arc<RootGroup>) -> Vec<String> {
    let plan = Plan::new(
        "p".into(),
        original.clone(),
        target.clone(),
        &BTreeMap::new(),
        &BTreeMap::new(),
    );
    plan.steps
        .iter()
        .map(|step| {
            let actions: Vec<_> = step
                .iter()
                .map(|action| format!("{}{}", action.name(), action.app))
                .collect();
            actions.join(" ")
        })
        .collect()
}

#[test]
fn what_goes_comes_first_then_layer_by_layer() {
    let original = root(&[
        ("/old", 1, 1, &[]),
        ("/db", 1, 1, &[]),
        ("/same", 1, 1, &[]),
    ]);
    let target = root(&[
        ("/db", 2, 1, &[]),
        ("/same", 1, 1, &[]),
        ("/app", 1, 2, &["/db"]),
        ("/web", 1, 2, &["/app", "/db"]),
    ]);
    assert_eq!(
        plan(&original, &target),
        [
            "StopApplication/old",
            "StartApplication/app StartApplication/web",
            "ScaleApplication/db",
            "ScaleApplication/app",
            "ScaleApplication/web",
        ]
    );
}

#[test]
fn configuration_restarts_and_zero_scales() {
    let original = root(&[("/a", 1, 1, &[]), ("/b", 1, 1, &[])]);
    let target = root(&[("/a", 1, 2, &[]), ("/b", 0, 2, &[])]);
    assert_eq!(
        plan(&original, &target),
        ["RestartApplication/a ScaleApplication/b"]
    );
}

#[test]
fn groups_hand_their_dependencies_down() {
    let mut tree = (*root(&[("/db/one", 1, 1, &[]), ("/web/one", 1, 1, &[])])).clone();
    let web = tree.groups.get_mut(&PathId::from("/web")).unwrap();
    web.dependencies.insert(PathId::from("/db"));
    let layers = layers(&tree).unwrap();
    assert_eq!(layers[&PathId::from("/db/one")], 1);
    assert_eq!(layers[&PathId::from("/web/one")], 2);
}

#[test]
fn cycles_are_found() {
    assert!(layers(&root(&[("/a", 1, 1, &["/b"]), ("/b", 1, 1, &["/a"])])).is_none());
    assert!(layers(&root(&[("/a", 1, 1, &["/a"])])).is_none());
}

#[test]
fn a_reverted_plan_restores_exactly() {
    let original = root(&[("/old", 1, 1, &[]), ("/g/a", 1, 1, &[]), ("/b", 3, 1, &[])]);
    let target = root(&[
        ("/g/a", 1, 2, &[]),
        ("/b", 5, 1, &[]),
        ("/new/x", 1, 2, &[]),
    ]);
    let plan = Plan::new(
        "p".into(),
        original.clone(),
        target.clone(),
        &BTreeMap::new(),
        &BTreeMap::new(),
    );
    let back = revert(&plan, &target, Timestamp::default());
    assert_eq!(back, *original);
}

#[test]
fn a_revert_leaves_what_others_did() {
    let original = root(&[("/a", 1, 1, &[])]);
    let target = root(&[("/a", 1, 2, &[]), ("/new/x", 1, 2, &[])]);
    let plan = Plan::new(
        "p".into(),
        original.clone(),
        target.clone(),
        &BTreeMap::new(),
        &BTreeMap::new(),
    );
    let current = root(&[
        ("/a", 1, 2, &[]),
        ("/new/x", 1, 2, &[]),
        ("/new/y", 1, 3, &[]),
        ("/z", 1, 3, &[]),
    ]);
    let back = revert(&plan, &current, Timestamp::default());
    let apps: Vec<_> = back.apps.keys().map(PathId::as_str).collect();
    assert_eq!(apps, ["/a", "/new/y", "/z"]);
    assert_eq!(
        back.apps[&PathId::from("/a")].version,
        Timestamp::from_millis(1)
    );
    assert!(back.groups.contains_key(&PathId::from("/new")));
}

#[test]
fn only_what_comes_to_wait_can_make_a_cycle() {
    let before = root(&[
        ("/g/a", 1, 1, &["/g/b"]),
        ("/g/b", 1, 1, &[]),
        ("/c", 1, 1, &["/h"]),
    ]);
    for (id, dependencies, expected) in [
        ("/g/b", ["/g/a"].as_slice(), true),
        ("/g/b", &["/g"], true),
        ("/g/b", &["/c"], false),
        ("/h/d", &[], false),
        ("/h/d", &["/c"], true),
        ("/g/a", &[], false),
    ] {
        let changed = root(&[(id, 1, 2, dependencies)]);
        let mut after = (*before).clone();
        after.apps.extend(changed.apps.clone());
        after.groups.extend(changed.groups.clone());
        assert_eq!(
            makes_cycle(&before, &after),
            expected,
            "{id} {dependencies:?}"
        );
    }
    // An app without names of its own waits for what is named around it.
    let mut around = (*before).clone();
    let group = Group {
        dependencies: [PathId::from("/c")].into(),
        ..Group::default()
    };
    around.groups.insert("/h".into(), group);
    assert!(!makes_cycle(&before, &around), "nobody is in it yet");
    let mut inside = around.clone();
    inside
        .apps
        .extend(root(&[("/h/d", 1, 1, &[])]).apps.clone());
    assert!(makes_cycle(&around, &inside));
}

/// On a stack that holds a few hundred calls.
#[test]
fn the_length_of_a_chain_does_not_matter() {
    let apps = 15_000;
    let chain = move || {
        let mut tree = RootGroup::default();
        for at in 0..apps {
            let before: Vec<_> = (at > 0)
                .then(|| format!("/app-{}", at - 1))
                .into_iter()
                .collect();
            let app = json!({"id": format!("/app-{at}"), "cmd": "run", "dependencies": before});
            let app = serde_json::from_value(app).unwrap();
            tree.put_app(app, Timestamp::default(), false);
        }
        let last = PathId::from(format!("/app-{}", apps - 1).as_str());
        assert_eq!(layers(&tree).unwrap()[&last], apps);
        let first = tree
            .apps
            .get_mut(&PathId::from("/app-0"))
            .map(Arc::make_mut);
        first.unwrap().dependencies.push(last);
        assert_eq!(layers(&tree), None);
    };
    let small = std::thread::Builder::new().stack_size(256 << 10);
    small.spawn(chain).unwrap().join().unwrap();
}

#[test]
fn groups_that_wait_for_groups_are_as_deep_as_their_apps() {
    let mut tree = RootGroup::default();
    for group in ["/a", "/a/in", "/b", "/c"] {
        for at in 0..300 {
            let app = json!({"id": format!("{group}/app-{at}"), "cmd": "run"});
            tree.put_app(
                serde_json::from_value(app).unwrap(),
                Timestamp::default(),
                false,
            );
        }
    }
    for (group, dependency) in [("/a", "/b"), ("/b", "/c"), ("/a/in", "/c")] {
        let group = tree.groups.get_mut(&PathId::from(group)).unwrap();
        group.dependencies.insert(dependency.into());
    }
    let layers_of_all = layers(&tree).unwrap();
    let of = |id: &str| layers_of_all[&PathId::from(id)];
    assert_eq!(
        (
            of("/a/app-1"),
            of("/a/in/app-7"),
            of("/b/app-0"),
            of("/c/app-299")
        ),
        (3, 3, 2, 1)
    );
    tree.groups
        .get_mut(&PathId::from("/c"))
        .unwrap()
        .dependencies
        .insert("/a/in".into());
    assert_eq!(layers(&tree), None);
}
