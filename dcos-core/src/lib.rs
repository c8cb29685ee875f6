//! Words everybody shares: ids, resources, roles, attributes, configuration.
