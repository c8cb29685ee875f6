use std::io::{Seek, Write};
use std::os::unix::fs::PermissionsExt;

use super::*;

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    entries: 10,
};

fn sandbox() -> (tempfile::TempDir, Sandbox) {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::open(dir.path(), None).unwrap();
    (dir, sandbox)
}

fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

/// A tar archive of entries: kind, name, content or link target.
fn tarball(entries: &[(tar::EntryType, &str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for &(kind, name, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4755);
        // Written raw: the library would refuse the very names that are to be refused later.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let data = if kind == tar::EntryType::Regular {
            content.as_bytes()
        } else {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            &[]
        };
        header.set_size(data.len() as u64);
        header.set_cksum();
        builder.append(&header, data).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn kinds_follow_the_name() {
    assert_eq!(Kind::of("a.tar.gz"), Some(Kind::Tar(Packing::Gzip)));
    assert_eq!(Kind::of("a.gz"), Some(Kind::Gzip));
    assert_eq!(Kind::of("a.txz"), Some(Kind::Tar(Packing::Xz)));
    assert_eq!(Kind::of("a.jar"), None);
}

#[test]
fn tar_archives_are_unpacked_without_their_privileges() {
    let (dir, sandbox) = sandbox();
    let tarball = tarball(&[
        (tar::EntryType::Directory, "d/", ""),
        (tar::EntryType::Regular, "d/f", "text"),
        (tar::EntryType::Symlink, "d/s", "f"),
        (tar::EntryType::Link, "h", "d/f"),
    ]);
    let kind = Kind::Tar(Packing::Plain);
    extract(kind, file(&tarball), "a.tar", &sandbox, LIMITS).unwrap();
    let read = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!([read("d/f"), read("d/s"), read("h")], ["text"; 3]);
    let metadata = dir.path().join("d/f").metadata().unwrap();
    let mode = metadata.permissions().mode() & 0o7777;
    assert_eq!(mode, 0o755, "no set-user-id bit");
}

#[test]
fn archives_cannot_reach_out() {
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().to_str().unwrap();
    let cases: [&[(tar::EntryType, &str, &str)]; 4] = [
        &[(tar::EntryType::Regular, "../evil", "x")],
        &[
            (tar::EntryType::Symlink, "s", target),
            (tar::EntryType::Regular, "s/evil", "x"),
        ],
        &[(tar::EntryType::Link, "h", "../../etc/passwd")],
        &[(tar::EntryType::Char, "dev", "")],
    ];
    for entries in cases {
        let (_dir, sandbox) = sandbox();
        let tarball = file(&tarball(entries));
        let kind = Kind::Tar(Packing::Plain);
        let extracted = extract(kind, tarball, "a.tar", &sandbox, LIMITS);
        assert!(extracted.is_err(), "{entries:?}");
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn bombs_are_refused() {
    let (_dir, sandbox) = sandbox();
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(&vec![0; 2 << 20]).unwrap();
    let bomb = file(&packer.finish().unwrap());
    let error = extract(Kind::Gzip, bomb, "b.gz", &sandbox, LIMITS).unwrap_err();
    assert_eq!(
        error,
        "extracting 'b.gz': it becomes larger than an archive may"
    );
    let names: Vec<String> = (0..11).map(|number| number.to_string()).collect();
    let many: Vec<_> = names
        .iter()
        .map(|name| (tar::EntryType::Regular, name.as_str(), ""))
        .collect();
    let kind = Kind::Tar(Packing::Plain);
    let error = extract(kind, file(&tarball(&many)), "m.tar", &sandbox, LIMITS).unwrap_err();
    assert!(error.contains("more files"), "{error}");
    // A name that would be read into memory whole.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(2 << 20);
    header.set_cksum();
    let name = [header.as_bytes().as_slice(), &vec![b'x'; 2 << 20]].concat();
    let error = extract(kind, file(&name), "n.tar", &sandbox, LIMITS).unwrap_err();
    assert!(error.contains("headers are larger"), "{error}");
}

#[test]
fn programs_of_the_host_unpack_the_rest() {
    for (program, packing) in [("xz", Packing::Xz), ("bzip2", Packing::Bzip2)] {
        let packed = Command::new(program)
            .arg("-c")
            .stdin(file(&tarball(&[(tar::EntryType::Regular, "f", "text")])))
            .output();
        let Ok(packed) = packed else {
            eprintln!("skipped: there is no `{program}`");
            continue;
        };
        let (dir, sandbox) = sandbox();
        let kind = Kind::Tar(packing);
        extract(kind, file(&packed.stdout), "a", &sandbox, LIMITS).unwrap();
        let text = std::fs::read_to_string(dir.path().join("f")).unwrap();
        assert_eq!(text, "text");
        let damaged = &packed.stdout[..packed.stdout.len() / 2];
        assert!(extract(kind, file(damaged), "a", &sandbox, LIMITS).is_err());
    }
}

#[test]
fn mesos_9393_archives_may_hold_names_that_are_not_ascii() {
    let (dir, sandbox) = sandbox();
    let bytes = tarball(&[
        (tar::EntryType::Directory, "grüße/", ""),
        (tar::EntryType::Regular, "grüße/日本.txt", "text"),
    ]);
    let kind = Kind::Tar(Packing::Plain);
    extract(kind, file(&bytes), "ä.tar", &sandbox, LIMITS).unwrap();
    let text = std::fs::read_to_string(dir.path().join("grüße/日本.txt")).unwrap();
    assert_eq!(text, "text");
}

#[test]
fn zip_archives_are_unpacked() {
    let (dir, sandbox) = sandbox();
    let mut writer = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().unix_permissions(0o755);
    writer.start_file("d/f", options).unwrap();
    writer.write_all(b"text").unwrap();
    let bytes = writer.finish().unwrap().into_inner();
    extract(Kind::Zip, file(&bytes), "a.zip", &sandbox, LIMITS).unwrap();
    let text = std::fs::read_to_string(dir.path().join("d/f")).unwrap();
    assert_eq!(text, "text");
    assert!(extract(Kind::Zip, file(b"nonsense"), "a.zip", &sandbox, LIMITS).is_err());
}
