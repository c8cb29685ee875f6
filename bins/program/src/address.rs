//! Where a program listens and is reached, in all the ways Mesos lets operators say it.
//!
//! Source: Mesos 1.11 `src/master/main.cpp`, `src/slave/main.cpp`, libprocess `process.cpp` (`LIBPROCESS_*`).

use std::env;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs as _, UdpSocket};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use dcos_core::config::{Origin, Sources, Spec, Values};
use tracing::warn;

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

/// The address by which others know a program that listens on `ip`: `--advertise_ip`, else the one it listens on. If that
/// is every address, it is the one that its host's name has, as in libprocess, but no loopback (127.0.1.1 in Debian's
/// `/etc/hosts`); else the one by which packets leave the host; else loopback, unless other hosts are to know the program,
/// as some option says: that `told_by`. It may wait for name servers.
///
/// # Errors
/// `--advertise_ip` is no address, or other hosts could not know the program by any.
pub fn known_ip(values: &Values, ip: IpAddr, told_by: Option<&str>) -> anyhow::Result<IpAddr> {
    if let Some(text) = values.opt_text("advertise_ip") {
        return text
            .parse()
            .with_context(|| format!("--advertise_ip: {text}"));
    }
    if !ip.is_unspecified() {
        return Ok(ip);
    }
    let found = of_this_host(ip).or_else(|| leaving(ip));
    found_or_loopback(found, ip, told_by)
}

/// The address that was found for a program that listens on all, `any`.
fn found_or_loopback(
    found: Option<IpAddr>,
    any: IpAddr,
    told_by: Option<&str>,
) -> anyhow::Result<IpAddr> {
    if let Some(found) = found {
        return Ok(found);
    }
    if let Some(option) = told_by {
        bail!(
            "--{option}: other hosts are told where this program is, and {any} is no address of it: this host has none but \
             loopback (yet). Say it with --advertise_ip, or start when the network is up"
        );
    }
    let loopback = match any {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    warn!(
        "other hosts can't know this program by {any}, and it knows no other address: to this host it is {loopback}, until \
         it is started anew. Say it with --advertise_ip"
    );
    Ok(loopback)
}

/// The address that the name of this host has, of the same family as `any`.
fn of_this_host(any: IpAddr) -> Option<IpAddr> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let found = (name.trim(), 0).to_socket_addrs().ok()?;
    let mut ips = found.map(|address| address.ip());
    ips.find(|ip| ip.is_ipv4() == any.is_ipv4() && !ip.is_loopback())
}

/// Where packets for elsewhere leave from; nothing is sent for that.
fn leaving(any: IpAddr) -> Option<IpAddr> {
    // TEST-NET-1, and the same of IPv6.
    let elsewhere: IpAddr = match any {
        IpAddr::V4(_) => Ipv4Addr::new(192, 0, 2, 1).into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect((elsewhere, 9)).ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then_some(ip)
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
    use dcos_core::config::{Loaded, Schema};

    use super::*;

    fn known(flags: &[&str], ip: &str) -> anyhow::Result<IpAddr> {
        const OPTIONS: &[Spec] = &[Spec::text("advertise_ip").help("")];
        let flags = flags.iter().map(|flag| (*flag).to_owned());
        let schema = Schema::new("test", "").with(OPTIONS);
        let Loaded::Run(values) = schema.load(&Sources::new(flags))? else {
            bail!("no values");
        };
        known_ip(&values, ip.parse()?, None)
    }

    #[test]
    fn a_program_is_known_by_one_address_that_others_can_reach() -> anyhow::Result<()> {
        assert_eq!(known(&[], "10.0.0.1")?, IpAddr::from([10, 0, 0, 1]));
        let said = IpAddr::from([192, 0, 2, 7]);
        for ip in ["10.0.0.1", "0.0.0.0", "::"] {
            assert_eq!(known(&["--advertise_ip=192.0.2.7"], ip)?, said);
        }
        for any in ["0.0.0.0", "::"] {
            let found = known(&[], any)?;
            assert!(!found.is_unspecified(), "{found}");
            assert_eq!(found.is_ipv4(), any == "0.0.0.0");
        }
        assert!(known(&["--advertise_ip=here"], "10.0.0.1").is_err());
        Ok(())
    }

    #[test]
    fn loopback_is_told_to_nobody() {
        for (any, loopback) in [("0.0.0.0", "127.0.0.1"), ("::", "::1")] {
            let any = any.parse().expect("an address");
            let alone = found_or_loopback(None, any, None).expect("nobody is told");
            assert_eq!(alone.to_string(), loopback);
            let refused = found_or_loopback(None, any, Some("zk")).expect_err("others are told");
            let text = refused.to_string();
            assert!(
                text.starts_with("--zk: ") && text.contains("--advertise_ip"),
                "{text}"
            );
            let found = found_or_loopback(Some([10, 0, 0, 1].into()), any, Some("zk"));
            assert_eq!(found.expect("it was found"), IpAddr::from([10, 0, 0, 1]));
        }
    }

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
