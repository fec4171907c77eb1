//! `grayxdp explain`: the way of one packet, one station a line.

use crate::{
    cli::table::{Paint, Tone},
    model::api::Explained,
};

/// The way of a flow's first packet and of a later one, or of one alone.
pub(crate) fn explained(way: &Explained, paint: Paint) -> String {
    match &way.later {
        None => one(way, paint),
        Some(later) => {
            let title = |text: &str| paint.text(Tone::Title, text);
            let first = one(way, paint);
            format!("{}\n{first}\n{}\n{}", title("first packet"), title("later packet"), one(later, paint))
        }
    }
}

fn one(way: &Explained, paint: Paint) -> String {
    let Explained { fate, reason, service, hash, bucket, version, slot, backend, next_hop, epoch, .. } = way;
    let stations = [
        ("service", service.as_ref().map(ToString::to_string)),
        ("segment", way.segment.clone()),
        ("epoch", epoch.map(|epoch| epoch.to_string())),
        ("hash", hash.clone()),
        ("bucket", bucket.map(|bucket| format!("{bucket} of {}", grayxdp_common::BUCKETS))),
        ("slot", slot.map(|slot| format!("{slot} of {}", grayxdp_common::SLOTS))),
        ("choice", way.choice.clone()),
        ("home", way.home.clone()),
        ("entry", way.entry.clone()),
        ("version", version.as_ref().map(ToString::to_string)),
        ("backend", backend.map(|backend| backend.to_string())),
        ("next hop", next_hop.clone()),
    ];
    let tone = match fate.as_str() {
        "forwarded" | "answered" => Tone::Good,
        "passed" => Tone::Notable,
        _ => Tone::Bad,
    };
    let mut text = String::new();
    for (station, value) in stations {
        if let Some(value) = value {
            text.push_str(&format!("{station:<8}  {value}\n"));
        }
    }
    for (index, turn) in way.turns.iter().enumerate() {
        text.push_str(&format!("{:<8}  {turn}\n", if index == 0 { "because" } else { "" }));
    }
    let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    text.push_str(&format!("{:<8}  {}{reason}\n", "fate", paint.text(tone, fate)));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::samples::name;

    fn nothing(fate: &str) -> Explained {
        Explained { fate: fate.to_owned(), ..Explained::default() }
    }

    #[test]
    fn a_forwarded_packet_shows_every_station() {
        let way = Explained {
            service: Some(name("web")),
            hash: Some("8f3a".to_owned()),
            bucket: Some(4_711),
            version: Some(name("v2")),
            slot: Some(12),
            backend: Some("10.0.2.1:8080".parse().expect("an address")),
            next_hop: Some("eth1 via 02:00:00:00:00:01".to_owned()),
            epoch: Some(3),
            ..nothing("forwarded")
        };
        let expected = "\
service   web
epoch     3
hash      8f3a
bucket    4711 of 16384
slot      12 of 16381
version   v2
backend   10.0.2.1:8080
next hop  eth1 via 02:00:00:00:00:01
fate      forwarded
";
        assert_eq!(explained(&way, Paint::Bare), expected);
    }

    #[test]
    fn the_first_and_a_later_packet_are_shown_with_what_decided() {
        let later = Explained {
            home: Some("v1/10.0.1.1:8080".to_owned()),
            turns: vec!["flows in progress without an entry go by home".to_owned()],
            ..nothing("forwarded")
        };
        let way = Explained {
            segment: Some("asia".to_owned()),
            choice: Some("v2/10.0.2.1:8080".to_owned()),
            turns: vec!["the segment decides".to_owned(), "a new flow goes by current".to_owned()],
            later: Some(Box::new(later)),
            ..nothing("forwarded")
        };
        let expected = "\
first packet
segment   asia
choice    v2/10.0.2.1:8080
because   the segment decides
          a new flow goes by current
fate      forwarded

later packet
home      v1/10.0.1.1:8080
because   flows in progress without an entry go by home
fate      forwarded
";
        assert_eq!(explained(&way, Paint::Bare), expected);
    }

    #[test]
    fn a_dropped_packet_shows_the_reason_and_no_empty_station() {
        let way = Explained { reason: Some("no_service".to_owned()), ..nothing("dropped") };
        assert_eq!(explained(&way, Paint::Bare), "fate      dropped (no_service)\n");
    }
}
