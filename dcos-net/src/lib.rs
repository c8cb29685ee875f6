//! One node's network: zones and names.
