//! Tracing and copying: while somebody looks, or packets are copied, the links run a program that also does this; else they run
//! one that knows nothing of it, so that it costs nothing.

use std::{fs, io, net::IpAddr, path::Path};

use aya::{
    Ebpf,
    maps::{Array, Map, MapData, MapError, ProgramArray, RingBuf},
    programs::Xdp,
};
use grayxdp_common::{
    ipv6::Address6,
    maps,
    trace::{TraceFilter, Traced, Words},
};

use super::{
    Settings,
    copies::Reader,
    object::{self, Purpose},
    unreadable_map,
};
use crate::model::{
    config::Prefix,
    kernel::{CopiesAsked, CopySink, KernelError, TraceQuestion, TraceRead, WantedCopies},
};

/// Where the tracing instance's own array of programs is pinned while it runs: the kernel empties one that nobody holds, and
/// after the death of a daemon its links run on with nothing behind them for IPv6.
const PROGRAMS_PIN: &str = "TRACE_PROGRAMS";

/// The instance that tells and copies.
pub(super) struct Tracer {
    object: Ebpf,
    ring: RingBuf<MapData>,
    /// Whether somebody asked to be told.
    tells: bool,
    /// What is copied.
    copied: WantedCopies,
    /// The thread that reads the copies; it ends with this value.
    reader: Option<Reader>,
}

impl Tracer {
    /// Loads it on the live tables; it tells and copies nothing.
    pub(super) fn load(folder: &Path, settings: &Settings) -> Result<Self, KernelError> {
        let mut object = object::load(folder, settings, Purpose::Trace)?;
        keep_programs(&mut object, folder)?;
        let ring = object.take_map(maps::TRACES).expect("the object file has the map");
        let ring = RingBuf::try_from(map_data(ring)?).map_err(|error| unreadable_map(maps::TRACES, &error))?;
        Ok(Self { object, ring, tells: false, copied: WantedCopies::new(), reader: None })
    }

    /// Whether somebody asked to be told.
    pub(super) const fn tells(&self) -> bool {
        self.tells
    }

    /// Whether packets are copied.
    pub(super) fn copies(&self) -> bool {
        !self.copied.is_empty()
    }

    /// Tells of packets from now on.
    pub(super) fn ask(&mut self, question: &TraceQuestion) -> Result<(), KernelError> {
        self.ask_nothing()?;
        while self.ring.next().is_some() {}
        self.set_filter(filter(question))?;
        self.tells = true;
        Ok(())
    }

    /// Tells of nothing more.
    pub(super) fn ask_nothing(&mut self) -> Result<(), KernelError> {
        self.tells = false;
        self.set_filter(TraceFilter::default())
    }

    fn set_filter(&mut self, filter: TraceFilter) -> Result<(), KernelError> {
        self.filter()?.set(0, filter, 0).map_err(|error| unreadable_map(maps::TRACE_FILTER, &error))
    }

    /// Copies what is asked for, and nothing else.
    pub(super) fn copy(&mut self, asked: &WantedCopies, sink: &CopySink) -> Result<(), KernelError> {
        if *asked == self.copied {
            return Ok(());
        }
        if self.reader.is_none() {
            let gone = || KernelError("a reader of the copies did not start; end the trace that goes on".to_owned());
            let map = self.object.take_map(maps::COPIES).ok_or_else(gone)?;
            self.reader = Some(Reader::start(map, CopySink::clone(sink))?);
        }
        let failed = |error: MapError| unreadable_map(maps::COPIES_ASKED, &error);
        let map = self.object.map_mut(maps::COPIES_ASKED).expect("the object file has the map");
        let mut table: Array<&mut MapData, CopiesAsked> = map.try_into().map_err(failed)?;
        let gone = self.copied.keys().filter(|service| !asked.contains_key(*service));
        for service in gone {
            table.set(u32::from(service.0), CopiesAsked::default(), 0).map_err(failed)?;
        }
        for (service, asked) in asked {
            table.set(u32::from(service.0), asked, 0).map_err(failed)?;
        }
        let any = CopiesAsked { whole: u32::from(!asked.is_empty()), first: 0 };
        table.set(0, any, 0).map_err(failed)?;
        self.copied.clone_from(asked);
        Ok(())
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
        Ok(TraceRead { packets, remaining: filter.remaining, goes_on: self.tells })
    }

    fn filter(&mut self) -> Result<Array<&mut MapData, TraceFilter>, KernelError> {
        let map = self.object.map_mut(maps::TRACE_FILTER).expect("the object file has the map");
        map.try_into().map_err(|error: MapError| unreadable_map(maps::TRACE_FILTER, &error))
    }
}

fn keep_programs(object: &mut Ebpf, folder: &Path) -> Result<(), KernelError> {
    forget_programs(folder)?;
    let programs = object.map_mut(maps::PROGRAMS).expect("the object file has the map");
    let programs: ProgramArray<&mut MapData> =
        programs.try_into().map_err(|error: MapError| unreadable_map(maps::PROGRAMS, &error))?;
    programs.pin(folder.join(PROGRAMS_PIN)).map_err(|error| unreadable_map(PROGRAMS_PIN, &error))
}

/// Lets go of what a tracing instance kept, this daemon's or one's that died, once no link runs it.
pub(super) fn forget_programs(folder: &Path) -> Result<(), KernelError> {
    match fs::remove_file(folder.join(PROGRAMS_PIN)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unreadable_map(PROGRAMS_PIN, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn map_data(map: Map) -> Result<Map, KernelError> {
    match map {
        ring @ Map::RingBuf(_) => Ok(ring),
        _ => Err(KernelError("the object file is broken: what is told goes by no ring".to_owned())),
    }
}

fn filter(question: &TraceQuestion) -> TraceFilter {
    let asked = [question.source, question.destination, question.host].into_iter().flatten().next();
    let family = match asked.map(|prefix| prefix.address) {
        None => 0,
        Some(IpAddr::V4(_)) => 4,
        Some(IpAddr::V6(_)) => 6,
    };
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
        family,
        remaining: question.count,
    }
}

/// A prefix as the program compares it: address and mask as they lie in a packet.
fn masked(prefix: Option<Prefix>) -> (Words, Words) {
    let words = |bytes: [u8; 16]| Address6::from_bytes(bytes).0;
    let Some(Prefix { address, length }) = prefix else { return ([0; 2], [0; 2]) };
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            ([u64::from(address.to_bits().to_be()), 0], [u64::from(mask.to_be()), 0])
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
            (words(address.octets()), words(mask.to_be_bytes()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_ports_are_as_they_lie_in_a_packet() {
        let prefix = |text: &str| Prefix::try_from(text.to_owned()).expect("a prefix");
        let nothing = ([0; 2], [0; 2]);
        assert_eq!(
            (masked(None), masked(Some(prefix("0.0.0.0/0"))), masked(Some(prefix("::/0")))),
            (nothing, nothing, nothing)
        );
        let word = |bytes: [u8; 4]| [u64::from(u32::from_ne_bytes(bytes)), 0];
        assert_eq!(masked(Some(prefix("10.1.2.0/24"))), (word([10, 1, 2, 0]), word([255, 255, 255, 0])));
        let six = masked(Some(prefix("2001:db8::/32")));
        assert_eq!(six.0[0].to_ne_bytes(), [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0]);
        assert_eq!((six.1[0].to_ne_bytes(), six.1[1]), ([255, 255, 255, 255, 0, 0, 0, 0], 0));
        let question = TraceQuestion { port: Some(80), count: 7, ..TraceQuestion::default() };
        assert_eq!((filter(&question).port.to_ne_bytes(), filter(&question).remaining), ([0, 80], 7));
    }
}
