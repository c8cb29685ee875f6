//! How many connections a program's port takes, and whose web pages may ask there.

use anyhow::Context as _;
use dcos_core::config::{Spec, Values};
use dcos_wire::{Origins, ServerConfig};

/// The options of ports that take messages and HTTP; in Mesos nothing bounds them but open files.
pub const SERVER_OPTIONS: &[Spec] = &[
    Spec::integer("max_connections", 4, 1 << 20).help(
        "How many connections the port takes at a time; further ones wait. A quarter is kept for peers that send messages, agents among them; clients of HTTP that find the rest taken get 503. By default half of the hard limit of open files, LimitNOFILE= in units (ours).",
    ),
    Spec::integer("max_connections_per_host", 1, 1 << 20).help(
        "How many of them one address may have (of IPv6, one /64); further ones are closed. By default a quarter of all (ours).",
    ),
    Spec::list("http_allowed_origins").help(
        "Origins whose web pages may ask for changes here, and read, beside pages from here: https://ui.example.org, null for pages that browsers name no origin of, or * for all (ours). Who is no browser needs none.",
    ),
];

/// What [`SERVER_OPTIONS`] say.
pub fn server_config(values: &Values) -> ServerConfig {
    let count = |option| {
        let number = values.opt_integer(option)?;
        usize::try_from(number).ok()
    };
    let mut config = ServerConfig::default();
    if let Some(all) = count("max_connections") {
        config.max_connections = all;
        config.max_connections_per_host = all / 4;
    }
    if let Some(of_one) = count("max_connections_per_host") {
        config.max_connections_per_host = of_one;
    }
    config
}

/// Whose web pages may ask, as [`SERVER_OPTIONS`] say.
///
/// # Errors
/// What is no origin.
pub fn origins(values: &Values) -> anyhow::Result<Origins> {
    let Some(allowed) = values.opt_list("http_allowed_origins") else {
        return Ok(Origins::default());
    };
    Origins::new(allowed).context(Origins::OPTION)
}

#[cfg(test)]
mod tests {
    use super::*;
    use dcos_core::config::{Loaded, Schema, Sources};

    fn said(arguments: &[&str]) -> (usize, usize) {
        let schema = Schema::new("demo", "Waits.").with(SERVER_OPTIONS);
        let sources = Sources::new(arguments.iter().copied());
        let Ok(Loaded::Run(values)) = schema.load(&sources) else {
            panic!("it is in order")
        };
        let config = server_config(&values);
        (config.max_connections, config.max_connections_per_host)
    }

    #[test]
    fn a_host_may_have_a_quarter_unless_said_otherwise() {
        assert_eq!(said(&["--max_connections=4000"]), (4000, 1000));
        let both = ["--max_connections=4000", "--max_connections_per_host=4000"];
        assert_eq!(said(&both), (4000, 4000));
        let (all, of_one) = said(&[]);
        assert_eq!(of_one, all / 4);
    }
}
