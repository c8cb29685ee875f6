//! Frameworks that speak too often wait: `--rate_limits`.
//!
//! Source: Mesos 1.11 `Master::consume`. Departure: calls of API v1 are limited too; one too many
//! is answered with 429. Only what proves to come from a framework counts against it: whoever
//! merely knows its id is refused at once. What is not of a framework is limited in `http::turns`.

use dcos_proto::internal::FrameworkErrorMessage;
use dcos_proto::scheduler::call::Type;
use dcos_security::Admission;

use super::{Input, Master, Reply};

/// Whose capacity something takes: that of a principal, or of all who have none.
struct Speaker(Option<String>);

impl Master {
    /// The input, unless it has to wait or came too often.
    pub(crate) fn admit(&mut self, input: Input) -> Option<Input> {
        if self.throttle.is_none() || !self.recovered {
            return Some(input);
        }
        let Some(Speaker(principal)) = self.speaker(&input) else {
            return Some(input);
        };
        let principal = principal.as_deref();
        let throttle = self.throttle.as_mut()?;
        let admission = match &input {
            // That a framework is gone has to be learnt, and not before what it said last.
            Input::Exited { .. } => throttle.admit_always(self.now, principal, input),
            _ => throttle.admit(self.now, principal, input),
        };
        match admission {
            Admission::Now(input) => Some(input),
            Admission::Later => None,
            Admission::Exceeded { item, capacity } => {
                self.exceeded(item, capacity);
                None
            }
        }
    }

    /// Whose capacity an input takes; `None` if nobody's.
    fn speaker(&self, input: &Input) -> Option<Speaker> {
        let of = |id| {
            let known = self.frameworks.get(id)?;
            Some(Speaker(known.info.principal.clone()))
        };
        match input {
            Input::Message { from: pid, .. } | Input::Exited { pid } => of(self.pids.get(pid)?),
            // It belongs to no stream yet: whoever authenticated speaks for itself.
            Input::Call {
                principal, call, ..
            } if call.r#type() == Type::Subscribe => {
                principal.clone().map(|name| Speaker(Some(name)))
            }
            Input::Call {
                stream_id,
                principal,
                call,
                ..
            } => {
                let id = call.framework_id.as_ref()?;
                let own = self.check_stream(id, stream_id.as_deref(), principal.as_deref());
                own.ok().and_then(|()| of(id))
            }
            _ => None,
        }
    }

    fn exceeded(&mut self, input: Input, capacity: u64) {
        self.counters.dropped_messages += 1;
        match input {
            Input::Message { from, message } => {
                // This aborts the driver.
                let message = format!(
                    "Message {} dropped: capacity({capacity}) exceeded",
                    message.name
                );
                self.send(&from, &FrameworkErrorMessage { message });
            }
            Input::Call { request, .. } => {
                let text = format!("Call dropped: capacity({capacity}) exceeded");
                self.reply(request, Reply::refused(429, text));
            }
            _ => {}
        }
    }

    /// Takes in what has waited long enough.
    pub(crate) fn release(&mut self) {
        while let Some(input) = self
            .throttle
            .as_mut()
            .and_then(|throttle| throttle.poll(self.now))
        {
            self.take_in(input);
        }
    }
}
