//! `grayxdp events`: one line an event.

use crate::{
    cli::{
        show::instant,
        table::{Paint, Tone},
    },
    model::event::Event,
};

/// One event in one line.
pub(crate) fn event(event: &Event, paint: Paint) -> String {
    let Event { id, time, actor, service, rollout, kind, message, reason } = event;
    let about: Vec<&str> = service.iter().chain(rollout).map(|name| name.as_str()).collect();
    let about = if about.is_empty() { String::new() } else { format!("{}: ", about.join("/")) };
    let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let (head, kind) = (format!("{id:>6}  {}", instant(*time)), paint.text(Tone::Title, kind));
    format!("{}  {kind}  {about}{message}{reason}  [{actor}]\n", paint.text(Tone::Faint, &head))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::show::samples::name;

    #[test]
    fn an_event_is_one_line_with_its_number_actor_and_reason() {
        let happened = Event {
            id: 41,
            time: "2026-03-01T09:00:00Z".parse().expect("a time"),
            actor: "uid 1000 (maria)".to_owned(),
            service: Some(name("web")),
            rollout: Some(name("web-v2")),
            kind: "rolloutStarted".to_owned(),
            message: "v1 to v2 in 3 steps".to_owned(),
            reason: Some("release 7".to_owned()),
        };
        assert_eq!(
            event(&happened, Paint::Bare),
            "    41  2026-03-01 09:00:00Z  rolloutStarted  web/web-v2: v1 to v2 in 3 steps (release 7)  \
             [uid 1000 (maria)]\n"
        );
        let bare = Event { service: None, rollout: None, reason: None, ..happened };
        assert!(event(&bare, Paint::Bare).contains("rolloutStarted  v1 to v2"));
    }
}
