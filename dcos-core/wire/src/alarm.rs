//! Deadlines of whoever is polled often.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Rings when somebody has waited for too long. It is not set anew for each who waits: a later deadline than the one before
/// is looked at when that has come.
#[derive(Debug, Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `deadline` has passed. It may be another one each time.
    pub fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = || Box::pin(sleep_until(deadline));
        let alarm = self.0.get_or_insert_with(sleep);
        if alarm.deadline() > deadline {
            alarm.as_mut().reset(deadline);
        }
        loop {
            ready!(alarm.as_mut().poll(cx));
            if alarm.deadline() >= deadline {
                return Poll::Ready(());
            }
            alarm.as_mut().reset(deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_alarm_rings_for_each_in_time() {
        let mut alarm = Alarm::default();
        let mut wait = async |seconds| {
            let begun = Instant::now();
            let deadline = begun + Duration::from_secs(seconds);
            poll_fn(|cx| alarm.poll(deadline, cx)).await;
            begun.elapsed().as_secs()
        };
        // Somebody who does not wait for it.
        let _ = timeout(Duration::from_secs(1), wait(30)).await;
        for seconds in [10, 5, 60, 0, 7] {
            assert_eq!(wait(seconds).await, seconds);
        }
        let _ = timeout(Duration::from_secs(1), wait(5)).await;
        assert_eq!(wait(40).await, 40);
    }
}
