//! Packages and what they become.
//!
//! Nothing lives here yet. This crate is the place kept for
//!
//! - the package repositories of DC/OS: Universe v3 to v5, over HTTP, from files or local ones;
//! - the Cosmos API: search, describe, render, install, update and uninstall packages as services;
//! - Pkgpanda's components: what a node itself consists of, activated and rolled back as a set;
//! - the installer: from a configuration to ordered steps that make or upgrade a cluster.
//!
//! It will decide in a pure planner (packages, options and what is installed come in; app
//! definitions and ordered steps go out) and depend on `dcos-core` and on Marathon's types.
