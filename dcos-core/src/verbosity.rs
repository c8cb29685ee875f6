//! How much the process logs beyond what it was started with, changed while it runs.
//!
//! A program says once how to apply a level; endpoints ask for one. The levels are those of
//! libprocess: 0 is what was configured, 1 and 2 are for developers, 3 is everything.

use std::sync::Mutex;

struct State {
    level: u32,
    apply: Option<Box<dyn Fn(u32) + Send>>,
}

static STATE: Mutex<State> = Mutex::new(State {
    level: 0,
    apply: None,
});

/// Calls `apply` with each new level from now on; replaces whoever was called before.
///
/// # Panics
/// If an earlier `apply` did.
pub fn on_change(apply: impl Fn(u32) + Send + 'static) {
    STATE
        .lock()
        .expect("no panic happens under this lock")
        .apply = Some(Box::new(apply));
}

/// The level now.
///
/// # Panics
/// If an `apply` did.
pub fn level() -> u32 {
    STATE
        .lock()
        .expect("no panic happens under this lock")
        .level
}

/// Changes the level for the whole process.
///
/// # Panics
/// If an `apply` did.
pub fn set(level: u32) {
    let mut state = STATE.lock().expect("no panic happens under this lock");
    state.level = level;
    if let Some(apply) = &state.apply {
        apply(level);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn whoever_applies_levels_is_told() {
        let told = Arc::new(AtomicU32::new(9));
        let shared = Arc::clone(&told);
        on_change(move |level| shared.store(level, Ordering::Relaxed));
        set(3);
        assert_eq!((level(), told.load(Ordering::Relaxed)), (3, 3));
        set(0);
        assert_eq!((level(), told.load(Ordering::Relaxed)), (0, 0));
    }
}
