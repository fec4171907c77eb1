//! What a reload would change, as lines for people.

use std::collections::BTreeMap;

use crate::model::{
    Name, Weight,
    config::{Backend, Config, FlowLog, Fuse, HealthCheck, Match, Service, Tunnel, Version, duration::said},
};

/// One line for each difference; none where the two mean the same.
#[must_use]
pub fn diff(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    restarts(old, new, &mut lines);
    if old.direct_access != new.direct_access {
        let list = |config: &Config| {
            config.direct_access.iter().map(|&prefix| String::from(prefix)).collect::<Vec<_>>().join(", ")
        };
        lines.push(format!("directAccess: [{}] → [{}]", list(old), list(new)));
    }
    if old.tunnel != new.tunnel {
        let own = |tunnel: &Tunnel| {
            let sources: Vec<_> = tunnel.sources.iter().map(|&prefix| String::from(prefix)).collect();
            let mtu = tunnel.mtu.map_or("the link's".to_owned(), |mtu| mtu.to_string());
            format!("sources [{}], mtu {mtu}", sources.join(", "))
        };
        lines.push(format!("tunnel: {} → {}", own(&old.tunnel), own(&new.tunnel)));
    }
    if old.flow_log != new.flow_log {
        let own = |log: Option<&FlowLog>| {
            let of = |services: &[Name]| match services {
                [] => "all services".to_owned(),
                some => some.iter().map(Name::as_str).collect::<Vec<_>>().join(", "),
            };
            let said = |log: &FlowLog| format!("{}, {} % of {}", log.path.display(), log.sample, of(&log.services));
            log.map_or_else(|| "none".to_owned(), said)
        };
        lines.push(format!("flowLog: {} → {}", own(old.flow_log.as_ref()), own(new.flow_log.as_ref())));
    }
    if old.history_retention != new.history_retention {
        let days = |config: &Config| said(config.history_retention);
        lines.push(format!("historyRetention: {} → {}", days(old), days(new)));
    }
    let (before, after) = (by_name(&old.services, |s| &s.name), by_name(&new.services, |s| &s.name));
    for service in old.services.iter().filter(|service| !after.contains_key(&service.name)) {
        lines.push(format!("service {}: removed", service.name));
    }
    for service in &new.services {
        match before.get(&service.name) {
            Some(old) => self::service(old, service, &mut lines),
            None => lines.push(format!("service {}: added at {}", service.name, service.endpoint())),
        }
    }
    lines
}

/// What a running daemon cannot change.
fn restarts(old: &Config, new: &Config, lines: &mut Vec<String>) {
    let mut differs = |what: &str, differs: bool| {
        if differs {
            lines.push(format!("{what}: differs; takes effect at the next start of the daemon"));
        }
    };
    differs("interfaces", old.interfaces != new.interfaces);
    differs("stateDir", old.state_dir != new.state_dir);
    differs("control.socket", old.control != new.control);
    differs("http.listen", old.http.listen != new.http.listen);
    differs("http.tokens", old.http.tokens != new.http.tokens);
    differs("hashKeyFile", old.hash_key_file != new.hash_key_file);
    if old.translations != new.translations {
        let (old, new) = (old.translations, new.translations);
        let when = "takes effect with the first service of full-nat, else after `grayxdp detach`, at the next start";
        lines.push(format!("translations: {old} → {new}; {when}"));
    }
    if old.exceptions != new.exceptions {
        let (old, new) = (old.exceptions, new.exceptions);
        lines.push(format!("exceptions: {old} → {new}; takes effect after `grayxdp detach`, at the next start"));
    }
}

fn by_name<T>(items: &[T], name: impl Fn(&T) -> &Name) -> BTreeMap<&Name, &T> {
    items.iter().map(|item| (name(item), item)).collect()
}

fn service(old: &Service, new: &Service, lines: &mut Vec<String>) {
    let whose = format!("service {}", new.name);
    let mut changed = |what: &str, old: String, new: String| {
        if old != new {
            lines.push(format!("{whose}: {what} {old} → {new}"));
        }
    };
    changed("endpoint", old.endpoint(), new.endpoint());
    changed("forwarding", word(&old.forwarding), word(&new.forwarding));
    let pool = |service: &Service| {
        let ranges: Vec<_> = service.source_pool.iter().map(|&range| String::from(range)).collect();
        format!("[{}]", ranges.join(", "))
    };
    changed("sourcePool", pool(old), pool(new));
    changed("affinity", word(&old.affinity), word(&new.affinity));
    changed("announce", old.announce.to_string(), new.announce.to_string());
    changed("quic", old.quic.to_string(), new.quic.to_string());
    changed("healthCheck", health(old.health_check.as_ref()), health(new.health_check.as_ref()));
    changed("fuse", fuse(old.fuse), fuse(new.fuse));
    changed("onEmptyPool", word(&old.on_empty_pool), word(&new.on_empty_pool));
    changed("onDown", word(&old.on_down), word(&new.on_down));
    let times = |service: &Service| {
        let &Service { idle_timeout, settle_after, closing_timeout, flow_horizon, drain_timeout, .. } = service;
        [idle_timeout, settle_after, closing_timeout, flow_horizon, drain_timeout].map(said)
    };
    let names = ["idleTimeout", "settleAfter", "closingTimeout", "flowHorizon", "drainTimeout"];
    for ((name, old), new) in names.into_iter().zip(times(old)).zip(times(new)) {
        changed(name, old, new);
    }
    let order = |service: &Service| service.versions.iter().map(|v| v.name.to_string()).collect::<Vec<_>>().join(", ");
    let (before, after) = (by_name(&old.versions, |v| &v.name), by_name(&new.versions, |v| &v.name));
    if before.keys().eq(after.keys()) {
        changed("order of versions", order(old), order(new));
    }
    for version in old.versions.iter().filter(|version| !after.contains_key(&version.name)) {
        lines.push(format!("{whose}: version {} removed", version.name));
    }
    for version in &new.versions {
        match before.get(&version.name) {
            Some(before) => backends(&whose, (old, before), (new, version), lines),
            None => {
                let count = version.backends.len();
                lines.push(format!("{whose}: version {} added with {count} backends", version.name));
            }
        }
    }
    segments(&whose, old, new, lines);
    let (before, after) = (initial_weights(old), initial_weights(new));
    if before != after {
        lines.push(format!(
            "{whose}: initial weights {before} → {after}; the applied ones stay unless `reload --reset-weights {}`",
            new.name
        ));
    }
}

/// The word that the file has for a value.
fn word<T: serde::Serialize>(value: &T) -> String {
    let value = serde_json::to_value(value).expect("a word of the file is plain JSON");
    value.as_str().map(str::to_owned).unwrap_or_else(|| value.to_string())
}

/// Weights in the order of the file, `v1=90 v2=10`; what is left out is filled in.
fn initial_weights(service: &Service) -> String {
    let weight = |(index, version): (usize, &Version)| {
        let default = if service.weights.is_empty() && index == 0 { Weight::FULL } else { Weight::ZERO };
        format!("{}={}", version.name, service.weights.get(&version.name).copied().unwrap_or(default))
    };
    service.versions.iter().enumerate().map(weight).collect::<Vec<_>>().join(" ")
}

/// The words that the file has for a mapping, without its quotes.
fn mapping<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("a mapping of the file is plain JSON").replace('"', "").replace(',', ", ")
}

fn health(check: Option<&HealthCheck>) -> String {
    check.map_or_else(|| "none".to_owned(), mapping)
}

fn fuse(fuse: Option<Fuse>) -> String {
    fuse.map_or_else(|| "none".to_owned(), |fuse| mapping(&fuse))
}

/// Segments by name; what one matches is told by its size, because it may be long.
fn segments(whose: &str, old: &Service, new: &Service, lines: &mut Vec<String>) {
    let (before, after) = (by_name(&old.segments, |s| &s.name), by_name(&new.segments, |s| &s.name));
    for segment in old.segments.iter().filter(|segment| !after.contains_key(&segment.name)) {
        lines.push(format!("{whose}: segment {} removed", segment.name));
    }
    for segment in &new.segments {
        let (name, now) = (&segment.name, &segment.r#match);
        let size =
            |of: &Match| format!("{} sources, {} DSCPs, {} ports", of.sources.len(), of.dscp.len(), of.ports.len());
        match before.get(name) {
            None => lines.push(format!("{whose}: segment {name} added: {}", size(now))),
            Some(old) if old.r#match != *now => {
                lines.push(format!("{whose}: match of segment {name}: {} → {}", size(&old.r#match), size(now)));
            }
            Some(_) => {}
        }
        if let Some(old) = before.get(name).filter(|old| old.weights != segment.weights) {
            let (old, new) = (mapping(&old.weights), mapping(&segment.weights));
            lines.push(format!("{whose}: initial weights of segment {name} {old} → {new}; the applied ones stay"));
        }
    }
    let order = |service: &Service| service.segments.iter().map(|s| s.name.to_string()).collect::<Vec<_>>().join(", ");
    if before.keys().eq(after.keys()) && order(old) != order(new) {
        lines.push(format!("{whose}: order of segments {} → {}", order(old), order(new)));
    }
}

fn backends(whose: &str, old: (&Service, &Version), new: (&Service, &Version), lines: &mut Vec<String>) {
    let ends = |(service, version): (&Service, &Version)| -> BTreeMap<_, _> {
        let end = |backend: &Backend| {
            let said = service.backend_address(backend).to_string();
            ((backend.address, service.port_of(backend)), (said, backend.weight))
        };
        version.backends.iter().map(end).collect()
    };
    let (before, after) = (ends(old), ends(new));
    let name = &new.1.name;
    for (_, (said, _)) in before.iter().filter(|(end, _)| !after.contains_key(*end)) {
        lines.push(format!("{whose}: backend {said} of {name} removed"));
    }
    for (end, (said, weight)) in &after {
        match before.get(end) {
            None => lines.push(format!("{whose}: backend {said} of {name} added, weight {weight}")),
            Some((_, old)) if old != weight => {
                lines.push(format!("{whose}: backend {said} of {name}: weight {old} → {weight}"));
            }
            Some(_) => {}
        }
    }
}
