//! Device rules for cgroup v2, where the kernel asks a BPF program instead of a list.
//!
//! The program goes through the rules and says yes at the first that allows all of what is asked
//! for. It is assembled here, a few instructions a rule, and needs no compiler and no library.

#![expect(
    unsafe_code,
    reason = "the two bpf(2) calls that load and attach, and nothing else"
)]

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use super::DeviceRule;

/// Makes `rules` all that processes in `cgroup` and below can do with devices.
pub(super) fn attach(cgroup: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    let program = load(&assemble(rules))?;
    let folder = File::open(cgroup)?;
    let arguments = Attach {
        target: fd(&folder),
        program: fd(&program),
        kind: BPF_CGROUP_DEVICE,
        flags: BPF_F_ALLOW_MULTI,
    };
    // SAFETY: `arguments` is a valid attribute of this command, and only read during the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_ATTACH,
            &raw const arguments,
            size_of_val(&arguments),
        )
    };
    // The cgroup keeps the program from here on.
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

/// The attribute of `BPF_PROG_LOAD`, as far as it is used.
#[repr(C)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log: [u32; 2],
    log_buffer: u64,
}

/// The attribute of `BPF_PROG_ATTACH`, as far as it is used.
#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

fn fd(file: &impl AsRawFd) -> u32 {
    file.as_raw_fd().cast_unsigned()
}

fn load(instructions: &[u64]) -> io::Result<OwnedFd> {
    let arguments = Load {
        kind: BPF_PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log: [0; 2],
        log_buffer: 0,
    };
    // SAFETY: `arguments` is a valid attribute of this command; what it points at is only read,
    // is as long as it says, and outlives the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const arguments,
            size_of_val(&arguments),
        )
    };
    let fd = i32::try_from(fd).unwrap_or(-1);
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Registers: what is asked for, taken apart.
const ANSWER: u64 = 0;
const SCRATCH: u64 = 1;
const KIND: u64 = 2;
const ACCESS: u64 = 3;
const MAJOR: u64 = 4;
const MINOR: u64 = 5;

fn instruction(code: u64, to: u64, from: u64, offset: u64, value: u32) -> u64 {
    code | to << 8 | from << 12 | offset << 16 | u64::from(value) << 32
}

fn assemble(rules: &[DeviceRule]) -> Vec<u64> {
    let load = |to, offset| instruction(0x61, to, SCRATCH, offset, 0);
    let copy = |to, from| instruction(0xbf, to, from, 0, 0);
    let set = |to, value| instruction(0xb7, to, 0, 0, value);
    let mask = |to, value| instruction(0x57, to, 0, 0, value);
    let exit = instruction(0x95, 0, 0, 0, 0);

    // The first word has the kind in its lower half and the access in its upper; the context is
    // in the scratch register at first.
    let mut program = vec![
        load(KIND, 0),
        load(MAJOR, 4),
        load(MINOR, 8),
        copy(ACCESS, KIND),
        instruction(0x77, ACCESS, 0, 0, 16),
        mask(KIND, 0xffff),
    ];
    for rule in rules {
        // Each check jumps over what follows it, to the next rule; how far is known at the end.
        let unequal = |register, value| instruction(0x55, register, 0, 0, value);
        let mut checks = vec![unequal(KIND, if rule.kind == 'b' { 1 } else { 2 })];
        let access = rule.access.chars().fold(0, |bits, letter| {
            bits | match letter {
                'm' => 1,
                'r' => 2,
                _ => 4,
            }
        });
        checks.extend([
            copy(SCRATCH, ACCESS),
            mask(SCRATCH, access),
            instruction(0x5d, SCRATCH, ACCESS, 0, 0),
        ]);
        checks.extend(rule.major.map(|major| unequal(MAJOR, major)));
        checks.extend(rule.minor.map(|minor| unequal(MINOR, minor)));
        let count = checks.len();
        for (place, check) in checks.into_iter().enumerate() {
            let is_jump = matches!(check & 0xff, 0x55 | 0x5d);
            // Over the checks left, and over the two instructions that say yes.
            let distance = (count - 1 - place + 2) as u64;
            program.push(if is_jump {
                check | distance << 16
            } else {
                check
            });
        }
        program.extend([set(ANSWER, 1), exit]);
    }
    program.extend([set(ANSWER, 0), exit]);
    program
}
