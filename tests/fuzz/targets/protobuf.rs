//! Any bytes, decoded as each API's call and as libprocess messages: never a panic, and what was
//! understood survives encoding.
#![no_main]

use dcos_proto::{Message, agent, executor, internal, master, scheduler};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    check::<scheduler::Call>(bytes);
    check::<scheduler::Event>(bytes);
    check::<executor::Call>(bytes);
    check::<master::Call>(bytes);
    check::<agent::Call>(bytes);
    check::<internal::RegisterSlaveMessage>(bytes);
    check::<internal::ReregisterSlaveMessage>(bytes);
    check::<internal::RunTaskGroupMessage>(bytes);
    check::<internal::StatusUpdateMessage>(bytes);
    check::<internal::UpdateSlaveMessage>(bytes);
});

fn check<M: Message>(bytes: &[u8]) {
    if let Ok(message) = dcos_proto::decode::<M>(bytes) {
        let encoded = message.encode_to_vec();
        let again: M = dcos_proto::decode(&encoded).expect("what is encoded can be decoded");
        assert_eq!(again.encode_to_vec(), encoded);
    }
}
