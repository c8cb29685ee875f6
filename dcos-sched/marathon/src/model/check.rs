//! Checks: health, readiness, and the ones whose result is only reported.

use serde::{Deserialize, Serialize};

/// A check that decides whether an instance is healthy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HealthCheck {
    /// What [`Protocol::Command`] runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandCheck>,
    /// Failures before the first success do not count for this long.
    #[serde(default = "grace")]
    pub grace_period_seconds: u32,
    /// Whether HTTP 1xx answers count neither way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ignore_http1xx: Option<bool>,
    /// Time between checks.
    #[serde(default = "interval")]
    pub interval_seconds: u32,
    /// After so many failures in a row the instance is killed.
    #[serde(default = "failures")]
    pub max_consecutive_failures: u32,
    /// The path of HTTP checks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// A fixed port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The place of the port among the app's ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_index: Option<u16>,
    /// How to check, and who does it.
    #[serde(default)]
    pub protocol: Protocol,
    /// `IPv4` or `IPv6`.
    #[serde(default = "ipv4")]
    pub ip_protocol: String,
    /// A check that takes longer fails.
    #[serde(default = "timeout")]
    pub timeout_seconds: u32,
    /// Time before the first check.
    #[serde(default = "delay")]
    pub delay_seconds: u32,
}

/// How to check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Protocol {
    /// Marathon asks over HTTP.
    #[default]
    Http,
    /// Marathon asks over HTTPS, without verifying certificates.
    Https,
    /// Marathon connects.
    Tcp,
    /// The executor runs a command.
    Command,
    /// The executor connects.
    MesosTcp,
    /// The executor asks over HTTP.
    MesosHttp,
    /// The executor asks over HTTPS.
    MesosHttps,
}

impl Protocol {
    /// Whether the executor performs it, and its result arrives in task statuses.
    pub fn is_mesos(self) -> bool {
        !matches!(self, Self::Http | Self::Https | Self::Tcp)
    }
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandCheck {
    /// For the default shell.
    pub value: String,
}

/// A check whose result is only reported.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppCheck {
    /// By HTTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpCheck>,
    /// By connecting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<TcpCheck>,
    /// By a command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<ExecCheck>,
    /// Time between checks.
    #[serde(default = "interval")]
    pub interval_seconds: u32,
    /// A check that takes longer fails.
    #[serde(default = "timeout")]
    pub timeout_seconds: u32,
    /// Time before the first check.
    #[serde(default = "delay")]
    pub delay_seconds: u32,
}

/// A check by HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpCheck {
    /// The place of the port among the app's ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_index: Option<u16>,
    /// A fixed port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `HTTP` or `HTTPS`.
    #[serde(default = "http")]
    pub scheme: String,
}

/// A check by connecting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpCheck {
    /// The place of the port among the app's ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_index: Option<u16>,
    /// A fixed port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

/// A check by a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecCheck {
    /// The command.
    pub command: CheckCommand,
}

/// A command, as a line or as words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CheckCommand {
    /// For the shell.
    Shell {
        /// The line.
        shell: String,
    },
    /// Without a shell.
    Argv {
        /// The words.
        argv: Vec<String>,
    },
}

/// A check that holds a deployment until an instance is ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReadinessCheck {
    /// Its name in results.
    #[serde(default = "readiness_name")]
    pub name: String,
    /// `HTTP` or `HTTPS`.
    #[serde(default = "http")]
    pub protocol: String,
    /// The path.
    #[serde(default = "slash")]
    pub path: String,
    /// The name of the port.
    #[serde(default = "port_name")]
    pub port_name: String,
    /// Time between checks.
    #[serde(default = "half_a_minute")]
    pub interval_seconds: u32,
    /// A check that takes longer fails.
    #[serde(default = "ten")]
    pub timeout_seconds: u32,
    /// The answers that mean ready.
    #[serde(default = "ok")]
    pub http_status_codes_for_ready: Vec<u16>,
    /// Whether the last answer is shown.
    #[serde(default)]
    pub preserve_last_response: bool,
}

fn grace() -> u32 {
    300
}

fn interval() -> u32 {
    60
}

fn failures() -> u32 {
    3
}

fn timeout() -> u32 {
    20
}

fn delay() -> u32 {
    15
}

fn ten() -> u32 {
    10
}

fn half_a_minute() -> u32 {
    30
}

fn ipv4() -> String {
    "IPv4".to_owned()
}

fn http() -> String {
    "HTTP".to_owned()
}

fn readiness_name() -> String {
    "readinessCheck".to_owned()
}

fn slash() -> String {
    "/".to_owned()
}

fn port_name() -> String {
    "http-api".to_owned()
}

fn ok() -> Vec<u16> {
    vec![200]
}
