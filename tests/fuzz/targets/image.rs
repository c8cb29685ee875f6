//! Any documents of an image: what `docker save` writes, an OCI layout, and a file that may be anything.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../store.rs"]
mod store;

fuzz_target!(|bytes: &[u8]| store::with(|place| {
    let Some((&form, mut rest)) = bytes.split_first() else {
        return;
    };
    let mut documents = Vec::new();
    while let Some(document) = store::take(&mut rest) {
        // The name of the next one is its digest, which nobody guesses.
        documents.push(document);
    }
    let folder = place.images.join("x");
    match form % 3 {
        0 => std::fs::write(place.images.join("x.tar"), &bytes[1..]).unwrap(),
        1 => {
            std::fs::create_dir(&folder).unwrap();
            for (name, document) in ["manifest.json", "config.json", "layer.tar"]
                .iter()
                .zip(documents)
            {
                std::fs::write(folder.join(name), document).unwrap();
            }
        }
        _ => {
            let blobs = folder.join("blobs/sha256");
            std::fs::create_dir_all(&blobs).unwrap();
            // From the last to the first, which names the others by `@`.
            let mut digest = String::new();
            for document in documents.iter().skip(1).rev() {
                let text =
                    String::from_utf8_lossy(document).replace('@', &format!("sha256:{digest}"));
                digest = store::digest(text.as_bytes());
                std::fs::write(blobs.join(&digest), text).unwrap();
            }
            let index = String::from_utf8_lossy(documents.first().copied().unwrap_or_default());
            let index = index.replace('@', &format!("sha256:{digest}"));
            std::fs::write(folder.join("index.json"), index).unwrap();
        }
    }
    store::get(place, "x");
}));
