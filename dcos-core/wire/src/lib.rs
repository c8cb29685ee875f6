//! HTTP building blocks and libprocess messaging.
