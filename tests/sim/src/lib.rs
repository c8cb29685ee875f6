//! Many cores, one virtual clock: the simulation harness.
