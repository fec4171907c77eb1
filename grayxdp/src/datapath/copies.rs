//! Reading what the program copies: one thread waits for the buffers of all CPUs and hands on what is in them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::net::UnixStream,
    },
    thread,
};

use aya::{
    maps::{
        Map, MapData, MapError, PerfEventArray,
        perf::{PerfEvent, PerfEventArrayBuffer},
    },
    util::online_cpus,
};
use etherparse::{LaxSlicedPacket, TransportSlice};
use grayxdp_common::{copies, explanation::Explanation, maps};

use super::unreadable_map;
use crate::model::kernel::{Content, Copied, Copy, CopySink, KernelError};

/// Pages of a CPU's buffer: 512 KiB, some 300 datagrams of full length.
const PAGES: usize = 128;

/// The waiting thread; it ends with this value.
pub(super) struct Reader {
    _end: OwnedFd,
}

impl Reader {
    /// Gives `sink` what comes from now on.
    pub(super) fn start(map: Map, sink: CopySink) -> Result<Self, KernelError> {
        let failed = |error: io::Error| KernelError(format!("copies cannot be read: {error}"));
        let array: Result<PerfEventArray<MapData>, MapError> = map.try_into();
        let mut array = array.map_err(|error| unreadable_map(maps::COPIES, &error))?;
        let cpus = online_cpus().map_err(|(_, error)| failed(error))?;
        let buffers: Result<Vec<_>, _> = cpus.into_iter().map(|cpu| array.open(cpu, Some(PAGES))).collect();
        let buffers = buffers.map_err(|error| unreadable_map(maps::COPIES, &error))?;
        let (end, watched) = UnixStream::pair().map_err(failed)?;
        let work = move || wait(buffers, &watched, &sink);
        thread::Builder::new().name("copies".into()).spawn(work).map_err(failed)?;
        Ok(Self { _end: end.into() })
    }
}

/// Waits until the other end of `end` is closed.
fn wait(mut buffers: Vec<PerfEventArrayBuffer<MapData>>, end: &UnixStream, sink: &CopySink) {
    let watched = |fd: i32| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    loop {
        let mut all: Vec<_> = buffers.iter().map(|buffer| watched(buffer.as_raw_fd())).collect();
        all.push(watched(end.as_raw_fd()));
        // SAFETY: the structures live through the call, and their descriptors are open.
        let ready = unsafe { libc::poll(all.as_mut_ptr(), all.len() as libc::nfds_t, -1) };
        if ready < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            tracing::warn!(error = %io::Error::last_os_error(), "copies are not read any more: restart the daemon");
            return;
        }
        if all.last().is_some_and(|end| end.revents != 0) {
            return;
        }
        for buffer in &mut buffers {
            buffer.for_each(|event| match event {
                PerfEvent::Sample { head, tail } => {
                    if let Some(copy) = copy_of(&[head, tail].concat()) {
                        sink(Copied::Packet(Box::new(copy)));
                    }
                }
                PerfEvent::Lost { count } => sink(Copied::Lost(count)),
            });
        }
    }
}

/// A copy from its bytes; none from too few of them, or from a packet that is no client's.
fn copy_of(bytes: &[u8]) -> Option<Copy> {
    let (told, frame) = bytes.split_at_checked(size_of::<copies::Copied>())?;
    // SAFETY: the bytes are as many as the value has, which is plain data.
    let told = unsafe { told.as_ptr().cast::<copies::Copied>().read_unaligned() };
    let explanation = told.explanation;
    let content = match told.length_out as usize {
        0 => Content::Way,
        length => frame.get(..length).and_then(payload).map_or(Content::Broken, Content::Datagram),
    };
    let client = SocketAddr::new(address(&explanation)?, u16::from_be(explanation.client_port));
    Some(Copy { client, port: u16::from_be(explanation.service_port), explanation, content })
}

/// The client's address, as it lay in the packet.
fn address(explanation: &Explanation) -> Option<IpAddr> {
    let [first, second] = explanation.client;
    match explanation.family {
        4 => Some(Ipv4Addr::from((first as u32).to_ne_bytes()).into()),
        6 => {
            let mut bytes = [0; 16];
            bytes[..8].copy_from_slice(&first.to_ne_bytes());
            bytes[8..].copy_from_slice(&second.to_ne_bytes());
            Some(Ipv6Addr::from(bytes).into())
        }
        _ => None,
    }
}

/// The payload of a frame with one whole datagram of UDP.
fn payload(frame: &[u8]) -> Option<Vec<u8>> {
    let packet = LaxSlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Udp(udp)) = &packet.transport else { return None };
    let payload = udp.payload();
    (usize::from(udp.length()) == udp.header_len() + payload.len()).then(|| payload.to_vec())
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn frame(payload: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 1, 0, 7], [10, 0, 2, 1], 64).udp(4_000, 53);
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).expect("a frame");
        frame
    }

    fn told(explanation: Explanation, length_out: usize, rest: &[u8]) -> Vec<u8> {
        let told = copies::Copied { explanation, time_ns: 5, length: 0, length_out: length_out as u32 };
        // SAFETY: plain data without padding, of which every byte is written.
        let bytes = unsafe { std::slice::from_raw_parts((&raw const told).cast::<u8>(), size_of_val(&told)) };
        [bytes, rest].concat()
    }

    fn of_client() -> Explanation {
        let client = [u64::from(u32::from_ne_bytes([10, 1, 0, 7])), 0];
        let (client_port, service_port) = (4_000_u16.to_be(), 53_u16.to_be());
        Explanation { client, client_port, service_port, family: 4, ..Explanation::default() }
    }

    #[test]
    fn a_copy_has_client_port_and_payload_and_no_padding() {
        let frame = frame(b"what is asked");
        let bytes = told(of_client(), frame.len(), &[&frame[..], &[0; 7]].concat());
        let copy = copy_of(&bytes).expect("a copy");
        assert_eq!((copy.client, copy.port), ("10.1.0.7:4000".parse().expect("an address"), 53));
        assert_eq!(copy.content, Content::Datagram(b"what is asked".to_vec()));
    }

    #[test]
    fn cut_datagrams_are_broken_and_ways_have_no_content() {
        let frame = frame(&[7; 200]);
        let content = |length: usize| copy_of(&told(of_client(), length, &frame)).map(|copy| copy.content);
        assert_eq!(content(frame.len() - 1), Some(Content::Broken));
        assert_eq!(content(frame.len() + 1), Some(Content::Broken), "longer than what is there");
        assert_eq!(content(20), Some(Content::Broken));
        assert_eq!(content(0), Some(Content::Way));
        assert_eq!(copy_of(&told(Explanation::default(), 0, &[])), None, "no client's");
        assert_eq!(copy_of(&[1, 2, 3]), None);
    }

    #[test]
    fn addresses_of_both_families_are_as_in_the_packet() {
        let six: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let octets = six.octets();
        let word = |from: usize| u64::from_ne_bytes(octets[from..from + 8].try_into().expect("eight"));
        let explanation = Explanation { client: [word(0), word(8)], family: 6, ..of_client() };
        assert_eq!(address(&explanation), Some(six.into()));
        assert_eq!(address(&of_client()), Some(Ipv4Addr::new(10, 1, 0, 7).into()));
    }
}
