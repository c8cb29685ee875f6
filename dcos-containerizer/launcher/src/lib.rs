//! The container launcher: a plan format and one small single-threaded process.
