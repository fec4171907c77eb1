//! The one packet builder: describes an Ethernet frame by its fields; `etherparse` lays it out and computes checksums.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{
    ArpOperation, ArpPacket, EtherType, Ethernet2Header, Icmpv4Header, Icmpv4Type, IpNumber, Ipv4Header, TcpHeader,
    UdpHeader,
};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Bytes of an Ethernet header.
const ETHERNET_LEN: usize = 14;

/// Shortest Ethernet frame without its check sequence.
pub const MIN_FRAME_LEN: usize = 60;

/// TCP flags of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags {
    /// Opens.
    pub syn: bool,
    /// Acknowledges.
    pub ack: bool,
    /// Closes one side.
    pub fin: bool,
    /// Resets.
    pub rst: bool,
}

impl Flags {
    /// Opens a connection.
    pub const SYN: Self = Self { syn: true, ack: false, fin: false, rst: false };
    /// Answers an opening.
    pub const SYN_ACK: Self = Self { syn: true, ack: true, fin: false, rst: false };
    /// Plain data or acknowledgement.
    pub const ACK: Self = Self { syn: false, ack: true, fin: false, rst: false };
    /// Closes one side.
    pub const FIN_ACK: Self = Self { syn: false, ack: true, fin: true, rst: false };
    /// Resets without acknowledgement.
    pub const RST: Self = Self { syn: false, ack: false, fin: false, rst: true };
    /// Resets and acknowledges, as a closed port answers a SYN.
    pub const RST_ACK: Self = Self { syn: false, ack: true, fin: false, rst: true };
}

/// What stands in a UDP datagram's checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// The sum, 0xffff where it is 0.
    Computed,
    /// None.
    Absent,
}

/// What follows the IPv4 header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp {
        /// Its flags.
        flags: Flags,
        /// Sequence number.
        sequence: u32,
        /// Acknowledgement number, where the flags say that it counts.
        acknowledged: u32,
        /// Options, a multiple of four bytes.
        options: Vec<u8>,
    },
    /// UDP.
    Udp(UdpChecksum),
    /// ICMP of any type.
    Icmp(Icmpv4Type),
    /// Another protocol, payload only.
    Other(u8),
}

/// An IPv4 packet in an Ethernet frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Ethernet addresses: from, to.
    pub macs: (Mac, Mac),
    /// From; the port matters for TCP and UDP only.
    pub source: SocketAddrV4,
    /// To; the port matters for TCP and UDP only.
    pub destination: SocketAddrV4,
    /// Time to live.
    pub ttl: u8,
    /// Differentiated services code point, six bits.
    pub dscp: u8,
    /// Number of the datagram among those of its sender.
    pub identification: u16,
    /// Whether routers may cut it into pieces; pieces always may be.
    pub may_be_fragmented: bool,
    /// The window of TCP.
    pub window: u16,
    /// IPv4 options, a multiple of four bytes.
    pub ip_options: Vec<u8>,
    /// Fragment offset in units of eight bytes.
    pub fragment_offset: u16,
    /// Whether more fragments follow.
    pub more_fragments: bool,
    /// What follows the IPv4 header.
    pub transport: Transport,
    /// What follows the transport header.
    pub payload: Vec<u8>,
    /// Ethernet padding behind the packet.
    pub padding: Vec<u8>,
}

impl Packet {
    /// A packet with time to live 64, no payload and no padding.
    #[must_use]
    pub fn new(source: SocketAddrV4, destination: SocketAddrV4, transport: Transport) -> Self {
        Self {
            macs: ([0x02, 0, 0, 0, 0, 0x01], [0x02, 0, 0, 0, 0, 0x02]),
            source,
            destination,
            ttl: 64,
            dscp: 0,
            identification: 0x1234,
            may_be_fragmented: false,
            window: 0x2000,
            ip_options: Vec::new(),
            fragment_offset: 0,
            more_fragments: false,
            transport,
            payload: Vec::new(),
            padding: Vec::new(),
        }
    }

    /// A TCP packet without options.
    #[must_use]
    pub fn tcp(source: SocketAddrV4, destination: SocketAddrV4, flags: Flags) -> Self {
        Self::tcp_with(source, destination, flags, 0x0102_0304, 0x0a0b_0c0d)
    }

    /// A TCP packet with numbers.
    #[must_use]
    pub fn tcp_with(
        source: SocketAddrV4,
        destination: SocketAddrV4,
        flags: Flags,
        sequence: u32,
        acknowledged: u32,
    ) -> Self {
        Self::new(source, destination, Transport::Tcp { flags, sequence, acknowledged, options: Vec::new() })
    }

    /// A UDP datagram with a checksum.
    #[must_use]
    pub fn udp(source: SocketAddrV4, destination: SocketAddrV4) -> Self {
        Self::new(source, destination, Transport::Udp(UdpChecksum::Computed))
    }

    /// An ICMP message between two addresses.
    #[must_use]
    pub fn icmp(source: Ipv4Addr, destination: Ipv4Addr, message: Icmpv4Type) -> Self {
        Self::new(SocketAddrV4::new(source, 0), SocketAddrV4::new(destination, 0), Transport::Icmp(message))
    }

    /// An ICMP error that somebody sends about a packet, of which it repeats `length` bytes, IPv4 header first.
    #[must_use]
    pub fn icmp_about(from: Ipv4Addr, message: Icmpv4Type, about: &Self, length: usize) -> Self {
        let repeated = &about.bytes()[ETHERNET_LEN..];
        Self::icmp(from, *about.source.ip(), message).with_payload(&repeated[..length.min(repeated.len())])
    }

    /// The same with another payload.
    #[must_use]
    pub fn with_payload(self, payload: &[u8]) -> Self {
        Self { payload: payload.to_vec(), ..self }
    }

    /// The same with a differentiated services code point.
    #[must_use]
    pub fn with_dscp(self, dscp: u8) -> Self {
        Self { dscp, ..self }
    }

    /// The same with another time to live.
    #[must_use]
    pub fn with_ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// The same padded to the shortest Ethernet frame.
    #[must_use]
    pub fn padded(mut self) -> Self {
        self.padding.clear();
        self.padding = vec![0; MIN_FRAME_LEN.saturating_sub(self.bytes().len())];
        self
    }

    /// The frame.
    ///
    /// # Panics
    /// If a field has no place in a frame: options of odd length, a payload beyond 64 KiB.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let l4 = self.transport_bytes();
        let mut frame = ethernet(self.macs, EtherType::IPV4);
        frame.extend_from_slice(&self.ip_header(l4.len()).to_bytes());
        frame.extend_from_slice(&l4);
        frame.extend_from_slice(&self.padding);
        frame
    }

    /// The IPv4 header before a payload of some length.
    fn ip_header(&self, payload_len: usize) -> Ipv4Header {
        let protocol = match &self.transport {
            Transport::Tcp { .. } => IpNumber::TCP,
            Transport::Udp(_) => IpNumber::UDP,
            Transport::Icmp(_) => IpNumber::ICMP,
            Transport::Other(number) => IpNumber(*number),
        };
        let ends = (self.source.ip().octets(), self.destination.ip().octets());
        let mut header = Ipv4Header::new(0, self.ttl, protocol, ends.0, ends.1).expect("an empty payload fits");
        header.identification = self.identification;
        header.dscp = self.dscp.try_into().expect("a code point has six bits");
        header.dont_fragment = self.fragment_offset == 0 && !self.more_fragments && !self.may_be_fragmented;
        header.more_fragments = self.more_fragments;
        header.fragment_offset = self.fragment_offset.try_into().expect("a fragment offset has 13 bits");
        header.options = self.ip_options[..].try_into().expect("options are a multiple of four bytes, at most 40");
        header.set_payload_len(payload_len).expect("the packet is at most 65,535 bytes long");
        header.header_checksum = header.calc_header_checksum();
        header
    }

    /// Transport header and payload.
    fn transport_bytes(&self) -> Vec<u8> {
        let ip = self.ip_header(0);
        let ports = (self.source.port(), self.destination.port());
        let mut bytes = match &self.transport {
            Transport::Tcp { flags, sequence, acknowledged, options } => {
                let mut header = TcpHeader::new(ports.0, ports.1, *sequence, self.window);
                (header.syn, header.ack, header.fin, header.rst) = (flags.syn, flags.ack, flags.fin, flags.rst);
                header.acknowledgment_number = if flags.ack { *acknowledged } else { 0 };
                header.set_options_raw(options).expect("options are a multiple of four bytes, at most 40");
                header.checksum = header.calc_checksum_ipv4(&ip, &self.payload).expect("the payload fits");
                header.to_bytes().to_vec()
            }
            Transport::Udp(checksum) => {
                let mut header =
                    UdpHeader::with_ipv4_checksum(ports.0, ports.1, &ip, &self.payload).expect("the payload fits");
                match checksum {
                    UdpChecksum::Computed => {}
                    UdpChecksum::Absent => header.checksum = 0,
                }
                header.to_bytes().to_vec()
            }
            Transport::Icmp(message) => Icmpv4Header::with_checksum(message.clone(), &self.payload).to_bytes().to_vec(),
            Transport::Other(_) => Vec::new(),
        };
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// An ARP packet for IPv4 in an Ethernet frame: from (`sender`), about (`target`).
#[must_use]
pub fn arp(macs: (Mac, Mac), operation: ArpOperation, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let packet = ArpPacket::new(
        etherparse::ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &sender.0,
        &sender.1.octets(),
        &target.0,
        &target.1.octets(),
    )
    .expect("the addresses have the lengths of Ethernet and IPv4");
    let mut frame = ethernet(macs, EtherType::ARP);
    frame.extend_from_slice(&packet.to_bytes());
    frame
}

/// An Ethernet header.
#[must_use]
pub fn ethernet((source, destination): (Mac, Mac), ether_type: EtherType) -> Vec<u8> {
    Ethernet2Header { source, destination, ether_type }.to_bytes().to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of a UDP checksum: 0 is sent as 0xffff (RFC 768).
    #[test]
    fn a_udp_sum_of_zero_is_sent_as_all_ones() {
        let ends = (SocketAddrV4::new([10, 0, 0, 1].into(), 1), SocketAddrV4::new([10, 0, 0, 2].into(), 2));
        let plain = Packet::udp(ends.0, ends.1).with_payload(&[0, 0]).bytes();
        let checksum = [plain[40], plain[41]];
        let zero = Packet::udp(ends.0, ends.1).with_payload(&checksum).bytes();
        assert_eq!([zero[40], zero[41]], [0xff, 0xff]);
    }

    #[test]
    fn a_short_packet_is_padded_to_the_shortest_frame() {
        let ends = (SocketAddrV4::new([10, 0, 0, 1].into(), 1), SocketAddrV4::new([10, 0, 0, 2].into(), 2));
        assert_eq!(Packet::tcp(ends.0, ends.1, Flags::SYN).padded().bytes().len(), MIN_FRAME_LEN);
    }
}
