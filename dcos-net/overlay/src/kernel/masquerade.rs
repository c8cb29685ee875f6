//! What containers send out of the overlays leaves as if the node had sent it; and the tunnel's own packets are not tracked: none
//! is ever an answer to another one, so that each connection within would fill two more places of the connection tracking for 30 s.
//! They are told from all else by the head of VXLAN with our number, and by their end here: whatever is led elsewhere is tracked.
//!
//! The original keeps all overlays in an ipset, and has a rule of iptables for each part; here one
//! table of nftables says the same, and is replaced whole if it has to be.

use std::fmt::Write as _;

use dcos_netlink::{nft, without};

use crate::allocation::{PORT, VNI};
use crate::{DataplaneError, Own, Subnet};

/// How the head of VXLAN begins, right after that of UDP: there is a number. Then comes the number, and a byte that is 0.
const FLAGS: u32 = 0x0800_0000;

/// The table.
const TABLE: &str = "dcos-overlay";

/// Commands of nft(8) that make the table, whether or not there was one, in one transaction.
pub(super) fn text(own: &Own) -> String {
    let mut rules = String::new();
    for (family, v4) in [("ip", true), ("ip6", false)] {
        let list = |subnets: &[Subnet]| {
            let those = subnets.iter().filter(|subnet| subnet.is_v4() == v4);
            let texts: Vec<String> = those.map(ToString::to_string).collect();
            texts.join(", ")
        };
        let (parts, overlays) = (list(&own.parts), list(&own.overlays));
        if !parts.is_empty() {
            let _ = writeln!(
                rules,
                "  {family} saddr {{ {parts} }} {family} daddr != {{ {overlays} }} masquerade"
            );
        }
    }
    let mut tunnel = String::new();
    for (hook, end) in [("prerouting", "daddr"), ("output", "saddr")] {
        let _ = writeln!(
            tunnel,
            " chain tunnel_{hook} {{\n  type filter hook {hook} priority raw; policy accept;\n  \
             udp dport {PORT} @th,64,32 {FLAGS:#x} @th,96,32 {:#x} fib {end} type local notrack\n }}",
            VNI << 8
        );
    }
    format!(
        "{}table inet {TABLE} {{\n{tunnel} chain postrouting {{\n  \
         type nat hook postrouting priority srcnat; policy accept;\n{rules} }}\n}}\n",
        without(TABLE)
    )
}

/// What is in it, if it is there: whoever changes it or takes something out makes another text of it.
pub(super) fn listing() -> Result<Option<String>, DataplaneError> {
    Ok(dcos_netlink::listing(TABLE)?)
}

/// Makes it.
pub(super) fn stand(text: &str) -> Result<(), DataplaneError> {
    Ok(nft(text)?)
}

/// Takes it away.
pub(super) fn fall() -> Result<(), DataplaneError> {
    Ok(nft(&without(TABLE))?)
}
