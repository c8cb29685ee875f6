//! A policy of one's own on top of the default allocator: the role `batch` gets offers only at
//! night (22:00 to 06:00 UTC).
//!
//! Run: `cargo run -p examples --example custom_allocator`
//!
//! ```text
//! 12:00  web   gets node-1
//! 12:00  web   gets node-2
//! 12:00  batch waits: the framework suppressed offers for the role
//! 22:00  batch gets node-1
//! 22:00  batch gets node-2
//! ```

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use dcos_core::resources::Resources;
use dcos_core::seed::Seed;
use dcos_core::time::{Time, earliest};
use dcos_proto::mesos::{AgentId, FrameworkId};
use dcos_sched::allocator::{
    AgentSpec, Allocator, Config, Decisions, Event, FrameworkSpec, Grant, HierarchicalDrf, Metrics,
    NonOffer, NotFree,
};

const HOUR: u64 = 3600;
const BATCH: &str = "batch";

/// Suppresses `batch` by day and revives it by night; everything else is up to the inner one.
#[derive(Debug)]
struct Nightly<A> {
    inner: A,
    batch: BTreeSet<FrameworkId>,
    is_night: bool,
    switch: Time,
}

impl<A: Allocator> Nightly<A> {
    fn new(inner: A, now: Time) -> Self {
        let mut nightly = Self {
            inner,
            batch: BTreeSet::new(),
            is_night: false,
            switch: now,
        };
        nightly.follow_the_clock(now);
        nightly
    }

    fn follow_the_clock(&mut self, now: Time) {
        if !self.switch.is_due(now) {
            return;
        }
        let midnight = Time::from_secs(now.as_secs() / (24 * HOUR) * 24 * HOUR);
        let hour = (now - midnight).as_secs() / HOUR;
        let (is_night, next) = match hour {
            0..6 => (true, 6),
            6..22 => (false, 22),
            _ => (true, 30),
        };
        self.is_night = is_night;
        self.switch = midnight + Duration::from_secs(next * HOUR);
        for framework in self.batch.clone() {
            self.send_to_bed_or_work(now, framework);
        }
    }

    fn send_to_bed_or_work(&mut self, now: Time, framework: FrameworkId) {
        let roles = vec![BATCH.to_owned()];
        self.inner.handle(
            now,
            if self.is_night {
                Event::Revive { framework, roles }
            } else {
                Event::Suppress { framework, roles }
            },
        );
    }
}

impl<A: Allocator> Allocator for Nightly<A> {
    fn handle(&mut self, now: Time, event: Event) {
        self.follow_the_clock(now);
        let subject = match &event {
            Event::AddFramework(spec) | Event::UpdateFramework(spec) => {
                spec.roles.contains(BATCH).then(|| spec.id.clone())
            }
            Event::Revive { framework, .. } => {
                self.batch.contains(framework).then(|| framework.clone())
            }
            _ => None,
        };
        self.inner.handle(now, event);
        if let Some(framework) = subject {
            self.batch.insert(framework.clone());
            if !self.is_night {
                self.send_to_bed_or_work(now, framework);
            }
        }
    }

    fn convert_free(
        &mut self,
        now: Time,
        agent: &AgentId,
        consumed: &Resources,
        converted: &Resources,
    ) -> Result<(), NotFree> {
        self.inner.convert_free(now, agent, consumed, converted)
    }

    fn poll(&mut self, now: Time) -> Decisions {
        self.follow_the_clock(now);
        self.inner.poll(now)
    }

    fn next_deadline(&self) -> Option<Time> {
        // Without batch frameworks the clock does not matter, and nobody need be woken.
        let switch = (!self.batch.is_empty()).then_some(self.switch);
        earliest(self.inner.next_deadline(), switch)
    }

    fn explain(&self, now: Time, framework: &FrameworkId, role: &str) -> Vec<NonOffer> {
        self.inner.explain(now, framework, role)
    }

    fn metrics(&self) -> Metrics {
        self.inner.metrics()
    }
}

fn main() -> anyhow::Result<()> {
    let noon = Time::from_secs(12 * HOUR);
    let inner = HierarchicalDrf::new(Config::default(), &Seed::new(1));
    let mut allocator = Nightly::new(inner, noon);
    for role in ["web", BATCH] {
        allocator.handle(
            noon,
            Event::AddFramework(FrameworkSpec {
                id: FrameworkId::from(role),
                roles: BTreeSet::from([role.to_owned()]),
                ..FrameworkSpec::default()
            }),
        );
    }
    for name in ["node-1", "node-2"] {
        allocator.handle(
            noon,
            Event::AddAgent(AgentSpec {
                id: name.into(),
                total: Resources::parse("cpus:4;mem:4096")?,
                ..AgentSpec::default()
            }),
        );
    }

    let grants = allocator.poll(noon).grants;
    show(noon, &grants);
    let waiting = allocator.explain(noon, &BATCH.into(), BATCH);
    println!(
        "{}  {BATCH:<5} waits: {}",
        clock(noon),
        waiting.first().context("a reason")?.reason
    );

    // By the evening `web` has no more use for what it got.
    let evening = Time::from_secs(21 * HOUR);
    for Grant {
        framework,
        agent,
        resources,
        ..
    } in grants
    {
        let refuse = Some(Duration::from_hours(12));
        allocator.handle(
            evening,
            Event::Recover {
                framework,
                agent,
                resources,
                refuse,
            },
        );
    }
    while let Some(deadline) = allocator.next_deadline()
        && deadline <= Time::from_secs(22 * HOUR)
    {
        let now = deadline.max(evening);
        show(now, &allocator.poll(now).grants);
    }
    Ok(())
}

fn show(now: Time, grants: &[Grant]) {
    let mut lines: Vec<String> = grants
        .iter()
        .map(|grant| format!("{}  {:<5} gets {}", clock(now), grant.role, grant.agent))
        .collect();
    lines.sort();
    for line in lines {
        println!("{line}");
    }
}

fn clock(now: Time) -> String {
    let minutes = now.as_secs() / 60 % (24 * 60);
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_sched::allocator::testkit;

    #[test]
    fn it_keeps_every_promise() {
        testkit::all(&|config| {
            let inner = HierarchicalDrf::new(config, &Seed::new(1));
            Box::new(Nightly::new(inner, Time::from_secs(1000)))
        });
    }

    #[test]
    fn the_example_runs() {
        main().unwrap();
    }
}
