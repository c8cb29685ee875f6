//! CRAM-MD5 (RFC 2195) as libmesos drivers and agents speak it over libprocess: both sides as state
//! machines.
//!
//! ```text
//! client                                        server
//! AuthenticateMessage{pid}            ─►
//!                                     ◄─  AuthenticationMechanismsMessage{["CRAM-MD5"]}
//! AuthenticationStartMessage{mechanism} ─►
//!                                     ◄─  AuthenticationStepMessage{challenge}
//! AuthenticationStepMessage{answer}   ─►
//!                                     ◄─  Completed, Failed (no such secret) or Error{text}
//! ```
//!
//! The answer is the principal, a blank, and HMAC-MD5 of the challenge under the secret in hex: the
//! secret itself never travels. What is proved holds for the sender's address only; that nobody
//! else speaks from there is up to the network, or to TLS.
//!
//! Source: Mesos 1.11 `src/authentication/cram_md5/`.
//!
//! ```
//! use dcos_security::cram_md5::{Client, MECHANISM, Progress, Server, Step, Verdict};
//! use dcos_security::{Credential, Credentials};
//!
//! let mut client = Client::new(Credential::new("ops", "secret"));
//! let mut server = Server::new("<1896.697170952@master>");
//! let known: Credentials = [Credential::new("ops", "secret")].into_iter().collect();
//!
//! let Step::Start { mechanism } = client.mechanisms(&[MECHANISM]) else { panic!() };
//! let Progress::Challenge(challenge) = server.start(&mechanism) else { panic!() };
//! let Step::Answer(answer) = client.step(&challenge) else { panic!() };
//! assert_eq!(server.step(&answer, &known), Verdict::Completed("ops".into()));
//! ```

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;

use crate::{Credential, Credentials, Secret};

/// The mechanism's name.
pub const MECHANISM: &str = "CRAM-MD5";

/// What a client says next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It begins with this mechanism.
    Start {
        /// Always [`MECHANISM`].
        mechanism: String,
    },
    /// It answers the challenge.
    Answer(Vec<u8>),
    /// The server said something that makes no sense now.
    Error(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Stepping,
    Over,
}

/// Proves who it is.
#[derive(Debug, Clone)]
pub struct Client {
    credential: Credential,
    stage: Stage,
}

impl Client {
    /// One that has just sent its `AuthenticateMessage`.
    pub fn new(credential: Credential) -> Self {
        Self {
            credential,
            stage: Stage::Starting,
        }
    }

    /// Takes in what the server offers.
    pub fn mechanisms<S: AsRef<str>>(&mut self, offered: &[S]) -> Step {
        if self.stage != Stage::Starting {
            return self.error("Unexpected authentication 'mechanisms' received");
        }
        if !offered.iter().any(|name| name.as_ref() == MECHANISM) {
            return self.error("the master does not offer CRAM-MD5");
        }
        self.stage = Stage::Stepping;
        Step::Start {
            mechanism: MECHANISM.to_owned(),
        }
    }

    /// Takes in the challenge.
    pub fn step(&mut self, challenge: &[u8]) -> Step {
        if self.stage != Stage::Stepping {
            return self.error("Unexpected authentication 'step' received");
        }
        Step::Answer(answer(&self.credential, challenge))
    }

    /// Whether "completed" makes sense now: a server may only say so after it was answered.
    pub fn completed(&mut self) -> bool {
        std::mem::replace(&mut self.stage, Stage::Over) == Stage::Stepping
    }

    fn error(&mut self, text: &'static str) -> Step {
        self.stage = Stage::Over;
        Step::Error(text)
    }
}

/// What a server says to a client that begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// The challenge.
    Challenge(Vec<u8>),
    /// The session is over, for this reason.
    Error(String),
}

/// What a server says to an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is this principal.
    Completed(String),
    /// There is no such principal, or that is not its secret.
    Failed,
    /// The session is over, for this reason.
    Error(String),
}

/// Has somebody prove who they are. One session; the next one needs another challenge.
#[derive(Debug, Clone)]
pub struct Server {
    challenge: String,
    stage: Stage,
}

impl Server {
    /// A session with a challenge that nobody can have seen before: something random, in angle
    /// brackets.
    pub fn new(challenge: impl Into<String>) -> Self {
        Self {
            challenge: challenge.into(),
            stage: Stage::Starting,
        }
    }

    /// Takes in the mechanism the client chose.
    pub fn start(&mut self, mechanism: &str) -> Progress {
        if self.stage != Stage::Starting {
            self.stage = Stage::Over;
            return Progress::Error("Unexpected authentication 'start' received".to_owned());
        }
        if mechanism != MECHANISM {
            self.stage = Stage::Over;
            return Progress::Error(format!("SASL(-4): no mechanism available: {mechanism}"));
        }
        self.stage = Stage::Stepping;
        Progress::Challenge(self.challenge.clone().into_bytes())
    }

    /// Takes in the answer to the challenge.
    pub fn step(&mut self, answer: &[u8], known: &Credentials) -> Verdict {
        if std::mem::replace(&mut self.stage, Stage::Over) != Stage::Stepping {
            return Verdict::Error("Unexpected authentication 'step' received".to_owned());
        }
        match self.check(answer, known) {
            Some(principal) => Verdict::Completed(principal),
            None => Verdict::Failed,
        }
    }

    fn check(&self, answer: &[u8], known: &Credentials) -> Option<String> {
        // A principal may hold blanks; a digest doesn't.
        let blank = answer.iter().rposition(|byte| *byte == b' ')?;
        let principal = std::str::from_utf8(&answer[..blank]).ok()?;
        let nobody = Secret::default();
        let known = known.secret(principal);
        let secret = known.unwrap_or(&nobody);
        let expected = hex(&digest(secret, self.challenge.as_bytes()));
        let right = Secret::from(expected).matches(&answer[blank + 1..]);
        (right && known.is_some()).then(|| principal.to_owned())
    }
}

/// What a client answers to a challenge.
fn answer(credential: &Credential, challenge: &[u8]) -> Vec<u8> {
    let digest = hex(&digest(&credential.secret, challenge));
    format!("{} {digest}", credential.principal).into_bytes()
}

fn digest(secret: &Secret, challenge: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Md5>::new_from_slice(secret.expose());
    let mac = mac.expect("HMAC takes keys of any length");
    mac.chain_update(challenge).finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 2195.
    #[test]
    fn answers_as_the_rfc_does() {
        let tim = Credential::new("tim", "tanstaaftanstaaf");
        let challenge = b"<1896.697170952@postoffice.reston.mci.net>";
        let expected = b"tim b913a602c7eda7a495b4e6e7334d3890";
        assert_eq!(answer(&tim, challenge), expected);
    }

    #[test]
    fn wrong_secrets_unknown_names_and_replays_fail() {
        let known: Credentials = [Credential::new("a b", "s")].into_iter().collect();
        let check = |who: &str, secret: &str, challenge: &[u8]| {
            let mut server = Server::new("<1@m>");
            assert!(matches!(server.start(MECHANISM), Progress::Challenge(_)));
            server.step(&answer(&Credential::new(who, secret), challenge), &known)
        };
        assert_eq!(
            check("a b", "s", b"<1@m>"),
            Verdict::Completed("a b".into())
        );
        assert_eq!(check("a b", "t", b"<1@m>"), Verdict::Failed);
        assert_eq!(check("c", "s", b"<1@m>"), Verdict::Failed);
        assert_eq!(check("c", "", b"<1@m>"), Verdict::Failed);
        assert_eq!(check("a b", "s", b"<2@m>"), Verdict::Failed);
    }

    #[test]
    fn steps_out_of_order_end_the_session() {
        let known = Credentials::default();
        let mut server = Server::new("<1@m>");
        assert!(matches!(server.step(b"", &known), Verdict::Error(_)));
        assert!(matches!(server.start(MECHANISM), Progress::Error(_)));
        let mut server = Server::new("<1@m>");
        assert!(matches!(server.start("PLAIN"), Progress::Error(_)));
        let mut client = Client::new(Credential::new("a", "s"));
        assert!(matches!(client.step(b"x"), Step::Error(_)));
        let mut client = Client::new(Credential::new("a", "s"));
        assert!(!client.completed());
        assert!(matches!(client.mechanisms(&["PLAIN"]), Step::Error(_)));
    }
}
