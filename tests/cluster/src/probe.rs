//! Who says that it leads: each master is asked several times a second, from its own host, so that one that is cut
//! off is asked, too.

use std::{path::Path, time::Duration};

use dcos_wire::{Client, ClientConfig};
use rustix::time::{ClockId, clock_gettime};

use crate::process::{Process, command};
use crate::servers::Place;

/// A clock all processes of the machine share, in nanoseconds.
pub fn clock() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let part = |part: i64| u64::try_from(part).unwrap_or_default();
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

/// A master said that it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// When it was asked.
    pub asked: u64,
    /// When its answer was there.
    pub answered: u64,
    /// Which life of a master it was.
    pub id: String,
}

/// Asks `address` until it is killed, and prints what it claims.
///
/// # Errors
/// If it cannot print any more.
pub async fn ask_for_ever(address: &str) -> anyhow::Result<()> {
    let client = Client::with_config(ClientConfig {
        connect_timeout: Duration::from_millis(500),
        answer_timeout: Duration::from_secs(60),
        max_redirects: 0,
        ..ClientConfig::default()
    })?;
    let url = format!("http://{address}/state");
    loop {
        let asked = clock();
        if let Some(id) = claimed(&client, &url).await {
            use std::io::Write as _;
            writeln!(std::io::stdout(), "{asked} {} {id}", clock())?;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn claimed(client: &Client, url: &str) -> Option<String> {
    let answer = client.get(url).await.ok()?;
    let state: serde_json::Value = answer.success().await.ok()?.json().await.ok()?;
    Some(state.get("id")?.as_str()?.to_owned())
}

/// Starts to ask the master at `place`.
///
/// # Errors
/// The process cannot be started.
pub fn start(place: &Place, port: u16, directory: &Path) -> anyhow::Result<Process> {
    let mut asking = command(place.host.as_deref(), std::env::current_exe()?);
    asking.arg("probe").arg(format!("{}:{port}", place.ip));
    Process::start(&format!("probe-{}", place.ip), directory, asking)
}

/// What a probe has heard so far.
pub fn claims(probe: &Process) -> Vec<Claim> {
    let text = std::fs::read_to_string(&probe.log).unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Claim> {
    let mut words = line.split(' ');
    Some(Claim {
        asked: words.next()?.parse().ok()?,
        answered: words.next()?.parse().ok()?,
        id: words.next()?.to_owned(),
    })
}

/// Two masters that led at once, if any did: one that claimed to lead when asked after another one that
/// came later had already claimed it.
pub fn overlap(claims: &[Claim]) -> Option<(Claim, Claim)> {
    let mut terms: Vec<(String, u64, u64, Claim, Claim)> = Vec::new();
    for claim in claims {
        match terms.iter_mut().find(|term| term.0 == claim.id) {
            Some(term) => {
                if claim.answered < term.1 {
                    (term.1, term.3) = (claim.answered, claim.clone());
                }
                if claim.asked > term.2 {
                    (term.2, term.4) = (claim.asked, claim.clone());
                }
            }
            None => terms.push((
                claim.id.clone(),
                claim.answered,
                claim.asked,
                claim.clone(),
                claim.clone(),
            )),
        }
    }
    terms.sort_by_key(|term| term.1);
    for (index, earlier) in terms.iter().enumerate() {
        if let Some(later) = terms[index + 1..].iter().find(|later| earlier.2 > later.1) {
            return Some((earlier.4.clone(), later.3.clone()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_after_the_other_is_no_overlap() {
        let claim = |asked, answered, id: &str| Claim {
            asked,
            answered,
            id: id.to_owned(),
        };
        // An answer that was asked for in time may be late: it only says that it led at some moment between.
        let fine = [
            claim(1, 2, "a"),
            claim(5, 30, "a"),
            claim(19, 20, "b"),
            claim(40, 41, "b"),
        ];
        assert_eq!(overlap(&fine), None);
        let both = [claim(1, 2, "a"), claim(25, 30, "a"), claim(19, 20, "b")];
        assert!(overlap(&both).is_some());
    }
}
