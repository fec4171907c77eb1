//! What of the candidate is exposed: its share of new flows, by segment, and a few clients beside them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{
    Name, Weight,
    config::{BackendAddress, Match},
};

/// What of the candidate is exposed.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Exposure {
    /// Its weight in every segment that has none of its own here.
    pub weight: Weight,
    /// Its weight in the other segments.
    pub segments: BTreeMap<Name, Weight>,
    /// Clients that meet it beside the weights.
    pub aside: Option<Aside>,
}

/// Clients that meet the candidate beside the weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Aside {
    /// Which clients.
    pub r#match: Match,
    /// The one backend that they meet; any of the candidate's where there is none.
    pub backend: Option<BackendAddress>,
}

impl Exposure {
    /// The same weight everywhere.
    #[must_use]
    pub fn of(weight: Weight) -> Self {
        Self { weight, ..Self::default() }
    }

    /// The weight in a segment.
    #[must_use]
    pub fn in_segment(&self, segment: Option<&Name>) -> Weight {
        segment.and_then(|segment| self.segments.get(segment)).copied().unwrap_or(self.weight)
    }

    /// Whether nobody meets the candidate.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Whether somebody may meet the candidate here who does not in `other`.
    #[must_use]
    pub fn exceeds(&self, other: &Self) -> bool {
        let names = self.segments.keys().chain(other.segments.keys());
        let grows = |name: &Name| self.in_segment(Some(name)) > other.in_segment(Some(name));
        self.weight > other.weight
            || names.into_iter().any(grows)
            || (self.aside.is_some() && self.aside != other.aside)
    }

    /// The weights in words: `25 %`, `25 %, asia 10 %`.
    #[must_use]
    pub fn said(&self) -> String {
        let own = self.segments.iter().map(|(name, weight)| format!(", {name} {weight} %"));
        std::iter::once(format!("{} %", self.weight)).chain(own).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exposure(weight: u16, asia: Option<u16>) -> Exposure {
        let percent = |percent: u16| Weight::from_hundredths(percent * 100).expect("a weight");
        let asia = asia.map(|asia| ("asia".parse().expect("a name"), percent(asia)));
        Exposure { segments: asia.into_iter().collect(), ..Exposure::of(percent(weight)) }
    }

    #[test]
    fn a_segment_that_grows_exceeds_even_where_the_rest_falls() {
        assert!(exposure(10, None).exceeds(&exposure(5, None)));
        assert!(!exposure(5, None).exceeds(&exposure(5, None)));
        assert!(exposure(5, Some(20)).exceeds(&exposure(10, Some(10))));
        assert!(exposure(5, Some(20)).exceeds(&exposure(10, None)));
        assert!(exposure(10, None).exceeds(&exposure(10, Some(5))));
        assert!(!exposure(0, None).exceeds(&exposure(10, Some(5))));
        assert_eq!(exposure(25, Some(10)).said(), "25 %, asia 10 %");
    }
}
