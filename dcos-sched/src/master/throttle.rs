//! Frameworks that speak too often wait: `--rate_limits`.
//!
//! Source: Mesos 1.11 `Master::consume`. Departure: calls of API v1 are limited too; one too many
//! is answered with 429. Only what proves to come from a framework counts against it: whoever
//! merely knows its id is refused at once. What is not of a framework is limited in `http::turns`.
//!
//! Of whom nobody knows who they are (who subscribe without having authenticated) wait apart from all others, as long as
//! the default says: they take nothing of what frameworks may say. One too many is dropped, and tries again.

use dcos_proto::Message as _;
use dcos_proto::internal::{
    FrameworkErrorMessage, RegisterFrameworkMessage, ReregisterFrameworkMessage,
};
use dcos_proto::scheduler::Call;
use dcos_proto::scheduler::call::Type;
use dcos_security::{Admission, Throttle};

use super::{Input, Master, Reply};

/// By what a driver becomes a framework.
const SUBSCRIBING: [&str; 3] = [
    Call::V0_NAME,
    RegisterFrameworkMessage::V0_NAME,
    ReregisterFrameworkMessage::V0_NAME,
];

/// Whose capacity something takes: that of a principal, or of all who have none.
struct Speaker(Option<String>);

impl Master {
    /// The input, unless it has to wait or came too often.
    pub(crate) fn admit(&mut self, input: Input) -> Option<Input> {
        if self.throttle.is_none() || !self.recovered {
            return Some(input);
        }
        if self.is_strange(&input) {
            return self.admit_stranger(input);
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

    /// Whether it wants to become a framework, and has not authenticated.
    fn is_strange(&self, input: &Input) -> bool {
        match input {
            Input::Call {
                principal, call, ..
            } => principal.is_none() && call.r#type() == Type::Subscribe,
            Input::Message { from, message } => {
                let known =
                    self.pids.contains_key(from) || self.authentication.principal(from).is_some();
                !known && SUBSCRIBING.contains(&&*message.name)
            }
            _ => false,
        }
    }

    fn admit_stranger(&mut self, input: Input) -> Option<Input> {
        let now = self.now;
        let Some(strangers) = &mut self.strangers else {
            return Some(input);
        };
        match strangers.admit(now, None, input) {
            Admission::Now(input) => return Some(input),
            Admission::Later => {}
            Admission::Exceeded { item, capacity } => match item {
                Input::Call { .. } => self.exceeded(item, capacity),
                // An answer would abort a driver, which comes back by itself.
                _ => self.counters.dropped_messages += 1,
            },
        }
        None
    }

    /// Whose capacity an input takes; `None` if nobody's.
    fn speaker(&self, input: &Input) -> Option<Speaker> {
        let of = |id| {
            let known = self.frameworks.get(id)?;
            Some(Speaker(known.info.principal.clone()))
        };
        match input {
            Input::Message { from: pid, .. }
            | Input::Returning { from: pid, .. }
            | Input::Exited { pid } => of(self.pids.get(pid)?),
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
        let input = match input {
            Input::Returning { from, returning } => Input::Message {
                from,
                message: returning.into_packet(),
            },
            input => input,
        };
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
        let now = self.now;
        let next = |throttle: &mut Option<Throttle<Input>>| throttle.as_mut()?.poll(now);
        while let Some(input) = next(&mut self.throttle).or_else(|| next(&mut self.strangers)) {
            self.take_in(input);
        }
    }
}
