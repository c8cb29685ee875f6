//! Manifests and indexes, as far as an image is found by them.

use serde::Deserialize;

use super::failure::Failure;
use crate::config::machine;

/// What a manifest may say it is, in the order they are asked for.
const IMAGES: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];
const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];

/// One blob of an image.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
}

/// One image of several.
#[derive(Debug, Deserialize)]
struct Entry {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Debug, Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

/// What a registry knows under a name.
#[derive(Debug)]
pub(super) enum Document {
    /// One image: its configuration and its layers, lowest first.
    Image(Descriptor, Vec<Descriptor>),
    /// Several: the digest of the one for this machine, if there is one.
    Index(Option<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: u32,
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Entry>>,
}

/// What is asked for.
pub(super) fn accepted() -> String {
    [IMAGES, INDEXES].concat().join(", ")
}

impl Document {
    /// Reads a manifest of version 2, or an index of such.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Failure> {
        let odd = |what: String| Err(Failure::Odd(what));
        let fields: Fields = match serde_json::from_slice(bytes) {
            Ok(fields) => fields,
            Err(error) => return odd(format!("its manifest is not understood: {error}")),
        };
        if fields.schema_version != 2 {
            let version = fields.schema_version;
            return odd(format!(
                "its manifest is of version {version}, which no program writes any more: push it anew"
            ));
        }
        let said = fields.media_type.as_deref();
        match (fields.config, fields.layers, fields.manifests) {
            (Some(config), Some(layers), None) if said.is_none_or(|it| IMAGES.contains(&it)) => {
                Ok(Self::Image(config, layers))
            }
            (None, None, Some(entries)) if said.is_none_or(|it| INDEXES.contains(&it)) => {
                Ok(Self::Index(choose(entries)))
            }
            // One that is both may be read as another by whoever signed it (CVE-2021-41190).
            _ => odd(format!(
                "its manifest, of type '{}', is neither an image's nor a list of images",
                said.unwrap_or("none")
            )),
        }
    }
}

/// The first for this machine; one that says nothing may be.
fn choose(entries: Vec<Entry>) -> Option<String> {
    let is_ours =
        |platform: &Platform| platform.os == "linux" && platform.architecture == machine();
    let fits = |entry: &Entry| entry.platform.as_ref().is_none_or(is_ours);
    let found = entries.into_iter().filter(fits);
    let best = found.min_by_key(|entry| entry.platform.is_none())?;
    Some(best.digest)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(document: &serde_json::Value) -> Result<Document, String> {
        let read = Document::read(document.to_string().as_bytes());
        read.map_err(|failure| failure.to_string())
    }

    #[test]
    fn images_and_lists_are_told_apart() {
        let blob = |digest: &str| json!({"mediaType": "t", "digest": digest, "size": 7});
        let image =
            json!({"schemaVersion": 2, "config": blob("c"), "layers": [blob("a"), blob("b")]});
        let Ok(Document::Image(config, layers)) = read(&image) else {
            panic!("an image");
        };
        assert_eq!((config.digest.as_str(), config.size), ("c", 7));
        assert_eq!((layers[0].digest.as_str(), layers.len()), ("a", 2));
        let entry = |digest: &str, os: &str, architecture: &str| json!({"digest": digest, "platform": {"os": os, "architecture": architecture}});
        let index = |entries: serde_json::Value| {
            let document =
                json!({"schemaVersion": 2, "mediaType": INDEXES[1], "manifests": entries});
            match read(&document) {
                Ok(Document::Index(found)) => found,
                other => panic!("{other:?}"),
            }
        };
        let (other, ours) = (entry("x", "linux", "z80"), entry("o", "linux", machine()));
        let windows = entry("w", "windows", machine());
        let any = json!({"digest": "any"});
        assert_eq!(
            index(json!([other, windows, any, ours])).as_deref(),
            Some("o")
        );
        assert_eq!(index(json!([other, any])).as_deref(), Some("any"));
        assert_eq!(index(json!([other, windows])), None);
        assert_eq!(index(json!([])), None);
    }

    #[test]
    fn what_is_neither_is_refused() {
        let config = json!({"mediaType": "t", "digest": "c", "size": 7});
        let both = json!({"schemaVersion": 2, "config": config, "layers": [], "manifests": []});
        assert!(read(&both).unwrap_err().contains("neither"));
        let mut lies = json!({"schemaVersion": 2, "config": config, "layers": []});
        lies["mediaType"] = INDEXES[0].into();
        assert!(read(&lies).unwrap_err().contains("neither"));
        let old = json!({"schemaVersion": 1, "fsLayers": []});
        assert!(read(&old).unwrap_err().contains("push it anew"));
        lies["mediaType"] = IMAGES[0].into();
        lies["config"]["size"] = (-1).into();
        assert!(read(&lies).unwrap_err().contains("not understood"));
    }
}
