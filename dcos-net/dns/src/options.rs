//! Options of every program that serves names, and what they say.

use std::collections::BTreeSet;

use dcos_core::config::{Spec, Values};

use crate::{MasterList, NoResolver, Upstream, named_resolvers};

/// The options.
pub const OPTIONS: &[Spec] = &[
    Spec::list("dns_resolvers")
        .help("Who is asked for other names: addresses; by default those of /etc/resolv.conf, which is read again when it changes."),
    Spec::list("dns_masters")
        .help("The addresses of all masters, for names such as master.mesos and zk-1.zk; by default of those that stand for election."),
];

/// Where a host says whom it asks.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What an operator named is no address.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// To ask others instead, in silence, is what nobody meant.
    #[error("--dns_resolvers")]
    Resolver {
        /// Which.
        #[from]
        source: NoResolver,
    },
    /// Of a master.
    #[error("--dns_masters: {text}")]
    Master {
        /// What stands there.
        text: String,
        /// Why it is none.
        source: std::net::AddrParseError,
    },
}

/// Who is asked for names that are not ours.
///
/// # Errors
/// A resolver that is named is no address.
pub fn upstream(values: &Values) -> Result<Upstream, OptionError> {
    match values.opt_list("dns_resolvers") {
        Some(named) if !named.is_empty() => Ok(Upstream::Named(named_resolvers(named)?)),
        _ => Ok(Upstream::File(RESOLV_CONF.into())),
    }
}

/// The masters an operator named, or else those `found`.
///
/// # Errors
/// What is named is no address.
pub fn masters(
    values: &Values,
    found: impl FnOnce() -> MasterList,
) -> Result<MasterList, OptionError> {
    let Some(named) = values.opt_list("dns_masters") else {
        return Ok(found());
    };
    let parse = |text: &String| {
        let parsed = text.trim().parse();
        parsed.map_err(|source| OptionError::Master {
            text: text.clone(),
            source,
        })
    };
    let all: Result<BTreeSet<_>, _> = named.iter().map(parse).collect();
    Ok(MasterList::Fixed(all?))
}
