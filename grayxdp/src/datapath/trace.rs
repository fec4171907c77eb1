//! Tracing: while somebody looks, the links run a program that also tells what becomes of packets; else they run one that knows
//! nothing of it, so that it costs nothing.

use std::path::Path;

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError, RingBuf},
    programs::Xdp,
};
use grayxdp_common::{
    maps,
    trace::{TraceFilter, Traced},
};

use super::{
    Settings,
    object::{self, Purpose},
    unreadable_map,
};
use crate::model::{
    config::Prefix,
    kernel::{KernelError, TraceQuestion, TraceRead},
};

/// The instance that tells.
pub(super) struct Tracer {
    object: Ebpf,
    ring: RingBuf<MapData>,
}

impl Tracer {
    /// Loads it on the live tables; it tells nothing before it is attached.
    pub(super) fn load(folder: &Path, settings: &Settings, question: &TraceQuestion) -> Result<Self, KernelError> {
        let mut object = object::load(folder, settings, Purpose::Trace)?;
        let ring = object.take_map(maps::TRACES).expect("the object file has the map");
        let ring = RingBuf::try_from(map_data(ring)?).map_err(|error| unreadable_map(maps::TRACES, &error))?;
        let mut tracer = Self { object, ring };
        tracer.filter()?.set(0, filter(question), 0).map_err(|error| unreadable_map(maps::TRACE_FILTER, &error))?;
        Ok(tracer)
    }

    /// The program to attach.
    pub(super) fn program(&mut self) -> Result<&mut Xdp, KernelError> {
        object::program(&mut self.object)
    }

    /// Sets the time of a program with a manual clock.
    pub(super) fn set_clock(&mut self, nanoseconds: u64) -> Result<(), KernelError> {
        object::set_clock(&mut self.object, nanoseconds)
    }

    /// What was told since.
    pub(super) fn read(&mut self) -> Result<TraceRead, KernelError> {
        let mut packets = Vec::new();
        while let Some(told) = self.ring.next() {
            let bytes: &[u8] = &told;
            if bytes.len() >= size_of::<Traced>() {
                // SAFETY: the bytes are as many as the value has, which is plain data.
                packets.push(unsafe { bytes.as_ptr().cast::<Traced>().read_unaligned() });
            }
        }
        let filter = self.filter()?.get(&0, 0).map_err(|error| unreadable_map(maps::TRACE_FILTER, &error))?;
        Ok(TraceRead { packets, remaining: filter.remaining, goes_on: true })
    }

    fn filter(&mut self) -> Result<Array<&mut MapData, TraceFilter>, KernelError> {
        let map = self.object.map_mut(maps::TRACE_FILTER).expect("the object file has the map");
        map.try_into().map_err(|error: MapError| unreadable_map(maps::TRACE_FILTER, &error))
    }
}

fn map_data(map: Map) -> Result<Map, KernelError> {
    match map {
        ring @ Map::RingBuf(_) => Ok(ring),
        _ => Err(KernelError("the object file is broken: what is told goes by no ring".to_owned())),
    }
}

fn filter(question: &TraceQuestion) -> TraceFilter {
    let (source, source_mask) = masked(question.source);
    let (destination, destination_mask) = masked(question.destination);
    let (host, host_mask) = masked(question.host);
    TraceFilter {
        source,
        source_mask,
        destination,
        destination_mask,
        host,
        host_mask,
        port: question.port.unwrap_or(0).to_be(),
        service: question.service.map_or(0, |service| service.0),
        protocol: question.protocol.map_or(0, |protocol| protocol.number()),
        only_dropped: u8::from(question.only_dropped),
        also_others: u8::from(question.also_others),
        zero: 0,
        remaining: question.count,
    }
}

/// A prefix as the program compares it: address and mask as they lie in a packet.
fn masked(prefix: Option<Prefix>) -> (u32, u32) {
    let Some(prefix) = prefix else { return (0, 0) };
    let mask = u32::MAX.checked_shl(32 - u32::from(prefix.length)).unwrap_or(0);
    (prefix.address.to_bits().to_be(), mask.to_be())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_ports_are_as_they_lie_in_a_packet() {
        let prefix = |text: &str| Prefix::try_from(text.to_owned()).expect("a prefix");
        assert_eq!(masked(None), (0, 0));
        assert_eq!(masked(Some(prefix("0.0.0.0/0"))), (0, 0));
        let expected = (u32::from_ne_bytes([10, 1, 2, 0]), u32::from_ne_bytes([255, 255, 255, 0]));
        assert_eq!(masked(Some(prefix("10.1.2.0/24"))), expected);
        let question = TraceQuestion { port: Some(80), count: 7, ..TraceQuestion::default() };
        assert_eq!((filter(&question).port.to_ne_bytes(), filter(&question).remaining), ([0, 80], 7));
    }
}
