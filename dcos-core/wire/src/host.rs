//! `/system/stats.json`: load and memory of the host, as every libprocess process tells them.
//!
//! Source: Mesos 1.11 `3rdparty/libprocess/include/process/system.hpp`.

use axum::Router;
use axum::extract::RawQuery;
use axum::response::Response;
use axum::routing::any;
use serde_json::json;

use crate::{Refusal, reply};

/// The route, for any server.
pub fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/system/stats.json", any(statistics))
}

#[expect(clippy::cast_precision_loss, reason = "a load needs no more precision")]
async fn statistics(RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let info = rustix::system::sysinfo();
    let unit = u64::from(info.mem_unit);
    // The kernel counts in 65536ths.
    let [one, five, fifteen] = info.loads.map(|load| load as f64 / 65536.0);
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let document = json!({
        "avg_load_1min": one,
        "avg_load_5min": five,
        "avg_load_15min": fifteen,
        "cpus_total": cpus,
        "mem_total_bytes": info.totalram * unit,
        "mem_free_bytes": info.freeram * unit,
    });
    reply::jsonp(query.as_deref(), document.to_string())
}
