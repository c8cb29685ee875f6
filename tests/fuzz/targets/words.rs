//! Any text as what operators write by hand: resources, attributes, units, roles, addresses.
#![no_main]

use dcos_core::resources::Resources;
use dcos_core::{attributes, roles, units};
use dcos_wire::libprocess::Upid;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(resources) = Resources::parse(text) {
        assert!(resources.contains(&resources));
        let mut none = resources.clone();
        none -= &resources;
        assert!(none.is_empty());
    }
    let _ = attributes::parse(text);
    let _ = units::parse_duration(text);
    let _ = units::parse_bytes(text);
    let _ = units::parse_percent(text);
    let _ = roles::parse_list(text);
    if let Ok(upid) = text.parse::<Upid>() {
        assert_eq!(upid.to_string().parse::<Upid>().ok(), Some(upid));
    }
});
