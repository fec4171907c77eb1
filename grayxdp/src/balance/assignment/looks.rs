//! Buckets that look for good, because flows of theirs can be sent elsewhere without any change of owners.

use grayxdp_common::BUCKETS;

use super::Assignment;
use crate::balance::Moment;

/// What sends flows elsewhere than owners say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Looks {
    /// Segment of a canary instance: all its new flows go to one backend.
    pub instance: Option<u8>,
    /// Place of a candidate that a fuse or a lease turned off: its new flows go to the stable version.
    pub turned_off: Option<u8>,
}

impl Assignment {
    /// Lets buckets look for as long as their flows can be sent elsewhere. Says whether that changed any.
    pub fn keep_looking(&mut self, looks: Looks, now: Moment) -> bool {
        let mut named: Vec<Option<Vec<bool>>> = vec![None; self.segments.len()];
        let mut mark = |segment: u8, marks: &dyn Fn(usize) -> bool| {
            let Some(named) = named.get_mut(usize::from(segment)) else { return };
            let named = named.get_or_insert_with(|| vec![false; usize::from(BUCKETS)]);
            named.iter_mut().enumerate().for_each(|(bucket, named)| *named |= marks(bucket));
        };
        for (without, with) in self.sources.dscp_pairs() {
            let pair = [without, with].map(|segment| &self.segments[usize::from(segment)]);
            let differs = |bucket: usize| {
                looks.instance == Some(with)
                    || pair[1].current()[bucket] != pair[0].home()[bucket]
                    || pair[1].current()[bucket] != pair[0].current()[bucket]
            };
            mark(without, &differs);
            mark(with, &differs);
        }
        if let Some(segment) = looks.instance {
            mark(segment, &|_| true);
        }
        if let Some(place) = looks.turned_off {
            for (segment, cells) in (0..).zip(&self.segments) {
                mark(segment, &|bucket| cells.current()[bucket] == place);
            }
        }
        let cells = self.segments.iter_mut().zip(named);
        cells.fold(false, |changed, (cells, named)| cells.keep_looking(named.as_deref(), now) || changed)
    }
}
