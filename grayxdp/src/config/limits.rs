//! Ports, times, health checks and fuses within their bounds.

use std::{ops::RangeInclusive, time::Duration};

use grayxdp_common::{cells, guard};

use crate::{
    config::problem::{Place, Problem},
    model::config::{CheckType, Fuse, HealthCheck, Protocol, Service, duration::said},
};

const fn seconds(from: u64, to: u64) -> RangeInclusive<Duration> {
    Duration::from_secs(from)..=Duration::from_secs(to)
}

const DAY: u64 = 86_400;
const IDLE_TIMEOUT: RangeInclusive<Duration> = seconds(1, 7 * DAY);
const SETTLE_AFTER: RangeInclusive<Duration> = seconds(0, DAY);
const CLOSING_TIMEOUT: RangeInclusive<Duration> = seconds(1, 3_600);
const FLOW_HORIZON: RangeInclusive<Duration> = seconds(1, 600);
const DRAIN_TIMEOUT: RangeInclusive<Duration> = seconds(0, 30 * DAY);
const CHECK_INTERVAL: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3_600);
/// Shortest time that a check may take.
const LEAST_TIMEOUT: Duration = Duration::from_millis(10);
const IN_A_ROW: RangeInclusive<u32> = 1..=100;
const FUSE_LIMIT: RangeInclusive<u32> = 1..=guard::FAILURES as u32 - 1;
const FUSE_RATIO: RangeInclusive<f64> = 0.01..=1.0;
const FUSE_WINDOW: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);
/// Longest path of a check.
const MAX_PATH: usize = 1_024;

/// Checks what one service says about itself.
pub(super) fn check(service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    let mut check = Limits { place, whose: format!("service `{}`", service.name), problems };
    check.ports(service);
    check.duration("idleTimeout", service.idle_timeout, IDLE_TIMEOUT);
    check.duration("settleAfter", service.settle_after, SETTLE_AFTER);
    check.duration("closingTimeout", service.closing_timeout, CLOSING_TIMEOUT);
    check.duration("flowHorizon", service.flow_horizon, FLOW_HORIZON);
    check.duration("drainTimeout", service.drain_timeout, DRAIN_TIMEOUT);
    if service.closing_timeout > service.idle_timeout && CLOSING_TIMEOUT.contains(&service.closing_timeout) {
        let (closing, idle) = (said(service.closing_timeout), said(service.idle_timeout));
        let remedy = format!("set it to {idle} or less (1m unless said)");
        check.refuse("closingTimeout", format!("closingTimeout {closing} above idleTimeout {idle}"), remedy);
    }
    if service.quic && service.protocol == Protocol::Tcp {
        check.refuse("quic", "quic with protocol tcp".to_owned(), "add `protocol: udp`, or remove `quic`");
    }
    if service.fuse.is_some() && service.protocol == Protocol::Udp {
        let what = "a fuse with protocol udp, which has no handshakes to fail";
        check.refuse("fuse", what.to_owned(), "remove it: a rollout judges UDP by its metrics");
    }
    if let Some(fuse) = &service.fuse {
        let place = place.field("fuse");
        Limits { place: &place, ..check.again() }.fuse(fuse);
    }
    if let Some(health) = &service.health_check {
        let place = place.field("healthCheck");
        Limits { place: &place, ..check.again() }.health(health);
    }
}

/// A mapping of the file whose fields are checked.
struct Limits<'a> {
    place: &'a Place,
    whose: String,
    problems: &'a mut Vec<Problem>,
}

impl Limits<'_> {
    fn again(&mut self) -> Limits<'_> {
        Limits { place: self.place, whose: self.whose.clone(), problems: self.problems }
    }

    fn refuse(&mut self, field: &str, what: String, remedy: impl Into<String>) {
        self.problems.push(Problem::new(self.place.field(field), format!("{}: {what}", self.whose), remedy));
    }

    fn duration(&mut self, field: &str, duration: Duration, range: RangeInclusive<Duration>) {
        if !range.contains(&duration) {
            let remedy = format!("use {} to {}", said(*range.start()), said(*range.end()));
            self.refuse(field, format!("{field} {}", said(duration)), remedy);
        }
    }

    fn number<T: PartialOrd + std::fmt::Display>(&mut self, field: &str, number: T, range: RangeInclusive<T>) {
        if !range.contains(&number) {
            self.refuse(field, format!("{field} {number}"), format!("use {} to {}", range.start(), range.end()));
        }
    }

    fn ports(&mut self, service: &Service) {
        match (service.port, service.ports.as_slice()) {
            (None, []) => self.problems.push(Problem::new(
                self.place.clone(),
                format!("{} has neither `port` nor `ports`", self.whose),
                "add `port: 80`, or `ports: [80, 443]`",
            )),
            (Some(_), [_, ..]) => self.refuse("ports", "both `port` and `ports`".to_owned(), "keep one of the two"),
            (Some(_), []) | (None, [_, ..]) => {}
        }
        if service.ports.len() > cells::PORTS {
            let remedy = format!("keep to {} a service", cells::PORTS);
            self.refuse("ports", format!("{} ports", service.ports.len()), remedy);
        }
        for (index, port) in service.ports.iter().enumerate() {
            let place = self.place.field("ports").index(index);
            if *port == 0 {
                self.problems.push(Problem::new(place, format!("{}: port 0", self.whose), "use 1 to 65535"));
            } else if let Some(first) = service.ports[..index].iter().position(|before| before == port) {
                let other = self.place.field("ports").index(first);
                let what = format!("{}: port {port} stands twice", self.whose);
                self.problems.push(Problem::new(place, what, "remove one of the two").with_other(&other));
            }
        }
    }

    fn fuse(&mut self, fuse: &Fuse) {
        self.number("limit", fuse.limit, FUSE_LIMIT);
        self.number("ratio", fuse.ratio, FUSE_RATIO);
        self.duration("window", fuse.window, FUSE_WINDOW);
    }

    fn health(&mut self, health: &HealthCheck) {
        self.duration("interval", health.interval, CHECK_INTERVAL);
        self.number("rise", health.rise, IN_A_ROW);
        self.number("fall", health.fall, IN_A_ROW);
        if CHECK_INTERVAL.contains(&health.interval) {
            self.duration("timeout", health.timeout, LEAST_TIMEOUT..=health.interval);
        }
        if health.port == Some(0) {
            self.refuse("port", "port 0".to_owned(), "use 1 to 65535");
        }
        match (health.r#type, health.path.as_deref()) {
            (CheckType::Tcp, Some(_)) => {
                self.refuse("path", "a path of a tcp check".to_owned(), "remove it, or use `type: http`");
            }
            (CheckType::Http, Some(path)) if !is_path(path) => {
                let remedy = format!("use up to {MAX_PATH} printable characters without spaces, the first a `/`");
                self.refuse("path", format!("path `{path}`"), remedy);
            }
            (CheckType::Tcp, None) | (CheckType::Http, Some(_) | None) => {}
        }
    }
}

/// What may stand in the first line of a request (RFC 9112, origin-form).
fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= MAX_PATH && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#')
}
