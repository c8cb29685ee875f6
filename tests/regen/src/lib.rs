//! Generates the message code of dcos-proto from its schema.
