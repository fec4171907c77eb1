//! Reading the signals, and what they say of a version.

use std::sync::Arc;

use crate::{
    analysis::{Distribution, Measured, Quantile},
    daemon::owner::Owner,
    model::{
        Name,
        kernel::{KernelError, VersionId},
        signals::{Quantiles, SignalsStatus},
    },
};

impl Owner {
    /// Reads the signals of all services into the totals.
    pub(super) fn read_signals(&mut self) {
        match self.kernel.signals(None) {
            Ok(reading) => {
                self.signals.take(&reading);
                self.problems.signals = None;
            }
            Err(error) => self.note_unread_signals(&error),
        }
    }

    /// The same of one service. Before it is published: that may clear the counts of an epoch.
    pub(super) fn read_signals_of(&mut self, service: &Name) {
        let Some(id) = self.layout.ids.service(service) else { return };
        match self.kernel.signals(Some(id)) {
            Ok(reading) => {
                let key = |version| self.layout.ids.version_key(version);
                self.signals.take_of(|version| key(version).is_some_and(|key| key.service == *service), &reading);
            }
            Err(error) => self.note_unread_signals(&error),
        }
    }

    fn note_unread_signals(&mut self, error: &KernelError) {
        if self.problems.signals.is_none() {
            tracing::error!("the signals of the data path could not be read: {error}");
        }
        self.problems.signals = Some(error.to_string());
    }

    /// What was measured of a version so far.
    pub(super) fn measured(&self, version: Option<VersionId>) -> Arc<Measured> {
        Arc::new(version.map(|version| self.signals.of(version)).unwrap_or_default())
    }
}

/// Signals as `status` shows them.
pub(super) fn status(measured: &Measured) -> SignalsStatus {
    SignalsStatus {
        attempts: measured.attempts,
        opened: measured.opened,
        refused: measured.refused,
        timeouts: measured.timeouts,
        syn_retransmits: measured.syn_retransmits,
        unmarked: measured.unmarked,
        connect: quantiles(&measured.connect, &Distribution::default()),
        flows: measured.flows,
        ended: measured.ended,
        first_byte: quantiles(&measured.first_byte, &measured.first_byte_censored),
        reset_by_client: measured.reset_by_client,
        reset_by_backend: measured.reset_by_backend,
        segments: measured.segments,
        retransmits: measured.retransmits,
        zero_window: measured.zero_window,
        lost: measured.lost,
        unanswered: measured.unanswered,
        bytes_per_flow: (measured.ended > 0).then(|| measured.payload_bytes() / measured.ended as f64),
    }
}

fn quantiles(of: &Distribution, censored: &Distribution) -> Quantiles {
    let seconds = |quantile| of.quantile(quantile, censored).map(|found: Quantile| found.least() / 1e9);
    Quantiles { samples: of.count() + censored.count(), median: seconds(0.5), p99: seconds(0.99) }
}
