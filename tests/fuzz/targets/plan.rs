//! Any bytes as a launcher's plan: never a panic, and what was understood is encoded the same.
#![no_main]

use dcos_launcher::Plan;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(plan) = Plan::decode(bytes) {
        let encoded = plan.encode();
        let again = Plan::decode(&encoded).expect("what is encoded can be decoded");
        assert_eq!(again.encode(), encoded);
    }
});
