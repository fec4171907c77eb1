//! The flow log: what the data path is to tell of, and the names that stand in a line.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use grayxdp_common::explanation::Turn;
use tokio::sync::watch;

use crate::{
    balance::IdTable,
    daemon::{clock::Clock as _, clock::SystemClock, owner::Owner, shadow::rate},
    model::{
        Name,
        config::{self, Service},
        kernel::{BackendId, Copied, Copy, ServiceId, VersionId, WantedCopies, is_copied},
        time,
    },
    telemetry::{FlowLine, FlowLog},
};

/// What a line is made with; none while no flow is written down.
pub(super) type Naming = Option<Arc<Names>>;

/// Names of all that a flow can meet.
pub(super) struct Names {
    log: Arc<FlowLog>,
    rate: u32,
    ids: Arc<IdTable>,
    services: BTreeMap<ServiceId, ServiceNames>,
}

#[derive(PartialEq)]
struct ServiceNames {
    service: Service,
    segments: BTreeMap<u8, Name>,
}

/// The owner's part of the log.
#[derive(Default)]
pub(super) struct FlowLogging {
    channel: Option<watch::Sender<Naming>>,
    log: Option<(config::FlowLog, Arc<FlowLog>)>,
    /// Why there is no thread that writes.
    failed: Option<String>,
}

/// What the data path tells of packets to: it writes down the flows that they are the first of.
pub(super) fn flow_sink(names: watch::Receiver<Naming>) -> impl Fn(&Copied) + Send + Sync {
    move |copied| {
        let Some(names) = names.borrow().clone() else { return };
        match copied {
            Copied::Lost(count) => names.log.lose(*count),
            Copied::Packet(copy) => {
                if let Some(line) = line(&names, copy) {
                    names.log.tell(line);
                }
            }
        }
    }
}

/// A line about a packet that may open a flow of the sample.
fn line(names: &Names, copy: &Copy) -> Option<FlowLine> {
    let explanation = &copy.explanation;
    if explanation.opens == 0 || !is_copied(explanation.hash, names.rate) {
        return None;
    }
    let ServiceNames { service, segments } = names.services.get(&ServiceId(explanation.service))?;
    let turns = Turn::ALL.iter().filter(|turn| explanation.turns & turn.bit() != 0);
    Some(FlowLine {
        time: time::timestamp(SystemClock.now().wall),
        service: service.name.clone(),
        protocol: service.protocol,
        client: copy.client,
        target: SocketAddr::new(service.vip, copy.port),
        segment: segments.get(&explanation.current_segment).cloned(),
        version: names.ids.version_key(VersionId(explanation.version))?.version.clone(),
        backend: names.ids.backend_key(BackendId(explanation.backend))?.address.to_string(),
        epoch: explanation.epoch,
        reason: turns.map(|turn| turn.label()).collect(),
    })
}

impl Owner {
    /// From now on the data path can tell of flows.
    pub(super) fn begin_flow_log(&mut self, names: watch::Sender<Naming>) {
        self.flow_log.channel = Some(names);
    }

    /// Opens the file anew: somebody may have moved it.
    pub(super) fn reopen_flow_log(&self) {
        if let Some((config, log)) = &self.flow_log.log {
            log.reopen(config.path.clone());
        }
    }

    /// Begins, changes or ends the log as the configuration says, and asks for the packets that it needs.
    pub(super) fn follow_flow_log(&mut self, asked: &mut WantedCopies) {
        let wanted = self.layout.config.flow_log.clone();
        self.flow_log.log = match (wanted, self.flow_log.log.take()) {
            (None, _) => None,
            (Some(wanted), Some((known, log))) => {
                if wanted.path != known.path {
                    log.reopen(wanted.path.clone());
                }
                Some((wanted, log))
            }
            (Some(wanted), None) => match FlowLog::start(wanted.path.clone()) {
                Ok(log) => {
                    self.flow_log.failed = None;
                    Some((wanted, Arc::new(log)))
                }
                Err(error) => {
                    self.flow_log.failed = Some(format!("no thread writes it: {error}"));
                    None
                }
            },
        };
        let names = self.names();
        if let Some(names) = &names {
            names.services.keys().for_each(|id| asked.entry(*id).or_default().first = names.rate);
        }
        if let Some(sender) = &self.flow_log.channel {
            sender.send_if_modified(|present| {
                let differs = !same(present, &names);
                if differs {
                    *present = names.map(Arc::new);
                }
                differs
            });
        }
    }

    fn names(&self) -> Option<Names> {
        let (config, log) = self.flow_log.log.as_ref()?;
        let of = |service: &Service| {
            let record = self.layout.services.get(&service.name)?;
            let segments = record.segments.iter().map(|(name, segment)| (segment.number, name.clone())).collect();
            Some((self.layout.ids.service(&service.name)?, ServiceNames { service: service.clone(), segments }))
        };
        let logged = self.layout.config.services.iter().filter(|service| config.has(&service.name));
        Some(Names {
            log: Arc::clone(log),
            rate: rate(config.sample),
            ids: Arc::clone(&self.layout.ids),
            services: logged.filter_map(of).collect(),
        })
    }

    /// Lines that were written, and lines that were lost; none without a log.
    pub(super) fn flow_log_lines(&self) -> Option<(u64, u64)> {
        self.flow_log.log.as_ref().map(|(_, log)| log.lines())
    }

    /// Why the flow log is not written.
    pub(super) fn flow_log_problem(&self) -> Option<String> {
        let failed = self.flow_log.failed.clone();
        failed.or_else(|| self.flow_log.log.as_ref().and_then(|(_, log)| log.problem()))
    }
}

fn same(present: &Naming, names: &Option<Names>) -> bool {
    match (present, names) {
        (None, None) => true,
        (Some(present), Some(names)) => {
            Arc::ptr_eq(&present.log, &names.log)
                && (present.rate, &present.ids, &present.services) == (names.rate, &names.ids, &names.services)
        }
        (Some(_), None) | (None, Some(_)) => false,
    }
}
