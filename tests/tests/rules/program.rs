//! The program in the kernel beside the model, and the explaining instance beside both. Needs root.

use grayxdp_tests::{
    host,
    rules::history::{Length, Summary, run},
    size::Size,
    twin::{Twin, neighbours},
};

#[test]
fn the_program_does_as_the_model_says() {
    let histories = Size::of_this_run().pick(30, 1_000);
    let length = Length { steps: 800, ..Length::USUAL };
    let host = host::host(&neighbours()).expect("tests of the kernel need root and `ip`");
    let mut total = Summary::default();
    for seed in 0..histories {
        match host.run(|| run(seed, None, length, Twin::new)) {
            Ok(summary) => total += summary,
            Err(failure) => panic!("{failure}"),
        }
    }
    println!("{histories} histories: {total:?}");
    assert!(total.flows >= Size::of_this_run().pick(5_000, 100_000), "so many flows were explained, too: {total:?}");
    assert!(total.deferred > 0 && total.refused > 0, "tables are full at times: {total:?}");
}
