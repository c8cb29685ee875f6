//! What is counted, in Prometheus's form under the names the original's module has.
//!
//! Source: nginx-module-vts 0.1.18 (`nginx_vts_*`), as DC/OS 2.2 configures it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Requests, by what they were for and the class of their status.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    counts: Mutex<BTreeMap<(&'static str, u16), Count>>,
    relayed: AtomicU64,
}

#[derive(Debug, Default, Clone, Copy)]
struct Count {
    requests: u64,
    received: u64,
    sent: u64,
    time: Duration,
}

impl Counters {
    /// Counts a request that took the short way.
    pub(crate) fn relayed(&self) {
        self.relayed.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that has ended.
    pub(crate) fn count(
        &self,
        tag: &'static str,
        status: u16,
        (received, sent): (u64, u64),
        time: Duration,
    ) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry((tag, status / 100)).or_default();
        count.requests += 1;
        count.received += received;
        count.sent += sent;
        count.time += time;
    }

    /// All of it as text.
    pub(crate) fn text(&self) -> String {
        let counts = self
            .counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut text = String::from(
            "# HELP nginx_vts_upstream_requests_total Requests by what they were for\n\
             # TYPE nginx_vts_upstream_requests_total counter\n",
        );
        let mut all: BTreeMap<u16, Count> = BTreeMap::new();
        for ((tag, class), count) in &counts {
            let requests = count.requests;
            text.push_str(&format!(
                "nginx_vts_upstream_requests_total{{upstream=\"{tag}\",code=\"{class}xx\"}} {requests}\n"
            ));
            let sum = all.entry(*class).or_default();
            sum.requests += requests;
            sum.received += count.received;
            sum.sent += count.sent;
            sum.time += count.time;
        }
        text.push_str("# TYPE nginx_vts_server_requests_total counter\n");
        for (class, count) in &all {
            let requests = count.requests;
            text.push_str(&format!(
                "nginx_vts_server_requests_total{{host=\"*\",code=\"{class}xx\"}} {requests}\n"
            ));
        }
        let (received, sent) = all.values().fold((0, 0), |(received, sent), count| {
            (received + count.received, sent + count.sent)
        });
        let seconds: f64 = all.values().map(|count| count.time.as_secs_f64()).sum();
        text.push_str(&format!(
            "# TYPE nginx_vts_server_bytes_total counter\n\
             nginx_vts_server_bytes_total{{host=\"*\",direction=\"in\"}} {received}\n\
             nginx_vts_server_bytes_total{{host=\"*\",direction=\"out\"}} {sent}\n\
             # TYPE nginx_vts_server_request_seconds_total counter\n\
             nginx_vts_server_request_seconds_total{{host=\"*\"}} {seconds}\n\
             # HELP dcos_router_relayed_requests_total Requests that took the short way\n\
             # TYPE dcos_router_relayed_requests_total counter\n\
             dcos_router_relayed_requests_total {}\n",
            self.relayed.load(Ordering::Relaxed)
        ));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_by_tag_and_class() {
        let counters = Counters::default();
        counters.count("Mesos", 200, (1, 10), Duration::from_millis(500));
        counters.count("Mesos", 204, (1, 10), Duration::from_millis(500));
        counters.count("Service", 502, (0, 5), Duration::ZERO);
        let text = counters.text();
        for line in [
            "nginx_vts_upstream_requests_total{upstream=\"Mesos\",code=\"2xx\"} 2",
            "nginx_vts_upstream_requests_total{upstream=\"Service\",code=\"5xx\"} 1",
            "nginx_vts_server_requests_total{host=\"*\",code=\"2xx\"} 2",
            "nginx_vts_server_bytes_total{host=\"*\",direction=\"out\"} 25",
            "nginx_vts_server_request_seconds_total{host=\"*\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
    }
}
