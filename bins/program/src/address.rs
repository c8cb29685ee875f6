//! Where a program listens and is reached, in all the ways Mesos lets operators say it.
//!
//! Source: Mesos 1.11 `src/master/main.cpp`, `src/slave/main.cpp`, libprocess `process.cpp` (`LIBPROCESS_*`).

use std::env;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use dcos_core::config::{Origin, Sources, Spec, Values};

/// The options besides `ip`, which each program declares with its own default.
pub const ADDRESS_OPTIONS: &[Spec] = &[Spec::text("ip_discovery_command")
    .help("A command of the shell that prints the address to listen on and to be known by, in place of `ip`.")];

/// The process's arguments and environment, in which what libprocess would read counts as Mesos's variables.
pub(crate) fn sources() -> Sources {
    let known = |name: &str| env::var_os(name).is_some_and(|value| !value.is_empty());
    let named = ["ADVERTISE_IP", "ADVERTISE_PORT"]
        .into_iter()
        .filter_map(|name| {
            let value = env::var(format!("LIBPROCESS_{name}")).ok()?;
            let ours = format!("MESOS_{name}");
            (!known(&ours) && !known(&format!("DCOS_{name}"))).then_some((ours, value))
        });
    Sources::process().env(named)
}

/// The address to listen on: what `--ip_discovery_command` prints, `--ip`, or `LIBPROCESS_IP`; `default` if
/// nobody says it.
///
/// # Errors
/// Both flags are given, the command fails, or what is said is no address.
pub fn listening_ip(values: &Values, default: IpAddr) -> anyhow::Result<IpAddr> {
    let said = values
        .origin("ip")
        .is_some_and(|origin| origin != Origin::Default);
    let ip = said.then(|| values.text("ip"));
    if let Some(command) = values.opt_text("ip_discovery_command") {
        ensure!(
            ip.is_none(),
            "only one of --ip and --ip_discovery_command can be given"
        );
        return discover(&command).with_context(|| format!("--ip_discovery_command={command:?}"));
    }
    let (ip, from) = match (ip, env::var("LIBPROCESS_IP").ok()) {
        (Some(ip), _) => (ip, "--ip"),
        (None, Some(ip)) => (ip, "LIBPROCESS_IP"),
        (None, None) => return Ok(default),
    };
    let parsed = ip.parse();
    parsed.with_context(|| format!("{from}={ip} is no address"))
}

/// What `command` prints, run by the shell as Mesos does.
fn discover(command: &str) -> anyhow::Result<IpAddr> {
    let output = Command::new("/bin/sh").arg("-c").arg(command).output();
    let output = output.context("running it")?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        bail!("it ended with {}: {}", output.status, words.trim());
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    let address = printed.trim();
    address
        .parse()
        .with_context(|| format!("it printed {address:?}, which is no address"))
}

/// Whether messages are taken only from the address their sender names (`LIBPROCESS_REQUIRE_PEER_ADDRESS_IP_MATCH`).
///
/// # Errors
/// The variable is neither true nor false.
pub fn require_peer_match() -> anyhow::Result<bool> {
    match env::var("LIBPROCESS_REQUIRE_PEER_ADDRESS_IP_MATCH").as_deref() {
        Ok("true" | "1") => Ok(true),
        Err(_) | Ok("" | "false" | "0") => Ok(false),
        Ok(other) => {
            bail!("LIBPROCESS_REQUIRE_PEER_ADDRESS_IP_MATCH={other}: expected true or false")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_tells_the_address_or_why_not() {
        let address = discover("echo ' 10.1.2.3 '").expect("it prints one");
        assert_eq!(address, IpAddr::from([10, 1, 2, 3]));
        for (command, reason) in [
            (
                "echo lost >&2; exit 3",
                "it ended with exit status: 3: lost",
            ),
            ("echo eth0", "it printed \"eth0\", which is no address"),
        ] {
            let error = discover(command).expect_err("it prints none");
            assert_eq!(error.to_string(), reason);
        }
    }
}
