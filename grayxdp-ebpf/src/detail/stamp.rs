//! Stamps: which cells something was resolved by home in, which a SYN was deferred in, which a pin found no place in.

use grayxdp_common::cells::{DetailRecord, VersionDetail};

use super::{
    Cells, IPV6, Question,
    view::{BUCKET, PREFIX, SLOT, View},
};
use crate::{
    explain::explains,
    tables::{self, Source, StampKind},
};

/// Stamps some of bucket, slot and prefix; the instance that explains stamps nothing.
#[inline(always)]
pub(super) fn stamp(question: &Question, cells: &Cells, view: &View, which: u64, kind: StampKind) {
    if explains() {
        return;
    }
    let which = if cells.prefix == 0 { which & !PREFIX } else { which };
    let what = which | (kind as u64) << KIND | (view.home_place & 7) << HOME_PLACE | (view.place & 7) << PLACE;
    let at = (question.bucket & 0xffff)
        | (question.slot & 0xffff) << SLOT_AT
        | (cells.home_segment & 0xff) << HOME_SEGMENT
        | (cells.segment & 0xff) << SEGMENT;
    let what = what | if question.flags & IPV6 != 0 { IS_IPV6 } else { 0 };
    detail_stamp(what, at, question.detail, question.client[0], question.client[1]);
}

/// First bits of the fields of [`detail_stamp`]'s first argument, behind which cells.
const KIND: u32 = 8;
const HOME_PLACE: u32 = 16;
const PLACE: u32 = 24;
const IS_IPV6: u64 = 1 << 32;
/// First bits of the fields of its second argument, behind the bucket.
const SLOT_AT: u32 = 16;
const HOME_SEGMENT: u32 = 32;
const SEGMENT: u32 = 40;

/// All is given as arguments: whoever calls holds references to the scratch.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn detail_stamp(what: u64, at: u64, detail: u64, client_high: u64, client_low: u64) -> u64 {
    let Some(detail) = tables::detail(detail as u32) else { return 0 };
    let kind = what >> KIND & 0xff;
    let is_deferred = kind == StampKind::Deferred as u64;
    if what & BUCKET != 0 && detail.bucket_stamps != 0 {
        let (home, current) = ((at >> HOME_SEGMENT) as u8, (at >> SEGMENT) as u8);
        tables::stamp(detail.bucket_stamps + u32::from(home), at as u16, kind);
        if current != home {
            tables::stamp(detail.bucket_stamps + u32::from(current), at as u16, kind);
        }
    }
    if what & SLOT != 0 {
        let (home, current, slot) = (what >> HOME_PLACE & 7, what >> PLACE & 7, (at >> SLOT_AT) as u16);
        stamp_slot(version(detail, home), slot, kind);
        if is_deferred && current != home {
            stamp_slot(version(detail, current), slot, kind);
        }
    }
    if what & PREFIX != 0 {
        let (words, is_ipv6) = ([client_high, client_low], what & IS_IPV6 != 0);
        tables::stamp_prefix(Source { set: detail.prefixes, words, is_ipv6 }, kind);
    }
    0
}

#[inline(always)]
const fn version(detail: &DetailRecord, place: u64) -> &VersionDetail {
    &detail.versions[place as usize & 7]
}

#[inline(always)]
fn stamp_slot(version: &VersionDetail, slot: u16, kind: u64) {
    if version.stamps != 0 {
        tables::stamp(u32::from(version.stamps), slot, kind);
    }
}
