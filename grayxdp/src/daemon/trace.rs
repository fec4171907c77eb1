//! `trace`: one at a time, for a while, read by whoever began it.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::{
    daemon::{explain::interface_name, headers::headers, names::not_found, owner::Owner},
    model::{
        api::{ApiError, MAX_TRACE_COUNT, MAX_TRACE_TIME, TraceBatch, TraceFilter, TracedPacket},
        config::duration,
        kernel::{TraceQuestion, TraceRead, Traced, Way},
        time::{self, Now},
    },
};

/// A trace that nobody reads for so long ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// The trace that goes on.
#[derive(Debug)]
pub(super) struct Tracing {
    id: u64,
    actor: String,
    count: u64,
    told: u64,
    /// When it ends, and when it was read last: monotonic.
    until: Duration,
    read: Duration,
    /// For how long it was asked to wait.
    time: Duration,
}

impl Owner {
    /// Begins to tell of packets.
    pub(super) fn start_trace(
        &mut self,
        filter: &TraceFilter,
        count: u64,
        time: Duration,
        actor: &str,
    ) -> Result<TraceBatch, ApiError> {
        self.end_forgotten_trace();
        let now = self.clock.now();
        if let Some(tracing) = &self.tracing {
            let left = duration::said(Duration::from_secs(tracing.until.saturating_sub(now.monotonic).as_secs() + 1));
            return Err(ApiError::conflict(format!(
                "{} traces already, for another {left} at most: wait for its end",
                tracing.actor
            )));
        }
        if count == 0 || count > MAX_TRACE_COUNT {
            return Err(ApiError::input(format!("a trace of {count} packets; use 1 to {MAX_TRACE_COUNT}")));
        }
        if time.is_zero() || time > MAX_TRACE_TIME {
            let most = duration::said(MAX_TRACE_TIME);
            return Err(ApiError::input(format!("a trace of {}; use up to {most}", duration::said(time))));
        }
        let question = self.question(filter, count)?;
        self.kernel.start_trace(&question).map_err(|error| ApiError::failed(error.to_string()))?;
        self.traces += 1;
        let (id, actor) = (self.traces, actor.to_owned());
        let (until, read) = (now.monotonic + time, now.monotonic);
        self.tracing = Some(Tracing { id, actor, count, told: 0, until, read, time });
        Ok(TraceBatch { id, ..TraceBatch::default() })
    }

    /// What it told since.
    pub(super) fn read_trace(&mut self, id: u64) -> Result<TraceBatch, ApiError> {
        let now = self.clock.now();
        let Some(tracing) = self.tracing.as_mut().filter(|tracing| tracing.id == id) else {
            let why = "the daemon was started again, or nobody read it for a while";
            return Err(ApiError::conflict(format!("trace {id} is over ({why}): begin anew")));
        };
        tracing.read = now.monotonic;
        let read = self.kernel.read_trace().map_err(|error| ApiError::failed(error.to_string()))?;
        let TraceRead { packets, remaining, goes_on } = read;
        tracing.told += packets.len() as u64;
        let lost = (tracing.count - remaining.min(tracing.count)).saturating_sub(tracing.told);
        let ended = if !goes_on {
            Some("the interfaces were given another program: begin anew".to_owned())
        } else if remaining == 0 {
            Some(format!("{} packets were asked for", tracing.count))
        } else if now.monotonic >= tracing.until {
            Some(format!("{} are over", duration::said(tracing.time)))
        } else {
            None
        };
        if ended.is_some() {
            self.stop_trace();
        }
        let packets = packets.iter().map(|traced| self.told(traced, now)).collect();
        Ok(TraceBatch { id, packets, lost, ended })
    }

    /// Ends a trace; one that has ended is no mistake.
    pub(super) fn end_trace(&mut self, id: u64) -> Result<TraceBatch, ApiError> {
        let is_over = self.tracing.as_ref().is_none_or(|tracing| tracing.id != id);
        let batch = if is_over { TraceBatch { id, ..TraceBatch::default() } } else { self.read_trace(id)? };
        if !is_over {
            self.stop_trace();
        }
        Ok(TraceBatch { ended: Some("it was ended".to_owned()), ..batch })
    }

    /// Ends a trace whose reader has gone, or whose time is over and whom nobody asks any more.
    pub(super) fn end_forgotten_trace(&mut self) {
        let now = self.clock.now().monotonic;
        if self.tracing.as_ref().is_some_and(|tracing| now.saturating_sub(tracing.read) > PATIENCE) {
            self.stop_trace();
        }
    }

    fn stop_trace(&mut self) {
        if self.tracing.take().is_some()
            && let Err(error) = self.kernel.end_trace()
        {
            tracing::warn!(%error, "the tracing program stays until the next start; it handles packets as the other one does");
        }
    }

    fn question(&self, filter: &TraceFilter, count: u64) -> Result<TraceQuestion, ApiError> {
        let TraceFilter { source, destination, host, port, protocol, service, dropped, all } = filter;
        let service = match service {
            None => None,
            Some(name) => {
                let known = self.layout.services.keys();
                Some(self.layout.ids.service(name).ok_or_else(|| not_found("service", name, known))?)
            }
        };
        Ok(TraceQuestion {
            source: *source,
            destination: *destination,
            host: *host,
            port: *port,
            protocol: *protocol,
            service,
            only_dropped: *dropped,
            also_others: *all,
            count,
        })
    }

    fn told(&self, traced: &Traced, now: Now) -> TracedPacket {
        let ago = now.monotonic.saturating_sub(Duration::from_nanos(traced.time_ns));
        let packet = headers(&traced.head, traced.length);
        let destination = packet.destination.parse().unwrap_or(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
        let way = Way::of(traced.explanation);
        let is_first = packet.flags.as_deref() == Some("S");
        let way = self.told_way(&way, destination, is_first);
        let left = (way.fate != "dropped").then(|| headers(&traced.head_out, traced.length_out));
        TracedPacket {
            time: time::timestamp(now.wall.saturating_sub(ago)),
            interface: interface_name(traced.interface),
            packet,
            way,
            left,
        }
    }
}
