//! Checks on the house itself: dependency levels and the map.
