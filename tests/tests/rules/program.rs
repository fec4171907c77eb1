//! The program in the kernel beside the model, and the explaining instance beside both. Needs root.

use grayxdp_tests::{
    host,
    rules::history::{Length, Summary, run},
    size::Size,
    twin::{Twin, neighbours},
};

#[test]
fn the_program_does_as_the_model_says() {
    let size = Size::of_this_run();
    let histories = u64::from(size.times(30, 1_000));
    let length = Length { steps: 800, ..Length::USUAL };
    let host = host::host(&neighbours()).expect("tests of the kernel need root and `ip`");
    let mut total = Summary::default();
    let seeds = crate::seeds(histories);
    for seed in seeds.clone() {
        match host.run(|| run(seed, None, length, Twin::new)) {
            Ok(summary) => total += summary,
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("histories {seeds:?}: {total:?}");
    if seeds != (0..histories) {
        return;
    }
    assert!(total.flows >= size.times(5_000, 100_000).into(), "so many flows were explained, too: {total:?}");
    // Two histories need not come to it.
    assert!(size == Size::Small || (total.deferred > 0 && total.refused > 0), "tables are full at times: {total:?}");
}
