//! What the data path counts, per CPU.

use crate::{map_value, reason::Reason};

/// Traffic of one backend, on one CPU.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct BackendCounters {
    /// Packets to the backend.
    pub packets_forward: u64,
    /// Bytes to the backend, Ethernet header included.
    pub bytes_forward: u64,
    /// Packets from the backend.
    pub packets_reverse: u64,
    /// Bytes from the backend, Ethernet header included.
    pub bytes_reverse: u64,
    /// SYNs without ACK to the backend, repeated ones included.
    pub syns: u64,
    /// SYN-ACKs from the backend, repeated ones included.
    pub syn_acks: u64,
    /// RSTs with sequence number 0 from the backend: refused connections.
    pub refusals: u64,
    /// All other RSTs from the backend.
    pub resets_reverse: u64,
    /// RSTs from the client.
    pub resets_forward: u64,
    /// FINs from the client.
    pub fins_forward: u64,
    /// FINs from the backend.
    pub fins_reverse: u64,
    /// TCP packets from the client whose window is zero, but SYN and RST.
    pub zero_windows_forward: u64,
    /// TCP packets from the backend whose window is zero, but SYN and RST.
    pub zero_windows_reverse: u64,
    /// SYNs that were to be measured and could not be: no place for their mark, or deferred.
    pub unmarked: u64,
    /// ICMP errors about its packets that went to it; of `packets_forward`.
    pub icmp_errors_forward: u64,
    /// ICMP errors about packets to it that went to the client; of `packets_reverse`.
    pub icmp_errors_reverse: u64,
}

map_value!(BackendCounters, size 128);

impl core::ops::AddAssign for BackendCounters {
    fn add_assign(&mut self, other: Self) {
        self.packets_forward += other.packets_forward;
        self.bytes_forward += other.bytes_forward;
        self.packets_reverse += other.packets_reverse;
        self.bytes_reverse += other.bytes_reverse;
        self.syns += other.syns;
        self.syn_acks += other.syn_acks;
        self.refusals += other.refusals;
        self.resets_reverse += other.resets_reverse;
        self.resets_forward += other.resets_forward;
        self.fins_forward += other.fins_forward;
        self.fins_reverse += other.fins_reverse;
        self.zero_windows_forward += other.zero_windows_forward;
        self.zero_windows_reverse += other.zero_windows_reverse;
        self.unmarked += other.unmarked;
        self.icmp_errors_forward += other.icmp_errors_forward;
        self.icmp_errors_reverse += other.icmp_errors_reverse;
    }
}

/// Drops and passes of one service by [`Reason`], on one CPU.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonCounters(pub [u64; Reason::ROOM]);

map_value!(ReasonCounters, size 8 * Reason::ROOM);

impl Default for ReasonCounters {
    fn default() -> Self {
        Self([0; Reason::ROOM])
    }
}

impl core::ops::AddAssign for ReasonCounters {
    fn add_assign(&mut self, other: Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }
}
