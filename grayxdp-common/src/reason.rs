//! Why a packet of a configured service was not forwarded.

/// What became of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is gone.
    Dropped,
    /// The kernel's network stack has it.
    Passed,
    /// The program answered it.
    Answered,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $fate:ident, $label:literal;)*) => {
        /// Why a packet was dropped, passed up or answered. The numbers are part of the ABI.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Reason { $($(#[$doc])* $name = $number,)* }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// What becomes of a packet for this reason.
            #[must_use]
            pub const fn fate(self) -> Fate {
                match self { $(Self::$name => Fate::$fate,)* }
            }

            /// The name in metrics and in what people read.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)* }
            }

            /// The reason of a number read from a table.
            #[inline(always)]
            #[must_use]
            pub const fn from_number(number: u32) -> Option<Self> {
                match number { $($number => Some(Self::$name),)* _ => None }
            }
        }
    };
}

reasons! {
    /// A header is cut short or contradicts itself.
    Malformed = 0, Dropped, "malformed";
    /// A piece of a fragmented datagram whose first piece was not seen, or of an ICMP message: its ports cannot be known.
    Fragment = 1, Dropped, "fragment";
    /// The time to live ran out here, of a packet that is not answered.
    TtlExpired = 2, Dropped, "ttl_expired";
    /// For a virtual address, but for no service there, and not answered; passed up it would come back from the router.
    NoService = 3, Dropped, "no_service";
    /// The chosen version has no backend.
    NoBackend = 4, Dropped, "no_backend";
    /// An ICMP message for a virtual address that is neither an echo request nor an error about a packet of a service.
    Icmp = 5, Dropped, "icmp";
    /// The kernel's tables forward nothing to the client: left to the kernel as it came.
    NoRoute = 6, Passed, "no_route";
    /// A table names something that is not there: a fault of grayxdp.
    Fault = 7, Dropped, "fault";
    /// The backend's next hop is not resolved: rewritten, then left to the kernel.
    UnresolvedBackend = 8, Passed, "unresolved_backend";
    /// The client's next hop is not resolved: rewritten, then left to the kernel.
    UnresolvedClient = 9, Passed, "unresolved_client";
    /// From a backend to this host, to a prefix with direct access, or to a group or everyone: not of the service.
    DirectAccess = 10, Passed, "direct_access";
    /// For a virtual address that this host also has, and for no service there.
    LocalAddress = 11, Passed, "local_address";
    /// An ICMP echo request for a virtual address, of either family.
    Echo = 12, Answered, "echo";
    /// An ARP request, or a neighbour solicitation, for a virtual address.
    Arp = 13, Answered, "arp";
    /// A SYN for which the exception table had no place, and where its flow's later packets go is down or turned off.
    DeferredNowhere = 14, Dropped, "deferred_nowhere";
    /// A TCP packet of a flow of a backend that is down (`onDown: reset`).
    BackendDown = 15, Answered, "backend_down";
    /// The same, of a packet that cannot be answered with RST.
    BackendDownDropped = 16, Dropped, "backend_down_dropped";
    /// A TCP packet of a flow that its release ends (`existingFlows: reset`).
    FlowReset = 17, Answered, "flow_reset";
    /// The same, of a packet that cannot be answered with RST.
    FlowResetDropped = 18, Dropped, "flow_reset_dropped";
    /// The time to live ran out here: ICMP time exceeded.
    TimeExceeded = 19, Answered, "time_exceeded";
    /// For a port of a virtual address that no service has: RST, or ICMP port unreachable.
    PortClosed = 20, Answered, "port_closed";
    /// Longer than the next link takes, must not be fragmented, and not answered.
    TooBig = 21, Dropped, "too_big";
    /// Longer than the next link takes, and must not be fragmented: ICMP fragmentation needed, with the length that fits.
    FragmentationNeeded = 22, Answered, "fragmentation_needed";
    /// Longer than the next link takes: rewritten, then left to the kernel, which fragments it.
    TooBigPassed = 23, Passed, "too_big_passed";
    /// The program gave as many answers of the kind as it may.
    AnswerLimited = 24, Dropped, "answer_limited";
    /// The backend's next hop is not known, and the packet keeps its virtual address (`dsr`): left to the kernel it would come back.
    NoNextHop = 25, Dropped, "no_next_hop";
    /// The driver left no room before the packet for the header of a tunnel (`ipip`).
    NoHeadroom = 26, Dropped, "no_headroom";
    /// An ICMP error about a packet in a tunnel, from a router inside it.
    TunnelError = 27, Dropped, "tunnel_error";
    /// A packet of a flow of `full-nat` that is not known, or no more: RST.
    UnknownFlow = 28, Answered, "unknown_flow";
    /// The same, of a packet that cannot be answered with RST.
    UnknownFlowDropped = 29, Dropped, "unknown_flow_dropped";
    /// A new flow of `full-nat` for which no port of the pool was free among those that were tried.
    NoSourcePort = 30, Dropped, "no_source_port";
    /// A new flow of `full-nat`, and as many are half-open already as may be.
    HalfOpenFull = 31, Dropped, "half_open_full";
    /// A new flow of `full-nat` for which the flow table has no seat.
    FlowTableFull = 32, Dropped, "flow_table_full";
}

impl Reason {
    /// Counters kept for reasons, with room for what comes later.
    pub const ROOM: usize = 64;

    /// Index into [`crate::counters::ReasonCounters`].
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_and_labels_differ() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(reason.index(), index);
            assert!(index < Reason::ROOM);
            assert_eq!(Reason::from_number(index as u32), Some(*reason));
            assert!(Reason::ALL[..index].iter().all(|other| other.label() != reason.label()));
        }
    }
}
