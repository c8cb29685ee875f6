//! Services: a Marathon on the public scheduler SDK.
