//! What runs where: SDK, allocator, master.

pub mod allocator;
pub mod sdk;
pub mod master;
