//! Names: the DNS server and the Mesos-DNS HTTP API.
