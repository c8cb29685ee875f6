//! A router's options, the same for masters and agents. In a program they begin with `router_`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use dcos_core::config::{Spec, Values};
use dcos_wire::Listener;
use dcos_wire::tls::{self, Ssl, TlsError};
use http::HeaderValue;

use crate::decide::{Place, RouterAt};
use crate::own::About;
use crate::route::Part;
use crate::server::{Port, parts};
use crate::world::Scheme;

/// The options, for a section named `router`.
pub const OPTIONS: &[Spec] = &[
    Spec::port("port").help(
        "Where the router is served in the clear: 80 in DC/OS, 61001 on its agents. Without a port there is no router.",
    ),
    Spec::port("https_port").help("Where it is served over TLS: 443 in DC/OS, 61002 on its agents."),
    Spec::path("certificate")
        .help("The certificates it shows there (PEM); those of LIBPROCESS_SSL_CERT_FILE by default."),
    Spec::path("key").help("The key of the first of them (PEM)."),
    Spec::switch("redirect_http").help("Send clients in the clear to the port with TLS."),
    Spec::list("parts").help(
        "What serves parts of the cluster that are elsewhere, as name=http://host:port or name=unix:/path; a wrong name lists all.",
    ),
    Spec::path("access_log").help("Where each request is written down; - is standard error. Nowhere by default."),
    Spec::path("ui_dir").help("The directory of the user interface."),
    Spec::path("metadata_dir")
        .default("/opt/mesosphere/active/dcos-metadata/etc")
        .help("The directory of files about the installation."),
    Spec::path("buildinfo_file")
        .default("/opt/mesosphere/active.buildinfo.full.json")
        .help("The list of active components."),
    Spec::path("cluster_id_file").help(
        "The file with the cluster's id: /var/lib/dcos/cluster-id; for a master that is alone, one it makes in its work directory.",
    ),
    Spec::text("public_ip").help("The address this node is reached at from outside; the one it listens on by default."),
    Spec::port("agent_port").default("61001").help("The port of the routers on agents."),
    Spec::choice("agent_scheme", &["http", "https"])
        .default("http")
        .help("How that port is spoken to; their ports with TLS are 61002 in DC/OS."),
    Spec::text("x_frame_options")
        .default("DENY")
        .help("What browsers are told of frames around the user interface."),
    Spec::text("login_url").help("Where /login sends people: an OpenID Connect redirector."),
    Spec::text("login_client").default("dcos").help("This cluster's name there."),
];

/// Why the options can't be followed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptionsError {
    /// There is a port for TLS, and nothing to show there.
    #[error("--router_https_port needs --router_certificate and --router_key, or LIBPROCESS_SSL_*")]
    Certificate,
    /// Clients are to be sent to a port there is not.
    #[error("--router_redirect_http needs --router_https_port")]
    Nowhere,
    /// Certificate or key are not usable.
    #[error("the router's certificate")]
    Tls(#[from] TlsError),
    /// A port is taken.
    #[error("listening on {address} (--router_port, --router_https_port)")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// A part is not named as it should be.
    #[error("--router_parts: {why}")]
    Parts {
        /// Why not.
        why: String,
    },
}

/// Whether a router is wanted at all.
pub fn is_wanted(values: &Values) -> bool {
    values.opt_integer("router_port").is_some() || values.opt_integer("router_https_port").is_some()
}

/// The ports to serve, bound.
///
/// # Errors
/// [`OptionsError`].
pub async fn ports(
    values: &Values,
    ip: IpAddr,
    ssl: Option<&Ssl>,
) -> Result<Vec<Port>, OptionsError> {
    let wanted = |name: &str| {
        let port = values.opt_integer(name)?;
        u16::try_from(port)
            .ok()
            .map(|port| SocketAddr::new(ip, port))
    };
    let (clear, encrypted) = (wanted("router_port"), wanted("router_https_port"));
    let redirect = values.switch("router_redirect_http");
    let mut ports = Vec::new();
    let mut elsewhere = None;
    if let Some(address) = encrypted {
        let listener = listen(address).await?;
        elsewhere = listener.address().map(|address| address.port());
        let tls = Some(certificate(values, ssl)?);
        ports.push(Port {
            listener,
            tls,
            elsewhere: None,
        });
    } else if redirect {
        return Err(OptionsError::Nowhere);
    }
    if let Some(address) = clear {
        ports.push(Port {
            listener: listen(address).await?,
            tls: None,
            elsewhere: elsewhere.filter(|_| redirect),
        });
    }
    Ok(ports)
}

async fn listen(address: SocketAddr) -> Result<Listener, OptionsError> {
    let bound = Listener::tcp(address).await;
    bound.map_err(|source| OptionsError::Listen { address, source })
}

fn certificate(
    values: &Values,
    ssl: Option<&Ssl>,
) -> Result<Arc<rustls::ServerConfig>, OptionsError> {
    let own = values
        .opt_path("router_certificate")
        .zip(values.opt_path("router_key"));
    match (own, ssl) {
        (Some((chain, key)), _) => Ok(tls::server(&chain, &key, None)?),
        (None, Some(ssl)) => Ok(Arc::clone(&ssl.server)),
        (None, None) => Err(OptionsError::Certificate),
    }
}

/// Where the routers of other masters are, if they are set up as this one, which serves `ports`. Members that have
/// certificates of the cluster (`sealed`) speak TLS where it is served; others can't be expected to be believed.
pub fn masters(ports: &[Port], sealed: bool) -> RouterAt {
    let number = |port: &Port| port.listener.address().map(|address| address.port());
    let clear = ports
        .iter()
        .find(|port| port.tls.is_none() && port.elsewhere.is_none());
    let encrypted = ports.iter().find(|port| port.tls.is_some());
    choose(clear.and_then(number), encrypted.and_then(number), sealed)
}

fn choose(clear: Option<u16>, encrypted: Option<u16>, sealed: bool) -> RouterAt {
    let clear = clear.map(RouterAt::http);
    let scheme = Scheme::Https;
    let encrypted = encrypted.map(|port| RouterAt { scheme, port });
    let chosen = if sealed {
        encrypted.or(clear)
    } else {
        clear.or(encrypted)
    };
    chosen.unwrap_or(RouterAt::http(80))
}

/// Where the routers of agents are.
pub fn agents(values: &Values) -> RouterAt {
    let scheme = match values.text("router_agent_scheme").as_str() {
        "https" => Scheme::Https,
        _ => Scheme::Http,
    };
    RouterAt {
        scheme,
        port: values.port("router_agent_port"),
    }
}

/// What the router tells of this node.
pub fn about(values: &Values, ip: IpAddr, cluster_id: PathBuf) -> About {
    let login = values.opt_text("router_login_url");
    About {
        public_ip: values
            .opt_text("router_public_ip")
            .unwrap_or_else(|| ip.to_string()),
        cluster_id: Some(
            values
                .opt_path("router_cluster_id_file")
                .unwrap_or(cluster_id),
        ),
        interface: values.opt_path("router_ui_dir"),
        metadata: values.opt_path("router_metadata_dir"),
        buildinfo: values.opt_path("router_buildinfo_file"),
        login: login.map(|url| (url, values.text("router_login_client"))),
        frame_options: HeaderValue::try_from(values.text("router_x_frame_options")).ok(),
    }
}

/// What serves the parts: those of this process, and what operators say.
///
/// # Errors
/// [`OptionsError::Parts`].
pub fn places(
    values: &Values,
    own: impl IntoIterator<Item = (Part, Place)>,
) -> Result<std::collections::BTreeMap<Part, Place>, OptionsError> {
    let named = values.opt_list("router_parts").unwrap_or_default();
    let named = parts(&named).map_err(|why| OptionsError::Parts { why })?;
    let mut all: std::collections::BTreeMap<_, _> = own.into_iter().collect();
    all.extend(named);
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_masters_are_asked_where_they_serve() {
        let tls = |port| RouterAt {
            scheme: Scheme::Https,
            port,
        };
        for (clear, encrypted, sealed, expected) in [
            (Some(80), None, false, RouterAt::http(80)),
            (Some(80), Some(443), false, RouterAt::http(80)),
            (Some(80), Some(443), true, tls(443)),
            (Some(80), None, true, RouterAt::http(80)),
            (None, Some(8443), false, tls(8443)),
            (None, Some(8443), true, tls(8443)),
        ] {
            assert_eq!(choose(clear, encrypted, sealed), expected);
        }
    }
}
