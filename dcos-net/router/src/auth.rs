//! Whether somebody may ask what they ask. A plug point; without one everybody may.

use std::fmt;

use async_trait::async_trait;
use axum::response::Response;
use dcos_wire::Peer;
use http::HeaderMap;

use crate::decide::Permission;

/// Says who may ask what.
///
/// # Contract
/// 1. It is asked once a request, after the route (and the service behind `/service`) is known and before anything of
///    what is behind it is shown, errors included. For [`Permission::Open`] it is not asked.
/// 2. It may change the headers, which are sent on as it leaves them: such as a cookie's token that becomes
///    `Authorization`.
/// 3. What it returns as an error is the answer to the client.
///
/// # Source
/// DC/OS 2.2 Admin Router `lib/auth/common.lua`: `Authorization: token=…`, then `Authorization: Bearer …`, then the
/// cookie `dcos-acs-auth-cookie`; 401 with `WWW-Authenticate: oauthjwt`, or 403.
#[async_trait]
pub trait Authenticate: fmt::Debug + Send + Sync + 'static {
    /// Lets a request pass, or answers it.
    ///
    /// # Errors
    /// The answer for who may not: 401 without credentials that are known, 403 without the permission.
    async fn admit(
        &self,
        headers: &mut HeaderMap,
        peer: &Peer,
        permission: &Permission,
    ) -> Result<(), Response>;
}
