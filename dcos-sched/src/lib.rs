//! What runs where: SDK, allocator, master.
