//! What needs real processes: see `benches/`. Holds no code of its own.
