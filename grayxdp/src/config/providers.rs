//! What the provider of a metric must be, and the limits of its values.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    config::problem::{Place, Problem, suggestion},
    model::{
        config::duration::said,
        plan::{CommandQuery, DEFAULT_MIN_SAMPLES, HttpQuery, Metric, PrometheusQuery, Provider, SecretSource},
    },
};

/// How long somebody outside may take.
const TIMEOUTS: std::ops::RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(300);
/// How long what was posted may count.
const AGES: std::ops::RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(30 * 86_400);
/// Tries after the first.
const MAX_RETRIES: u32 = 10;
/// Values of a range query.
const MAX_POINTS: u128 = 11_000;
/// Names that stand for something in queries.
pub(super) const PLACEHOLDERS: [&str; 5] = ["service", "stable", "candidate", "rollout", "interval"];
/// Headers whose values are secrets.
const SECRET_HEADERS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];

/// All that is wrong with a metric that somebody outside is asked for.
pub(super) fn outside(metric: &Metric, place: &Place, problems: &mut Vec<Problem>) {
    let conditions = metric.success_condition.is_some() || metric.failure_condition.is_some();
    let provider = place.field("provider");
    match &metric.provider {
        Provider::Kernel(_) => {
            for (field, condition) in
                [("successCondition", &metric.success_condition), ("failureCondition", &metric.failure_condition)]
            {
                if condition.is_some() {
                    let what = format!("metric `{}` has a {field} on a kernel signal", metric.name);
                    problems.push(Problem::new(place.field(field), what, "use `thresholdRange`"));
                }
            }
            return;
        }
        Provider::Prometheus(query) => prometheus(query, &provider.field("prometheus"), problems),
        Provider::Http(query) => http(query, &provider.field("http"), problems),
        Provider::Command(query) => command(query, &provider.field("command"), problems),
        Provider::Posted(posted) => {
            let at = provider.field("posted");
            if metric.quality.is_none() {
                let what = format!("metric `{}` is posted and has no `quality`", metric.name);
                problems.push(Problem::new(at.clone(), what, "add `quality`: what is posted is a confusion matrix"));
            }
            if !AGES.contains(&posted.max_age) {
                let what = format!("a maxAge of {}", said(posted.max_age));
                problems.push(Problem::new(at.field("maxAge"), what, "use 10s to 30d"));
            }
        }
    }
    if conditions && !metric.threshold_range.is_none() {
        let what = format!("metric `{}` has conditions and a thresholdRange", metric.name);
        problems.push(Problem::new(place.field("thresholdRange"), what, "use one of the two"));
    }
    if metric.min_samples != DEFAULT_MIN_SAMPLES {
        let what = format!("metric `{}` has `minSamples`, and its provider gives values, not samples", metric.name);
        problems.push(Problem::new(place.field("minSamples"), what, "leave it out"));
    }
}

fn prometheus(query: &PrometheusQuery, place: &Place, problems: &mut Vec<Problem>) {
    let PrometheusQuery { address, address_from, query: text, range, headers, headers_from, timeout, retries } = query;
    web_address(("address", address.as_ref()), ("addressFrom", address_from.as_ref()), place, problems);
    if text.trim().is_empty() {
        problems.push(Problem::new(place.field("query"), "an empty query", "write one in PromQL"));
    }
    placeholders(text, &place.field("query"), problems);
    if let Some(range) = range {
        let points = range.window.as_nanos() / range.step.as_nanos().max(1);
        if range.step.is_zero() || points == 0 || points > MAX_POINTS {
            let what = format!("a window of {} in steps of {}", said(range.window), said(range.step));
            let remedy = format!("use 1 to {MAX_POINTS} steps");
            problems.push(Problem::new(place.field("range"), what, remedy));
        }
    }
    self::headers(headers, headers_from, place, problems);
    patience(*timeout, *retries, place, problems);
}

fn http(query: &HttpQuery, place: &Place, problems: &mut Vec<Problem>) {
    let HttpQuery { url, url_from, pointer, headers, headers_from, timeout, retries } = query;
    web_address(("url", url.as_ref()), ("urlFrom", url_from.as_ref()), place, problems);
    self::pointer(pointer.as_deref(), place, problems);
    self::headers(headers, headers_from, place, problems);
    patience(*timeout, *retries, place, problems);
}

fn command(query: &CommandQuery, place: &Place, problems: &mut Vec<Problem>) {
    let CommandQuery { command, pointer, timeout, retries } = query;
    let at = place.field("command");
    match command.first() {
        None => problems.push(Problem::new(at, "no program", "write its full path and its arguments")),
        Some(program) if !program.starts_with('/') => {
            let what = format!("`{program}` is no full path");
            problems.push(Problem::new(at.index(0), what, "write the full path, as /usr/local/bin/orders"));
        }
        Some(_) => {}
    }
    for (index, argument) in command.iter().enumerate() {
        placeholders(argument, &place.field("command").index(index), problems);
    }
    self::pointer(pointer.as_deref(), place, problems);
    patience(*timeout, *retries, place, problems);
}

/// One of an address and where it is read; `http` or `https`, without a password in it.
pub(super) fn web_address(
    (field, address): (&str, Option<&String>),
    (from_field, from): (&str, Option<&SecretSource>),
    place: &Place,
    problems: &mut Vec<Problem>,
) {
    match (address, from) {
        (None, None) => {
            let remedy = format!("add `{field}`, or `{from_field}: {{file: …}}`");
            problems.push(Problem::new(place.clone(), "no address", remedy));
        }
        (Some(_), Some(_)) => {
            let what = format!("`{field}` and `{from_field}`");
            problems.push(Problem::new(place.field(from_field), what, "use one of the two"));
        }
        (Some(address), None) => {
            let at = place.field(field);
            let rest = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
            let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
            match host {
                None | Some("") => {
                    let what = format!("`{address}` is no web address");
                    problems.push(Problem::new(at.clone(), what, "write one as http://127.0.0.1:9090"));
                }
                Some(host) if host.contains('@') => {
                    let remedy = format!("use `{from_field}: {{file: …}}`, or `headersFrom`");
                    problems.push(Problem::new(at.clone(), "a password in the plan", remedy));
                }
                Some(_) => {}
            }
            placeholders(address, &at, problems);
        }
        (None, Some(source)) => secret(source, &place.field(from_field), problems),
    }
}

/// Headers that HTTP knows, and no secret among those that the plan shows.
pub(super) fn headers(
    plain: &BTreeMap<String, String>,
    from: &BTreeMap<String, SecretSource>,
    place: &Place,
    problems: &mut Vec<Problem>,
) {
    for (field, name) in plain.keys().map(|name| ("headers", name)).chain(from.keys().map(|name| ("headersFrom", name)))
    {
        let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
        if name.is_empty() || !name.chars().all(token) {
            let what = format!("`{name}` is no name of a header");
            problems.push(Problem::new(place.field(field).field(name), what, "use letters, digits and hyphens"));
        }
    }
    for (name, value) in plain {
        let at = place.field("headers").field(name);
        if SECRET_HEADERS.contains(&name.to_ascii_lowercase().as_str()) {
            let what = format!("the secret `{name}` stands in the plan");
            let remedy = format!("move it to a file: `headersFrom: {{{name}: {{file: /etc/grayxdp/token}}}}`");
            problems.push(Problem::new(at, what, remedy));
        } else if value.chars().any(|c| c.is_ascii_control()) {
            problems.push(Problem::new(at, format!("`{name}` has a control character"), "write it in one line"));
        }
    }
    for (name, source) in from {
        secret(source, &place.field("headersFrom").field(name), problems);
    }
}

pub(super) fn secret(source: &SecretSource, place: &Place, problems: &mut Vec<Problem>) {
    match source {
        SecretSource::File(path) if !path.is_absolute() => {
            let what = format!("`{}` is no full path", path.display());
            problems.push(Problem::new(place.field("file"), what, "write the full path, as /etc/grayxdp/token"));
        }
        SecretSource::Env(name) if name.is_empty() || name.contains(['=', '\0']) => {
            let what = format!("`{name}` is no name of a variable");
            problems.push(Problem::new(place.field("env"), what, "name a variable of the daemon's environment"));
        }
        SecretSource::File(_) | SecretSource::Env(_) => {}
    }
}

/// Bounds of waiting and of trying again.
pub(super) fn patience(timeout: Duration, retries: u32, place: &Place, problems: &mut Vec<Problem>) {
    if !TIMEOUTS.contains(&timeout) {
        let what = format!("a timeout of {}", said(timeout));
        problems.push(Problem::new(place.field("timeout"), what, "use 100ms to 5m"));
    }
    self::retries(retries, place, problems);
}

/// How often something is tried again.
pub(super) fn retries(retries: u32, place: &Place, problems: &mut Vec<Problem>) {
    if retries > MAX_RETRIES {
        let remedy = format!("use at most {MAX_RETRIES}");
        problems.push(Problem::new(place.field("retries"), format!("{retries} retries"), remedy));
    }
}

fn pointer(pointer: Option<&str>, place: &Place, problems: &mut Vec<Problem>) {
    if let Some(pointer) = pointer.filter(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
        let what = format!("`{pointer}` is no JSON pointer");
        problems.push(Problem::new(place.field("pointer"), what, format!("write `/{pointer}`")));
    }
}

/// Names between `{{` and `}}`, and those that stand for nothing.
pub(super) fn placeholders(text: &str, place: &Place, problems: &mut Vec<Problem>) {
    for (_, rest) in text.match_indices("{{").map(|(at, braces)| text.split_at(at + braces.len())) {
        match rest.split_once("}}") {
            Some((name, _)) if PLACEHOLDERS.contains(&name.trim()) => {}
            Some((name, _)) => {
                let what = format!("`{{{{{name}}}}}` stands for nothing");
                problems.push(Problem::new(place.clone(), what, suggestion(name.trim(), PLACEHOLDERS)));
            }
            None => problems.push(Problem::new(place.clone(), "`{{` without `}}`", "close it")),
        }
    }
}
