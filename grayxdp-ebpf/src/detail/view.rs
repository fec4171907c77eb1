//! What the rules ask for about a packet: its segments and buckets, default and choice, and what is unsettled about them.

use grayxdp_common::{
    cells::{Bucket, DetailRecord, NO_DSCP, SegmentClass, SlotState, VersionDetail},
    explanation::Turn,
};

use super::{Cells, Kind, Question, decide::is_open, zero};
use crate::{
    exceptions::Found,
    explain::{note, turn},
    guard, tables,
};

/// Finds the segments of the packet and its buckets in them.
#[inline(always)]
pub(super) fn find_cells(
    question: &mut Question,
    detail: &DetailRecord,
    cells: &mut Cells,
    _: &mut View,
    _: &mut Found,
) -> u64 {
    let bucket = question.bucket as u16;
    zero([&mut cells.home_segment, &mut cells.segment, &mut cells.prefix]);
    let base = tables::bucket(detail.buckets, bucket);
    let is_first = question.kind == Kind::First as u64;
    let asks_segment = is_first || question.kind == Kind::Datagram as u64;
    if detail.segments > 1 && (asks_segment || base.differs()) {
        find_segments(question, detail, is_first, cells);
    }
    cells.home = u64::from(bucket_of(detail, base, cells.home_segment, bucket).0);
    cells.current = u64::from(bucket_of(detail, base, cells.segment, bucket).0);
    question.segment = cells.segment;
    0
}

#[inline(always)]
fn bucket_of(detail: &DetailRecord, base: Bucket, segment: u64, bucket: u16) -> Bucket {
    if segment == 0 { base } else { tables::bucket(detail.buckets + segment as u32, bucket) }
}

/// The segments by source, port and DSCP. The DSCP counts on what opens a flow, and for the choice only.
#[inline(always)]
fn find_segments(question: &Question, detail: &DetailRecord, is_first: bool, cells: &mut Cells) {
    turn(Turn::Segment);
    let (mut home, mut current) = (0, 0);
    if detail.prefixes != 0
        && let Some(prefix) = tables::prefix(question.source(detail.prefixes))
    {
        turn(Turn::SourcePrefix);
        (home, current) = (prefix.home, prefix.current);
        cells.prefix = u64::from(prefix.state);
        if home != current {
            turn(Turn::PrefixUnsettled);
        }
    }
    let dscp = if is_first && detail.flags & DetailRecord::FLAG_DSCP != 0 {
        turn(Turn::Dscp);
        question.dscp as u8
    } else {
        NO_DSCP
    };
    let port = question.port_class as u8;
    cells.home_segment =
        u64::from(tables::segment(detail.classes + u32::from(home), SegmentClass::index(port, NO_DSCP)));
    cells.segment = u64::from(tables::segment(detail.classes + u32::from(current), SegmentClass::index(port, dscp)));
    note(|explanation| {
        (explanation.home_segment, explanation.current_segment) = (cells.home_segment as u8, cells.segment as u8);
        (explanation.port_class, explanation.dscp) = (port, dscp);
    });
}

/// Everything that the rules ask for once the cells are known.
#[repr(C)]
pub(super) struct View {
    /// Backend of a flow without an entry.
    pub(super) default: u64,
    /// Backend of a new flow.
    pub(super) choice: u64,
    /// Place of the home version.
    pub(super) home_place: u64,
    /// Place of the version of new flows, with the guard's word.
    pub(super) place: u64,
    /// Home and current differ: of the bucket (1), of the home slot (2), of the prefix (4).
    pub(super) unsettled: u64,
    /// Cells that pin: the same bits.
    pub(super) pins: u64,
    /// Whether entries may be there.
    pub(super) looks: u64,
    /// The guard turned the bucket's candidate off.
    pub(super) turned: u64,
}

pub(super) const BUCKET: u64 = 1;
pub(super) const SLOT: u64 = 2;
pub(super) const PREFIX: u64 = 4;

/// Default, choice, and what is unsettled about them.
#[inline(always)]
pub(super) fn see(
    question: &mut Question,
    detail: &DetailRecord,
    cells: &mut Cells,
    view: &mut View,
    _: &mut Found,
) -> u64 {
    zero([&mut view.unsettled, &mut view.pins]);
    let (home, current, slot) = (Bucket(cells.home as u8), Bucket(cells.current as u8), question.slot as u16);
    let is_first = question.kind == Kind::First as u64;
    // The places are of three bits, and there are eight versions.
    let home_version: &VersionDetail = &detail.versions[usize::from(home.home() & 7)];
    let home_state = state_of(home_version, slot);
    let Some(default) = tables::backend_of_slot(home_version.home, home_version.first_home, slot) else { return 1 };
    (view.default, view.home_place) = (u64::from(default), u64::from(home.home()));

    let looks_at_lease = is_first || question.kind == Kind::Datagram as u64;
    let turned = guard::turn_of(detail, current.current(), looks_at_lease);
    view.turned = u64::from(turned);
    let mut place = if turned { detail.stable } else { current.current() } & 7;
    let mut version = &detail.versions[usize::from(place)];
    if version.flags & VersionDetail::FLAG_FAILOVER != 0 {
        place = (version.flags & VersionDetail::FAILOVER_PLACE) as u8;
        version = &detail.versions[usize::from(place)];
        turn(Turn::Failover);
        if is_first {
            tables::count_exceptions(question.service as u32, |counters| counters.failovers += 1);
        }
    }
    let state = state_of(version, slot);
    view.place = u64::from(place);
    let Some(choice) = tables::backend_of_slot(version.current, version.first_current, slot) else { return 1 };
    view.choice = u64::from(choice);
    if detail.instance != 0
        && u64::from(detail.instance_segment) == cells.segment
        && !guard::turn_of(detail, detail.candidate, looks_at_lease)
        && is_open(detail, u64::from(detail.instance))
    {
        turn(Turn::Instance);
        view.choice = u64::from(detail.instance);
    }

    // The bucket of the home segment decides what is stamped; a guard turns it as it turns the choice.
    let home_turned = guard::is_turned(detail, home.current());
    let effective = if home_turned { detail.stable } else { home.current() };
    if effective != home.home() {
        view.unsettled |= BUCKET;
        turn(Turn::BucketUnsettled);
    }
    if home_state.has(SlotState::UNSETTLED) {
        view.unsettled |= SLOT;
        turn(Turn::SlotUnsettled);
    }
    if cells.prefix & u64::from(SlotState::UNSETTLED) != 0 {
        view.unsettled |= PREFIX;
    }
    if home.pins() {
        view.pins |= BUCKET;
    }
    if home_state.has(SlotState::PINS) {
        view.pins |= SLOT;
    }
    if cells.prefix & u64::from(SlotState::PINS) != 0 {
        view.pins |= PREFIX;
    }
    let slots = home_state.0 | state.0 | cells.prefix as u8;
    view.looks = view.unsettled
        | u64::from(home.looks())
        | u64::from(current.looks())
        | u64::from(turned)
        | u64::from(slots & (SlotState::LOOKS | SlotState::UNSETTLED));
    note(|explanation| {
        (explanation.home_backend, explanation.current_backend) = (view.default as u16, view.choice as u16);
        (explanation.home_place, explanation.current_place) = (view.home_place as u8, view.place as u8);
    });
    0
}

#[inline(always)]
fn state_of(version: &VersionDetail, slot: u16) -> SlotState {
    if version.states == 0 { SlotState(0) } else { tables::slot_state(version.states, slot) }
}
