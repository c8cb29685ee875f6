//! Gossip packets: those of strangers are dropped, and what somebody with a key says never panics,
//! nor makes a packet too large.
#![no_main]

use std::net::SocketAddr;

use dcos_core::seed::Seed;
use dcos_core::time::Time;
use dcos_gossip::{About, Action, Config, Core, Keyring, Kind, PACKET};
use libfuzzer_sys::fuzz_target;

const BEGIN: Time = Time::from_secs(1_600_000_000);

fn keyring() -> Keyring {
    Keyring::new([[7; 32]]).expect("it is a key")
}

fn core() -> Core {
    let config = Config {
        address: SocketAddr::from(([10, 0, 0, 1], 62501)),
        about: About::new(Kind::Agent, [10, 0, 0, 1]),
        seeds: vec![SocketAddr::from(([10, 0, 0, 2], 62501))],
        remembered: Vec::new(),
    };
    Core::new(config, keyring(), &Seed::new(1), BEGIN).expect("it says little")
}

/// Does all that is due, and says what was answered.
fn act(core: &mut Core, now: Time) -> usize {
    let mut sent = 0;
    while let Some(action) = core.poll(now) {
        if let Action::Send { packet, .. } = action {
            assert!(packet.len() <= PACKET);
            sent += 1;
        }
    }
    sent
}

/// An address and a life, as they stand in packets.
fn id(last: u8, life: Time) -> Vec<u8> {
    let mut id = vec![4, 10, 0, 0, last];
    id.extend(62501_u16.to_be_bytes());
    id.extend(&life.as_millis().to_be_bytes()[2..]);
    id
}

fuzz_target!(|bytes: &[u8]| {
    let mut core = core();
    act(&mut core, BEGIN);
    // As a datagram of anybody: nothing is answered.
    core.handle(BEGIN, bytes);
    assert_eq!(act(&mut core, BEGIN), 0);
    assert_eq!(core.counters().strangers, 1);
    // As what a member says: everything, or only what stands behind the addresses of two who know each other.
    core.handle(BEGIN, &keyring().seal([0; 12], bytes));
    act(&mut core, BEGIN);
    let mut say = |number: u64, kind: u8, body: &[u8]| {
        let mut plain = vec![kind];
        plain.extend(&number.to_be_bytes()[2..]);
        plain.extend([id(2, BEGIN), id(1, BEGIN)].concat());
        plain.extend(body);
        core.handle(BEGIN, &keyring().seal([0; 12], &plain));
        act(&mut core, BEGIN);
    };
    // It is a member once it asks to be taken in (no incarnation before, 6: announce).
    say(1, 1, &[0, 0, 6]);
    let mut number = 1;
    for part in bytes.split_inclusive(|byte| *byte == 0xff) {
        if let [kind, body @ ..] = part {
            number += 1;
            say(number, kind % 8, body);
        }
    }
    let mut now = BEGIN;
    for _ in 0..20 {
        now = core.next_deadline().unwrap_or(now).max(now);
        act(&mut core, now);
    }
});
