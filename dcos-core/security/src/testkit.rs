//! The promises of [`Authenticator`](crate::Authenticator) and [`Authorizer`](crate::Authorizer) as
//! functions, one each. They panic, saying what was expected, if one is broken.

pub mod authenticator;
pub mod authorizer;
