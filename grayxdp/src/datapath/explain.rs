//! The explaining instance: the very program on the live tables, but it counts nothing and writes down what it does.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use aya::{
    Ebpf,
    maps::{Array, MapData, MapError},
    programs::{TestRun as _, TestRunOptions},
};
use etherparse::{IpDscp, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, PacketBuilder};
use grayxdp_common::{explanation::Explanation, maps};

use super::{
    Settings,
    object::{self, Purpose},
};
use crate::model::{
    config::Protocol,
    kernel::{KernelError, Question, Way},
};

/// Room for a packet that comes back: one of 256 bytes, and the header of a tunnel.
const FRAME_ROOM: usize = 320;

/// The explaining instance.
pub(super) struct Explainer {
    object: Ebpf,
}

impl Explainer {
    /// Loads it on the live tables.
    pub(super) fn load(folder: &Path, settings: &Settings) -> Result<Self, KernelError> {
        object::load(folder, settings, Purpose::Explain).map(|object| Self { object })
    }

    /// Sets the time of a program with a manual clock.
    pub(super) fn set_clock(&mut self, nanoseconds: u64) -> Result<(), KernelError> {
        object::set_clock(&mut self.object, nanoseconds)
    }

    /// Shows it a packet: for TCP a SYN.
    pub(super) fn explain(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        protocol: Protocol,
        question: Question,
    ) -> Result<Way, KernelError> {
        self.explain_frame(&frame(source, destination, protocol, question)?)
    }

    /// Shows it a packet as it comes in.
    pub(super) fn explain_frame(&mut self, frame: &[u8]) -> Result<Way, KernelError> {
        self.explanation()?.set(0, Explanation::default(), 0).map_err(|e| failed(&e))?;
        let mut out = [0; FRAME_ROOM];
        let mut options = TestRunOptions::new();
        options.data_in = Some(frame);
        options.data_out = Some(&mut out);
        let program = object::program(&mut self.object)?;
        program.test_run(options).map_err(|error| KernelError(format!("the program cannot be run: {error}")))?;
        let explanation = self.explanation()?.get(&0, 0).map_err(|e| failed(&e))?;
        Ok(Way::of(explanation))
    }

    fn explanation(&mut self) -> Result<Array<&mut MapData, Explanation>, KernelError> {
        let map = self.object.map_mut(maps::EXPLANATION).expect("the object file has the map");
        map.try_into().map_err(|e: MapError| failed(&e))
    }
}

fn frame(
    source: SocketAddr,
    destination: SocketAddr,
    protocol: Protocol,
    question: Question,
) -> Result<Vec<u8>, KernelError> {
    let dscp = match question {
        Question::First { dscp } => dscp & 63,
        Question::Later => 0,
    };
    let headers = match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let number = IpNumber(protocol.number());
            let mut ip = Ipv4Header::new(0, 64, number, source.octets(), destination.octets())
                .expect("no payload is not too long");
            ip.dscp = IpDscp::try_new(dscp).expect("six bits");
            IpHeaders::Ipv4(ip, Ipv4Extensions::default())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let ip = Ipv6Header {
                traffic_class: dscp << 2,
                hop_limit: 64,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(ip, Ipv6Extensions::default())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
            return Err(KernelError(format!(
                "{source} and {destination} are of two families: no packet goes between them"
            )));
        }
    };
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ip(headers);
    let mut frame = Vec::with_capacity(FRAME_ROOM);
    let written = match protocol {
        Protocol::Tcp => {
            let segment = builder.tcp(source.port(), destination.port(), 1, 64_240);
            match question {
                Question::First { .. } => segment.syn(),
                Question::Later => segment.ack(1),
            }
            .write(&mut frame, &[])
        }
        Protocol::Udp => builder.udp(source.port(), destination.port()).write(&mut frame, &[]),
    };
    written.expect("a vector takes all bytes, and no field is out of range");
    Ok(frame)
}

fn failed(error: &MapError) -> KernelError {
    KernelError(format!("the explanation cannot be read: {error}"))
}
