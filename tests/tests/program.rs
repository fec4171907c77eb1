//! How large the programs are, and what the verifier makes of them. Needs root.

use std::{collections::BTreeMap, time::Duration};

use grayxdp::{
    datapath::Datapath,
    model::kernel::{Kernel as _, TraceQuestion, Wanted},
};
use grayxdp_tests::{
    host,
    subject::Subject,
    verified::{Verified, watch},
};

/// Figures that are known, by program.
const KNOWN: &str = include_str!("../instructions.json");
/// A growth by more than one in so many wants a word.
const UNNOTICED: usize = 10;
/// Instructions that the kernel's verifier is ready to follow, on all ways together.
const LIMIT: u64 = 1_000_000;
/// Stack that a chain of calls may use, in bytes (`MAX_BPF_STACK`).
const STACK: u32 = 512;

#[test]
fn a_program_grows_by_more_than_a_tenth_only_with_a_word_about_it() {
    let known: BTreeMap<String, usize> = serde_json::from_str(KNOWN).expect("it is an object of numbers");
    let found: BTreeMap<_, _> =
        Datapath::objects().into_iter().map(|(name, file)| (name, instructions(file))).collect();
    println!("{found:?}");
    for (name, count) in &found {
        let before = *known.get(name).unwrap_or_else(|| panic!("tests/instructions.json does not know `{name}`"));
        assert!(
            *count <= before + before / UNNOTICED,
            "`{name}` has {count} instructions, {} % more than the {before} of tests/instructions.json. Make it smaller; or, if it \
             is worth that, write \"{name}\": {count} there and say what for in the commit and in CHANGELOG.md",
            (count - before) * 100 / before,
        );
    }
}

/// Instructions of all executable sections of a 64-bit little-endian ELF file (`man 5 elf`).
fn instructions(file: &[u8]) -> usize {
    const INSTRUCTION: u64 = 8;
    const PROGBITS: u64 = 1;
    const EXECUTABLE: u64 = 4;
    let number = |offset: usize, length: usize| {
        file[offset..offset + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
    };
    let (table, size, count) = (number(40, 8) as usize, number(58, 2) as usize, number(60, 2) as usize);
    let sections = (0..count).map(|index| table + index * size);
    let code = sections.filter(|at| number(at + 4, 4) == PROGBITS && number(at + 8, 8) & EXECUTABLE != 0);
    code.map(|at| (number(at + 32, 8) / INSTRUCTION) as usize).sum()
}

#[test]
fn the_verifier_takes_the_programs_and_is_far_from_its_limit() {
    let host = host::host(&[]).expect("tests of the kernel need root and `ip`");
    let open = || {
        host.run(|| {
            let mut subject = Subject::open(&Wanted::default())?;
            subject.datapath.start_trace(&TraceQuestion { count: 1, ..TraceQuestion::default() })?;
            anyhow::Ok(())
        })
    };
    let (verified, opened) = watch(open).expect("this kernel has filters of system calls");
    opened.expect("tests of the kernel need one that takes the program");
    const PROGRAMS: [&str; 4] = ["-ipv6", "-full-nat", "-full-nat-ipv6", ""];
    let names: Vec<_> = ["live", "explaining", "tracing"]
        .into_iter()
        .flat_map(|purpose| PROGRAMS.map(|program| format!("{purpose}{program}")))
        .collect();
    assert_eq!(verified.len(), names.len(), "all programs, live, to explain and to trace: {verified:?}");
    for (name, verified) in names.iter().zip(&verified) {
        println!("figures: program={name} {}", figures(verified));
        assert!(verified.processed.is_some_and(|processed| processed < LIMIT / 2), "{name}: {verified:?}");
        assert!(verified.stack.is_some_and(|stack| stack <= STACK), "{name} on an older kernel: {verified:?}");
    }
}

/// A line for `cargo xtask vm`.
fn figures(verified: &Verified) -> String {
    let Verified { instructions, translated, processed, states, peak_states, verification, stack, loading } = verified;
    let number = |number: &Option<u64>| number.map_or("?".into(), |number| number.to_string());
    let ms = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e3);
    format!(
        "instructions={instructions} translated={translated} processed={} states={} peak={} verified_ms={} load_ms={} stack={}",
        number(processed),
        number(states),
        number(peak_states),
        verification.map_or("?".into(), ms),
        ms(*loading),
        number(&stack.map(u64::from)),
    )
}
