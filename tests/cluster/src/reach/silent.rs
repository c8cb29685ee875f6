//! Backends that die without anybody telling: no event, no health check and no gossip says so, and each node finds out by itself.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::{Drill, HEALTHY_IN_USE, Talk, app, failed};
use crate::{
    drill::Report,
    probe::clock,
    site::{Site, eventually},
    talk::{From, Over},
};

/// The virtual address, by name.
const SILENT: &str = "silent.marathon.l4lb.thisdcos.directory:80";

/// How a backend dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Death {
    /// It takes no new connections: they are refused. Those that stand go on.
    Closes,
    /// SIGSTOP: a few connections are answered by its kernel, then none.
    Stops,
    /// What two hosts send to its own is dropped; all others reach it, and gossip has ways around.
    IsUnreachable,
}

/// Those who talk are on these hosts, and the backend that dies is on the last one.
const HOSTS: [&str; 2] = ["agent1", "public1"];
const DYING: &str = "agent3";

impl Drill {
    /// Each death of a backend on one host, as others talk to it and to two healthy ones.
    pub(super) async fn silent_deaths(
        &mut self,
        router: &str,
        report: &mut Report,
    ) -> anyhow::Result<()> {
        let health =
            json!([{"protocol": "COMMAND", "command": {"value": "true"}, "intervalSeconds": 5}]);
        let silent = app("/silent", 3, &json!({"healthChecks": health}))?;
        self.site.deploy(router, &silent).await?;
        self.all_met().await.context("trials of all backends")?;
        let others = std::mem::take(&mut self.clients);
        let outcome = self.deaths(report).await;
        self.clients = others;
        outcome?;
        self.remove(router, "silent").await
    }

    async fn deaths(&mut self, report: &mut Report) -> anyhow::Result<()> {
        let edge = self.container("edge", "public1")?;
        let agent = From::Host("agent1".to_owned());
        for (host, from) in [("agent1", agent), ("public1", edge)] {
            self.add_client(host, &from, SILENT, Talk::Knock(Over::Tcp), 9)?;
            // So many that some go to each backend.
            for number in 0..6 {
                self.add_client(host, &from, SILENT, Talk::Stream, 90 + number)?;
            }
        }
        self.answered(clock()).await?;
        for (death, what) in [
            (
                Death::Closes,
                "a backend's port is closed while its task runs on",
            ),
            (Death::Stops, "a backend's process is stopped"),
            (
                Death::IsUnreachable,
                "what two hosts send to a third one is dropped",
            ),
        ] {
            let since = clock();
            self.die(death)?;
            let left = self.left_alone(since, DYING).await;
            report.check(&format!("{what}: it is left alone"), failed(left));
            let dead: &[&str] = if death == Death::Closes {
                &[]
            } else {
                &[DYING]
            };
            report.check(
                "    streams to others go on",
                self.streams(since, dead).await,
            );
            let since = clock();
            self.revive(death)?;
            let back = self.is_used_again(since).await;
            report.check(
                "    once it is back it is given connections again",
                failed(back),
            );
            // Who was not reached is asked again so late that its clients may have given up.
            let dead: &[&str] = match death {
                Death::IsUnreachable => &[DYING],
                _ => &[],
            };
            report.check("    streams go on", self.streams(since, dead).await);
            report.check(HEALTHY_IN_USE, self.avoided(&[DYING]));
        }
        Ok(())
    }

    fn die(&self, death: Death) -> anyhow::Result<()> {
        match death {
            Death::Closes => self.tell_silent(Signal::USR1),
            Death::Stops => self.tell_silent(Signal::STOP),
            Death::IsUnreachable => self.site.network.part(DYING, &HOSTS.map(str::to_owned)),
        }
    }

    fn revive(&self, death: Death) -> anyhow::Result<()> {
        match death {
            Death::Closes => self.tell_silent(Signal::USR2),
            Death::Stops => self.tell_silent(Signal::CONT),
            Death::IsUnreachable => self.site.network.rejoin(),
        }
    }

    /// Sends a signal to the backend that is to die.
    fn tell_silent(&self, signal: Signal) -> anyhow::Result<()> {
        let host = self.site.ip(DYING);
        let servers = self.site.servers("silent").into_iter();
        let mut here = servers.filter(|server| server.host == host);
        let server = here.next().context("a backend is on each host")?;
        let pid = Pid::from_raw(server.pid.cast_signed()).context("it has a number")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Those whose clients talk have reached all backends of connections: before that they avoid none.
    async fn all_met(&self) -> anyhow::Result<()> {
        // Those of `web`, `nodes`, `silent` and `late`; where there is one only, it is not tried.
        const ALL: u64 = 3 + 3 + 3 + 2;
        for host in HOSTS {
            let met = || async {
                let reached = self.site.reached_backends(host).await?;
                ensure!(reached >= ALL, "{host} reached {reached}");
                Ok(())
            };
            eventually("all backends are met", met).await?;
        }
        Ok(())
    }

    /// Waits until each who knocks has been answered by the backend that was dead.
    async fn is_used_again(&self, since: u64) -> anyhow::Result<String> {
        let by = Ok(self.site.ip(DYING));
        let used = || async {
            let mut last = since;
            for client in self.clients.iter().filter(|it| it.what != Talk::Stream) {
                let heard = client.heard().into_iter();
                let mut answered = heard.filter(|heard| heard.asked >= since && heard.by == by);
                let first = answered
                    .next()
                    .with_context(|| client.process.name.clone())?;
                last = last.max(first.asked);
            }
            Ok(last)
        };
        let last = eventually("it is used again", used).await?;
        let after = Duration::from_nanos(last - since).as_secs_f64();
        Ok(format!(" (by all after {after:.1} s)"))
    }

    /// What the hosts have logged since this was asked last: none of them has avoided a backend, but those on `dead` hosts,
    /// and those are excused.
    pub(super) fn avoided(&mut self, dead: &[&str]) -> Result<String, String> {
        let mut count = 0;
        for host in Site::hosts() {
            let new = self.site.logged(host, self.read.entry(host).or_default());
            for line in new.lines().filter(|line| line.contains(" it is avoided ")) {
                let of = line.split_once(" backend=").map(|(_, backend)| backend);
                let on = of.and_then(|backend| self.host_of(backend));
                let is_dead = on.is_some_and(|on| dead.contains(&on));
                if !is_dead && !dead.contains(&host) {
                    return Err(format!("{host} on {on:?}: {line}"));
                }
                count += 1;
            }
        }
        Ok(format!(" ({count} dead ones)"))
    }

    /// Whose `backend` is.
    fn host_of(&self, backend: &str) -> Option<&'static str> {
        let (ip, _) = backend.split_once(':')?;
        let net = |ip: &str| ip.rsplit_once('.').map(|(net, _)| net.to_owned());
        Site::hosts().find(|host| {
            let own = self.site.ip(host);
            let parts = self.members.get(&own).and_then(Value::as_array);
            let mut parts = parts.into_iter().flatten().filter_map(Value::as_str);
            // All are of 24 bits.
            own == ip || parts.any(|part| net(part) == net(ip))
        })
    }
}
