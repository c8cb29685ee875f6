//! What a registry's refusal means.

use std::io;

use oci_client::Reference;
use oci_client::errors::{OciDistributionError as Failure, OciErrorCode as Code};

use crate::ImageError;

/// Whether it may work when asked again.
pub(super) fn is_passing(failure: &Failure) -> bool {
    match failure {
        Failure::RequestError(error) => !error.is_builder(),
        Failure::IoError(error) => !is_full(error),
        Failure::ServerError { code, .. } => *code == 429 || *code >= 500,
        Failure::RegistryError { envelope, .. } => {
            let codes = envelope.errors.iter().map(|error| &error.code);
            codes.into_iter().any(|code| *code == Code::Toomanyrequests)
        }
        _ => false,
    }
}

/// Whether a disk has no room left.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// The failure in words that tell what to do.
pub(super) fn told(reference: &Reference, registry: &str, failure: &Failure) -> ImageError {
    let (name, registry) = (reference.to_string(), registry.to_owned());
    let refused = |why: String| ImageError::Refused {
        name: name.clone(),
        registry: registry.clone(),
        why,
    };
    let missing = || ImageError::NotFound {
        name: name.clone(),
        place: format!("registry {registry}"),
    };
    match failure {
        Failure::AuthenticationFailure(why) => refused(why.clone()),
        Failure::ImageManifestNotFoundError(_) | Failure::ServerError { code: 404, .. } => {
            missing()
        }
        Failure::UnauthorizedError { .. }
        | Failure::ServerError {
            code: 401 | 403, ..
        } => refused("not authorized".to_owned()),
        Failure::RegistryError { envelope, .. } => {
            let has = |wanted: &[Code]| {
                let codes = envelope.errors.iter().map(|error| &error.code);
                codes.into_iter().any(|code| wanted.contains(code))
            };
            if has(&[Code::ManifestUnknown, Code::NameUnknown, Code::NotFound]) {
                missing()
            } else if has(&[Code::Unauthorized, Code::Denied]) {
                refused(chain(failure))
            } else {
                ImageError::Registry {
                    why: chain(failure),
                    name,
                    registry,
                }
            }
        }
        Failure::DigestError(_)
        | Failure::ManifestParsingError(_)
        | Failure::VersionedParsingError(_)
        | Failure::UnsupportedMediaTypeError(_)
        | Failure::UnsupportedSchemaVersionError(_) => ImageError::Corrupt {
            why: chain(failure),
            name,
        },
        Failure::ImageIndexParsingNoPlatformResolverError => ImageError::NotFound {
            name: format!("{name} ({})", std::env::consts::ARCH),
            place: format!("registry {registry}"),
        },
        _ => ImageError::Registry {
            why: chain(failure),
            name,
            registry,
        },
    }
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
