//! The agent's list of what hangs.

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
