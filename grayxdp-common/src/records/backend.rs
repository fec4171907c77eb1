//! Backends.

use super::NextHop;
use crate::{
    checksum::Delta,
    ids::{ServiceId, VersionId},
    ipv6::Ends6,
    map_value,
};

/// A backend, with all that a rewrite in either direction needs.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BackendRecord {
    /// Its address.
    pub address: u32,
    /// The virtual address.
    pub virtual_address: u32,
    /// Its port; 0: the client's port is kept.
    pub port: u16,
    /// The virtual port; 0 where the client's is kept.
    pub virtual_port: u16,
    /// Id of its service.
    pub service: u16,
    /// Id of its version.
    pub version: u16,
    /// Where packets to it leave.
    pub next_hop: NextHop,
    /// To the IP header checksum on the way to the backend: address and time to live.
    pub forward_ip: Delta,
    /// To the TCP or UDP checksum on the way to the backend: address and port.
    pub forward_l4: Delta,
    /// To the IP header checksum on the way back: address and time to live.
    pub reverse_ip: Delta,
    /// To the TCP or UDP checksum on the way back: address and port.
    pub reverse_l4: Delta,
    /// `FLAG_…` bits. With the two fields behind it one word, which user space writes at once.
    pub flags: u16,
    /// As [`super::ServiceRecord::sample_rate`].
    pub sample_rate: u16,
    /// Index of the guard that counts its connect failures; 0: none.
    pub guard: u32,
    /// The service's epoch, for telling old marks from new; written in place.
    pub epoch: u64,
    /// Place of its version within the service: for the signals.
    pub place: u8,
    /// Room for what comes later.
    pub reserved: [u8; 7],
}

map_value!(BackendRecord, size 64);
// SAFETY-relevant layout: user space writes `next_hop` as two aligned words.
const _: () = assert!(core::mem::offset_of!(BackendRecord, next_hop) % 8 == 0);
// The same for `flags`, `sample_rate` and `guard`.
const _: () = assert!(core::mem::offset_of!(BackendRecord, flags) == 40);

impl BackendRecord {
    /// It failed its health checks or was disabled: no new flow goes to it.
    pub const FLAG_DOWN: u16 = 1;
    /// While it is down, packets of flows in progress are answered with RST (`onDown: reset`); else they go to it.
    pub const FLAG_RESETS: u16 = 1 << 1;
    /// Its service has exceptions: what it sends is looked up.
    pub const FLAG_WATCHED: u16 = 1 << 2;
    /// Its service has `affinity: client`.
    pub const FLAG_CLIENT_AFFINITY: u16 = 1 << 3;
    /// It belongs to the candidate of the guard.
    pub const FLAG_CANDIDATE: u16 = 1 << 4;
    /// It belongs to the stable version of the guard.
    pub const FLAG_STABLE: u16 = 1 << 5;
    /// Marks of the epoch before the present one still count.
    pub const FLAG_PREVIOUS_EPOCH: u16 = 1 << 6;
    /// The stable version of the guard has no backend that is up: the guard only raises an alarm.
    pub const FLAG_NO_STABLE: u16 = 1 << 7;
    /// Its service measures every handshake: answers to SYNs are looked up among the marks.
    pub const FLAG_MEASURES: u16 = 1 << 8;
    /// Its version's flows in progress end (`existingFlows: reset`): their next packet is answered with RST.
    pub const FLAG_ENDS: u16 = 1 << 9;
    /// Its version's flows in progress are chosen for anew (`existingFlows: move`, UDP).
    pub const FLAG_MOVES: u16 = 1 << 10;
    /// `quic: true`: what it sends marks a half-open entry as answered.
    pub const FLAG_QUIC: u16 = 1 << 11;
    /// `dsr`, `ipip`: packets keep the virtual endpoint, so what cannot leave is never left to the kernel, and nothing of what
    /// the backend answers comes by.
    pub const FLAG_ONE_WAY: u16 = 1 << 12;
    /// `ipip`: its packets leave inside another one, see [`super::Target`]; it has no next hop here.
    pub const FLAG_TUNNEL: u16 = 1 << 13;

    /// The record of a backend; addresses and ports in network order, `port` 0 where the client's is kept.
    #[must_use]
    pub const fn new(service: ServiceId, version: VersionId, virtual_end: (u32, u16), end: (u32, u16)) -> Self {
        let (virtual_address, virtual_port) = virtual_end;
        let (address, port) = end;
        let virtual_port = if port == 0 { 0 } else { virtual_port };
        let there = Delta::replace32(virtual_address, address);
        let back = Delta::replace32(address, virtual_address);
        let ends = Self { address, virtual_address, port, virtual_port, ..Self::OF_NOBODY };
        Self { forward_ip: there.and(Delta::TTL_DECREMENT), reverse_ip: back.and(Delta::TTL_DECREMENT), ..ends }
            .of(service, version, there, back)
    }

    /// The record of a backend of IPv6, whose addresses are kept apart; `port` as for [`BackendRecord::new`].
    #[must_use]
    pub const fn new6(service: ServiceId, version: VersionId, ends: &Ends6, virtual_port: u16, port: u16) -> Self {
        let there = ends.virtual_address.replaced_by(ends.address);
        let back = ends.address.replaced_by(ends.virtual_address);
        let virtual_port = if port == 0 { 0 } else { virtual_port };
        Self { port, virtual_port, ..Self::OF_NOBODY }.of(service, version, there, back)
    }

    /// The record of a backend whose packets keep the virtual endpoint; the virtual address in network order, 0 where it is one of
    /// IPv6. Rewritten like any other it stays what it was, but for its time to live: so the data path has one way for all.
    #[must_use]
    pub const fn one_way(service: ServiceId, version: VersionId, virtual_address: u32) -> Self {
        Self {
            address: virtual_address,
            virtual_address,
            service: service.0,
            version: version.0,
            forward_ip: Delta::TTL_DECREMENT,
            flags: Self::FLAG_ONE_WAY,
            ..Self::OF_NOBODY
        }
    }

    /// The same of a service and a version, with what the addresses do to a TCP or UDP checksum on either way.
    const fn of(self, service: ServiceId, version: VersionId, there: Delta, back: Delta) -> Self {
        Self {
            service: service.0,
            version: version.0,
            forward_l4: there.and(Delta::replace16(self.virtual_port, self.port)),
            reverse_l4: back.and(Delta::replace16(self.port, self.virtual_port)),
            ..self
        }
    }

    const OF_NOBODY: Self = Self {
        address: 0,
        virtual_address: 0,
        port: 0,
        virtual_port: 0,
        service: 0,
        version: 0,
        next_hop: NextHop::UNKNOWN,
        forward_ip: Delta::NONE,
        forward_l4: Delta::NONE,
        reverse_ip: Delta::NONE,
        reverse_l4: Delta::NONE,
        flags: 0,
        sample_rate: 0,
        guard: 0,
        epoch: 0,
        place: 0,
        reserved: [0; 7],
    };
}
