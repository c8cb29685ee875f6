//! What containers send out of the overlays leaves as if the node had sent it.
//!
//! The original keeps all overlays in an ipset, and has a rule of iptables for each part; here one
//! table of nftables says the same, and is replaced whole if it has to be.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::{DataplaneError, Own, Subnet};

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
    format!(
        "table inet {TABLE} {{\n}}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n chain postrouting {{\n  \
         type nat hook postrouting priority srcnat; policy accept;\n{rules} }}\n}}\n"
    )
}

/// Whether there is a table; whoever flushes all rules of a node takes it away.
pub(super) fn stands() -> Result<bool, DataplaneError> {
    let listed = Command::new("nft")
        .args(["list", "table", "inet", TABLE])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let listed = listed.map_err(|source| DataplaneError::Program { source })?;
    Ok(listed.success())
}

/// Makes it.
pub(super) fn stand(text: &str) -> Result<(), DataplaneError> {
    run(text)
}

/// Takes it away.
pub(super) fn fall() -> Result<(), DataplaneError> {
    // A table is made first, so that there is one to delete.
    run(&format!(
        "table inet {TABLE} {{\n}}\ndelete table inet {TABLE}\n"
    ))
}

fn run(text: &str) -> Result<(), DataplaneError> {
    let failed = |source| DataplaneError::Program { source };
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let input = nft.stdin.take();
    let written = input.map_or(Ok(()), |mut input| input.write_all(text.as_bytes()));
    let output = nft.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(DataplaneError::Refused { said });
    }
    written.map_err(failed)
}
