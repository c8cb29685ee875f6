//! Another way to know who sends a request: a header that a proxy in front sets.
//!
//! Run: `cargo run -p examples --example custom_authenticator`
//!
//! ```text
//! with the header:    Authenticated(Principal { value: Some("ada"), claims: {} })
//! without:            Unauthorized { challenge: "Proxy realm=\"cluster\"", text: "401 Unauthorized." }
//! ```
//!
//! A master takes it in its `Config`: `config.http.readwrite = Some(Arc::new(...))`.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use async_trait::async_trait;
use dcos_security::{Authenticator, Outcome, Principal, Secret};
use http::Request;
use http::header::AUTHORIZATION;
use http::request::Parts;

/// Believes `Authorization: Proxy <shared secret> <user>`.
#[derive(Debug)]
struct BehindProxy {
    secret: Secret,
}

#[async_trait]
impl Authenticator for BehindProxy {
    fn scheme(&self) -> &'static str {
        "Proxy"
    }

    async fn authenticate(&self, request: &Parts) -> Outcome {
        let shown = request.headers.get(AUTHORIZATION);
        let shown = shown
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        match shown.split(' ').collect::<Vec<_>>()[..] {
            ["Proxy", secret, user] if self.secret.matches(secret.as_bytes()) => {
                Outcome::Authenticated(Principal::new(user))
            }
            _ => Outcome::challenge("Proxy realm=\"cluster\""),
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let authenticator = BehindProxy {
        secret: Secret::from("between-us"),
    };
    let request = Request::get("/state").header(AUTHORIZATION, "Proxy between-us ada");
    let (request, ()) = request.body(())?.into_parts();
    let found = authenticator.authenticate(&request).await;
    println!("with the header:    {found:?}");
    let (bare, ()) = Request::get("/state").body(())?.into_parts();
    let found = authenticator.authenticate(&bare).await;
    println!("without:            {found:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use dcos_security::testkit::authenticator::{Case, all};
    use http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn it_keeps_the_promises() {
        let case = Case {
            good: HeaderValue::from_static("Proxy between-us ada"),
            bad: HeaderValue::from_static("Proxy guessed ada"),
            principal: Principal::new("ada"),
            secret: "between-us",
        };
        let secret = Secret::from("between-us");
        all(&BehindProxy { secret }, &case).await;
    }
}
