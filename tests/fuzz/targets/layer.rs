//! Any entries of a layer, unpacked as root: nothing is written outside of it, and it can be removed again.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

#[path = "../store.rs"]
mod store;

const KINDS: &[u8] = b"0123456LKxgS";

fuzz_target!(|bytes: &[u8]| store::with(|place| {
    let mut archive = Vec::new();
    let mut rest = bytes;
    while let Some(entry) = store::take(&mut rest) {
        append(
            &mut archive,
            entry,
            store::take(&mut rest).unwrap_or_default(),
        );
    }
    archive.extend([0; 1024]);
    std::fs::write(place.images.join("x.tar"), archive).unwrap();
    store::get(place, "x");
    let outside: Vec<_> = std::fs::read_dir(place.outside())
        .unwrap()
        .flatten()
        .collect();
    assert!(outside.is_empty(), "{outside:?}");
    assert!(!Path::new("/fuzzed").exists());
}));

/// An entry: its kind, the length of what it links to, mode, that, its name.
fn append(archive: &mut Vec<u8>, entry: &[u8], content: &[u8]) {
    let (Some(&kind), Some(&link), Some(&mode)) = (entry.first(), entry.get(1), entry.get(2))
    else {
        return;
    };
    let (link, name) = entry[3..].split_at(usize::from(link).min(entry.len() - 3));
    let mut header = tar::Header::new_gnu();
    let raw = header.as_old_mut();
    let fill = |field: &mut [u8], text: &[u8]| {
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text[..length]);
    };
    fill(&mut raw.name, name);
    fill(&mut raw.linkname, link);
    raw.linkflag = [KINDS[usize::from(kind) % KINDS.len()]];
    header.set_mode(u32::from(mode) << 4);
    header.set_size(content.len() as u64);
    header.set_cksum();
    archive.extend(header.as_bytes());
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(512), 0);
}
