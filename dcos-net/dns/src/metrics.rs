//! What a name server counts, as Prometheus reads it.
//!
//! Source: the registry `dns` of dcos-net (`dcos_dns_handler_fsm`, `dcos_dns_mesos`), names without its prefix as at `/v1/metrics/l4lb`.
//! Departures: durations are summaries without quantiles; `answers_…`, `cache_…` and `forwarder_turned_away_total` are ours.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dcos_net::Zone;

use crate::forward::Forwarder;
use crate::served::Served;

/// How many queries were answered from zones of ours, refusals included.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) udp: AtomicU64,
    pub(crate) tcp: AtomicU64,
    /// Of all answers over UDP, those the system did not take, mostly for want of room.
    pub(crate) dropped: AtomicU64,
}

/// How questions fared that others were asked.
#[derive(Debug, Default)]
pub(crate) struct Fared {
    asked: AtomicU64,
    failed: AtomicU64,
    turned_away: AtomicU64,
    microseconds: AtomicU64,
}

impl Fared {
    /// One more, which took so long; somebody answered it or not.
    pub(crate) fn note(&self, took: Duration, answered: bool) {
        let microseconds = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.microseconds.fetch_add(microseconds, Ordering::Relaxed);
        if !answered {
            self.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One more for which there was no room: it failed at once.
    pub(crate) fn note_turned_away(&self) {
        self.turned_away.fetch_add(1, Ordering::Relaxed);
        self.note(Duration::ZERO, false);
    }
}

/// The text.
pub(crate) fn exposition(served: &Served, forwarder: &Forwarder, answers: &Answers) -> String {
    let mut text = String::new();
    let begin = |text: &mut String, name: &str, kind: &str, help: &str| {
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    };
    let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
    begin(
        &mut text,
        "answers_total",
        "counter",
        "Queries answered without asking others.",
    );
    for (protocol, number) in [("udp", &answers.udp), ("tcp", &answers.tcp)] {
        let _ = writeln!(
            text,
            "answers_total{{protocol=\"{protocol}\"}} {}",
            read(number)
        );
    }
    let name = "answers_dropped_total";
    begin(
        &mut text,
        name,
        "counter",
        "Answers over UDP that could not be sent.",
    );
    let _ = writeln!(text, "{name} {}", read(&answers.dropped));
    let name = "forwarder_requests_duration_seconds";
    begin(
        &mut text,
        name,
        "summary",
        "The time spent on forwarded queries.",
    );
    for (zone, fared) in forwarder.fared() {
        let seconds = Duration::from_micros(read(&fared.microseconds)).as_secs_f64();
        let _ = writeln!(text, "{name}_sum{{zone=\"{zone}\"}} {seconds}");
        let _ = writeln!(
            text,
            "{name}_count{{zone=\"{zone}\"}} {}",
            read(&fared.asked)
        );
    }
    let name = "forwarder_failures_total";
    begin(
        &mut text,
        name,
        "counter",
        "Forwarded queries that nobody answered.",
    );
    for (zone, fared) in forwarder.fared() {
        let _ = writeln!(text, "{name}{{zone=\"{zone}\"}} {}", read(&fared.failed));
    }
    let name = "forwarder_turned_away_total";
    begin(
        &mut text,
        name,
        "counter",
        "Of those, the ones that nobody was asked, for want of room.",
    );
    for (zone, fared) in forwarder.fared() {
        let turned_away = read(&fared.turned_away);
        let _ = writeln!(text, "{name}{{zone=\"{zone}\"}} {turned_away}");
    }
    let [entries, hits, outdated] = forwarder.remembered();
    for (name, kind, help, value) in [
        (
            "cache_entries",
            "gauge",
            "Answers of others that are remembered.",
            entries,
        ),
        (
            "cache_hits_total",
            "counter",
            "Queries answered by what is remembered.",
            hits,
        ),
        (
            "cache_stale_total",
            "counter",
            "Queries answered by what is out of date, since nobody answered.",
            outdated,
        ),
    ] {
        begin(&mut text, name, kind, help);
        let _ = writeln!(text, "{name} {value}");
    }
    let name = "worker_failures_total";
    begin(
        &mut text,
        name,
        "counter",
        "Times that a resolver did not answer.",
    );
    for (address, failures) in forwarder.failures() {
        let _ = writeln!(text, "{name}{{upstream_address=\"{address}\"}} {failures}");
    }
    let name = "zone_records";
    begin(&mut text, name, "gauge", "The number of records of a zone.");
    for zone in served.names.zones() {
        let _ = writeln!(text, "{name}{{zone=\"{}\"}} {}", zone.origin(), size(zone));
    }
    let name = "zone_push_duration_seconds";
    begin(
        &mut text,
        name,
        "gauge",
        "The time that making the zones took last.",
    );
    let _ = writeln!(text, "{name} {}", served.took.as_secs_f64());
    text
}

fn size(zone: &Zone) -> usize {
    zone.names().map(|(_, records)| records.count()).sum()
}
