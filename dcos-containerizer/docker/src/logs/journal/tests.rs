use super::*;
use std::io::Read as _;
use std::os::fd::AsFd as _;

/// A log of an engine, and the file it is taken over to.
struct Log {
    dir: tempfile::TempDir,
    entries: Vec<Entry>,
}

impl Log {
    /// Entries of two bytes; every second one shares its time with the one before, as parts of
    /// long lines do.
    fn new(count: u64) -> Self {
        let entries = (0..count).map(|number| Entry {
            time: 1_000_000_000 + number / 2,
            bytes: format!("{}\n", number % 10).into(),
        });
        Self {
            dir: tempfile::tempdir().unwrap(),
            entries: entries.collect(),
        }
    }

    fn open(&self) -> Channel {
        let mut options = OpenOptions::new();
        let file = options
            .append(true)
            .create(true)
            .open(self.dir.path().join("stdout"));
        Channel::open(file.unwrap(), &self.dir.path().join("logs.1")).unwrap()
    }

    fn written(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("stdout")).unwrap()
    }

    fn text(&self) -> String {
        let bytes = self.entries.iter().flat_map(|entry| entry.bytes.to_vec());
        String::from_utf8(bytes.collect()).unwrap()
    }
}

#[test]
fn a_restart_goes_on_where_it_was() {
    let log = Log::new(40);
    for cut in 0..=40 {
        std::fs::remove_file(log.dir.path().join("stdout")).ok();
        std::fs::remove_file(log.dir.path().join("logs.1")).ok();
        let mut channel = log.open();
        for entry in &log.entries[..cut] {
            channel.write(&mut vec![entry.clone()]).unwrap();
        }
        drop(channel);
        let mut channel = log.open();
        channel.write(&mut log.entries.clone()).unwrap();
        // The engine's connection breaks, and all comes again.
        channel.rewind();
        channel.write(&mut log.entries.clone()).unwrap();
        assert_eq!(log.written(), log.text(), "cut after {cut}");
    }
}

#[test]
fn a_kill_within_a_write_loses_and_doubles_nothing() {
    for kept in 0..=20 {
        let log = Log::new(40);
        let mut channel = log.open();
        channel.write(&mut log.entries[..15].to_vec()).unwrap();
        // What the note before the next write looks like, and `kept` bytes of that write.
        channel.note(Some(20)).unwrap();
        let part = &log.text()[30..30 + kept];
        channel.file.write_all(part.as_bytes()).unwrap();
        drop(channel);
        let mut channel = log.open();
        channel.write(&mut log.entries[..22].to_vec()).unwrap();
        channel.rewind();
        channel.write(&mut log.entries.clone()).unwrap();
        assert_eq!(log.written(), log.text(), "{kept} bytes were written");
    }
}

#[test]
fn a_rotated_file_is_as_good_as_written() {
    let log = Log::new(20);
    let mut channel = log.open();
    channel.write(&mut log.entries[..10].to_vec()).unwrap();
    channel.note(Some(4)).unwrap();
    channel
        .file
        .write_all(&log.text().as_bytes()[20..24])
        .unwrap();
    channel.file.set_len(0).unwrap();
    drop(channel);
    let mut channel = log.open();
    channel.write(&mut log.entries.clone()).unwrap();
    assert_eq!(log.written(), log.text()[24..]);
}

#[test]
fn what_cannot_be_written_stays() {
    let (reader, writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(writer.as_fd()).unwrap();
    rustix::fs::fcntl_setfl(writer.as_fd(), flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = File::from(std::os::fd::OwnedFd::from(writer));
    let mut channel = Channel::open(file, &dir.path().join("logs.1")).unwrap();
    let whole = vec![7_u8; 300_000];
    let mut entries = vec![Entry {
        time: 5,
        bytes: whole.clone().into(),
    }];
    let mut got = Vec::new();
    let mut reader = File::from(std::os::fd::OwnedFd::from(reader));
    while !entries.is_empty() {
        channel.write(&mut entries).ok();
        let mut buffer = vec![0; 65536];
        let read = reader.read(&mut buffer).unwrap();
        got.extend_from_slice(&buffer[..read]);
    }
    drop(channel);
    reader.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), whole.len());
}

#[test]
fn times_are_read() {
    assert_eq!(nanoseconds("1970-01-01T00:00:00Z"), Some(0));
    assert_eq!(
        nanoseconds("2026-11-21T10:35:52.380690548Z"),
        Some(1_795_257_352_380_690_548)
    );
    assert_eq!(
        nanoseconds("2024-02-29T00:00:00.5Z"),
        Some(1_709_164_800_500_000_000)
    );
    assert_eq!(nanoseconds("0001-01-01T00:00:00Z"), None);
    assert_eq!(nanoseconds("hello"), None);
    let entry = Entry::parse(&Bytes::from_static(b"1970-01-01T00:00:01Z \xff a\n"), false).unwrap();
    assert_eq!(
        (entry.time, &entry.bytes[..]),
        (1_000_000_000, &b"\xff a\n"[..])
    );
}
