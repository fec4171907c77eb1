//! What a configuration must be beyond its form.

use std::collections::BTreeMap;

use grayxdp_common::cells;

use crate::{
    balance::{bucket_counts, slot_counts},
    config::{
        endpoints, limits, pools,
        problem::{Place, Problem, suggestion},
        providers, segments,
    },
    model::{
        Name, Weight,
        config::{Config, FlowLog, HttpToken, Interface, Prefix, Service, Tunnel, Version},
    },
};

/// Services that one daemon takes.
const MAX_SERVICES: usize = 4_096;
/// Backends of all services that one daemon takes.
const MAX_BACKENDS: usize = 60_000;
/// Versions of a service: what a bucket can name.
const MAX_VERSIONS: usize = cells::VERSIONS;
/// Exceptions that the table may have room for.
const EXCEPTIONS: std::ops::RangeInclusive<u32> = 1_024..=1 << 24;
/// Flows of `full-nat` that the table may have room for.
const TRANSLATIONS: std::ops::RangeInclusive<u32> = 1_024..=1 << 24;
/// Longest name of an interface in the kernel (`IFNAMSIZ` less the final zero).
const MAX_INTERFACE_NAME: usize = 15;
/// Shortest prefix of outer sources of tunnels.
const LEAST_SOURCE_LENGTH: u8 = 8;
/// What the way of tunnels may take, in bytes.
const TUNNEL_MTUS: std::ops::RangeInclusive<u16> = 1_280..=9_000;
/// Backend weights.
const BACKEND_WEIGHTS: std::ops::RangeInclusive<u16> = 1..=1_000;

/// All that is wrong with a configuration, in the order of the file.
#[must_use]
pub fn check_all(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    interfaces(&config.interfaces, &mut problems);
    if !EXCEPTIONS.contains(&config.exceptions) {
        let remedy = format!("use {} to {}", EXCEPTIONS.start(), EXCEPTIONS.end());
        let what = format!("room for {} exceptions", config.exceptions);
        problems.push(Problem::new(Place::default().field("exceptions"), what, remedy));
    }
    if !TRANSLATIONS.contains(&config.translations) {
        let remedy = format!("use {} to {}", TRANSLATIONS.start(), TRANSLATIONS.end());
        let what = format!("room for {} flows of full-nat", config.translations);
        problems.push(Problem::new(Place::default().field("translations"), what, remedy));
    }
    tunnel(&config.tunnel, &mut problems);
    tokens(&config.http.tokens, &mut problems);
    flow_log(config, &mut problems);
    let services = Place::default().field("services");
    if config.services.len() > MAX_SERVICES {
        let what = format!("{} services", config.services.len());
        problems.push(Problem::new(services.clone(), what, format!("keep to {MAX_SERVICES}")));
    }
    let pools = config.services.iter().flat_map(|service| &service.versions);
    let backends: usize = pools.map(|version| version.backends.len()).sum();
    if backends > MAX_BACKENDS {
        let what = format!("{backends} backends in all services");
        problems.push(Problem::new(services.clone(), what, format!("keep to {MAX_BACKENDS}")));
    }
    let mut names = Seen::default();
    for (index, service) in config.services.iter().enumerate() {
        let place = services.index(index);
        if let Some(first) = names.clash(&service.name, &place.field("name")) {
            let what = format!("service `{}` stands twice", service.name);
            problems.push(
                Problem::new(place.field("name"), what, "give each service a name of its own").with_other(&first),
            );
        }
        self::service(service, &place, &mut problems);
    }
    segments::check_all(config, &mut problems);
    endpoints::check(config, &mut problems);
    pools::check(config, &mut problems);
    problems
}

/// Who may change something over HTTP: each by a name of its own.
fn tokens(tokens: &[HttpToken], problems: &mut Vec<Problem>) {
    let all = Place::default().field("http").field("tokens");
    let mut names = Seen::default();
    for (index, token) in tokens.iter().enumerate() {
        let place = all.index(index);
        if let Some(first) = names.clash(&token.name, &place.field("name")) {
            let what = format!("token `{}` stands twice", token.name);
            problems
                .push(Problem::new(place.field("name"), what, "give each token a name of its own").with_other(&first));
        }
        providers::secret(&token.token_from, &place.field("tokenFrom"), problems);
    }
}

/// Names that were seen, and where.
#[derive(Default)]
pub(super) struct Seen<'a>(BTreeMap<&'a str, Place>);

impl<'a> Seen<'a> {
    /// Where the name was seen before.
    pub(super) fn clash(&mut self, name: &'a Name, place: &Place) -> Option<Place> {
        self.clash_text(name.as_str(), place)
    }

    fn clash_text(&mut self, name: &'a str, place: &Place) -> Option<Place> {
        let first = self.0.get(name).cloned();
        if first.is_none() {
            self.0.insert(name, place.clone());
        }
        first
    }
}

fn interfaces(interfaces: &[Interface], problems: &mut Vec<Problem>) {
    let list = Place::default().field("interfaces");
    if interfaces.is_empty() {
        problems.push(Problem::new(list.clone(), "no interface", "name at least one, as [{name: eth0}]"));
    }
    let mut seen = Seen::default();
    for (index, interface) in interfaces.iter().enumerate() {
        let (name, place) = (interface.name.as_str(), list.index(index).field("name"));
        let sound = !name.is_empty()
            && name.len() <= MAX_INTERFACE_NAME
            && name != "."
            && name != ".."
            && name.chars().all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '%'));
        if !sound {
            let remedy = format!("use a name of 1 to {MAX_INTERFACE_NAME} characters as `ip link` shows it");
            problems.push(Problem::new(place.clone(), format!("`{name}` is no name of an interface"), remedy));
        }
        if let Some(first) = seen.clash_text(name, &place) {
            let what = format!("interface `{name}` stands twice");
            problems.push(Problem::new(place, what, "remove one of the two").with_other(&first));
        }
    }
}

/// A file that can be found, and services that are there.
fn flow_log(config: &Config, problems: &mut Vec<Problem>) {
    let Some(FlowLog { path, sample, services }) = &config.flow_log else { return };
    let place = Place::default().field("flowLog");
    if !path.is_absolute() {
        let what = format!("`{}` is no full path", path.display());
        problems.push(Problem::new(place.field("path"), what, "write one, as /var/log/grayxdp/flows.jsonl"));
    }
    if *sample == Weight::ZERO {
        let remedy = "use more than 0, as 1 for 1 % of flows, or leave `flowLog` out";
        problems.push(Problem::new(place.field("sample"), "a sample of 0", remedy));
    }
    for (index, name) in services.iter().enumerate() {
        let place = place.field("services").index(index);
        if !config.services.iter().any(|service| service.name == *name) {
            let known = config.services.iter().map(|service| service.name.as_str());
            let remedy = suggestion(name.as_str(), known);
            problems.push(Problem::new(place, format!("there is no service `{name}`"), remedy));
        } else if services[..index].contains(name) {
            problems.push(Problem::new(place, format!("service `{name}` stands twice"), "remove one of the two"));
        }
    }
}

fn tunnel(tunnel: &Tunnel, problems: &mut Vec<Problem>) {
    let place = Place::default().field("tunnel");
    let sources = place.field("sources");
    for (index, prefix) in tunnel.sources.iter().enumerate() {
        let (place, said) = (sources.index(index), String::from(*prefix));
        if prefix.length < LEAST_SOURCE_LENGTH {
            let what = format!("outer sources {said}");
            let remedy = format!("use a prefix of {LEAST_SOURCE_LENGTH} bits or more that is nobody's address");
            problems.push(Problem::new(place.clone(), what, remedy));
        }
        let is_same = |other: &&Prefix| other.address.is_ipv4() == prefix.address.is_ipv4();
        if let Some(first) = tunnel.sources[..index].iter().position(|other| is_same(&other)) {
            let what = format!("outer sources {said} beside {}", String::from(tunnel.sources[first]));
            problems
                .push(Problem::new(place, what, "keep one prefix of each family").with_other(&sources.index(first)));
        }
    }
    if let Some(mtu) = tunnel.mtu.filter(|mtu| !TUNNEL_MTUS.contains(mtu)) {
        let remedy = format!("use {} to {}", TUNNEL_MTUS.start(), TUNNEL_MTUS.end());
        problems.push(Problem::new(place.field("mtu"), format!("mtu {mtu} of tunnels"), remedy));
    }
}

fn service(service: &Service, place: &Place, problems: &mut Vec<Problem>) {
    let name = &service.name;
    let versions = place.field("versions");
    match service.versions.len() {
        0 => problems.push(Problem::new(versions.clone(), format!("service `{name}` has no version"), "give it one")),
        1..=MAX_VERSIONS => {}
        many => problems.push(Problem::new(
            versions.clone(),
            format!("service `{name}` has {many} versions"),
            format!("keep to {MAX_VERSIONS} a service; remove the rest"),
        )),
    }
    let mut seen = Seen::default();
    for (index, version) in service.versions.iter().enumerate() {
        let place = versions.index(index);
        if let Some(first) = seen.clash(&version.name, &place.field("name")) {
            let what = format!("version `{}` of service `{name}` stands twice", version.name);
            let remedy = "give each version a name of its own";
            problems.push(Problem::new(place.field("name"), what, remedy).with_other(&first));
        }
        self::version(service, version, &place, problems);
    }
    let whose = format!("service `{name}`");
    weights(service, &service.weights, &whose, &place.field("weights"), problems);
    segments::check(service, place, problems);
    limits::check(service, place, problems);
}

fn version(service: &Service, version: &Version, place: &Place, problems: &mut Vec<Problem>) {
    let whose = format!("version `{}` of service `{}`", version.name, service.name);
    let list = place.field("backends");
    if version.backends.is_empty() {
        problems.push(Problem::new(list, format!("{whose} has no backend"), "give it at least one"));
        return;
    }
    let mut sound = true;
    for (index, backend) in version.backends.iter().enumerate() {
        if !BACKEND_WEIGHTS.contains(&backend.weight) {
            let what = format!("weight {} of backend {} in {whose}", backend.weight, backend.address);
            let remedy = format!("use {} to {}", BACKEND_WEIGHTS.start(), BACKEND_WEIGHTS.end());
            problems.push(Problem::new(list.index(index).field("weight"), what, remedy));
            sound = false;
        }
    }
    let mut order: Vec<usize> = (0..version.backends.len()).collect();
    order.sort_by_key(|&index| (version.backends[index].address, version.backends[index].port));
    let weights: Vec<u16> = order.iter().map(|&index| version.backends[index].weight).collect();
    if let (true, Err(nothing)) = (sound, slot_counts(&weights)) {
        let index = order[nothing.index];
        let backend = &version.backends[index];
        let what = format!("weight {} of backend {} in {whose} rounds to no slot", backend.weight, backend.address);
        problems.push(Problem::new(list.index(index), what, "raise it, or lower the others"));
    }
}

/// Weights in percent over a service's versions; none are given where the map is empty.
pub(super) fn weights(
    service: &Service,
    weights: &BTreeMap<Name, Weight>,
    whose: &str,
    place: &Place,
    problems: &mut Vec<Problem>,
) {
    if weights.is_empty() {
        return;
    }
    let known = service.versions.iter().map(|version| version.name.as_str());
    for name in weights.keys() {
        if !known.clone().any(|known| known == name.as_str()) {
            let what = format!("service `{}` has no version `{name}`", service.name);
            problems.push(Problem::new(place.field(name), what, suggestion(name.as_str(), known.clone())));
        }
    }
    let sum: u32 = weights.values().map(|weight| u32::from(weight.hundredths())).sum();
    if sum != u32::from(Weight::FULL.hundredths()) {
        let what = format!("the weights of {whose} sum to {}", f64::from(sum) / 100.0);
        problems.push(Problem::new(place.clone(), what, "make them sum to 100"));
        return;
    }
    let shares: Vec<Weight> = weights.values().copied().collect();
    if let Err(nothing) = bucket_counts(&shares) {
        let name = weights.keys().nth(nothing.index).expect("the index is that of a weight");
        let what = format!("the weight of version `{name}` of {whose} rounds to no bucket");
        problems.push(Problem::new(place.field(name), what, "raise it or set it to 0"));
    }
}
