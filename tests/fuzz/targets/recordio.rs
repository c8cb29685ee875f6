//! Any stream, in pieces of any size: the same records as in one piece, and no more memory than
//! the limit.
#![no_main]

use dcos_proto::recordio::{Decoder, RecordError};
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 4096;

fuzz_target!(|input: (Vec<u8>, u8)| {
    let (stream, piece) = input;
    let whole = decode([stream.as_slice()].into_iter());
    let pieces = decode(stream.chunks(usize::from(piece).max(1)));
    assert_eq!(whole, pieces);
});

fn decode<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = Decoder::new(LIMIT);
    let mut records = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_record() {
                Ok(Some(record)) => records.push(record.to_vec()),
                Ok(None) => break,
                Err(RecordError::BadLength { .. } | RecordError::TooLarge { .. } | _) => {
                    return (records, true);
                }
            }
        }
    }
    (records, false)
}
