//! What a reload would change, as lines for people.

use std::collections::BTreeMap;

use crate::model::{
    Name, Weight,
    config::{Config, Service, Version},
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
    if old.history_retention != new.history_retention {
        let days = |config: &Config| humantime::format_duration(config.history_retention).to_string();
        lines.push(format!("historyRetention: {} → {}", days(old), days(new)));
    }
    let (before, after) = (by_name(&old.services, |s| &s.name), by_name(&new.services, |s| &s.name));
    for service in old.services.iter().filter(|service| !after.contains_key(&service.name)) {
        lines.push(format!("service {}: removed", service.name));
    }
    for service in &new.services {
        match before.get(&service.name) {
            Some(old) => self::service(old, service, &mut lines),
            None => lines.push(format!("service {}: added at {}", service.name, endpoint(service))),
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
    differs("http.listen", old.http != new.http);
    differs("hashKeyFile", old.hash_key_file != new.hash_key_file);
}

fn by_name<T>(items: &[T], name: impl Fn(&T) -> &Name) -> BTreeMap<&Name, &T> {
    items.iter().map(|item| (name(item), item)).collect()
}

fn endpoint(service: &Service) -> String {
    format!("{}:{}/{}", service.vip, service.port, service.protocol.label())
}

fn service(old: &Service, new: &Service, lines: &mut Vec<String>) {
    let whose = format!("service {}", new.name);
    let mut changed = |what: &str, old: String, new: String| {
        if old != new {
            lines.push(format!("{whose}: {what} {old} → {new}"));
        }
    };
    changed("endpoint", endpoint(old), endpoint(new));
    changed("forwarding", word(&old.forwarding), word(&new.forwarding));
    changed("affinity", word(&old.affinity), word(&new.affinity));
    changed("announce", old.announce.to_string(), new.announce.to_string());
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
            Some(before) => backends(&whose, (old.port, before), (new.port, version), lines),
            None => {
                let count = version.backends.len();
                lines.push(format!("{whose}: version {} added with {count} backends", version.name));
            }
        }
    }
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

fn backends(whose: &str, old: (u16, &Version), new: (u16, &Version), lines: &mut Vec<String>) {
    let ends = |(port, version): (u16, &Version)| -> BTreeMap<_, _> {
        let end = |backend: &crate::model::config::Backend| (backend.address, backend.port.unwrap_or(port));
        version.backends.iter().map(|backend| (end(backend), backend.weight)).collect()
    };
    let (before, after) = (ends(old), ends(new));
    let name = &new.1.name;
    for (address, port) in before.keys().filter(|end| !after.contains_key(end)) {
        lines.push(format!("{whose}: backend {address}:{port} of {name} removed"));
    }
    for (&(address, port), weight) in &after {
        match before.get(&(address, port)) {
            None => lines.push(format!("{whose}: backend {address}:{port} of {name} added, weight {weight}")),
            Some(old) if old != weight => {
                lines.push(format!("{whose}: backend {address}:{port} of {name}: weight {old} → {weight}"));
            }
            Some(_) => {}
        }
    }
}
