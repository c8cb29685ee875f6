//! Authenticators in front of a router.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse as _, Response};
use dcos_wire::{Refusal, reply};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::WWW_AUTHENTICATE;
use http::request::Parts;
use http::{HeaderValue, Request, StatusCode};
use tower::{Layer, Service};

use crate::{Action, Authenticator, Authorizer, Object, Outcome, Principal};

/// Who sent a request: an extractor for axum handlers behind a [`Gate`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Caller(pub Option<Principal>);

impl Caller {
    /// Whoever was authenticated.
    pub fn principal(&self) -> Option<&Principal> {
        self.0.as_ref()
    }

    /// The name of whoever was authenticated.
    pub fn name(&self) -> Option<&str> {
        self.0.as_ref()?.value.as_deref()
    }

    /// Goes on only if the caller may do this.
    ///
    /// # Errors
    /// 403, as Mesos answers it.
    pub fn may(
        &self,
        authorizer: &dyn Authorizer,
        action: Action,
        object: &Object<'_>,
    ) -> Result<(), Refusal> {
        if authorizer.authorized(self.principal(), action, object) {
            Ok(())
        } else {
            Err(Refusal::forbidden("403 Forbidden."))
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// A layer that lets in who shows what the realm of the path demands.
///
/// Paths are sorted into realms by one function, so that a route nobody thought of falls into the
/// realm that function ends with, and not out of all of them. A realm without an authenticator is
/// open.
///
/// ```
/// use std::sync::Arc;
/// use dcos_security::{Basic, Credential, Credentials, Gate};
///
/// let known: Credentials = [Credential::new("ops", "s")].into_iter().collect();
/// let gate = Gate::new(|path| (path != "/health").then_some("private"))
///     .protect("private", Arc::new(Basic::new("private", known)));
/// let router: axum::Router = axum::Router::new().layer(gate);
/// ```
#[derive(Debug, Clone)]
pub struct Gate {
    realm_of: fn(&str) -> Option<&'static str>,
    realms: BTreeMap<&'static str, Arc<dyn Authenticator>>,
}

impl Gate {
    /// A gate that is open until realms are protected. `realm_of` says in which realm a path is;
    /// `None` is for those that are always open.
    pub fn new(realm_of: fn(&str) -> Option<&'static str>) -> Self {
        Self {
            realm_of,
            realms: BTreeMap::new(),
        }
    }

    /// Lets only those into `realm` whom `authenticator` knows.
    #[must_use]
    pub fn protect(mut self, realm: &'static str, authenticator: Arc<dyn Authenticator>) -> Self {
        self.realms.insert(realm, authenticator);
        self
    }

    /// Protects each realm that has somebody to guard it; the others stay open.
    #[must_use]
    pub fn protect_all(
        self,
        realms: impl IntoIterator<Item = (&'static str, Option<Arc<dyn Authenticator>>)>,
    ) -> Self {
        let guarded = realms
            .into_iter()
            .filter_map(|(realm, guard)| Some((realm, guard?)));
        guarded.fold(self, |gate, (realm, guard)| gate.protect(realm, guard))
    }

    /// Who guards the realm of a path.
    fn guard(&self, path: &str) -> Option<&Arc<dyn Authenticator>> {
        self.realms.get((self.realm_of)(path)?)
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        let gate = Arc::new(self.clone());
        Gated { gate, inner }
    }
}

/// A service behind a [`Gate`].
#[derive(Debug, Clone)]
pub struct Gated<S> {
    gate: Arc<Gate>,
    inner: S,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let Some(guard) = self.gate.guard(request.uri().path()).cloned() else {
            return self.inner.call(request).boxed();
        };
        // The clone takes the place of the one that is ready, which the future drives.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        async move {
            let (mut parts, body) = request.into_parts();
            match guard.authenticate(&parts).await {
                Outcome::Authenticated(principal) => {
                    parts.extensions.insert(Caller(Some(principal)));
                    inner.call(Request::from_parts(parts, body)).await
                }
                refusal => Ok(refused(refusal)),
            }
        }
        .boxed()
    }
}

fn refused(refusal: Outcome) -> Response {
    match refusal {
        Outcome::Unauthorized { challenge, text } => {
            let mut response = reply::text(StatusCode::UNAUTHORIZED, text);
            if let Ok(challenge) = HeaderValue::try_from(challenge) {
                response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
            }
            response
        }
        Outcome::Forbidden { text } => Refusal::forbidden(text).into_response(),
        Outcome::Unavailable { text } => Refusal::unavailable(text).into_response(),
        Outcome::Authenticated(_) => reply::empty(StatusCode::INTERNAL_SERVER_ERROR),
    }
}
