//! Who owns which bucket, against counts made by hand.

use proptest::prelude::*;

use super::*;

fn shares(hundredths: &[u16]) -> Vec<Share> {
    (0..).zip(hundredths).map(|(place, number)| (place, Weight::from_hundredths(*number).expect("a weight"))).collect()
}

/// Weights of so many versions that sum to 100 %.
fn weights(versions: usize) -> impl Strategy<Value = Vec<u16>> {
    prop::collection::vec(0_u16..=1_000, versions)
        .prop_filter_map("nothing", |raw| (raw.iter().any(|share| *share > 0)).then(|| apportion(&raw, 10_000)))
}

#[test]
fn two_versions_are_a_threshold_from_the_offset() {
    let tenth = Ownership::first(&shares(&[9_000, 1_000]), 16_000);
    assert_eq!(tenth.split(), Some(Split { offset: 16_000, threshold: 1_638 }));
    assert_eq!(
        (tenth.owners()[16_000], tenth.owners()[15_999], tenth.owners()[1_253], tenth.owners()[1_254]),
        (1, 0, 1, 0)
    );
    let all = tenth.reweighted(&shares(&[0, 10_000]), None, 0);
    assert_eq!(all.split(), Some(Split { offset: 16_000, threshold: BUCKETS }));
    let anew = all.reweighted(&shares(&[500, 9_500]), Some(7), 0);
    assert_eq!(anew.split(), Some(Split { offset: 7, threshold: 15_565 }));
}

#[test]
fn a_version_before_the_other_in_the_file_grows_from_where_the_other_ends() {
    let weight = |number| Weight::from_hundredths(number).expect("a weight");
    // v2 has place 1 and stands first; v1, of place 0, owns the threshold.
    let tenth = Ownership::first(&[(1, weight(9_000)), (0, weight(1_000))], 100);
    assert_eq!((tenth.owners()[100], tenth.owners()[1_737], tenth.owners()[1_738]), (0, 0, 1));
    assert_eq!(tenth.split(), Some(Split { offset: 1_738, threshold: BUCKETS - 1_638 }));
}

#[test]
fn a_third_version_ends_the_threshold_and_nobody_is_moved_by_its_coming() {
    let two = Ownership::first(&shares(&[7_500, 2_500]), 100);
    let three = two.reweighted(&shares(&[7_500, 2_500, 0]), None, 5);
    assert_eq!((three.split(), three.moved(&two)), (None, 0));
    // It goes again; the form returns when one version has all and all is settled.
    let again = three.reweighted(&shares(&[7_500, 2_500]), None, 5);
    assert_eq!((again.is_ring(), again.moved(&two)), (false, 0));
    let whole = again.reweighted(&shares(&[10_000, 0]), None, 5);
    assert!(!whole.is_ring());
    assert_eq!(whole.reweighted(&shares(&[10_000, 0]), Some(9), 5).split(), Some(Split { offset: 9, threshold: 0 }));
}

#[test]
fn places_are_given_new_numbers_without_moving_anybody() {
    let weight = |number| Weight::from_hundredths(number).expect("a weight");
    let before = Ownership::first(&[(1, weight(9_000)), (2, weight(1_000))], 100);
    let after = before.renumbered(&[1, 2]);
    assert_eq!(after.split(), Some(Split { offset: 100, threshold: 1_638 }));
    assert!(before.owners().iter().zip(after.owners().iter()).all(|(old, new)| old - 1 == *new));
}

#[test]
fn text_that_says_something_else_is_refused() {
    for bad in ["", "0*16383", "0*16384,1*1", "8*16384", "0/1@16384+0", "0/1@0+16385", "0/9@0+1", "x"] {
        assert!(bad.parse::<Ownership>().is_err(), "{bad}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn counts_are_the_largest_remainders_and_no_bucket_moves_without_need(
        versions in 1_usize..=8, seed in any::<u16>(), steps in prop::collection::vec(weights(8), 1..6),
    ) {
        let of = |raw: &[u16]| shares(&apportion(&raw[..versions], 10_000));
        prop_assume!(steps.iter().all(|raw| raw[..versions].iter().any(|share| *share > 0)));
        let mut now = Ownership::first(&of(&steps[0]), seed % BUCKETS);
        for step in &steps[1..] {
            let shares = of(step);
            let next = now.reweighted(&shares, None, seed % BUCKETS);
            let expected = apportion(&shares.iter().map(|(_, weight)| weight.hundredths()).collect::<Vec<_>>(), BUCKETS);
            prop_assert_eq!(&next.counts()[..versions], &expected[..]);
            let least: u16 = now.counts().iter().zip(next.counts()).map(|(old, new)| new.saturating_sub(*old)).sum();
            prop_assert_eq!(now.moved(&next), least);
            prop_assert_eq!(next.to_string().parse::<Ownership>(), Ok(next.clone()));
            now = next;
        }
    }

    #[test]
    fn growing_at_anothers_cost_touches_no_third_and_shrinking_gives_the_same_back(
        mut raw in weights(5), grower in 0_usize..5, payer in 0_usize..5, parts in [0.0_f64..1.0, 0.0_f64..1.0], base in 0..BUCKETS,
    ) {
        prop_assume!(grower != payer);
        raw[payer] += std::mem::take(&mut raw[grower]);
        let at = |part: f64| {
            let mut grown = raw.clone();
            grown[grower] = (f64::from(raw[payer]) * part) as u16;
            grown[payer] -= grown[grower];
            shares(&grown)
        };
        let (low, high) = (parts[0].min(parts[1]), parts[0].max(parts[1]));
        let none = Ownership::first(&shares(&raw), base);
        let mut steps = vec![none];
        for part in [low, high, low, 0.0] {
            let last = steps.last().expect("the first");
            steps.push(last.reweighted(&at(part), None, base));
        }
        // Rounding to whole buckets may give a third one or take one from it.
        let third = |owner: u8| usize::from(owner) != grower && usize::from(owner) != payer;
        let touched = steps[0].owners().iter().zip(steps[2].owners().iter()).filter(|(a, b)| a != b && (third(**a) || third(**b)));
        prop_assert!(touched.count() <= 5);
        for (there, back) in [(0, 4), (1, 3)] {
            let differ = steps[there].moved(&steps[back]);
            prop_assert!(differ <= 10, "{} are not back", differ);
        }
    }
}
