//! Checks on the house itself; see `tests/`. Holds no code of its own.
