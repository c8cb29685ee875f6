//! The clusters this user knows, on disk as the DC/OS CLI keeps them:
//! `$DCOS_DIR/clusters/<id>/dcos.toml`, and an empty file `attached` beside the one in use.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::output::harmless;

/// One known cluster.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    pub(crate) id: String,
    pub(crate) attached: bool,
    pub(crate) config: Config,
}

impl Cluster {
    /// Whether people may mean it by that.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        self.id == name || self.config.cluster.name == name
    }
}

impl fmt::Display for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = harmless(&self.config.core.mesos_master_url);
        write!(f, "{} ({url})", self.id)
    }
}

/// What `dcos.toml` holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Config {
    #[serde(default)]
    pub(crate) core: Core,
    #[serde(default)]
    pub(crate) cluster: Named,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) marathon: Option<Service>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) metronome: Option<Service>,
    /// The HTTP API of the name server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mesos_dns: Option<Service>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Core {
    /// The master's URL: `core.mesos_master_url` of the DC/OS CLI.
    #[serde(default)]
    pub(crate) mesos_master_url: String,
    /// The cluster's URL: where its router is, if the cluster is reached through that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dcos_url: Option<String>,
    /// What the cluster's servers are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dcos_acs_token: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Named {
    #[serde(default)]
    pub(crate) name: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Service {
    pub(crate) url: String,
}

/// The properties this program knows, as the DC/OS CLI names them. What else stands in the file is the DC/OS CLI's, or its
/// plugins', and stays as it is.
pub(crate) const PROPERTIES: [(&str, &str); 7] = [
    (NAME, "what it is called"),
    (
        MASTER,
        "where its master is, or where masters elect their leader",
    ),
    (TOKEN, "the token that it is shown"),
    ("core.dcos_url", "where its router is"),
    ("marathon.url", "where Marathon is"),
    ("mesos_dns.url", "where its names are asked for by HTTP"),
    ("metronome.url", "where Metronome is"),
];
pub(crate) const NAME: &str = "cluster.name";
pub(crate) const MASTER: &str = "core.mesos_master_url";
/// Who it was set up for does not change with where the cluster is reached.
pub(crate) const TOKEN: &str = "core.dcos_acs_token";

/// Where the CLI keeps its files: `DCOS_DIR`, or `.dcos` in the home directory.
pub(crate) fn home() -> anyhow::Result<PathBuf> {
    if let Some(dir) = std::env::var_os("DCOS_DIR") {
        return Ok(dir.into());
    }
    let home = std::env::home_dir().context("no home directory; set DCOS_DIR")?;
    Ok(home.join(".dcos"))
}

/// All known clusters, by name and id.
pub(crate) fn list(home: &Path) -> anyhow::Result<Vec<Cluster>> {
    let folder = home.join("clusters");
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return Ok(Vec::new());
    };
    let mut clusters = Vec::new();
    for entry in entries {
        let folder = entry.context("reading the list of clusters")?.path();
        let file = folder.join("dcos.toml");
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        let config = parse(&text).with_context(|| file.display().to_string())?;
        let id = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        clusters.push(Cluster {
            id,
            attached: folder.join("attached").exists(),
            config,
        });
    }
    clusters.sort_by_key(|one: &Cluster| (one.config.cluster.name.clone(), one.id.clone()));
    Ok(clusters)
}

/// What this program knows of a file's properties.
fn parse(text: &str) -> anyhow::Result<Config> {
    let mut table: Table = toml::from_str(text)?;
    // Groups may hold properties of the DC/OS CLI alone.
    table
        .retain(|group, values| matches!(group, "core" | "cluster") || values.get("url").is_some());
    Ok(table.try_into()?)
}

/// All properties of a cluster, as they stand in its file; none if there is no such file.
pub(crate) fn properties(home: &Path, id: &str) -> anyhow::Result<Table> {
    let file = home.join("clusters").join(id).join("dcos.toml");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Table::new()),
        Err(error) => return Err(error).with_context(|| file.display().to_string()),
    };
    toml::from_str(&text).with_context(|| file.display().to_string())
}

/// Remembers a cluster and attaches to it. What was known of it before is replaced, but for what is the DC/OS CLI's, and
/// for its token, if it is where it was: the id is what whoever answers says of itself.
pub(crate) fn setup(home: &Path, id: &str, config: &Config) -> anyhow::Result<()> {
    if id.starts_with('.') || id.contains(['/', '\0']) || id.is_empty() {
        bail!("{id:?}, as the cluster says that it is called, is no name of a folder");
    }
    let mut table = properties(home, id)?;
    let new = Table::try_from(config)?;
    let stays = is_where(&table, &new);
    for (group, name) in PROPERTIES
        .iter()
        .filter_map(|(name, _)| name.split_once('.'))
    {
        if !(stays && format!("{group}.{name}") == TOKEN)
            && let Some(values) = table.get_mut(group).and_then(Value::as_table_mut)
        {
            values.remove(name);
        }
    }
    for (group, new) in new {
        let slot = table.entry(group).or_insert_with(|| Table::new().into());
        match (slot.as_table_mut(), new) {
            (Some(slot), Value::Table(new)) => slot.extend(new),
            (_, new) => *slot = new,
        }
    }
    save(home, id, table)?;
    attach(home, id)
}

/// Whether both tell of the same master.
fn is_where(known: &Table, new: &Table) -> bool {
    let url = |table: &Table| table.get("core")?.get("mesos_master_url").cloned();
    url(known) == url(new)
}

/// Writes the properties of a cluster, whole or not at all, for its user's eyes only.
///
/// # Errors
/// They are none this program could read again, or could not be written; nothing has changed then.
pub(crate) fn save(home: &Path, id: &str, mut table: Table) -> anyhow::Result<()> {
    table.retain(|_, group| group.as_table().is_none_or(|group| !group.is_empty()));
    let text = toml::to_string(&table)?;
    parse(&text)?;
    let folder = home.join("clusters").join(id);
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let file = folder.join("dcos.toml");
    let part = folder.join(format!("dcos.toml.{}", std::process::id()));
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        let mut new = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)?;
        new.write_all(text.as_bytes())?;
        std::fs::rename(&part, &file)
    };
    write().with_context(|| file.display().to_string())
}

/// Attaches to the cluster of that name or id, and to no other.
pub(crate) fn attach(home: &Path, name: &str) -> anyhow::Result<()> {
    let chosen = find(home, name)?;
    for cluster in list(home)? {
        let mark = home.join("clusters").join(&cluster.id).join("attached");
        if cluster.id == chosen.id {
            std::fs::write(&mark, "").with_context(|| mark.display().to_string())?;
        } else if cluster.attached {
            std::fs::remove_file(&mark).with_context(|| mark.display().to_string())?;
        }
    }
    Ok(())
}

/// Forgets the cluster of that name or id.
pub(crate) fn remove(home: &Path, name: &str) -> anyhow::Result<()> {
    remove_id(home, &find(home, name)?.id)
}

/// Forgets the cluster with that id, if it is known, whatever others are called.
pub(crate) fn remove_id(home: &Path, id: &str) -> anyhow::Result<()> {
    let folder = home.join("clusters").join(id);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done.with_context(|| folder.display().to_string()),
    }
}

/// Calls a cluster by another name, which no other has.
pub(crate) fn rename(home: &Path, name: &str, new: &str) -> anyhow::Result<()> {
    let new = new.trim();
    let renamed = find(home, name)?;
    let is_taken = |known: &Cluster| known.id != renamed.id && known.is_called(new);
    match list(home)?.into_iter().find(is_taken) {
        _ if new.is_empty() => bail!("a cluster has a name"),
        Some(other) => bail!("{new:?} is taken: {other}"),
        None => {}
    }
    let mut table = properties(home, &renamed.id)?;
    let (group, key) = NAME.split_once('.').unwrap_or_default();
    let slot = table.entry(group).or_insert_with(|| Table::new().into());
    if let Some(slot) = slot.as_table_mut() {
        slot.insert(key.to_owned(), new.into());
    }
    save(home, &renamed.id, table)
}

/// The cluster with that id, or else the one of that name.
pub(crate) fn find(home: &Path, name: &str) -> anyhow::Result<Cluster> {
    let mut found = list(home)?;
    found.retain(|cluster| cluster.is_called(name));
    if let Some(at) = found.iter().position(|cluster| cluster.id == name) {
        return Ok(found.swap_remove(at));
    }
    match <[Cluster; 1]>::try_from(found) {
        Ok([cluster]) => Ok(cluster),
        Err(found) if found.is_empty() => {
            bail!("no cluster is named {name:?}; see `dcos cluster list`")
        }
        Err(found) => {
            let all: Vec<String> = found.iter().map(ToString::to_string).collect();
            bail!(
                "several clusters are named {name:?}; say which by its id: {}",
                all.join(", ")
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(name: &str) -> Config {
        let mut config = Config::default();
        config.cluster.name = name.to_owned();
        config.core.mesos_master_url = "http://127.0.0.1:5050".to_owned();
        config
    }

    /// `core.ssl_verify` and `job.x` are the DC/OS CLI's.
    #[test]
    fn a_second_setup_keeps_the_token_and_what_is_unknown() {
        let home = tempfile::tempdir().unwrap();
        let mut old = config("one");
        old.core.dcos_url = Some("http://old".to_owned());
        old.core.dcos_acs_token = Some("token".to_owned());
        old.marathon = Some(Service {
            url: "http://old:8080".to_owned(),
        });
        setup(home.path(), "1", &old).unwrap();
        let mut table = properties(home.path(), "1").unwrap();
        let core = table["core"].as_table_mut().unwrap();
        core.insert("ssl_verify".to_owned(), "false".into());
        table.insert(
            "marathon".to_owned(),
            Table::from_iter([("x".to_owned(), 1.into())]).into(),
        );
        table.insert(
            "job".to_owned(),
            Table::from_iter([("x".to_owned(), 1.into())]).into(),
        );
        save(home.path(), "1", table).unwrap();
        setup(home.path(), "1", &config("two")).unwrap();
        let text = toml::to_string(&properties(home.path(), "1").unwrap()).unwrap();
        for kept in [
            "dcos_acs_token = \"token\"",
            "ssl_verify = \"false\"",
            "[job]",
            "[marathon]",
            "\"two\"",
        ] {
            assert!(text.contains(kept), "{kept} of {text}");
        }
        assert!(!text.contains("old"), "{text}");
        let known = list(home.path()).unwrap().remove(0).config;
        assert_eq!(known.core.dcos_acs_token.as_deref(), Some("token"));
        assert!(known.marathon.is_none());
        let mut elsewhere = config("three");
        elsewhere.core.mesos_master_url = "http://127.0.0.2:5050".to_owned();
        setup(home.path(), "1", &elsewhere).unwrap();
        let text = toml::to_string(&properties(home.path(), "1").unwrap()).unwrap();
        assert!(
            !text.contains("dcos_acs_token") && text.contains("[job]"),
            "who says that it is the cluster is shown no token of it: {text}"
        );
        for id in ["", ".", "..", "../1", "a/b"] {
            assert!(setup(home.path(), id, &config("one")).is_err(), "{id}");
        }
    }

    #[test]
    fn one_cluster_is_attached_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        setup(home.path(), "1", &config("one")).unwrap();
        setup(home.path(), "2", &config("two")).unwrap();
        let attached = |home: &Path| -> Vec<String> {
            let clusters = list(home).unwrap().into_iter();
            clusters
                .filter(|cluster| cluster.attached)
                .map(|cluster| cluster.id)
                .collect()
        };
        assert_eq!(attached(home.path()), ["2"]);
        attach(home.path(), "one").unwrap();
        assert_eq!(attached(home.path()), ["1"]);
        remove_id(home.path(), "one").unwrap();
        assert_eq!(list(home.path()).unwrap().len(), 2, "it is a name");
        remove(home.path(), "one").unwrap();
        assert_eq!(list(home.path()).unwrap().len(), 1);
        // A name of two says nothing; an id does, also where it is another's name.
        setup(home.path(), "3", &config("two")).unwrap();
        setup(home.path(), "two", &config("four")).unwrap();
        assert_eq!(find(home.path(), "two").unwrap().id, "two");
        remove(home.path(), "two").unwrap();
        let said = find(home.path(), "two").unwrap_err().to_string();
        let both = "2 (http://127.0.0.1:5050), 3 (http://127.0.0.1:5050)";
        assert!(said.ends_with(both), "{said}");
        let said = rename(home.path(), "3", "2").unwrap_err().to_string();
        assert!(said.contains("taken: 2 ("), "{said}");
        assert!(rename(home.path(), "3", " ").is_err());
        rename(home.path(), "3", "three").unwrap();
        attach(home.path(), "two").unwrap();
        assert_eq!(attached(home.path()), ["2"]);
        attach(home.path(), "three").unwrap();
        assert_eq!(attached(home.path()), ["3"]);
        assert!(
            attach(home.path(), "one")
                .unwrap_err()
                .to_string()
                .contains("cluster list")
        );
    }
}
