//! Durable cluster state and leader election behind two traits.
