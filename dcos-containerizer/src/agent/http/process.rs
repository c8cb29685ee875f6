//! What every libprocess process tells of itself, and the agent's list of what hangs.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use dcos_security::Caller;
use dcos_wire::{Refusal, reply};
use serde_json::json;

use super::Context;

/// `/containerizer/debug`: operations of the containerizer that have not ended. Ours are awaited
/// by the agent with timeouts of their own, and none is kept beside them.
pub(super) async fn debug(
    State(context): State<Context>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> Result<Response, Refusal> {
    context.allow_path(&caller, "/containerizer/debug")?;
    reply::jsonp(query.as_deref(), json!({ "pending": [] }).to_string())
}

/// `/system/stats.json`: load and memory of the node.
#[expect(clippy::cast_precision_loss, reason = "a load needs no more precision")]
pub(super) async fn statistics(RawQuery(query): RawQuery) -> Result<Response, Refusal> {
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
