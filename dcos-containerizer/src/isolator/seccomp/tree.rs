//! Filters that find a system call as one finds a word in a dictionary.
//!
//! The compiler of conditions (`seccompiler`) compares a call with one number after the other: over a
//! thousand instructions for an ordinary profile, which the kernel translates at each launch, and runs once for each
//! number there is, to know which are always allowed. Here neighbours share a range, the range is
//! found by halving, and that compiler is left with the few calls whose arguments matter:
//!
//! ```text
//! machine? ─► number ─► halving ─► matched | otherwise | foreign | its program, which looks at the arguments
//! ```
//!
//! *Foreign* are the numbers from 2^30 on that no rule is about: on x86-64 the kernel may take them for calls of programs
//! with short pointers (x32), which do the same as those that rules name by other numbers. Not so the last one, -1: that is
//! no call, but what a tracer makes of one that it wants skipped, and has the answer of all that no rule names.

use std::collections::BTreeMap;

use dcos_launcher::Filter;
use seccompiler::{BackendError, BpfProgram, SeccompAction, SeccompFilter, SeccompRule};

use super::calls::{Kind, X32_BIT};
use super::{TARGET, failed};
use crate::isolator::IsolatorError;

/// What a call is made of the kernel as; x32 is native to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Machine {
    Native,
    X86,
}

/// Conditions of calls by number, for each machine whose programs may run.
pub(super) type Rules = BTreeMap<Machine, BTreeMap<i64, Vec<SeccompRule>>>;

impl Machine {
    pub(super) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Native | Kind::X32 => Self::Native,
            Kind::X86 => Self::X86,
        }
    }

    /// Its number in the kernel's audit interface.
    fn audit(self) -> u32 {
        match self {
            Self::Native if cfg!(target_arch = "aarch64") => 0xc000_00b7,
            Self::Native => 0xc000_003e,
            Self::X86 => 0x4000_0003,
        }
    }
}

// Instructions of classic BPF, as the kernel numbers them (`linux/bpf_common.h`).
const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_NOT_LESS: u16 = 0x35;
const RETURN: u16 = 0x06;

/// The number of the first x32 call; no other call has so high a one.
const FOREIGN: u32 = X32_BIT;
/// What a tracer puts in the place of a call that is to be skipped.
const SKIPPED: u32 = u32::MAX;

/// Instructions that a program of the kernel's may have (`BPF_MAXINSNS`).
const LONGEST: usize = 4096;
/// Instructions that all filters of a process may have (`MAX_INSNS_PER_PATH`), and what each counts for besides.
const LONGEST_IN_ALL: usize = 32_768;
const EACH: usize = 4;

// Where `struct seccomp_data` has them.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Instruction {
    code: u16,
    if_true: u8,
    if_false: u8,
    value: u32,
}

impl Instruction {
    fn new(code: u16, value: u32) -> Self {
        Self {
            code,
            if_true: 0,
            if_false: 0,
            value,
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.code)
            | u64::from(self.if_true) << 16
            | u64::from(self.if_false) << 24
            | u64::from(self.value) << 32
    }
}

/// What becomes of the calls of a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Matched,
    Otherwise,
    /// That depends on its arguments.
    Depends,
    /// Perhaps another numbering of what rules name.
    Foreign,
}

/// What becomes of calls.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    /// Of those of the rules.
    pub(super) matched: SeccompAction,
    /// Of all others.
    pub(super) otherwise: SeccompAction,
    /// Of all others from [`FOREIGN`] on.
    pub(super) foreign: SeccompAction,
}

/// A filter that answers `matched` to the calls of `rules`, if one of their rules holds or they have none, and
/// `otherwise` to all others but foreign ones. Programs of other machines are killed.
///
/// # Errors
/// [`IsolatorError::Seccomp`] if it cannot be expressed, or the kernel would not take it for its length.
pub(super) fn assemble(rules: Rules, answers: &Answers) -> Result<Filter, IsolatorError> {
    let mut program = vec![Instruction::new(LOAD, ARCHITECTURE)];
    for (machine, rules) in rules {
        let part = part(machine, rules, answers)?;
        program.push(Instruction {
            if_true: 1,
            ..Instruction::new(JUMP_IF_EQUAL, machine.audit())
        });
        program.push(Instruction::new(JUMP, distance(part.len())));
        program.extend(part);
    }
    program.push(Instruction::new(RETURN, SeccompAction::KillProcess.into()));
    if program.len() > LONGEST {
        return Err(too_long(program.len(), LONGEST));
    }
    Ok(Filter {
        instructions: program.into_iter().map(Instruction::pack).collect(),
    })
}

/// What looks at the calls of one machine's programs; each of its ways ends with an answer.
fn part(
    machine: Machine,
    rules: BTreeMap<i64, Vec<SeccompRule>>,
    answers: &Answers,
) -> Result<Vec<Instruction>, IsolatorError> {
    let ranges = ranges(&rules);
    let depends = |(_, rules): &(i64, Vec<SeccompRule>)| !rules.is_empty();
    let rules: BTreeMap<_, _> = rules.into_iter().filter(depends).collect();
    let Answers {
        matched,
        otherwise,
        foreign,
    } = answers.clone();
    let foreign = match machine {
        Machine::Native => foreign,
        Machine::X86 => otherwise.clone(),
    };
    let answers = [&matched, &otherwise, &foreign].map(|action| u32::from(action.clone()));
    let mut program = vec![Instruction::new(LOAD, NUMBER)];
    program.extend(halve(&ranges, answers));
    // Those that lead to the program behind know its place only now.
    let end = program.len();
    for (at, instruction) in program.iter_mut().enumerate() {
        if instruction.code == JUMP && instruction.value == u32::MAX {
            instruction.value = distance(end - at - 1);
        }
    }
    if !rules.is_empty() {
        let filter = SeccompFilter::new(rules, otherwise, matched, TARGET);
        let compiled: Result<BpfProgram, _> = filter.and_then(TryInto::try_into);
        let compiled = compiled.map_err(|error| match error {
            // It counts its own part only.
            BackendError::FilterTooLarge(length) => too_long(program.len() + length, LONGEST),
            other => failed(&other),
        })?;
        // It begins with a look at the machine, which is behind us.
        let calls = compiled
            .iter()
            .skip_while(|one| one.k != NUMBER || one.code != LOAD);
        program.extend(calls.map(|one| Instruction {
            code: one.code,
            if_true: one.jt,
            if_false: one.jf,
            value: one.k,
        }));
    }
    Ok(program)
}

/// Whether the kernel takes so many filters of this length for one process.
///
/// # Errors
/// [`IsolatorError::Seccomp`] if not.
pub(super) fn fit(filters: &[Filter]) -> Result<(), IsolatorError> {
    let all = filters
        .iter()
        .map(|filter| filter.instructions.len() + EACH)
        .sum();
    if all > LONGEST_IN_ALL {
        return Err(too_long(all, LONGEST_IN_ALL));
    }
    Ok(())
}

fn too_long(instructions: usize, most: usize) -> IsolatorError {
    IsolatorError::Seccomp {
        reason: format!(
            "the profile takes {instructions} instructions and the kernel takes {most}: name fewer calls by their arguments"
        ),
    }
}

/// Where each range of numbers begins; the last has no end.
fn ranges(rules: &BTreeMap<i64, Vec<SeccompRule>>) -> Vec<(u32, Fate)> {
    let unnamed = |number: u32| {
        if (FOREIGN..SKIPPED).contains(&number) {
            Fate::Foreign
        } else {
            Fate::Otherwise
        }
    };
    let mut begins = BTreeMap::from([0, FOREIGN, SKIPPED].map(|at| (at, unnamed(at))));
    for (number, rules) in rules {
        let Ok(number) = u32::try_from(*number) else {
            continue;
        };
        let fate = if rules.is_empty() {
            Fate::Matched
        } else {
            Fate::Depends
        };
        begins.insert(number, fate);
        if let Some(next) = number.checked_add(1) {
            begins.entry(next).or_insert(unnamed(next));
        }
    }
    let mut ranges: Vec<_> = begins.into_iter().collect();
    ranges.dedup_by_key(|(_, fate)| *fate);
    ranges
}

fn halve(ranges: &[(u32, Fate)], answers: [u32; 3]) -> Vec<Instruction> {
    if let [(_, fate)] = ranges {
        return vec![match fate {
            Fate::Matched => Instruction::new(RETURN, answers[0]),
            Fate::Otherwise => Instruction::new(RETURN, answers[1]),
            Fate::Foreign => Instruction::new(RETURN, answers[2]),
            Fate::Depends => Instruction::new(JUMP, u32::MAX),
        }];
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let border = Instruction::new(JUMP_IF_NOT_LESS, high[0].0);
    let (low, high) = (halve(low, answers), halve(high, answers));
    let mut program = match u8::try_from(low.len()) {
        Ok(if_true) => vec![Instruction { if_true, ..border }],
        // A condition reaches no further than 255 instructions.
        Err(_) => vec![
            Instruction {
                if_false: 1,
                ..border
            },
            Instruction::new(JUMP, distance(low.len())),
        ],
    };
    program.extend(low);
    program.extend(high);
    program
}

fn distance(instructions: usize) -> u32 {
    u32::try_from(instructions).expect("a filter has 4096 instructions at most")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};

    use super::*;

    /// Runs a filter as the kernel would; what it answers, and in how many steps.
    fn run(instructions: &[u64], architecture: u32, number: u32, argument: u64) -> (u32, usize) {
        let field = |offset: u32| match offset {
            NUMBER => number,
            ARCHITECTURE => architecture,
            16 => u32::try_from(argument & 0xffff_ffff).unwrap(),
            20 => u32::try_from(argument >> 32).unwrap(),
            other => panic!("offset {other}"),
        };
        let (mut accumulator, mut at, mut steps) = (0, 0, 0);
        loop {
            let one = instructions[at];
            let code = u16::try_from(one & 0xffff).unwrap();
            let [if_true, if_false] = [2, 3].map(|shift| usize::from(one.to_le_bytes()[shift]));
            let value = u32::try_from(one >> 32).unwrap();
            let branch = |holds: bool| if holds { if_true } else { if_false };
            (at, steps) = (at + 1, steps + 1);
            match code {
                LOAD => accumulator = field(value),
                // AND with a constant.
                0x54 => accumulator &= value,
                JUMP => at += value as usize,
                JUMP_IF_EQUAL => at += branch(accumulator == value),
                0x25 => at += branch(accumulator > value),
                JUMP_IF_NOT_LESS => at += branch(accumulator >= value),
                RETURN => return (value, steps),
                other => panic!("code {other:#x}"),
            }
        }
    }

    fn equal(value: u64) -> SeccompRule {
        let length = SeccompCmpArgLen::Qword;
        let condition = SeccompCondition::new(0, length, SeccompCmpOp::Eq, value);
        SeccompRule::new(vec![condition.unwrap()]).unwrap()
    }

    const AUDIT: u32 = if cfg!(target_arch = "aarch64") {
        0xc000_00b7
    } else {
        0xc000_003e
    };

    fn native(rules: BTreeMap<i64, Vec<SeccompRule>>) -> Rules {
        BTreeMap::from([(Machine::Native, rules)])
    }

    /// What rules are about is allowed, and nothing else.
    fn allowed() -> Answers {
        Answers {
            matched: SeccompAction::Allow,
            otherwise: SeccompAction::Errno(1),
            foreign: SeccompAction::Errno(1),
        }
    }

    fn one_after_the_other(rules: BTreeMap<i64, Vec<SeccompRule>>) -> Vec<u64> {
        let (otherwise, matched) = (SeccompAction::Errno(1), SeccompAction::Allow);
        let filter = SeccompFilter::new(rules, otherwise, matched, TARGET).unwrap();
        let program: BpfProgram = filter.try_into().unwrap();
        let pack = |one: &seccompiler::sock_filter| {
            let instruction = Instruction {
                code: one.code,
                if_true: one.jt,
                if_false: one.jf,
                value: one.k,
            };
            instruction.pack()
        };
        program.iter().map(pack).collect()
    }

    proptest! {
        /// It answers as a filter that compares with one number after the other.
        #[test]
        fn halving_answers_as_comparing_with_each_does(
            rules in proptest::collection::btree_map(
                0..700_i64,
                proptest::collection::vec(0..3_u64, 0..3),
                0..100,
            ),
            numbers in proptest::collection::vec(0..800_u32, 60),
        ) {
            let rules: BTreeMap<i64, Vec<SeccompRule>> = rules
                .into_iter()
                .map(|(number, values)| (number, values.into_iter().map(equal).collect()))
                .collect();
            let filter = assemble(native(rules.clone()), &allowed()).unwrap().instructions;
            let each = one_after_the_other(rules);
            let far = [0x4000_0000, 0x4000_0001, u32::MAX];
            for number in numbers.into_iter().chain(far) {
                for argument in [0, 1, 2, 1 << 32, u64::MAX] {
                    for architecture in [AUDIT, 0x4000_0003] {
                        let ours = run(&filter, architecture, number, argument).0;
                        let theirs = run(&each, architecture, number, argument).0;
                        prop_assert_eq!(ours, theirs, "call {}, argument {}", number, argument);
                    }
                }
            }
        }
    }

    #[test]
    fn the_builtin_profile_is_short_and_quick() {
        let filters = super::super::Profile::builtin().compile(None).unwrap();
        let program = &filters[0].instructions;
        assert!(program.len() < 400, "{}", program.len());
        // `read`, and a number that nothing has.
        for number in [0, 100_000] {
            let (_, steps) = run(program, AUDIT, number, 0);
            assert!(steps < 20, "{steps} for {number}");
        }
    }

    #[test]
    fn far_branches_lead_where_near_ones_do() {
        let rules: BTreeMap<i64, Vec<SeccompRule>> = (0..400)
            .map(|number| {
                (
                    number * 2,
                    if number % 7 == 0 {
                        vec![equal(1)]
                    } else {
                        Vec::new()
                    },
                )
            })
            .collect();
        let filter = assemble(native(rules.clone()), &allowed())
            .unwrap()
            .instructions;
        let each = one_after_the_other(rules);
        for number in 0..820 {
            for argument in [0, 1] {
                let [ours, theirs] =
                    [&filter, &each].map(|one| run(one, AUDIT, number, argument).0);
                assert_eq!(ours, theirs, "call {number}, argument {argument}");
            }
        }
    }

    /// What the kernel answers to a call by name.
    fn answer(profile: &str, name: &str) -> u32 {
        let number = super::super::calls::number(name).unwrap();
        answer_to(profile, u32::try_from(number).unwrap())
    }

    fn answer_to(profile: &str, number: u32) -> u32 {
        answer_of(profile, AUDIT, number, 0)
    }

    /// What the kernel answers: the strictest of what the filters do.
    fn answer_of(profile: &str, machine: u32, number: u32, argument: u64) -> u32 {
        let filters = super::super::Profile::parse(profile.as_bytes()).unwrap();
        let filters = filters.compile(None).unwrap();
        let answers = filters
            .iter()
            .map(|one| run(&one.instructions, machine, number, argument).0);
        // The smaller as a signed number, the stricter; of equals the one installed last.
        let strictness = |answer: &u32| (answer & 0xffff_0000).cast_signed();
        answers
            .rev()
            .min_by_key(strictness)
            .unwrap_or(SeccompAction::Allow.into())
    }

    const I386: u32 = 0x4000_0003;
    const ALLOWED: u32 = 0x7fff_0000;
    const KILLED: u32 = 0x8000_0000;

    fn refused(errno: u32) -> u32 {
        SeccompAction::Errno(errno).into()
    }

    /// What 32-bit programs call by their own numbers, and by one call for many.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn programs_of_32_bits_have_the_entries_of_others() {
        let family = r#""archMap": [
            {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": ["SCMP_ARCH_ARM"]},
            {"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"]}]"#;
        let list = r#""architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]"#;
        for kinds in [family, list] {
            let permits = format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, {kinds}, "syscalls": [
                {{"names": ["read", "shmat", "bind", "mmap2"], "action": "SCMP_ACT_ALLOW"}},
                {{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}},
                {{"names": ["personality", "socket"], "action": "SCMP_ACT_ALLOW",
                 "args": [{{"index": 0, "value": 18446744073709551615, "op": "SCMP_CMP_EQ"}}]}}]}}"#
            );
            let answer = |number, argument| answer_of(&permits, I386, number, argument);
            // read, mmap2, mkdir; getpid has the number of the native mkdir, 83 is symlink.
            assert_eq!((answer(3, 0), answer(192, 0)), (ALLOWED, ALLOWED));
            assert_eq!((answer(39, 0), answer(20, 0)), (refused(13), refused(38)));
            assert_eq!(answer(83, 0), refused(38));
            // personality: what is meant as -1 has 32 bits there.
            assert_eq!(answer(136, u64::from(u32::MAX)), ALLOWED);
            assert_eq!(answer(136, 0), refused(38));
            // ipc: shmat of any version, shmget; socketcall: bind, and a socket that nobody can look at.
            assert_eq!((answer(117, 21), answer(117, 0x1_0015)), (ALLOWED, ALLOWED));
            assert_eq!(answer(117, 23), refused(38));
            assert_eq!((answer(102, 2), answer(102, 1)), (ALLOWED, refused(38)));
            // x32: read, mkdir, and execve, which is no longer 59 there; rt_sigreturn has no entry.
            let x32 = |number| answer_to(&permits, FOREIGN | number);
            assert_eq!((x32(0), x32(83)), (ALLOWED, refused(13)));
            assert_eq!((x32(59), x32(513)), (refused(38), refused(38)));
            // Others remain what they were.
            assert_eq!(answer(3, 0), answer_to(&permits, 0));
            assert_eq!(answer_of(&permits, 0x4000_0028, 3, 0), KILLED);

            let forbids = format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", {kinds}, "syscalls": [
                {{"names": ["mkdir", "execve"], "action": "SCMP_ACT_ERRNO"}},
                {{"names": ["socket"], "action": "SCMP_ACT_ERRNO",
                 "args": [{{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}}]}}]}}"#
            );
            let answer = |number, argument| answer_of(&forbids, I386, number, argument);
            assert_eq!((answer(39, 0), answer(11, 0)), (refused(1), refused(1)));
            assert_eq!((answer(3, 0), answer(83, 0)), (ALLOWED, ALLOWED));
            assert_eq!((answer(359, 40), answer(359, 2)), (refused(1), ALLOWED));
            assert_eq!((answer(102, 1), answer(102, 2)), (refused(1), ALLOWED));
            let x32 = |number| answer_to(&forbids, FOREIGN | number);
            assert_eq!(
                (x32(83), x32(520), x32(0)),
                (refused(1), refused(1), ALLOWED)
            );
        }
        let unnamed = r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": null, "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]}"#;
        assert_eq!(answer_of(unnamed, I386, 3, 0), KILLED);
    }

    #[test]
    fn what_no_entry_is_about_has_the_default_whatever_the_entries_are() {
        let default = u32::from(SeccompAction::Errno(38));
        let profile = |entries: &str| {
            format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [{entries}]}}"#
            )
        };
        let log = profile(r#"{"names": ["mkdir"], "action": "SCMP_ACT_LOG"}"#);
        assert_eq!(answer(&log, "mkdir"), u32::from(SeccompAction::Log));
        assert_eq!(answer(&log, "mount"), default);
        assert_eq!(answer(&profile(""), "read"), default);
        // An answer of its own is not hidden by a stricter default.
        let kill = r#"{"defaultAction": "SCMP_ACT_KILL", "syscalls": [
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;
        assert_eq!(answer(kill, "mkdir"), default);
        assert_eq!(answer(kill, "read"), u32::from(SeccompAction::Allow));
        assert_ne!(answer(kill, "mount"), default);
    }

    #[test]
    fn another_numbering_is_no_way_round_a_profile() {
        let absent = u32::from(SeccompAction::Errno(libc::ENOSYS.cast_unsigned()));
        let mkdir = u32::try_from(super::super::calls::number("mkdir").unwrap()).unwrap();
        let x32 = FOREIGN | mkdir;
        for default in ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG"] {
            let profile = format!(
                r#"{{"defaultAction": "{default}", "syscalls": [
                    {{"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}},
                    {{"names": ["rmdir"], "action": "SCMP_ACT_KILL_PROCESS"}}]}}"#
            );
            assert_eq!(answer_to(&profile, x32), absent, "{default}");
            assert_eq!(answer_to(&profile, SKIPPED - 1), absent, "{default}");
            // A call that a tracer skips is none.
            assert_eq!(
                answer_to(&profile, SKIPPED),
                answer(&profile, "read"),
                "{default}"
            );
            let passes = answer(&profile, "read");
            assert!(
                [SeccompAction::Allow, SeccompAction::Log]
                    .map(u32::from)
                    .contains(&passes),
                "{default}"
            );
        }
        // A default that refuses goes on refusing as it does.
        let kill = r#"{"defaultAction": "SCMP_ACT_KILL_PROCESS", "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["rmdir"], "action": "SCMP_ACT_ERRNO"}]}"#;
        assert_eq!(answer_to(kill, x32), u32::from(SeccompAction::KillProcess));
    }

    #[test]
    fn what_the_kernel_would_not_take_is_refused_before() {
        let many = |calls: i64, values: u64| -> BTreeMap<i64, Vec<SeccompRule>> {
            (0..calls)
                .map(|number| (number, (0..values).map(equal).collect()))
                .collect()
        };
        // Neither half is too long for itself.
        let refused = assemble(native(many(330, 2)), &allowed())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("takes 4096"), "{refused}");
        // One half is.
        let refused = assemble(native(many(1, 2000)), &allowed())
            .unwrap_err()
            .to_string();
        assert!(refused.contains("takes 4096"), "{refused}");
        let filter = Filter {
            instructions: vec![0; 4000],
        };
        assert!(fit(&vec![filter.clone(); 8]).is_ok());
        let refused = fit(&vec![filter; 9]).unwrap_err().to_string();
        assert!(refused.contains("32768"), "{refused}");
    }
}
