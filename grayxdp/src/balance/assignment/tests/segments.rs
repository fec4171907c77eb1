//! Segments, canary instances and candidates that are turned off: what differs, and which buckets look for how long.

use super::*;

#[test]
fn segments_differ_where_their_owners_do_and_stamps_of_agreeing_buckets_are_of_all() {
    let mut case = Case::new(1, 0);
    case.segments = vec![(1, Some(asia(Vec::new())), Ownership::first(&shares(1_000), 100))];
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    let (_, buckets, segments) = case.wanted(&assignment);
    let differing = |buckets: &WantedBuckets| {
        tables(buckets).iter().map(|table| table.iter().filter(|b| b.differs()).count()).collect::<Vec<_>>()
    };
    assert_eq!((differing(&buckets), segments.expect("segments").by_dscp), (vec![1_638, 1_638], false));
    assert!(assignment.is_quiet());

    // Both grow; the segment's first 1,638 buckets are v2's already.
    case.weigh(2_000);
    case.segments[0].2 = case.buckets.clone();
    case.with(|target| assignment.change(target, at(1_010)));
    assert_eq!(
        (differing(&case.wanted(&assignment).1), assignment.unsettled()),
        (vec![1_638, 1_638], [3_277 + 1_639, 0, 0])
    );
    let stamps = |bucket| ServiceStamps {
        segments: vec![CellStamps { seen: vec![bucket], ..CellStamps::default() }, CellStamps::default()],
        ..ServiceStamps::default()
    };
    // Bucket 100 is only the default segment's to settle; 2,000 is both segments'.
    assignment.take(&stamps(100), at(1_069));
    assignment.take(&stamps(2_000), at(1_069));
    assert_eq!(assignment.settle(at(1_071), &policy(), None).settled.idle, 3_277 + 1_639 - 3);
    assert_eq!(assignment.segments[1].unsettled(), 1);
}

#[test]
fn a_dscp_segment_keeps_the_buckets_in_which_it_chooses_otherwise_looking() {
    let mut case = Case::new(1, 0);
    case.segments = vec![(1, Some(asia(vec![46])), Ownership::first(&shares(1_000), 100))];
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    assert!(assignment.keep_looking(Looks::default(), at(1_000)));
    assert!(!assignment.keep_looking(Looks::default(), at(1_001)));
    assignment.swept(at(2_000), &SweptService::default());
    let (_, buckets, _) = case.wanted(&assignment);
    let looking = tables(&buckets).iter().map(|table| table.iter().filter(|bucket| bucket.looks()).count());
    assert_eq!(looking.collect::<Vec<_>>(), [1_638, 1_638]);
}

#[test]
fn a_canary_instance_and_a_candidate_turned_off_keep_their_buckets_looking() {
    let mut case = Case::new(1, 1_000);
    case.segments = vec![(1, Some(asia(Vec::new())), case.buckets.clone())];
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    let looking = |assignment: &Assignment| {
        assignment
            .segments
            .iter()
            .map(|cells| (0..16_384).filter(|b| cells.state(*b).looks).count())
            .collect::<Vec<_>>()
    };
    assignment.keep_looking(Looks { instance: Some(1), turned_off: None }, at(1_000));
    assert_eq!(looking(&assignment), [0, 16_384]);
    assignment.keep_looking(Looks { instance: None, turned_off: Some(1) }, at(1_010));
    assignment.swept(at(1_020), &SweptService::default());
    assert_eq!(looking(&assignment), [1_638, 1_638]);
}

#[test]
fn a_segment_that_goes_leaves_its_table_until_its_sources_are_settled() {
    let mut case = Case::new(1, 0);
    case.segments = vec![(1, Some(asia(Vec::new())), Ownership::first(&shares(1_000), 100))];
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    case.segments[0].1 = None;
    case.with(|target| assignment.change(target, at(1_010)));
    assert_eq!((assignment.segments.len(), assignment.unsettled()), (2, [0, 0, 1]));
    assert!(assignment.names_segment(1));
    assignment.settle(at(1_071), &policy(), None);
    assert_eq!((assignment.segments.len(), assignment.names_segment(1)), (1, false));
    // Its flows may have entries: they are found by their buckets.
    assert_eq!((0..16_384).filter(|bucket| assignment.segments[0].state(*bucket).looks).count(), 1_638);
}

/// How many buckets of the default segment look.
fn looking(assignment: &Assignment) -> usize {
    (0..16_384).filter(|bucket| assignment.segments[0].state(*bucket).looks).count()
}

#[test]
fn the_clients_of_a_canary_instance_are_found_after_its_end_until_a_later_sweep_finds_none() {
    let mut case = Case::new(1, 0);
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    let instance = Looks { instance: Some(1), turned_off: None };
    case.segments = vec![(1, Some(asia(Vec::new())), case.buckets.clone())];
    case.with(|target| assignment.change(target, at(1_010)));
    assignment.keep_looking(instance, at(1_010));
    // Ended before its prefix settled: the prefix goes back to where it is at home, and the segment with it.
    let mut unsettled = assignment.clone();
    assert!(assignment.settle(at(1_071), &policy(), None).settled.idle == 1);
    case.segments[0].1 = None;
    for (ended, assignment) in [(1_020, &mut unsettled), (1_080, &mut assignment)] {
        case.with(|target| assignment.change(target, at(ended)));
        assignment.keep_looking(Looks::default(), at(ended));
        let (_, buckets, _) = case.wanted(assignment);
        assert!(tables(&buckets)[0].iter().all(|bucket| bucket.looks()), "{ended}");
        assignment.settle(at(ended + 100), &policy(), None);
        assert_eq!(looking(assignment), 16_384);
        let busy = SweptService { buckets: [9].into(), ..SweptService::default() };
        assignment.swept(at(ended + 2), &SweptService::default());
        assert_eq!(looking(assignment), 16_384);
        assignment.swept(at(ended + 110), &busy);
        assert_eq!(looking(assignment), 1);
        assignment.swept(at(ended + 120), &SweptService::default());
        assert!(assignment.is_quiet(), "{ended}");
        assert_eq!(case.wanted(assignment).1, WantedBuckets::Split(case.buckets.split().expect("a split")));
    }
}

#[test]
fn nothing_settles_on_a_candidate_that_is_turned_off_and_waiting_begins_anew_with_the_end_of_that() {
    let mut case = Case::new(1, 0);
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    case.weigh(1_000);
    case.with(|target| assignment.change(target, at(1_010)));
    let turned_off = Looks { instance: None, turned_off: Some(1) };
    assignment.keep_looking(turned_off, at(1_020));
    assert_eq!(assignment.settle(at(2_000), &policy(), Some(1)).settled, Settled::default());
    assert_eq!(assignment.unsettled(), [1_638, 0, 0]);
    assignment.keep_looking(Looks::default(), at(2_010));
    assert_eq!(assignment.settle(at(2_069), &policy(), None).settled, Settled::default());
    assert_eq!(assignment.settle(at(2_071), &policy(), None).settled.idle, 1_638);
}

#[test]
fn buckets_of_a_candidate_that_was_turned_off_look_until_a_sweep_after_the_end_of_that() {
    let case = Case::new(1, 10_000);
    let mut assignment = case.with(|target| Assignment::new(target, at(1_000)));
    assignment.keep_looking(Looks { instance: None, turned_off: Some(1) }, at(1_010));
    assignment.keep_looking(Looks::default(), at(1_020));
    assignment.swept(at(1_024), &SweptService::default());
    assert_eq!(looking(&assignment), 16_384);
    assignment.swept(at(1_025), &SweptService::default());
    assert!(assignment.is_quiet());
}
