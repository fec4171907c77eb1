//! What stands at the beginning of a frame, in words.

use etherparse::{LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice, UdpSlice};

use crate::model::api::Headers;

/// The headers of a frame of `length` bytes, of which the first are given.
pub(super) fn headers(first: &[u8], length: u32) -> Headers {
    let first = &first[..first.len().min(length as usize)];
    let mut headers = Headers { length, bytes: hexadecimal(first), ..Headers::default() };
    let Ok(packet) = LaxSlicedPacket::from_ethernet(first) else {
        headers.protocol = "?".to_owned();
        return headers;
    };
    let (source, destination) = match &packet.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            headers.ttl = Some(header.ttl());
            headers.protocol = protocol(header.protocol().0);
            (header.source_addr().to_string(), header.destination_addr().to_string())
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            headers.ttl = Some(header.hop_limit());
            headers.protocol = protocol(ip.payload().ip_number.0);
            (format!("[{}]", header.source_addr()), format!("[{}]", header.destination_addr()))
        }
        Some(LaxNetSlice::Arp(arp)) => {
            headers.protocol = "arp".to_owned();
            (address(arp.sender_protocol_addr()), address(arp.target_protocol_addr()))
        }
        None => {
            let kind = packet.ether_payload().map(|payload| payload.ether_type.0);
            headers.protocol = kind.map_or_else(|| "?".to_owned(), |kind| format!("0x{kind:04x}"));
            return headers;
        }
    };
    let ports = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            headers.flags = Some(flags(tcp));
            Some((tcp.source_port(), tcp.destination_port()))
        }
        Some(TransportSlice::Udp(udp)) => Some(ends(udp)),
        Some(TransportSlice::Icmpv4(_) | TransportSlice::Icmpv6(_)) | None => None,
    };
    let end = |address: String, port: Option<u16>| port.map_or(address.clone(), |port| format!("{address}:{port}"));
    headers.source = end(source, ports.map(|(source, _)| source));
    headers.destination = end(destination, ports.map(|(_, destination)| destination));
    headers
}

fn ends(udp: &UdpSlice<'_>) -> (u16, u16) {
    (udp.source_port(), udp.destination_port())
}

fn address(bytes: &[u8]) -> String {
    let octets = <[u8; 4]>::try_from(bytes);
    octets.map_or_else(|_| hexadecimal(bytes), |octets| std::net::Ipv4Addr::from(octets).to_string())
}

fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        4 => "ipip".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        41 => "ipv6".to_owned(),
        58 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

/// As tcpdump writes them; ACK is a dot.
fn flags(tcp: &TcpSlice<'_>) -> String {
    let all =
        [(tcp.syn(), 'S'), (tcp.fin(), 'F'), (tcp.rst(), 'R'), (tcp.psh(), 'P'), (tcp.urg(), 'U'), (tcp.ack(), '.')];
    let flags: String = all.iter().filter(|(is_set, _)| *is_set).map(|(_, letter)| *letter).collect();
    if flags.is_empty() { "none".to_owned() } else { flags }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn frame(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut frame = Vec::new();
        write(&mut frame);
        frame
    }

    #[test]
    fn headers_are_read_as_far_as_they_are_there() {
        let ethernet = || PacketBuilder::ethernet2([2; 6], [4; 6]);
        let syn = frame(|out| {
            let tcp = ethernet().ipv4([10, 0, 0, 1], [192, 0, 2, 10], 63).tcp(4_000, 80, 1, 0).syn();
            tcp.write(out, &[]).expect("a vector takes all bytes");
        });
        let seen = headers(&syn, syn.len() as u32);
        assert_eq!((seen.source.as_str(), seen.destination.as_str()), ("10.0.0.1:4000", "192.0.2.10:80"));
        assert_eq!((seen.protocol.as_str(), seen.flags.as_deref(), seen.ttl), ("tcp", Some("S"), Some(63)));
        assert_eq!(seen.bytes.len(), syn.len() * 2);
        let datagram = frame(|out| {
            let udp = ethernet().ipv6([0x20; 16], [0x30; 16], 9).udp(53, 4_000);
            udp.write(out, &[7; 400]).expect("a vector takes all bytes");
        });
        let seen = headers(&datagram[..96], datagram.len() as u32);
        assert_eq!((seen.protocol.as_str(), seen.flags, seen.ttl), ("udp", None, Some(9)));
        assert!(seen.source.starts_with("[2020:") && seen.source.ends_with("]:53"), "{}", seen.source);
        let cut = headers(&syn[..30], 30);
        assert_eq!((cut.protocol.as_str(), cut.length), ("0x0800", 30));
        assert_eq!(headers(&[], 0).protocol, "?");
    }
}
