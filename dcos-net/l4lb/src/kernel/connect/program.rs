//! The programs the kernel asks at `connect()` and at `getpeername()`. They are assembled here, and need no compiler.
//!
//! An address is 16 bytes (of IPv4 as in IPv6: `::ffff:a.b.c.d`), a place is an address, a port, and two bytes more. In the
//! key of a service these are its protocol; elsewhere they are zero. All as in packets, so that one map serves both
//! families, and sockets of IPv6 that connect to IPv4.

/// The bytes of a place, and of the key of a service.
pub(super) const PLACE: usize = 20;
/// A service and a lot.
pub(super) const LOT: usize = PLACE + 4;
/// A service, no lot, and a backend.
pub(super) const COUNT: usize = LOT + PLACE;
/// What a socket carries: the service it asked for, and the backend it was given.
pub(super) const PEER: usize = 2 * PLACE;

/// Where programs are asked: `BPF_CGROUP_INET4_CONNECT` and its like.
pub(super) const CONNECT: [(u32, Family); 2] = [(10, Family::V4), (11, Family::V6)];
pub(super) const GETPEERNAME: [(u32, Family); 2] = [(29, Family::V4), (30, Family::V6)];

/// What a program is asked about.
#[derive(Clone, Copy, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

/// The maps, by their descriptors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Maps {
    /// From a service to how many lots it has.
    pub(super) services: u32,
    /// From a service and a lot to a backend.
    pub(super) lots: u32,
    /// From a service and a backend to how many connections it was given.
    pub(super) counts: u32,
    /// What sockets carry.
    pub(super) peers: u32,
}

/// Registers: what helpers answer, what they are told, and those they leave alone.
const R0: u64 = 0;
const R1: u64 = 1;
const R2: u64 = 2;
const R3: u64 = 3;
const R4: u64 = 4;
const CONTEXT: u64 = 6;
const LOTS: u64 = 7;
const FOUND: u64 = 8;
const STACK: u64 = 10;

/// `struct bpf_sock_addr`
const USER_IP4: i16 = 4;
const USER_IP6: i16 = 8;
const USER_PORT: i16 = 24;
const PROTOCOL: i16 = 36;
const SOCKET: i16 = 64;

/// `enum bpf_func_id`
const MAP_LOOKUP: u32 = 1;
const RANDOM: u32 = 7;
const STORAGE_GET: u32 = 107;
const STORAGE_DELETE: u32 = 108;
const NAMESPACE: u32 = 122;

const TCP: u32 = 6;

/// On the stack: the service, the lot, the backend, as keys have them.
const SERVICE: i16 = -48;
const DRAWN: i16 = SERVICE + 20;
const BACKEND: i16 = DRAWN + 4;

/// Where the last word of an address is, and its port.
const LAST: i16 = 12;
const PORT: i16 = 16;

/// Places that are jumped to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Label {
    Found,
    Write,
    Other,
    Pass,
}

#[derive(Default)]
struct Program {
    code: Vec<u64>,
    jumps: Vec<(usize, Label)>,
}

impl Program {
    fn put(&mut self, code: u64, to: u64, from: u64, offset: i16, value: u32) -> &mut Self {
        let offset = u64::from(offset.cast_unsigned());
        let word = code | to << 8 | from << 12 | offset << 16 | u64::from(value) << 32;
        self.code.push(word);
        self
    }

    fn load_word(&mut self, to: u64, from: u64, offset: i16) -> &mut Self {
        self.put(0x61, to, from, offset, 0)
    }

    fn load_half(&mut self, to: u64, from: u64, offset: i16) -> &mut Self {
        self.put(0x69, to, from, offset, 0)
    }

    fn store_word(&mut self, to: u64, offset: i16, from: u64) -> &mut Self {
        self.put(0x63, to, from, offset, 0)
    }

    /// Words from one place in memory to another, by way of R1.
    fn copy(&mut self, to: (u64, i16), from: (u64, i16), words: i16) -> &mut Self {
        for word in 0..words {
            self.load_word(R1, from.0, from.1 + 4 * word);
            self.store_word(to.0, to.1 + 4 * word, R1);
        }
        self
    }

    fn set(&mut self, register: u64, value: u32) -> &mut Self {
        self.put(0xb7, register, 0, 0, value)
    }

    fn set_to(&mut self, to: u64, from: u64) -> &mut Self {
        self.put(0xbf, to, from, 0, 0)
    }

    fn set_wide(&mut self, register: u64, value: u64) -> &mut Self {
        let [low, high] = [value & 0xffff_ffff, value >> 32];
        self.code.push(0x18 | register << 8 | low << 32);
        self.code.push(high << 32);
        self
    }

    fn set_map(&mut self, register: u64, map: u32) -> &mut Self {
        // `BPF_PSEUDO_MAP_FD`
        self.code
            .push(0x18 | register << 8 | 1 << 12 | u64::from(map) << 32);
        self.code.push(0);
        self
    }

    fn call(&mut self, helper: u32) -> &mut Self {
        self.put(0x85, 0, 0, 0, helper)
    }

    fn jump(&mut self, label: Label) -> &mut Self {
        self.jumps.push((self.code.len(), label));
        self.put(0x05, 0, 0, 0, 0)
    }

    fn jump_if_zero(&mut self, register: u64, label: Label) -> &mut Self {
        self.jumps.push((self.code.len(), label));
        self.put(0x15, register, 0, 0, 0)
    }

    fn jump_unless_zero(&mut self, register: u64, label: Label) -> &mut Self {
        self.jumps.push((self.code.len(), label));
        self.put(0x55, register, 0, 0, 0)
    }

    fn jump_unless(&mut self, register: u64, value: u32, label: Label) -> &mut Self {
        self.jumps.push((self.code.len(), label));
        self.put(0x55, register, 0, 0, value)
    }

    fn jump_unless_equal(&mut self, one: u64, other: u64, label: Label) -> &mut Self {
        self.jumps.push((self.code.len(), label));
        self.put(0x5d, one, other, 0, 0)
    }

    /// The next instruction is where jumps to this label lead, all of which come before it.
    fn label(&mut self, label: Label) -> &mut Self {
        let here = self.code.len();
        let (led, others): (Vec<_>, _) = self.jumps.drain(..).partition(|(_, to)| *to == label);
        self.jumps = others;
        for (from, _) in led {
            let distance = (here - from - 1) as u64;
            self.code[from] |= distance << 16;
        }
        self
    }

    /// Looks up what is on the stack from [`SERVICE`] on.
    fn look_up(&mut self, map: u32) -> &mut Self {
        self.set_map(R1, map).set_to(R2, STACK);
        // add R2, SERVICE
        self.put(0x07, R2, 0, 0, i32::from(SERVICE).cast_unsigned());
        self.call(MAP_LOOKUP)
    }

    /// What the socket carries; makes it if `flags` is one.
    fn peer(&mut self, map: u32, flags: u32) -> &mut Self {
        self.set_map(R1, map);
        self.put(0x79, R2, CONTEXT, SOCKET, 0);
        self.set(R3, 0).set(R4, flags).call(STORAGE_GET)
    }

    /// The address that is asked about becomes the one in memory.
    fn answer(&mut self, family: Family, from: (u64, i16)) -> &mut Self {
        match family {
            Family::V4 => self.copy((CONTEXT, USER_IP4), (from.0, from.1 + LAST), 1),
            Family::V6 => self.copy((CONTEXT, USER_IP6), from, 4),
        };
        self.load_half(R1, from.0, from.1 + PORT);
        self.store_word(CONTEXT, USER_PORT, R1)
    }

    fn end(mut self) -> Vec<u64> {
        self.label(Label::Pass).set(R0, 1).put(0x95, 0, 0, 0, 0);
        assert!(self.jumps.is_empty(), "a jump leads nowhere");
        self.code
    }
}

/// Leads connections of one network namespace to a backend, if they are for a service.
pub(super) fn connect(family: Family, maps: Maps, namespace: u64) -> Vec<u64> {
    let mut program = Program::default();
    program.set_to(CONTEXT, R1).call(NAMESPACE);
    program.set_wide(R1, namespace);
    program.jump_unless_equal(R0, R1, Label::Pass);
    program.load_word(R1, CONTEXT, PROTOCOL);
    program.jump_unless(R1, TCP, Label::Pass);

    match family {
        Family::V4 => {
            // store 0 and ::ffff
            program.put(0x7a, STACK, 0, SERVICE, 0);
            let mapped = u32::from_ne_bytes([0, 0, 0xff, 0xff]);
            program.put(0x62, STACK, 0, SERVICE + 8, mapped);
            program.copy((STACK, SERVICE + LAST), (CONTEXT, USER_IP4), 1);
        }
        Family::V6 => {
            program.copy((STACK, SERVICE), (CONTEXT, USER_IP6), 4);
        }
    }
    program.load_word(R1, CONTEXT, USER_PORT);
    program.put(0x6b, STACK, R1, SERVICE + PORT, 0);
    let protocol = u16::from_ne_bytes([6, 0]);
    program.put(0x6a, STACK, 0, SERVICE + PORT + 2, protocol.into());
    program
        .look_up(maps.services)
        .jump_if_zero(R0, Label::Other);

    // A number below how many there are: the upper half of a random number times that.
    program.load_word(LOTS, R0, 0).call(RANDOM);
    program.put(0xbc, R0, R0, 0, 0);
    program.put(0x2f, R0, LOTS, 0, 0);
    program.put(0x77, R0, 0, 0, 32);
    program.store_word(STACK, DRAWN, R0);
    program
        .look_up(maps.lots)
        .jump_unless_zero(R0, Label::Found);
    // Between the two the number of backends may change; the first lot is there as long as there is any.
    program.put(0x62, STACK, 0, DRAWN, 0);
    program.look_up(maps.lots).jump_if_zero(R0, Label::Pass);

    program.label(Label::Found).set_to(FOUND, R0);
    program.copy((STACK, BACKEND), (FOUND, 0), 5);
    program.put(0x62, STACK, 0, DRAWN, 0);
    // The kernel may use an entry again that is still being read: what was read is a backend of the service if it counts
    // as one. If it does not, the packet finds its way.
    program.look_up(maps.counts).jump_if_zero(R0, Label::Pass);
    program.set(R1, 1).put(0xdb, R0, R1, 0, 0);
    program.peer(maps.peers, 1);
    program.jump_if_zero(R0, Label::Write);
    program.copy((R0, 0), (STACK, SERVICE), 5);
    program.copy((R0, 20), (STACK, BACKEND), 5);
    program
        .label(Label::Write)
        .answer(family, (STACK, BACKEND))
        .jump(Label::Pass);

    // What the socket carried is of an earlier connection.
    program.label(Label::Other).set_map(R1, maps.peers);
    program.put(0x79, R2, CONTEXT, SOCKET, 0);
    program.call(STORAGE_DELETE);
    program.end()
}

/// Tells who asks a connection for its other end what it was connected to.
pub(super) fn getpeername(family: Family, maps: Maps) -> Vec<u64> {
    let mut program = Program::default();
    program.set_to(CONTEXT, R1).peer(maps.peers, 0);
    program.jump_if_zero(R0, Label::Pass);
    let (at, backend, words) = match family {
        Family::V4 => (USER_IP4, 20 + LAST, 1),
        Family::V6 => (USER_IP6, 20, 4),
    };
    for word in 0..words {
        program.load_word(R1, CONTEXT, at + 4 * word);
        program.load_word(R2, R0, backend + 4 * word);
        program.jump_unless_equal(R1, R2, Label::Pass);
    }
    program.load_word(R1, CONTEXT, USER_PORT);
    program.load_half(R2, R0, 20 + PORT);
    program.jump_unless_equal(R1, R2, Label::Pass);
    program.answer(family, (R0, 0));
    program.end()
}
