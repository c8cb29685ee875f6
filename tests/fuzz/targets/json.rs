//! Any text, read as each API's call: never a panic, and what was understood is written so that it
//! is understood again, the same.
#![no_main]

use dcos_proto::json::{self, Dialect};
use dcos_proto::{Message, agent, executor, master, mesos, scheduler};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    for dialect in [Dialect::V0, Dialect::V1] {
        check::<scheduler::Call>(text, dialect);
        check::<executor::Call>(text, dialect);
        check::<master::Call>(text, dialect);
        check::<agent::Call>(text, dialect);
        check::<mesos::Resource>(text, dialect);
    }
});

fn check<M: Message>(text: &[u8], dialect: Dialect) {
    if let Ok(message) = json::from_slice::<M>(text, dialect) {
        let written = json::to_vec(&message, dialect);
        let again: M = json::from_slice(&written, dialect).expect("what is written can be read");
        assert_eq!(json::to_vec(&again, dialect), written);
    }
}
