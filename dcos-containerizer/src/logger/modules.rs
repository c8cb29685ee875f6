//! Parameters that an operator of Mesos gives a library of it, for what is built in here.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

/// A file of `--modules_dir`, or `--modules` itself, is none of Mesos's.
#[derive(Debug, thiserror::Error)]
#[error("{place} describes no modules of Mesos")]
pub struct ModulesError {
    place: String,
    source: std::io::Error,
}

#[derive(Deserialize)]
struct Modules {
    #[serde(default)]
    libraries: Vec<Library>,
}

#[derive(Deserialize)]
struct Library {
    #[serde(default)]
    modules: Vec<Module>,
}

#[derive(Deserialize)]
struct Module {
    name: String,
    #[serde(default)]
    parameters: Vec<Parameter>,
}

#[derive(Deserialize)]
struct Parameter {
    key: String,
    value: String,
}

/// The parameters of the module `name`: of `modules` (`--modules`, JSON), and of the files of `folder`
/// (`--modules_dir`), in the order of their names. None, if nobody speaks of it.
///
/// # Errors
/// [`ModulesError`] if one of them cannot be read or understood.
pub fn parameters(
    name: &str,
    modules: Option<&serde_json::Value>,
    folder: Option<&Path>,
) -> Result<BTreeMap<String, String>, ModulesError> {
    let mut all = Vec::new();
    if let Some(modules) = modules {
        let read = Modules::deserialize(modules);
        all.push(read.map_err(|error| wrong("--modules", error))?);
    }
    // A unit names it, whether there is one or not.
    if let Some(folder) = folder.filter(|folder| folder.exists()) {
        let place = |path: &Path| format!("{}", path.display());
        let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut files: Vec<_> = entries
            .map_err(|error| wrong(place(folder), error))?
            .into_iter()
            .map(|entry| entry.path())
            .filter(|path| path.is_file())
            .collect();
        files.sort();
        for file in files {
            let read = std::fs::read(&file).map_err(|error| wrong(place(&file), error))?;
            let read = serde_json::from_slice(&read);
            all.push(read.map_err(|error| wrong(place(&file), error))?);
        }
    }
    let libraries = all.into_iter().flat_map(|modules| modules.libraries);
    let named = libraries.flat_map(|library| library.modules);
    let parameters = named.filter(|module| module.name == name);
    let parameters = parameters.flat_map(|module| module.parameters);
    Ok(parameters.map(|one| (one.key, one.value)).collect())
}

fn wrong(place: impl Into<String>, error: impl Into<std::io::Error>) -> ModulesError {
    ModulesError {
        place: place.into(),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_wherever_they_are() {
        let text = |name: &str, value: &str| {
            format!(
                r#"{{"libraries": [{{"file": "/opt/lib.so", "modules": [{{"name": "{name}", "parameters":
                    [{{"key": "k{value}", "value": "{value}"}}]}}, {{"name": "bare"}}]}}]}}"#
            )
        };
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.json"), text("mine", "1")).unwrap();
        std::fs::write(folder.path().join("b.json"), text("other", "2")).unwrap();
        let modules = serde_json::from_str(&text("mine", "3")).unwrap();
        let found = |name| parameters(name, Some(&modules), Some(folder.path())).unwrap();
        let expected = [("k1", "1"), ("k3", "3")];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(found("mine"), BTreeMap::from(expected));
        assert_eq!(found("bare"), BTreeMap::new());
        assert_eq!(found("absent"), BTreeMap::new());
        std::fs::write(folder.path().join("c.json"), "{").unwrap();
        let error = parameters("mine", None, Some(folder.path())).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("c.json describes no modules of Mesos")
        );
    }
}
