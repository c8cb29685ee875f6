//! What flags and constants make of a master.

use dcos_core::config::{Loaded, Schema, Sources};
use dcos_core::seed::Seed;
use dcos_proto::mesos::master_info::Capability;
use dcos_proto::mesos::master_info::capability::Type as Ability;

use super::*;
use crate::master::SECURITY_OPTIONS;

#[test]
fn a_master_announces_what_mesos_1_11_does() {
    let address = "10.0.0.1:5050".parse().expect("it is an address");
    let info = Config::default().master_info(address, &Seed::new(1));
    let announced: Vec<Ability> = info.capabilities.iter().map(Capability::r#type).collect();
    let original = [
        Ability::AgentUpdate,
        Ability::AgentDraining,
        Ability::QuotaV2,
    ];
    assert_eq!(announced, original);
}

/// What a master makes of these flags.
fn of(flags: &[&str]) -> Result<Config, String> {
    let schema = Schema::new("test", "").with(OPTIONS).with(SECURITY_OPTIONS);
    let flags = flags.iter().map(|flag| (*flag).to_owned());
    let Loaded::Run(values) = schema
        .load(&Sources::new(flags))
        .expect("they have the right form")
    else {
        panic!("it runs");
    };
    let local = Ipv4Addr::LOCALHOST.into();
    let config = Config::from_values(&values, local, "here".to_owned());
    config.map_err(|error| error.to_string())
}

#[test]
fn timeouts_are_those_of_the_original() {
    let plain = of(&[]).expect("it is in order");
    let registry = |config: &Config| (config.registry_store_timeout, config.registry_fetch_timeout);
    let seconds = Duration::from_secs;
    assert_eq!(registry(&plain), (seconds(20), seconds(60)));
    let flags = [
        "--registry_store_timeout=1secs",
        "--registry_fetch_timeout=2mins",
    ];
    assert_eq!(
        registry(&of(&flags).expect("they are in order")),
        (seconds(1), seconds(120))
    );
    let short = of(&["--agent_reregister_timeout=9mins"]).expect_err("it is too short");
    assert_eq!(short, "--agent_reregister_timeout: must be at least 10mins");
}
