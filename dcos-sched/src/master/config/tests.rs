//! What flags and constants make of a master.

use dcos_core::seed::Seed;
use dcos_proto::mesos::master_info::Capability;
use dcos_proto::mesos::master_info::capability::Type as Ability;

use super::*;

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
