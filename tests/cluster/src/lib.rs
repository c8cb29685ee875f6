//! Real processes, real containers, real clients.
