//! Mesos's messages: protobuf bytes, both JSON dialects, RecordIO.
