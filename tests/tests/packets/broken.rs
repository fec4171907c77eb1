//! Headers that are cut short or contradict themselves.

use grayxdp::model::kernel::Reason;
use grayxdp_tests::{
    bench::case::verdict,
    host,
    packet::{Flags, Packet},
};

use crate::world::{Case, LOST, client, endpoint, in_world, nothing, reason, run_in_world, vip};

/// A frame with some bytes replaced.
fn changed(mut frame: Vec<u8>, changes: &[(usize, u8)]) -> Vec<u8> {
    changes.iter().for_each(|&(at, byte)| frame[at] = byte);
    frame
}

#[test]
fn headers_that_contradict_themselves_are_malformed() {
    let whole = || Packet::tcp(client(), vip(LOST), Flags::ACK).with_payload(&[1; 20]).bytes();
    let malformed = || reason(LOST, Reason::Malformed);
    let elsewhere = Packet::tcp(client(), endpoint([198, 51, 100, 1], 80), Flags::ACK).bytes();
    let cases = [
        Case::dropped("a header of four words", changed(whole(), &[(14, 0x44)]), malformed()),
        Case::dropped("a header of no words", changed(whole(), &[(14, 0x40)]), malformed()),
        Case::dropped("version 5", changed(whole(), &[(14, 0x55)]), malformed()),
        Case::dropped("longer than the frame", changed(whole(), &[(17, 61)]), malformed()),
        Case::dropped("much longer than the frame", changed(whole(), &[(16, 0xff)]), malformed()),
        Case::dropped("shorter than its IPv4 header", changed(whole(), &[(17, 19)]), malformed()),
        Case::dropped("shorter than its TCP header", changed(whole(), &[(17, 39)]), malformed()),
        Case::dropped("options beyond the frame", changed(whole()[..54].to_vec(), &[(14, 0x4f)]), malformed()),
        Case::untouched("a broken header for another", changed(elsewhere, &[(14, 0x44)]), nothing()),
    ];
    run_in_world(&cases);
}

#[test]
fn a_cut_frame_is_never_forwarded() {
    let tcp = Packet::tcp(client(), vip(LOST), Flags::SYN).bytes();
    let udp = Packet::udp(client(), vip(LOST)).bytes();
    in_world(&[], |subject| {
        for frame in [tcp, udp] {
            for length in 14..frame.len() {
                let cut = &frame[..length];
                let (verdict, output) = subject.run(cut, host::NEAR).expect("the kernel runs the packet");
                let untouched = verdict == verdict::PASS && output == cut && length < 34;
                let dropped = verdict == verdict::DROP && length >= 34;
                assert!(untouched || dropped, "{length} bytes of {}: verdict {verdict}", frame.len());
            }
        }
    });
}

#[test]
fn a_cut_transport_header_is_malformed() {
    let tcp = Packet::tcp(client(), vip(LOST), Flags::SYN).bytes();
    let cut = |name, length: usize| {
        let total = (length - 14) as u8;
        Case::dropped(name, changed(tcp[..length].to_vec(), &[(17, total)]), reason(LOST, Reason::Malformed))
    };
    let cases = [
        cut("no transport header", 34),
        cut("half of the ports", 36),
        cut("ports only", 38),
        cut("eight bytes", 42),
        cut("all but the last byte", 53),
    ];
    run_in_world(&cases);
}
