//! What a node remembers in a file: of bytes that are none nothing is believed, and what is believed can be written again.
#![no_main]

use dcos_core::time::Time;
use dcos_net::vip::VipTable;
use dcos_net::{Around, Follower, Journal, Remembered, Write};
use libfuzzer_sys::fuzz_target;
use sha1::{Digest as _, Sha1};

fuzz_target!(|data: &[u8]| {
    read(data);
    read(&[b"dcos-net memory 1\n", data].concat());
    read(&whole(data));
});

/// A file with one record, whose checksum is right whatever it says.
fn whole(body: &[u8]) -> Vec<u8> {
    let begin = Sha1::new().chain_update([0; 20]).chain_update(b"1\n");
    let checksum = Sha1::new()
        .chain_update(begin.finalize())
        .chain_update(body);
    let length = u32::try_from(body.len())
        .expect("inputs are short")
        .to_le_bytes();
    [
        b"dcos-net memory 1\n",
        &length[..],
        &checksum.finalize(),
        body,
    ]
    .concat()
}

fn read(file: &[u8]) {
    let Ok(known) = Remembered::read(file) else {
        return;
    };
    assert!(known.broken < file.len());
    let (mut follower, mut table) = (Follower::of_all(), VipTable::new([]));
    follower.recall(Time::EPOCH, known, &mut table);
    table.take_changes();
    let mut journal = Journal::default();
    let entry = journal.next(Time::EPOCH, &Around::default(), &mut follower);
    let Some(Write::Replace(text)) = entry.map(|entry| journal.encode(entry)) else {
        panic!("the first time all is written");
    };
    let again = Remembered::read(&text).expect("what was written is read");
    let mut other = Follower::of_all();
    other.recall(Time::EPOCH, again, &mut ());
    assert_eq!(
        other.snapshot(None, Vec::new()),
        follower.snapshot(None, Vec::new())
    );
}
