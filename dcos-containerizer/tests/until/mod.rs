//! Waiting for what a container does.

use std::time::Duration;

/// Returns as soon as `condition` holds; fails if it does not for half a minute.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen");
}
