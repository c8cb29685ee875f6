//! What runs where: SDK, allocator, master.

pub mod sdk;
