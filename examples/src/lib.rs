//! Programs a newcomer runs.
