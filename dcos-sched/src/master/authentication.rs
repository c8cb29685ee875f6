//! How v0 drivers and agents prove who they are: CRAM-MD5 over libprocess messages.
//!
//! Source: Mesos 1.11 `Master::authenticate`, `Master::validateFrameworkAuthentication`. Departures:
//! the messages come from and go to the master's own actor, where the original starts one for each
//! session (clients answer whoever speaks to them); who speaks for a client has to speak from the
//! same address.

use std::collections::BTreeMap;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_proto::internal::{
    AuthenticateMessage, AuthenticationCompletedMessage, AuthenticationErrorMessage,
    AuthenticationFailedMessage, AuthenticationMechanismsMessage, AuthenticationStartMessage,
    AuthenticationStepMessage, RegisterFrameworkMessage, RegisterSlaveMessage,
    ReregisterFrameworkMessage, ReregisterSlaveMessage,
};
use dcos_proto::mesos::{AgentInfo, FrameworkInfo};
use dcos_proto::scheduler::Call;
use dcos_proto::{Message, decode};
use dcos_security::cram_md5::{MECHANISM, Progress, Server, Verdict};

use super::core::Timer;
use super::{Action, Master, Packet};

/// Registrations of one client that wait for the end of its session; it repeats them anyway.
const MAX_WAITING: usize = 16;

/// Who has authenticated, and who is about to.
#[derive(Debug)]
pub(crate) struct Authentication {
    challenges: Seed,
    /// By the UPID of the driver or agent.
    sessions: BTreeMap<String, Session>,
    /// Clients by the actors that speak for them in open sessions.
    speakers: BTreeMap<String, String>,
    /// What was proved, by UPID.
    authenticated: BTreeMap<String, Proof>,
}

#[derive(Debug)]
struct Proof {
    principal: String,
    /// Whether somebody was registered with it. Until then it outlasts its connection: whoever is about to register does
    /// not prove itself again.
    spent: bool,
}

#[derive(Debug)]
struct Session {
    /// The actor that speaks for the client.
    speaker: String,
    server: Server,
    deadline: Time,
    /// What the client sent meanwhile.
    waiting: Vec<Packet>,
}

impl Authentication {
    pub(crate) fn new(seed: &Seed) -> Self {
        Self {
            challenges: seed.stream("challenges"),
            sessions: BTreeMap::new(),
            speakers: BTreeMap::new(),
            authenticated: BTreeMap::new(),
        }
    }

    /// Who speaks from a UPID, if that was proved.
    pub(crate) fn principal(&self, pid: &str) -> Option<&str> {
        self.authenticated.get(pid).map(|proof| &*proof.principal)
    }

    /// Whether somebody is authenticating from this UPID: other messages wait until that is over.
    pub(crate) fn is_open(&self, pid: &str) -> bool {
        self.sessions.contains_key(pid)
    }

    /// Somebody is registered under this UPID.
    pub(crate) fn spend(&mut self, pid: &str) {
        if let Some(proof) = self.authenticated.get_mut(pid) {
            proof.spent = true;
        }
    }

    /// The connection broke: whoever comes back under this UPID has to authenticate again, and what is under way ends.
    pub(crate) fn exited(&mut self, pid: &str) {
        if self.authenticated.get(pid).is_some_and(|proof| proof.spent) {
            self.authenticated.remove(pid);
        }
        self.close(pid);
        if let Some(client) = self.speakers.get(pid).cloned() {
            self.close(&client);
        }
    }

    fn open(&mut self, client: String, mut session: Session) {
        if let Some(before) = self.close(&client) {
            session.waiting = before.waiting;
        }
        self.speakers
            .insert(session.speaker.clone(), client.clone());
        self.sessions.insert(client, session);
    }

    fn close(&mut self, client: &str) -> Option<Session> {
        let session = self.sessions.remove(client)?;
        self.speakers.remove(&session.speaker);
        Some(session)
    }

    fn client_of(&self, speaker: &str) -> Option<String> {
        self.speakers.get(speaker).cloned()
    }
}

impl Master {
    /// Takes in a message about authentication, or keeps one that has to wait for its end.
    pub(crate) fn authentication_message(&mut self, from: &str, packet: &Packet) -> bool {
        match packet.name.as_str() {
            AuthenticateMessage::V0_NAME => {
                if let Ok(message) = decode::<AuthenticateMessage>(&packet.body) {
                    self.authenticate(from, message.pid);
                }
            }
            AuthenticationStartMessage::V0_NAME => {
                if let Ok(message) = decode::<AuthenticationStartMessage>(&packet.body) {
                    self.authentication_start(from, &message.mechanism);
                }
            }
            AuthenticationStepMessage::V0_NAME => {
                if let Ok(message) = decode::<AuthenticationStepMessage>(&packet.body) {
                    self.authentication_step(from, &message.data);
                }
            }
            RegisterFrameworkMessage::V0_NAME
            | ReregisterFrameworkMessage::V0_NAME
            | RegisterSlaveMessage::V0_NAME
            | ReregisterSlaveMessage::V0_NAME
            | Call::V0_NAME => {
                let Some(session) = self.authentication.sessions.get_mut(from) else {
                    return false;
                };
                if session.waiting.len() < MAX_WAITING {
                    session.waiting.push(packet.clone());
                }
            }
            _ => return false,
        }
        true
    }

    /// A driver or agent begins, or begins again.
    fn authenticate(&mut self, from: &str, client: String) {
        self.counters.messages_authenticate += 1;
        self.authentication.authenticated.remove(&client);
        if self.settings.security.credentials.is_none() {
            return self.authentication_error(from, "No authenticator loaded");
        }
        if address(from) != address(&client) {
            let text = "who authenticates has to speak from the client's own address";
            return self.authentication_error(from, text);
        }
        let nonce = self.authentication.challenges.uuid();
        let host = self.settings.info.hostname.as_deref().unwrap_or("master");
        let timeout = self.settings.security.authentication_timeout;
        let session = Session {
            speaker: from.to_owned(),
            server: Server::new(format!("<{nonce}@{host}>")),
            deadline: self.now + timeout,
            waiting: Vec::new(),
        };
        self.authentication.open(client.clone(), session);
        self.at(timeout, Timer::Authentication(client));
        self.push(Action::Link {
            pid: from.to_owned(),
        });
        let message = AuthenticationMechanismsMessage {
            mechanisms: vec![MECHANISM.to_owned()],
        };
        self.send(from, &message);
    }

    fn authentication_start(&mut self, from: &str, mechanism: &str) {
        let Some(client) = self.authentication.client_of(from) else {
            return self.authentication_error(from, "Unexpected authentication 'start' received");
        };
        let Some(session) = self.authentication.sessions.get_mut(&client) else {
            return;
        };
        match session.server.start(mechanism) {
            Progress::Challenge(data) => self.send(from, &AuthenticationStepMessage { data }),
            Progress::Error(text) => {
                self.authentication_error(from, &text);
                self.end_session(&client);
            }
        }
    }

    fn authentication_step(&mut self, from: &str, answer: &[u8]) {
        let Some(client) = self.authentication.client_of(from) else {
            return self.authentication_error(from, "Unexpected authentication 'step' received");
        };
        let known = self.settings.security.credentials.as_ref();
        let Some((session, known)) = self.authentication.sessions.get_mut(&client).zip(known)
        else {
            return;
        };
        match session.server.step(answer, known) {
            Verdict::Completed(principal) => {
                self.authentication.authenticated.insert(
                    client.clone(),
                    Proof {
                        principal,
                        spent: false,
                    },
                );
                self.send(from, &AuthenticationCompletedMessage {});
            }
            Verdict::Failed => self.send(from, &AuthenticationFailedMessage {}),
            Verdict::Error(text) => self.authentication_error(from, &text),
        }
        self.end_session(&client);
    }

    fn authentication_error(&mut self, to: &str, text: &str) {
        let message = AuthenticationErrorMessage {
            error: Some(text.to_owned()),
        };
        self.send(to, &message);
    }

    /// The client took too long.
    pub(crate) fn authentication_expires(&mut self, client: &str) {
        let session = self.authentication.sessions.get(client);
        if session.is_some_and(|session| session.deadline.is_due(self.now)) {
            self.end_session(client);
        }
    }

    /// Takes in what the client sent while it authenticated.
    fn end_session(&mut self, client: &str) {
        if let Some(session) = self.authentication.close(client) {
            for packet in session.waiting {
                self.message(client, &packet);
            }
        }
    }

    /// Whether a driver may subscribe with this description; gives it its principal if it has none.
    pub(crate) fn check_driver(&self, pid: &str, info: &mut FrameworkInfo) -> Result<(), String> {
        let proved = self.authentication.principal(pid);
        if proved.is_none() && self.settings.security.authenticate_frameworks {
            return Err(format!("Framework at {pid} is not authenticated"));
        }
        match (proved, &info.principal) {
            (Some(proved), Some(own)) if proved != own => Err(format!(
                "Framework principal '{own}' does not match authenticated principal '{proved}'"
            )),
            (Some(proved), None) => {
                info.principal = Some(proved.to_owned());
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether an agent may register. One that may not is not answered, as in Mesos: it tries again.
    pub(crate) fn admits_agent(&mut self, pid: &str, info: &AgentInfo) -> bool {
        let proved = self.authentication.principal(pid);
        let unproved = proved.is_none() && self.settings.security.authenticate_agents;
        let admitted = !unproved && self.authorize_agent(proved, info).is_ok();
        if !admitted {
            self.refuse_agent();
        }
        admitted
    }
}

/// The address in a UPID.
fn address(pid: &str) -> Option<&str> {
    pid.rsplit_once('@').map(|(_, address)| address)
}
