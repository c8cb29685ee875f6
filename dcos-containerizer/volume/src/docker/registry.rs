//! Where plugins are found: sockets, and files that name an address.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::DockerVolumes;
use crate::{Drivers, VolumeDriver, VolumeError, files};

/// The folders in which Docker looks for plugins: `NAME.sock`, `NAME/NAME.sock`, `NAME.spec` (an
/// address) or `NAME.json` (an address in `Addr`), in this order in each.
#[derive(Debug, Clone)]
pub struct PluginFolders {
    folders: Vec<PathBuf>,
    built_in: BTreeMap<String, Arc<dyn VolumeDriver>>,
}

impl Default for PluginFolders {
    fn default() -> Self {
        let folders = [
            "/run/docker/plugins",
            "/etc/docker/plugins",
            "/usr/lib/docker/plugins",
        ];
        Self::new(folders.map(PathBuf::from).to_vec())
    }
}

/// Where a plugin listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// `host:port`, without TLS.
    Tcp(String),
}

impl PluginFolders {
    /// Looks into `folders`, in this order.
    pub fn new(folders: Vec<PathBuf>) -> Self {
        Self {
            folders,
            built_in: BTreeMap::new(),
        }
    }

    /// Adds a driver that needs no plugin; it goes before a plugin of its name.
    #[must_use]
    pub fn with(mut self, driver: Arc<dyn VolumeDriver>) -> Self {
        self.built_in.insert(driver.name().to_owned(), driver);
        self
    }

    /// Where the plugin `name` listens; it need not.
    ///
    /// # Errors
    /// [`VolumeError::NoDriver`]
    pub fn address(&self, name: &str) -> Result<Address, VolumeError> {
        let wrong = |reason: String| VolumeError::NoDriver {
            name: name.to_owned(),
            reason,
        };
        if !files::is_plain(name) {
            return Err(wrong("that is no name of a plugin".to_owned()));
        }
        for folder in &self.folders {
            let sockets = [
                folder.join(name).with_added_extension("sock"),
                folder.join(name).join(name).with_added_extension("sock"),
            ];
            if let Some(socket) = sockets.into_iter().find(|socket| socket.exists()) {
                return Ok(Address::Unix(socket));
            }
            for (extension, read) in [("spec", spec as Reader), ("json", json)] {
                let file = folder.join(name).with_added_extension(extension);
                if let Ok(text) = fs::read_to_string(&file) {
                    return read(&text).map_err(|why| wrong(format!("{}: {why}", file.display())));
                }
            }
        }
        let names: Vec<_> = self
            .folders
            .iter()
            .map(|folder| folder.display().to_string())
            .collect();
        Err(wrong(format!(
            "there is no such plugin in {}",
            names.join(", ")
        )))
    }
}

type Reader = fn(&str) -> Result<Address, String>;

/// An address as in a `.spec` file.
fn spec(text: &str) -> Result<Address, String> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").ok_or("there is no address in it")?;
    match scheme {
        "unix" => Ok(Address::Unix(rest.into())),
        "tcp" | "http" => Ok(Address::Tcp(rest.trim_end_matches('/').to_owned())),
        other => Err(format!("addresses of type `{other}` are not understood")),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Json {
    addr: String,
    #[serde(rename = "TLSConfig")]
    tls: Option<serde_json::Value>,
}

/// An address as in a `.json` file.
fn json(text: &str) -> Result<Address, String> {
    let read: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    match read.tls {
        Some(tls) if !tls.is_null() => Err("plugins behind TLS are not supported".to_owned()),
        _ => spec(&read.addr),
    }
}

impl Drivers for PluginFolders {
    fn find(&self, name: &str) -> Result<Arc<dyn VolumeDriver>, VolumeError> {
        match self.built_in.get(name) {
            Some(driver) => Ok(Arc::clone(driver)),
            None => Ok(Arc::new(DockerVolumes::new(name, self.address(name)?))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugins_are_found_as_docker_finds_them() {
        let dir = tempfile::tempdir().unwrap();
        let folders = ["run", "etc"].map(|name| dir.path().join(name));
        for folder in &folders {
            fs::create_dir(folder).unwrap();
        }
        let write = |name: &str, text: &str| {
            let file = dir.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("run/a.sock", "");
        write("etc/a.spec", "tcp://127.0.0.1:1");
        write("run/b/b.sock", "");
        write("etc/c.spec", "unix:///there/c.sock\n");
        write(
            "etc/d.json",
            r#"{"Name": "d", "Addr": "http://127.0.0.1:2/"}"#,
        );
        write(
            "etc/e.json",
            r#"{"Name": "e", "Addr": "https://x", "TLSConfig": {"CAFile": "x"}}"#,
        );
        write("etc/f.spec", "ftp://x");
        let plugins = PluginFolders::new(folders.to_vec());
        let unix = |path: PathBuf| Some(Address::Unix(path));
        let run = &folders[0];
        for (name, expected) in [
            ("a", unix(run.join("a.sock"))),
            ("b", unix(run.join("b/b.sock"))),
            ("c", unix("/there/c.sock".into())),
            ("d", Some(Address::Tcp("127.0.0.1:2".into()))),
            ("e", None),
            ("f", None),
            ("g", None),
            ("../run/a", None),
            ("", None),
        ] {
            assert_eq!(plugins.address(name).ok(), expected, "{name}");
        }
    }
}
