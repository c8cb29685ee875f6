//! Any bytes as a seccomp profile in Docker's format: what is read is compiled, or refused for its length, and what an
//! OCI runtime would be given says the same kinds of programs.
#![no_main]

use dcos_containerizer::isolator::seccomp::Profile;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(profile) = Profile::parse(bytes) else {
        return;
    };
    if let Ok(filters) = profile.compile(None) {
        // What the kernel asks of each.
        for filter in filters {
            assert!(!filter.instructions.is_empty() && filter.instructions.len() <= 4096);
            let (last, length) = (filter.instructions.len() - 1, filter.instructions.len());
            assert_eq!(
                filter.instructions[last] & 0x7,
                0x06,
                "it ends by an answer"
            );
            for (at, one) in filter.instructions.iter().enumerate() {
                let [code, _, if_true, if_false, value @ ..] = one.to_le_bytes();
                if code & 0x7 == 0x05 {
                    let value = u32::from_le_bytes(value) as usize;
                    let far = if code == 0x05 {
                        value
                    } else {
                        usize::from(if_true.max(if_false))
                    };
                    assert!(at + 1 + far < length, "it stays inside");
                }
            }
        }
    }
    let _ = profile.to_oci(None);
});
