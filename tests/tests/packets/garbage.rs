//! Frames that nobody would send: nothing but whole packets may leave, and what passes is as it came.

use etherparse::{Icmpv4Slice, Ipv4Header, TcpSlice, UdpHeader};
use grayxdp::model::kernel::{Counters, Reason};
use grayxdp_common::reason::Fate;
use grayxdp_tests::{
    bench::case::verdict,
    host,
    packet::{Flags, Packet, Transport, UdpChecksum},
    size::Size,
};

use crate::{
    random::Random,
    world::{EMPTY, FAR, LOCAL, LOST, NAMES, WEB, backend, client, difference, endpoint, in_world, vip},
};

/// A packet with valid checksums between ends of which most are known to the program.
fn packet(random: &mut Random) -> Packet {
    let ends = [WEB, NAMES, LOST, EMPTY, FAR, LOCAL].map(|id| [vip(id), backend(id)]).concat();
    let strangers = [client(), endpoint([10, 1, 0, 1], 9), endpoint([10, 1, 0, 9], 9), endpoint([192, 0, 2, 10], 9)];
    let all = [&ends[..], &strangers[..]].concat();
    let flags = [Flags::SYN, Flags::SYN_ACK, Flags::ACK, Flags::FIN_ACK, Flags::RST, Flags::RST_ACK];
    let options = |random: &mut Random| vec![1; 4 * random.pick(&[0, 0, 0, 1, 10])];
    let transport = match random.below(8) {
        0..4 => Transport::Tcp {
            flags: random.pick(&flags),
            sequence: random.next() as u32,
            acknowledged: random.next() as u32,
            options: options(random),
        },
        4 => Transport::Udp(UdpChecksum::Absent),
        5 => Transport::Other(random.next() as u8),
        _ => Transport::Udp(UdpChecksum::Computed),
    };
    let length = random.below(80);
    Packet {
        ttl: random.pick(&[0, 1, 2, 64, 255]),
        ip_options: options(random),
        more_fragments: random.below(20) == 0,
        padding: vec![0xee; random.pick(&[0, 0, 3])],
        payload: random.bytes(length),
        ..Packet::new(random.pick(&all), random.pick(&all), transport)
    }
}

/// A packet, as it is or with some bytes changed or cut off, or no packet at all.
fn frame(random: &mut Random) -> Vec<u8> {
    if random.below(20) == 0 {
        let length = 14 + random.below(200);
        return random.bytes(length);
    }
    let mut frame = packet(random).bytes();
    if random.below(2) == 0 {
        for _ in 0..random.below(4) {
            let at = random.below(frame.len().min(60));
            frame[at] = random.next() as u8;
        }
    }
    if random.below(8) == 0 {
        frame.truncate(14 + random.below(frame.len() - 13));
    }
    frame
}

/// Whether the IPv4 header's checksum and that of TCP or UDP are right; none where there is none.
fn checksums(frame: &[u8]) -> Option<(bool, bool)> {
    let (header, rest) = Ipv4Header::from_slice(&frame[14..]).ok()?;
    let payload = rest.get(..usize::from(header.total_len).checked_sub(header.header_len())?)?;
    let l4 = match header.protocol.0 {
        _ if header.fragment_offset.value() != 0 => return None,
        6 => {
            let tcp = TcpSlice::from_slice(payload).ok()?;
            tcp.calc_checksum_ipv4(header.source, header.destination).ok()? == tcp.checksum()
        }
        17 => {
            let (udp, data) = UdpHeader::from_slice(payload).ok()?;
            udp.checksum == 0 || udp.calc_checksum_ipv4(&header, data).ok()? == udp.checksum
        }
        1 => {
            let icmp = Icmpv4Slice::from_slice(payload).ok()?;
            icmp.icmp_type().calc_checksum(icmp.payload()) == icmp.checksum()
        }
        _ => return None,
    };
    Some((header.calc_header_checksum() == header.header_checksum, l4))
}

/// Whether a frame goes back to who sent another one.
fn is_answer(input: &[u8], output: &[u8]) -> bool {
    output.len() >= 34 && output[..6] == input[6..12] && output[30..34] == input[26..30]
}

/// Packets that were answered.
fn answers(change: &Counters) -> u64 {
    let is_answered = |reason: Reason| reason.fate() == Fate::Answered;
    change.reasons.iter().filter(|((_, reason), _)| is_answered(*reason)).map(|(_, count)| count).sum()
}

/// Packets that were rewritten and passed up.
fn rewritten(change: &Counters) -> u64 {
    let is_rewritten = |reason: Reason| reason == Reason::UnresolvedBackend || reason == Reason::UnresolvedClient;
    change.reasons.iter().filter(|((_, reason), _)| is_rewritten(*reason)).map(|(_, count)| count).sum()
}

#[test]
fn what_leaves_has_checksums_as_right_as_before_and_what_passes_is_untouched_or_counted() {
    let frames = u64::from(Size::of_this_run().times(100_000, 5_000_000));
    in_world(&[], |subject| {
        let before = subject.counters().expect("counters can be read");
        let mut random = Random(4);
        let (mut left, mut changed, mut answered) = (0_u64, 0, 0);
        for number in 0..frames {
            let input = frame(&mut random);
            let (verdict, output) = subject.run(&input, host::NEAR).expect("the kernel runs the packet");
            match verdict {
                verdict::DROP => continue,
                verdict::PASS if output == input => continue,
                verdict::PASS => changed += 1,
                verdict::TX | verdict::REDIRECT => left += 1,
                other => panic!("frame {number}: verdict {other} on {input:02x?}"),
            }
            if is_answer(&input, &output) {
                answered += 1;
                assert_eq!(checksums(&output), Some((true, true)), "frame {number}: {input:02x?}\n{output:02x?}");
                continue;
            }
            assert_eq!(output.len(), input.len(), "frame {number}: {input:02x?}");
            if let Some((ip, l4)) = checksums(&input) {
                let (ip_after, l4_after) = checksums(&output).expect("a packet remains one");
                assert!(!ip || ip_after, "frame {number}: IPv4 checksum of\n{input:02x?}\n{output:02x?}");
                assert!(!l4 || l4_after, "frame {number}: checksum of\n{input:02x?}\n{output:02x?}");
            }
        }
        let change = difference(&before, &subject.counters().expect("counters can be read"));
        assert_eq!(changed, rewritten(&change), "packets that passed rewritten");
        assert_eq!(answered, answers(&change), "answers");
        assert!(left > frames / 20, "{left} of {frames} frames leave: the test tests little");
        assert!(change.reasons.keys().all(|(_, reason)| *reason != Reason::Fault), "{change:?}");
    });
}
