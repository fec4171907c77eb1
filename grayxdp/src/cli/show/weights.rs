//! `grayxdp weights get`: who gets how much of the new flows.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    cli::table::{Cell, Paint, Side, Table},
    model::{Name, Weight, api::ServiceStatus, config::DEFAULT_SEGMENT, settling::SegmentStatus},
};

/// The weights of one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Shares {
    /// The service.
    pub(crate) service: Name,
    /// For `--if-epoch`.
    pub(crate) epoch: u64,
    /// In percent, by version.
    pub(crate) weights: BTreeMap<Name, Weight>,
    /// The same of segments that have their own.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) segments: BTreeMap<Name, BTreeMap<Name, Weight>>,
}

/// What a service's status says about weights.
pub(crate) fn shares_of(service: &ServiceStatus) -> Shares {
    let weights = service.versions.iter().map(|version| (version.name.clone(), version.weight)).collect();
    let own = |segment: &SegmentStatus| Some((segment.name.clone(), segment.weights.clone()?));
    let segments = service.segments.iter().filter_map(own).collect();
    Shares { service: service.name.clone(), epoch: service.epoch, weights, segments }
}

/// The weights of some services.
pub(crate) fn weights(shares: &[Shares], paint: Paint) -> String {
    let has_segments = shares.iter().any(|shares| !shares.segments.is_empty());
    let mut columns = vec![("SERVICE", Side::Left)];
    columns.extend(has_segments.then_some(("SEGMENT", Side::Left)));
    columns.extend([("VERSION", Side::Left), ("WEIGHT", Side::Right), ("EPOCH", Side::Right)]);
    let mut table = Table::new(0, &columns);
    for Shares { service, epoch, weights, segments } in shares {
        let segments = segments.iter().map(|(name, weights)| (name.as_str(), weights));
        for (segment, weights) in std::iter::once((DEFAULT_SEGMENT, weights)).chain(segments) {
            for (version, weight) in weights {
                let mut row = vec![Cell::plain(service)];
                row.extend(has_segments.then(|| Cell::plain(segment)));
                row.extend([Cell::plain(version), Cell::plain(format!("{weight} %")), Cell::plain(epoch)]);
                table.row(row);
            }
        }
    }
    table.render(paint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::samples;

    #[test]
    fn weights_are_shown_with_the_epoch_that_if_epoch_takes() {
        let shares = [shares_of(&samples::status().services[0])];
        let expected =
            "SERVICE  VERSION  WEIGHT  EPOCH\nweb      v1         95 %      3\nweb      v2          5 %      3\n";
        assert_eq!(weights(&shares, Paint::Bare), expected);
        let json = serde_json::to_string(&shares[0]).expect("plain data");
        assert_eq!(json, r#"{"service":"web","epoch":3,"weights":{"v1":95,"v2":5}}"#);
    }

    #[test]
    fn weights_of_segments_stand_below_those_of_the_service() {
        let mut shares = shares_of(&samples::status().services[0]);
        let own = shares.weights.iter().map(|(version, weight)| (version.clone(), weight.complement())).collect();
        shares.segments = [(samples::name("asia"), own)].into();
        let expected = "\
SERVICE  SEGMENT  VERSION  WEIGHT  EPOCH
web      default  v1         95 %      3
web      default  v2          5 %      3
web      asia     v1          5 %      3
web      asia     v2         95 %      3
";
        assert_eq!(weights(&[shares], Paint::Bare), expected);
    }
}
