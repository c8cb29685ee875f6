//! How often metrics may be read, as libprocess lets operators say it.
//!
//! Source: libprocess `metrics/metrics.cpp`. Departures: without the variable there is no limit (there 2 requests a second,
//! since each makes the whole process wait), and of those that wait there is a bound.

use dcos_security::{Rate, RateLimits};

/// The variable: `10/1secs`, or empty for no limit.
const VARIABLE: &str = "LIBPROCESS_METRICS_SNAPSHOT_ENDPOINT_RATE_LIMIT";
/// How many readers may wait; a further one is refused.
const WAITING: u64 = 1000;

/// What the environment says about `/metrics/snapshot`.
///
/// # Errors
/// The variable is no rate.
pub fn metrics_limit() -> anyhow::Result<RateLimits> {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    if text.is_empty() {
        return Ok(RateLimits::default());
    }
    let rate = parse(&text);
    rate.ok_or_else(|| {
        anyhow::anyhow!("{VARIABLE}={text} (format is <number of requests>/<interval duration>)")
    })
    .map(RateLimits::for_all)
}

fn parse(text: &str) -> Option<Rate> {
    let (requests, interval) = text.split_once('/')?;
    let requests: u32 = requests.trim().parse().ok()?;
    let interval = dcos_core::units::parse_duration(interval.trim()).ok()?;
    if requests == 0 || interval.is_zero() {
        return None;
    }
    Some(Rate {
        qps: f64::from(requests) / interval.as_secs_f64(),
        capacity: Some(WAITING),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_requests_in_a_time() {
        let qps = |text| parse(text).map(|rate| rate.qps);
        assert_eq!(qps("10/1secs"), Some(10.0));
        assert_eq!(qps("1/2secs"), Some(0.5));
        for wrong in ["10", "0/1secs", "x/1secs", "1/soon", "1/0secs", "1/1secs/1"] {
            assert_eq!(qps(wrong), None, "{wrong}");
        }
    }
}
