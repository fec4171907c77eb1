//! What the verifier makes of programs while the product loads them.
//!
//! Nobody who loads a program gets the verifier's word about one that it takes. So the calls that load one are caught by a filter
//! of system calls, done again with a log, and their results handed on: what is measured is what the product loads, as it loads it.

use std::{
    cell::UnsafeCell,
    collections::BTreeSet,
    io,
    sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// Commands of `bpf(2)`.
const PROG_LOAD: u32 = 5;
const OBJ_GET_INFO_BY_FD: u32 = 15;
/// The sixth argument of the calls that are let through.
const PASS: u32 = 0x6772_6179;
/// Only statistics.
const LOG_STATS: u32 = 4;
const LOG_LEN: usize = 16_384;
/// What is shorter is a probe.
const SHORTEST: u32 = 256;
/// Programs that are remembered.
const ROOM: usize = 16;
/// Calls between functions of a program that are remembered.
const CALLS: usize = 4_096;

/// Offsets in the attributes of [`PROG_LOAD`], in 32-bit words.
const INSTRUCTIONS: usize = 1;
const CODE: usize = 2;
const LEVEL: usize = 6;
/// The longest attributes, in 32-bit words.
const ATTRIBUTES: usize = 64;

/// One program that was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Instructions that the kernel was given.
    pub instructions: u32,
    /// Instructions that it made of them.
    pub translated: u32,
    /// Instructions that the verifier followed, on all ways together.
    pub processed: Option<u64>,
    /// States that it remembered.
    pub states: Option<u64>,
    /// … of one instruction at a time.
    pub peak_states: Option<u64>,
    /// How long it took.
    pub verification: Option<Duration>,
    /// Stack of its deepest chain of calls, in bytes, as kernels of 5.10 to 6.8 count it: each frame rounded up to 32.
    pub stack: Option<u32>,
    /// How long the whole call took.
    pub loading: Duration,
}

struct Slot {
    instructions: AtomicU32,
    translated: AtomicU32,
    nanoseconds: AtomicU64,
    log: UnsafeCell<[u8; LOG_LEN]>,
    calls: UnsafeCell<Calls>,
}

/// Calls from one function of a program to another.
struct Calls {
    /// Instruction that calls, and the first one of what is called.
    ends: [(u32, u32); CALLS],
    /// How many there are, be they remembered or not.
    count: usize,
}

// SAFETY: log and calls of a slot are written once, by the call that took the slot, and read after `NEXT` says so on the same thread.
unsafe impl Sync for Slot {}

static SLOTS: [Slot; ROOM] = [const {
    Slot {
        instructions: AtomicU32::new(0),
        translated: AtomicU32::new(0),
        nanoseconds: AtomicU64::new(0),
        log: UnsafeCell::new([0; LOG_LEN]),
        calls: UnsafeCell::new(Calls { ends: [(0, 0); CALLS], count: 0 }),
    }
}; ROOM];
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// Does something on a thread of its own and returns what it loaded, and what it returned. One at a time in a process.
///
/// # Errors
/// The kernel has no such filters.
pub fn watch<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<(Vec<Verified>, T)> {
    let before = NEXT.load(Ordering::SeqCst);
    let result = std::thread::scope(|scope| {
        let watched = scope.spawn(|| catch().map(|()| work()));
        watched.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let slots = &SLOTS[before.min(ROOM)..NEXT.load(Ordering::SeqCst).min(ROOM)];
    Ok((slots.iter().map(Slot::read).collect(), result))
}

impl Slot {
    fn read(&self) -> Verified {
        // SAFETY: the thread that wrote them has ended.
        let (log, calls) = unsafe { (&*self.log.get(), &*self.calls.get()) };
        let log = String::from_utf8_lossy(log);
        let words: Vec<&str> = log.trim_end_matches('\0').split_whitespace().collect();
        let after = |name: &str| words.windows(2).find(|pair| pair[0] == name).and_then(|pair| pair[1].parse().ok());
        Verified {
            instructions: self.instructions.load(Ordering::SeqCst),
            translated: self.translated.load(Ordering::SeqCst),
            processed: after("processed"),
            states: after("total_states"),
            peak_states: after("peak_states"),
            verification: after("time").map(Duration::from_micros),
            stack: words
                .windows(3)
                .find(|words| words[..2] == ["stack", "depth"])
                .and_then(|words| calls.stack(words[2])),
            loading: Duration::from_nanos(self.nanoseconds.load(Ordering::SeqCst)),
        }
    }
}

impl Calls {
    /// Notes the calls of a program's code.
    fn note(&mut self, code: &[u64]) {
        // An instruction as a number: the operation, the registers (the source in the upper half), the offset, a constant.
        const CALL_OF_FUNCTION: u64 = 0x1085;
        self.count = 0;
        for (at, instruction) in code.iter().enumerate().filter(|(_, code)| **code & 0xf0ff == CALL_OF_FUNCTION) {
            let distance = (instruction >> 32) as i32;
            if let Some(ends) = self.ends.get_mut(self.count) {
                *ends = (at as u32, (at as i32 + 1 + distance) as u32);
            }
            self.count += 1;
        }
    }

    /// Stack of the deepest chain, with the frames that the verifier names: `64+0+128`, in the functions' order.
    fn stack(&self, frames: &str) -> Option<u32> {
        let calls = self.ends.get(..self.count)?;
        let frames: Vec<u32> = frames.split('+').map(str::parse).collect::<Result<_, _>>().ok()?;
        let starts: BTreeSet<u32> = calls.iter().map(|(_, start)| *start).chain([0]).collect();
        let starts: Vec<u32> = starts.into_iter().collect();
        let function = |at: u32| starts.partition_point(|start| *start <= at) - 1;
        let calls: BTreeSet<_> = calls.iter().map(|(from, to)| (function(*from), function(*to))).collect();
        (frames.len() == starts.len()).then(|| deepest(0, &frames, &calls))
    }
}

/// Stack of the deepest chain that begins with a function; the verifier takes no recursion.
fn deepest(function: usize, frames: &[u32], calls: &BTreeSet<(usize, usize)>) -> u32 {
    let called = calls.iter().filter(|(from, _)| *from == function).map(|(_, to)| deepest(*to, frames, calls));
    frames[function].max(1).next_multiple_of(32) + called.max().unwrap_or(0)
}

/// Catches this thread's calls that load programs, for good.
fn catch() -> io::Result<()> {
    // SAFETY: an all-zero action is a valid one.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = caught as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
    // SAFETY: the handler makes system calls and touches atomics and its own slot.
    if unsafe { libc::sigaction(libc::SIGSYS, &raw const action, std::ptr::null_mut()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let line = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = |offset| line(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset);
    let equal = |k, jt, jf| line(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, k);
    let answer = |k| line(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    // Offsets in `struct seccomp_data`: the number, the first argument, the sixth.
    let mut filter = [
        load(0),
        equal(libc::SYS_bpf as u32, 0, 5),
        load(16),
        equal(PROG_LOAD, 0, 3),
        load(56),
        equal(PASS, 1, 0),
        answer(libc::SECCOMP_RET_TRAP),
        answer(libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its lines live through the call, which copies them.
    let installed = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, std::ptr::from_ref(&program)) == 0
    };
    if installed { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Loads the program of a caught call and puts the result where the caller looks for it.
extern "C" fn caught(_signal: libc::c_int, _info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel gives a handler of this kind the context that it returns to.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let attributes = registers[libc::REG_RSI as usize] as *const u8;
    let length = (registers[libc::REG_RDX as usize] as usize).min(ATTRIBUTES * 4);
    let mut words = [0_u32; ATTRIBUTES];
    // SAFETY: the caller gave the kernel so many bytes, and there is room for them.
    unsafe { std::ptr::copy_nonoverlapping(attributes, words.as_mut_ptr().cast::<u8>(), length) };
    // SAFETY: errno is this thread's own.
    let errno = unsafe { &mut *libc::__errno_location() };
    let before = *errno;
    let result = load(&mut words, length);
    registers[libc::REG_RAX as usize] = if result < 0 { -libc::greg_t::from(*errno) } else { result };
    *errno = before;
}

/// The call again, with a log unless it has one; remembers a program that was taken.
fn load(words: &mut [u32; ATTRIBUTES], length: usize) -> i64 {
    let number = NEXT.load(Ordering::SeqCst);
    let slot = SLOTS.get(number).filter(|_| words[LEVEL] == 0 && words[INSTRUCTIONS] >= SHORTEST);
    if let Some(slot) = slot {
        let log = slot.log.get() as u64;
        words[LEVEL..LEVEL + 4].copy_from_slice(&[LOG_STATS, LOG_LEN as u32, log as u32, (log >> 32) as u32]);
    }
    let start = Instant::now();
    // SAFETY: the attributes are the caller's but for the log, which is this slot's.
    let result = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, words.as_ptr(), length, 0, 0, PASS) };
    let taken = start.elapsed();
    if let Some(slot) = slot.filter(|_| result >= 0) {
        slot.instructions.store(words[INSTRUCTIONS], Ordering::SeqCst);
        slot.translated.store(translated(result as u32), Ordering::SeqCst);
        let code = u64::from(words[CODE]) | u64::from(words[CODE + 1]) << 32;
        // SAFETY: the caller gave the kernel so many instructions there; nobody else has this slot.
        let (code, calls) = unsafe {
            (std::slice::from_raw_parts(code as *const u64, words[INSTRUCTIONS] as usize), &mut *slot.calls.get())
        };
        calls.note(code);
        slot.nanoseconds.store(taken.as_nanos() as u64, Ordering::SeqCst);
        NEXT.store(number + 1, Ordering::SeqCst);
    }
    result
}

/// How many instructions the kernel made of a program: `xlated_prog_len` of `struct bpf_prog_info`.
fn translated(program: u32) -> u32 {
    let mut info = [0_u32; 64];
    let address = info.as_mut_ptr() as u64;
    let attributes = [program, size_of_val(&info) as u32, address as u32, (address >> 32) as u32];
    let length = size_of_val(&attributes);
    // SAFETY: the attributes and what they point to live through the call, with their sizes.
    let result = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET_INFO_BY_FD, attributes.as_ptr(), length) };
    if result == 0 { info[5] / 8 } else { 0 }
}
