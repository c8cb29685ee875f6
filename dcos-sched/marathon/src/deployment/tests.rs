//! Plans for trees that change.

use serde_json::json;

use super::*;

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
