//! `grayxdp trace`: a packet, what became of it, and why.

use crate::{
    cli::table::{Paint, Tone},
    model::api::{Headers, TracedPacket},
};

/// One packet in two lines or more.
pub(crate) fn traced(seen: &TracedPacket, paint: Paint) -> String {
    let TracedPacket { time, interface, packet, way, left } = seen;
    let time = time.strftime("%H:%M:%S.%6f");
    let head = paint.text(Tone::Faint, &format!("{time}  {interface}"));
    let tone = match way.fate.as_str() {
        "forwarded" | "answered" => Tone::Good,
        "passed" => Tone::Notable,
        _ => Tone::Bad,
    };
    let mut text = format!("{head}  {}\n", line(packet));
    let reason = way.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let mut became = format!("{}{reason}", paint.text(tone, &way.fate));
    if let Some(service) = &way.service {
        became += &format!("  {service}");
    }
    if let Some(version) = &way.version {
        let backend = way.backend.map(|backend| format!("/{backend}")).unwrap_or_default();
        became += &format!(" {version}{backend}");
    }
    if let Some(hop) = &way.next_hop {
        became += &format!("  by {hop}");
    }
    text += &format!("    {became}\n");
    for turn in &way.turns {
        text += &format!("    because {turn}\n");
    }
    if let Some(left) = left.as_ref().filter(|left| left.bytes != packet.bytes || left.length != packet.length) {
        text += &format!("    left as {}\n", line(left));
    }
    text
}

fn line(headers: &Headers) -> String {
    let Headers { source, destination, protocol, flags, ttl, length, bytes: _ } = headers;
    let flags = flags.as_ref().map(|flags| format!(" {flags}")).unwrap_or_default();
    let ttl = ttl.map(|ttl| format!(", ttl {ttl}")).unwrap_or_default();
    if source.is_empty() {
        return format!("{protocol}, {length} bytes");
    }
    format!("{source} > {destination}  {protocol}{flags}, {length} bytes{ttl}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::show::samples::name, model::api::Explained};

    #[test]
    fn a_packet_is_told_as_it_came_with_its_fate_and_as_it_left() {
        let packet = Headers {
            source: "10.64.0.1:40000".to_owned(),
            destination: "192.0.2.10:80".to_owned(),
            protocol: "tcp".to_owned(),
            flags: Some("S".to_owned()),
            ttl: Some(64),
            length: 74,
            bytes: "00".to_owned(),
        };
        let left = Headers {
            destination: "10.9.0.1:8081".to_owned(),
            ttl: Some(63),
            bytes: "01".to_owned(),
            ..packet.clone()
        };
        let way = Explained {
            fate: "forwarded".to_owned(),
            service: Some(name("web")),
            version: Some(name("v2")),
            backend: Some("10.9.0.1:8081".parse().expect("an address")),
            next_hop: Some("near via 02:00:00:00:00:01".to_owned()),
            turns: vec!["a new flow goes by current".to_owned()],
            ..Explained::default()
        };
        let time = "2026-03-01T09:00:00.123456Z".parse().expect("a time");
        let seen = TracedPacket { time, interface: "near".to_owned(), packet, way, left: Some(left) };
        let expected = "\
09:00:00.123456  near  10.64.0.1:40000 > 192.0.2.10:80  tcp S, 74 bytes, ttl 64
    forwarded  web v2/10.9.0.1:8081  by near via 02:00:00:00:00:01
    because a new flow goes by current
    left as 10.64.0.1:40000 > 10.9.0.1:8081  tcp S, 74 bytes, ttl 63
";
        assert_eq!(traced(&seen, Paint::Bare), expected);
        let way =
            Explained { fate: "dropped".to_owned(), reason: Some("no_service".to_owned()), ..Explained::default() };
        let dropped = TracedPacket { way, left: None, ..seen };
        assert!(traced(&dropped, Paint::Bare).ends_with("ttl 64\n    dropped (no_service)\n"));
    }
}
