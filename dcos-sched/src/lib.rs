//! What runs where: SDK, allocator, master.

pub mod allocator;
pub mod master;
pub mod sdk;
pub mod why;
