//! Who asks, what they may do, and how often.
//!
//! | question | plug point | here |
//! |---|---|---|
//! | who sends this HTTP request? | [`Authenticator`] | [`Basic`], [`Bearer`] (JWT), [`Combined`]; [`Guards`] makes them of flags |
//! | may they do this to that? | [`Authorizer`], [`ObjectApprover`] | [`Acls`] (Mesos's `--acls`), [`AllowAll`] |
//! | who sends these libprocess messages? | | [`cram_md5`]: both sides as state machines |
//! | how often? | | [`RateLimits`], [`Throttle`]: a state machine |
//!
//! [`Gate`] puts authenticators in front of a router: it asks for credentials where a realm demands
//! them, and leaves the [`Caller`] for the handlers, who ask the authorizer about each object.
//!
//! Names, formats and answers are those of Mesos 1.11, so that its credentials and ACL files and
//! its clients work unchanged; what differs on purpose is in `docs/differences.md`. A new
//! implementation of a plug point runs the promises of the `testkit` module (feature `testkit`).
//!
//! ```
//! use dcos_security::{Acls, Action, Authorizer as _, Object, Principal};
//!
//! let acls: Acls = r#"{
//!   "permissive": false,
//!   "run_tasks": [{"principals": {"values": ["ops"]}, "users": {"values": ["www"]}}]
//! }"#.parse()?;
//! let ops = Principal::new("ops");
//! let approver = acls.approver(Some(&ops), Action::RunTask);
//! let user = |user: &str| dcos_proto::mesos::FrameworkInfo { user: user.into(), ..Default::default() };
//! assert!(approver.approved(&Object::framework(&user("www"))));
//! assert!(!approver.approved(&Object::framework(&user("root"))));
//! # Ok::<(), dcos_security::AclsError>(())
//! ```

mod acls;
mod action;
mod authenticator;
mod authorizer;
mod basic;
mod bearer;
pub mod cram_md5;
mod credentials;
mod gate;
mod guards;
pub mod jwt;
mod limits;
mod object;
mod principal;
mod secret;
#[cfg(feature = "testkit")]
pub mod testkit;
mod throttle;
mod turns;
mod visible;

pub use acls::{Acls, AclsError};
pub use action::{Action, Category};
pub use authenticator::{Authenticator, Combined, Outcome};
pub use authorizer::{AllowAll, Authorizer, DenyAll, ObjectApprover};
pub use basic::Basic;
pub use bearer::{Bearer, bearer};
pub use credentials::{Credential, Credentials, CredentialsError};
pub use gate::{Caller, Gate, Gated};
pub use guards::{FlagError, Guards, TOKEN_OPTIONS};
pub use limits::{Rate, RateLimits, RateLimitsError};
pub use object::Object;
pub use principal::Principal;
pub use secret::Secret;
pub use throttle::{Admission, Throttle};
pub use turns::{TooMany, Turns};
pub use visible::{sees_operation, sees_resource};
