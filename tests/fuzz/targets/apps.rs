//! Any text, read as an app and as a group for Marathon: taken or refused, never a panic; and an app
//! that was taken is complete, so that it is taken again as it is written.
#![no_main]

use std::collections::BTreeSet;

use dcos_marathon::normalize::{self, Rules};
use dcos_marathon::{PathId, Timestamp};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    drop(normalize::read_group(text));
    let Some(app) = taken(text) else { return };
    let written = serde_json::to_vec(&app).expect("an app can be written");
    assert!(taken(&written).is_some());
});

fn taken(text: &[u8]) -> Option<dcos_marathon::model::App> {
    let rules = Rules {
        features: BTreeSet::new(),
        default_network_name: Some("dcos".to_owned()),
        mesos_bridge_name: "mesos-bridge".to_owned(),
        default_role: "*".to_owned(),
        valid_roles: BTreeSet::from(["*".to_owned()]),
    };
    let update = normalize::read_app(text).ok()?;
    normalize::create(update, &PathId::root(), &rules, Timestamp::default()).ok()
}
