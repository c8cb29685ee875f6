//! Showing the master who this agent is, before it registers: CRAM-MD5 over libprocess messages.
//!
//! Source: Mesos 1.11 `Slave::authenticate`, `src/authentication/cram_md5/authenticatee.cpp`.
//! Departures: the agent's own actor speaks, where the original starts one for each try; only the
//! master's process is listened to.

use std::time::Duration;

use dcos_core::time::Time;
use dcos_proto::internal::{
    AuthenticateMessage, AuthenticationStartMessage, AuthenticationStepMessage,
};
use dcos_security::Credential;
use dcos_security::cram_md5::{Client, Step};

use super::core::Agent;
use super::registration::Registration;
use super::security::Patience;
use super::words::Action;

/// Where the agent stands with the master it wants to register with.
#[derive(Debug)]
pub(super) struct Authentication {
    credential: Option<Credential>,
    patience: Patience,
    /// The most time the next try may take.
    longest: Duration,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// It has to show itself; or nobody asks it to.
    Needed,
    /// The master was asked, and has until then to answer.
    Running(Client, Time),
    /// The master knows it.
    Done,
}

/// What is to be done before a registration.
pub(super) enum Standing {
    /// Nothing.
    Ready,
    /// Ask the master, and give it this long.
    Ask(Duration),
    /// Wait for the master's answer.
    Wait(Time),
}

impl Authentication {
    pub(super) fn new(credential: Option<Credential>, patience: Patience) -> Self {
        Self {
            credential,
            patience,
            longest: first(patience),
            stage: Stage::Needed,
        }
    }

    /// Another master, or the same anew: nothing is known there.
    pub(super) fn reset(&mut self) {
        self.stage = Stage::Needed;
        self.longest = first(self.patience);
    }

    /// The connection broke before the agent was admitted: another process may be there by now, to which nothing was
    /// proved, and which would not answer.
    pub(super) fn doubt(&mut self) {
        if matches!(self.stage, Stage::Done) {
            self.stage = Stage::Needed;
        }
    }

    /// What is to be done at `now`; `chance` is a number from 0 to 1.
    pub(super) fn standing(&mut self, now: Time, chance: f64) -> Standing {
        let Some(credential) = &self.credential else {
            return Standing::Ready;
        };
        match &self.stage {
            Stage::Done => Standing::Ready,
            Stage::Running(_, until) if !until.is_due(now) => Standing::Wait(*until),
            stage => {
                let min = self.patience.min;
                if matches!(stage, Stage::Running(..)) {
                    let grown = min + self.longest.saturating_sub(min) * 2;
                    self.longest = grown.min(self.patience.max).max(min);
                }
                let time = min + self.longest.saturating_sub(min).mul_f64(chance);
                let time = time.max(Duration::from_millis(1));
                self.stage = Stage::Running(Client::new(credential.clone()), now + time);
                Standing::Ask(time)
            }
        }
    }

    fn client(&mut self) -> Option<&mut Client> {
        match &mut self.stage {
            Stage::Running(client, _) => Some(client),
            Stage::Needed | Stage::Done => None,
        }
    }
}

fn first(patience: Patience) -> Duration {
    (patience.min + patience.factor * 2).min(patience.max)
}

impl Agent {
    /// Asks `master` for a session.
    pub(super) fn ask_authentication(&mut self, master: String) {
        let message = AuthenticateMessage {
            pid: self.settings.pid.clone(),
        };
        self.send(master, message);
    }

    pub(super) fn authentication_mechanisms(&mut self, from: String, offered: &[String]) {
        if self.is_master_process(&from)
            && let Some(client) = self.authentication.client()
            && let Step::Start { mechanism } = client.mechanisms(offered)
        {
            let message = AuthenticationStartMessage {
                mechanism,
                data: Some(Vec::new()),
            };
            self.send(from, message);
        }
    }

    pub(super) fn authentication_step(&mut self, from: String, challenge: &[u8]) {
        if self.is_master_process(&from)
            && let Some(client) = self.authentication.client()
            && let Step::Answer(data) = client.step(challenge)
        {
            self.send(from, AuthenticationStepMessage { data });
        }
    }

    /// The master knows this agent now: it registers at once.
    pub(super) fn authentication_completed(&mut self, now: Time, from: &str) {
        let done = self.is_master_process(from)
            && self.authentication.client().is_some_and(Client::completed);
        if done {
            self.authentication.stage = Stage::Done;
            if let Registration::Joining { next, .. } = &mut self.registration {
                *next = now;
            }
            self.registration_due(now);
        }
    }

    /// The master does not take the credential. What runs goes on, without an agent.
    pub(super) fn authentication_failed(&mut self, from: &str) {
        if self.is_master_process(from) && self.authentication.client().is_some() {
            let reason = format!("the master {from} refused authentication");
            self.act(Action::Stop {
                reason,
                fresh: false,
            });
        }
    }

    /// Whether an actor is in the process of the master this agent wants to register with.
    fn is_master_process(&self, from: &str) -> bool {
        let address = |pid: &str| pid.rsplit_once('@').map(|(_, address)| address.to_owned());
        let master = self.registration.master().and_then(address);
        master.is_some() && master == address(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_grows_up_to_its_end() {
        let patience = Patience {
            min: Duration::from_secs(5),
            max: Duration::from_secs(20),
            factor: Duration::from_secs(1),
        };
        let credential = Some(Credential::new("a", "s"));
        let mut authentication = Authentication::new(credential, patience);
        let mut now = Time::default();
        let mut times = Vec::new();
        for _ in 0..6 {
            let Standing::Ask(time) = authentication.standing(now, 1.0) else {
                panic!("it has to ask")
            };
            let waits = authentication.standing(now, 1.0);
            assert!(matches!(waits, Standing::Wait(until) if until == now + time));
            times.push(time.as_secs());
            now += time;
        }
        assert_eq!(times, [7, 9, 13, 20, 20, 20]);
        authentication.reset();
        let again = authentication.standing(now, 0.0);
        assert!(matches!(again, Standing::Ask(time) if time == patience.min));
    }

    #[test]
    fn what_was_proved_to_a_process_that_is_gone_is_proved_again() {
        let credential = Some(Credential::new("a", "s"));
        let mut authentication = Authentication::new(credential, Patience::default());
        let now = Time::default();
        assert!(matches!(
            authentication.standing(now, 0.5),
            Standing::Ask(_)
        ));
        authentication.doubt();
        let waits = authentication.standing(now, 0.5);
        assert!(matches!(waits, Standing::Wait(_)), "it is under way");
        authentication.stage = Stage::Done;
        assert!(matches!(authentication.standing(now, 0.5), Standing::Ready));
        authentication.doubt();
        assert!(matches!(
            authentication.standing(now, 0.5),
            Standing::Ask(_)
        ));
    }

    #[test]
    fn without_a_credential_there_is_nothing_to_do() {
        let mut authentication = Authentication::new(None, Patience::default());
        let standing = authentication.standing(Time::default(), 0.5);
        assert!(matches!(standing, Standing::Ready));
    }
}
