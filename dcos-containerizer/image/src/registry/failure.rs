//! What a registry's refusal means.

use std::io;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;

use crate::ImageError;

/// Of what a registry says, so many characters are told.
const TOLD: usize = 300;

/// Nobody is waited for longer: another may have the image.
const MOST: Duration = Duration::from_secs(15);

/// Why something could not be had of a registry.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It cannot be spoken with.
    #[error(transparent)]
    Request(reqwest::Error),
    /// The disk, or an answer that ended early.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its answer is no success.
    #[error("{url} answers {code}{}{said}", if said.is_empty() { "" } else { ": " })]
    Status {
        code: u16,
        url: String,
        /// Reasons by their names, `MANIFEST_UNKNOWN` and the like.
        reasons: Vec<String>,
        /// The same for people.
        said: String,
        /// How many seconds it wants to be left alone (`Retry-After`).
        after: Option<u64>,
    },
    /// It does not let us in.
    #[error("{0}")]
    Denied(String),
    /// Nobody's answer is as large.
    #[error("{what} has more than the {most} bytes that it may have")]
    TooLarge { what: &'static str, most: usize },
    /// It is not what it should be.
    #[error("{0}")]
    Odd(String),
    /// There is nothing for this machine among what it has.
    #[error("there is none for linux/{0}")]
    OtherMachines(&'static str),
}

impl From<reqwest::Error> for Failure {
    fn from(mut error: reqwest::Error) -> Self {
        // It may hold a signature.
        if let Some(url) = error.url_mut() {
            url.set_query(None);
        }
        Self::Request(error)
    }
}

#[derive(Deserialize)]
struct Envelope {
    errors: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    code: String,
    #[serde(default)]
    message: String,
}

impl Failure {
    /// Of an answer with this body, which asked for so many seconds' peace.
    pub(super) fn status(code: u16, url: &Url, after: Option<u64>, body: &[u8]) -> Self {
        let envelope: Option<Envelope> = serde_json::from_slice(body).ok();
        let reasons = envelope.map(|envelope| envelope.errors);
        let said = match &reasons {
            Some(reasons) => {
                let of = |one: &Reason| match one.message.as_str() {
                    "" => one.code.clone(),
                    message => message.to_owned(),
                };
                reasons.iter().map(of).collect::<Vec<_>>().join("; ")
            }
            None => String::from_utf8_lossy(body).trim().to_owned(),
        };
        let plain = |one: char| if one.is_control() { ' ' } else { one };
        let mut url = url.clone();
        url.set_query(None);
        Self::Status {
            code,
            url: url.into(),
            reasons: reasons
                .into_iter()
                .flatten()
                .map(|reason| reason.code)
                .collect(),
            said: said.chars().take(TOLD).map(plain).collect(),
            after,
        }
    }

    /// Whether it may work when asked again.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Request(error) => !(error.is_builder() || error.is_redirect()),
            Self::Io(error) => !is_full(error),
            Self::Status { code, reasons, .. } => {
                *code == 429 || *code >= 500 || reasons.iter().any(|one| one == "TOOMANYREQUESTS")
            }
            _ => false,
        }
    }

    /// How long to wait before it is asked again: `pause`, or as long as it wants, up to [`MOST`].
    pub(super) fn pause(&self, pause: Duration) -> Duration {
        match self {
            Self::Status {
                after: Some(seconds),
                ..
            } => pause.max(Duration::from_secs(*seconds).min(MOST)),
            _ => pause,
        }
    }

    /// In words that tell what to do: the image `name`, asked for at `registry`.
    pub(super) fn told(&self, name: &str, registry: &str) -> ImageError {
        let (name, registry) = (name.to_owned(), registry.to_owned());
        let why = chain(self);
        match self {
            Self::Status { code, reasons, .. } if !self.is_passing() => {
                let has = |wanted: &[&str]| reasons.iter().any(|one| wanted.contains(&&**one));
                if *code == 404 || has(&["MANIFEST_UNKNOWN", "NAME_UNKNOWN", "NOT_FOUND"]) {
                    let place = format!("registry {registry}");
                    ImageError::NotFound { name, place }
                } else if matches!(code, 401 | 403) || has(&["UNAUTHORIZED", "DENIED"]) {
                    ImageError::Refused {
                        name,
                        registry,
                        why,
                    }
                } else {
                    ImageError::Registry {
                        name,
                        registry,
                        why,
                    }
                }
            }
            Self::Denied(_) => ImageError::Refused {
                name,
                registry,
                why,
            },
            Self::OtherMachines(machine) => ImageError::NotFound {
                name: format!("{name} (linux/{machine})"),
                place: format!("registry {registry}"),
            },
            Self::Odd(_) => ImageError::Corrupt { name, why },
            Self::TooLarge { .. } => ImageError::Corrupt {
                why: format!(
                    "{why}; registry {registry} is broken, or not to be trusted: have another asked before it \
                     (`--docker_registry_mirrors`), or pull from that by name"
                ),
                name,
            },
            Self::Request(_) | Self::Io(_) | Self::Status { .. } => ImageError::Registry {
                name,
                registry,
                why,
            },
        }
    }
}

/// Whether a disk has no room left.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// An error and its causes, each told once.
fn chain(failure: &Failure) -> String {
    let mut text = failure.to_string();
    let mut source = std::error::Error::source(failure);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
