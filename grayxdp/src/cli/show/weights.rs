//! `grayxdp weights get`: who gets how much of the new flows.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::{
    cli::table::{Cell, Paint, Side, Table},
    model::{Name, Weight, api::ServiceStatus},
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
}

/// What a service's status says about weights.
pub(crate) fn shares_of(service: &ServiceStatus) -> Shares {
    let weights = service.versions.iter().map(|version| (version.name.clone(), version.weight)).collect();
    Shares { service: service.name.clone(), epoch: service.epoch, weights }
}

/// The weights of some services.
pub(crate) fn weights(shares: &[Shares], paint: Paint) -> String {
    let mut table = Table::new(
        0,
        &[("SERVICE", Side::Left), ("VERSION", Side::Left), ("WEIGHT", Side::Right), ("EPOCH", Side::Right)],
    );
    for Shares { service, epoch, weights } in shares {
        for (version, weight) in weights {
            let weight = format!("{weight} %");
            table.row(vec![Cell::plain(service), Cell::plain(version), Cell::plain(weight), Cell::plain(epoch)]);
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
}
