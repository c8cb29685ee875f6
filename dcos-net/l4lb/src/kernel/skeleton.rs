//! What stands around the maps: made by the `nft` program, once a start.
//!
//! All of it is one transaction, and what is in the maps stays: run again, it repairs rules that
//! somebody flushed, and nothing notices.

use std::fmt::Write as _;

use dcos_netlink::{Passage, nft, without};

use super::DataplaneError;
use super::elements::{EXACT, WIDE, chain, class};
use super::way::LINK;

/// The table everything is in.
pub(super) const TABLE: &str = "dcos-l4lb";

/// Carried by the first packet of a balanced connection from one of our chains to another, and by no
/// packet that leaves the node. The connection itself carries it from then on.
const MARK: u32 = 0x0040_0000;

/// The chain of `iptables` that lets balanced connections pass.
const PASSAGE: &str = "DCOS-L4LB";

/// What is forwarded of balanced connections, as the node's firewall has to be told: the first packet, and all others of
/// both directions.
pub(crate) fn passage() -> Passage {
    let rule = |of: &str| format!("-m {of} --mark {MARK:#x}/{MARK:#x}");
    let rules = vec![rule("mark"), rule("connmark")];
    Passage {
        v4: rules.clone(),
        v6: rules,
        ..Passage::closed(PASSAGE)
    }
}

/// Where packets meet the table: before chains that redirect ports (-100), since a virtual address
/// is nobody else's, and for the way back before those that masquerade (100).
const HOOKS: &str = "\
chain output {
  type nat hook output priority -110
}
chain prerouting {
  type nat hook prerouting priority -110
}
chain forward {
  type filter hook forward priority -110
}
chain postrouting {
  type nat hook postrouting priority 90
}
chain input {
  type nat hook input priority 90
}
";

/// The text `nft` is given. Every brace ends a line: older versions of nft want it so.
pub(super) fn text() -> String {
    let (mut declared, mut flushed, mut ruled) = (HOOKS.to_owned(), String::new(), String::new());
    let (mut entry, mut gone) = (String::new(), String::new());
    for (v4, ip, number) in [(true, "ip", '4'), (false, "ip6", '6')] {
        let key = format!("meta l4proto . {ip} daddr . th dport");
        let draw = |lots: usize| {
            format!("  dnat {ip} to {key} . numgen random mod {lots} map @backends{number}\n")
        };
        let _ = write!(
            declared,
            "map lots{number} {{\n  typeof {key} : meta priority\n}}\n\
             map backends{number} {{\n  typeof {key} . numgen random mod 2 : {ip} daddr . tcp dport\n  counter\n}}\n"
        );
        // How many lots there are is a number on its way, not a verdict: of verdicts the kernel would check those of all
        // services again with each change. A priority means nothing before the packet has a way.
        let _ = writeln!(
            entry,
            "  meta l4proto {{ tcp, udp }} meta priority set {key} map @lots{number} meta priority vmap @chains{number}"
        );
        let mut chains = String::new();
        let refuse = "  meta l4proto tcp reject with tcp reset\n  reject\n".to_owned();
        let drawing = (1..=EXACT).chain(WIDE).map(|lots| {
            // A packet that comes while the number of backends changes may draw a lot that is no
            // more; the first is there as long as the VIP has any backend.
            let mark =
                format!("  meta priority set none\n  meta mark set meta mark or {MARK:#x}\n");
            (lots, [mark, draw(lots), draw(1)].concat())
        });
        for (lots, rules) in std::iter::once((0, refuse)).chain(drawing) {
            let name = chain(v4, lots);
            let _ = writeln!(declared, "chain {name} {{\n}}");
            let _ = writeln!(flushed, "flush chain inet {TABLE} {name}");
            let _ = writeln!(ruled, "chain {name} {{\n{rules}}}");
            let _ = writeln!(chains, "    {} : goto {name},", class(lots));
        }
        let _ = writeln!(
            declared,
            "map chains{number} {{\n  type classid : verdict\n  elements = {{\n{chains}}}\n}}"
        );
        // Of earlier releases.
        let former = format!("vips{number}");
        let _ = writeln!(declared, "map {former} {{\n  typeof {key} : verdict\n}}");
        let _ = writeln!(gone, "delete map inet {TABLE} {former}");
    }
    // What is for this node by its own addresses, whichever they are, is no virtual address's. What is for none, and
    // has no other way, is refused at once instead of vanishing: which way it has the kernel said by then, whatever its rules are.
    let own = "  fib daddr type local return\n";
    let refuse = format!(
        "  oifname {LINK} meta l4proto tcp reject with tcp reset\n  oifname {LINK} reject\n"
    );
    for (hook, rules) in [
        ("output", format!("{own}{entry}{refuse}")),
        ("prerouting", format!("{own}{entry}")),
        ("forward", refuse),
    ] {
        let _ = writeln!(flushed, "flush chain inet {TABLE} {hook}");
        let _ = writeln!(ruled, "chain {hook} {{\n{rules}}}");
    }
    // As the original: a backend sees the node, so that its answers come back here wherever it is,
    // the client's own network and the client itself included. What stays on the node needs none.
    let others = !MARK;
    let _ = writeln!(flushed, "flush chain inet {TABLE} postrouting");
    let _ = writeln!(
        ruled,
        "chain postrouting {{\n  meta mark and {MARK:#x} == 0 return\n  \
         meta mark set meta mark and {others:#x}\n  ct mark set ct mark or {MARK:#x}\n  \
         oifname != lo masquerade\n}}"
    );
    // A datagram that ends on this node comes from where it goes to: a server that listens on every address
    // answers from the one that leads to the client, and nobody would know that answer.
    let _ = writeln!(flushed, "flush chain inet {TABLE} input");
    let _ = writeln!(
        ruled,
        "chain input {{\n  meta mark and {MARK:#x} == 0 return\n  meta mark set meta mark and {others:#x}\n  \
         meta l4proto udp meta nfproto ipv4 snat ip to ip daddr\n  \
         meta l4proto udp meta nfproto ipv6 snat ip6 to ip6 daddr\n}}"
    );
    format!(
        "table inet {TABLE} {{\n{declared}}}\n{flushed}{gone}table inet {TABLE} {{\n{ruled}}}\n"
    )
}

/// Makes or repairs the table.
pub(super) fn stand() -> Result<(), DataplaneError> {
    Ok(nft(&text())?)
}

/// Takes the table away, with everything in it.
pub(super) fn fall() -> Result<(), DataplaneError> {
    Ok(nft(&without(TABLE))?)
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_brace_ends_a_line() {
        let text = super::text();
        let sets = text.replace("{ tcp, udp }", "");
        for line in sets.lines() {
            assert!(!line.contains('{') || line.ends_with('{'), "{line}");
            assert!(!line.contains('}') || line == "}", "{line}");
        }
        assert_eq!(text.matches("numgen random mod 7 ").count(), 2);
    }
}
