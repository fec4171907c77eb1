//! `grayxdp check` and `grayxdp plan lint`: what can be said about files without a daemon.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    cli::{
        args::{Format, Premises},
        exit::{CliError, Exit},
        output::{Output, complain},
        table::{Paint, Tone},
    },
    config::{check_plan, load_config, load_plan, load_traffic},
    model::{
        config::{Config, Protocol, Service},
        plan::{Canary, Plan, Signal, Strategy},
        state::Prospect,
        traffic::Traffic,
    },
    rollout::{
        Exposure, outline,
        prospects::{Expected, foreseen},
    },
};

/// Longest file that is read, in bytes; the daemon reads no longer one either.
const FILE_BYTES: u64 = 64 << 20;

/// How long flows are followed where no configuration says it.
const FLOW_HORIZON: Duration = Duration::from_secs(60);

/// What a file holds.
enum Content {
    Config(Box<Config>),
    Plan(Box<Plan>),
}

/// What was found in one file.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    file: PathBuf,
    /// Whether it can be used.
    sound: bool,
    /// What it holds, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    /// Of a plan the sub-steps to each step and how long they take at least, one line a step; of a configuration what the data path
    /// cannot see, one line a service.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    ways: Vec<String>,
    /// What the steps can show, by step from 1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    prospects: Vec<StepProspect>,
    /// One line a problem.
    problems: Vec<String>,
}

/// What a step can show of one metric.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StepProspect {
    step: usize,
    #[serde(flatten)]
    prospect: Prospect,
}

/// Reads a configuration for the daemon.
pub(super) fn read_config(file: &Path) -> Result<Config, CliError> {
    load_config(&read(file)?, &file.to_string_lossy()).map_err(|error| CliError::Input(error.to_string()))
}

/// Reads a plan for a rollout.
pub(super) fn read_plan(file: &Path) -> Result<Plan, CliError> {
    load_plan(&read(file)?, &file.to_string_lossy()).map_err(|error| CliError::Input(error.to_string()))
}

/// The traffic that a plan is to meet, where any was named.
pub(super) fn traffic(asked: &Premises) -> Result<Option<Traffic>, CliError> {
    let given = asked.traffic.as_deref().map(read_traffic).transpose()?;
    if let Some(rate) = asked.rate.filter(|rate| !(rate.is_finite() && *rate > 0.0)) {
        return Err(CliError::Input(format!("--rate {rate}: not a number of flows a second; give one above 0")));
    }
    Ok(given.or_else(|| asked.rate.map(|_| Traffic::default())).map(|mut traffic| {
        traffic.flows_per_second = asked.rate.unwrap_or(traffic.flows_per_second);
        traffic
    }))
}

fn read_traffic(file: &Path) -> Result<Traffic, CliError> {
    load_traffic(&read(file)?, &file.to_string_lossy()).map_err(|error| CliError::Input(error.to_string()))
}

/// Writes a file that was asked for.
pub(super) fn write(file: &Path, text: &str) -> Result<(), CliError> {
    std::fs::write(file, text)
        .map_err(|cause| CliError::Failed(format!("{} cannot be written: {cause}", file.display())))
}

/// Checks each file, and each plan against the configuration where exactly one is among the files.
pub(super) fn check(files: &[PathBuf], output: Output) -> Result<Exit, CliError> {
    let contents: Vec<_> = files.iter().map(|file| content(file)).collect();
    let mut configs = contents.iter().filter_map(|content| match content {
        Ok(Content::Config(config)) => Some(config.as_ref()),
        Ok(Content::Plan(_)) | Err(_) => None,
    });
    let config = configs.next().filter(|_| configs.next().is_none());
    let checked = files.iter().zip(&contents).map(|(file, content)| checked(file, content, config)).collect();
    report(checked, output)
}

/// Checks one plan, and against a configuration where one is given.
pub(super) fn lint(asked: &Premises, output: Output) -> Result<Exit, CliError> {
    let file = &asked.file;
    let config = asked.config.as_deref().map(read_config).transpose()?;
    let content = read(file).map_err(|error| vec![error.to_string()]).and_then(|text| plan(&text, file));
    let mut checked = checked(file, &content, config.as_ref());
    if let (Some(traffic), true, Ok(Content::Plan(plan))) = (traffic(asked)?, checked.sound, &content) {
        checked.prospects = prospects(plan, config.as_ref(), &traffic);
    }
    report(vec![checked], output)
}

/// What a plan's steps can show at a traffic.
fn prospects(plan: &Plan, config: Option<&Config>, traffic: &Traffic) -> Vec<StepProspect> {
    let of_plan = |config: &Config| config.services.iter().find(|service| service.name == plan.spec.service).cloned();
    let service = config.and_then(of_plan);
    let expected = Expected {
        flows_per_second: traffic.flows_per_second,
        failing: traffic.stable.failure_ratio,
        flow_horizon: service.as_ref().map_or(FLOW_HORIZON, |service| service.flow_horizon),
        protocol: service.map_or(Protocol::Tcp, |service| service.protocol),
    };
    let stable = plan.spec.stable.clone().unwrap_or_else(|| "stable".parse().expect("a name"));
    let of_step = |(part, found): (usize, Vec<Prospect>)| {
        found.into_iter().map(move |prospect| StepProspect { step: part + 1, prospect })
    };
    foreseen(plan, &stable, &expected).into_iter().flat_map(of_step).collect()
}

fn checked(file: &Path, content: &Result<Content, Vec<String>>, config: Option<&Config>) -> Checked {
    let mut problems = match (content, config) {
        (Err(problems), _) => problems.clone(),
        (Ok(Content::Plan(plan)), Some(config)) => {
            check_plan(plan, config).err().map(|error| error.lines().to_vec()).unwrap_or_default()
        }
        (Ok(Content::Plan(_)), None) | (Ok(Content::Config(_)), _) => Vec::new(),
    };
    let summary = content.as_ref().ok().map(summary);
    let (ways, unreachable) = content.as_ref().map(ways_of).unwrap_or_default();
    problems.extend(unreachable);
    Checked { file: file.to_owned(), sound: problems.is_empty(), summary, ways, prospects: Vec::new(), problems }
}

/// What the data path cannot see of a service.
fn unseen(service: &Service) -> Option<String> {
    if service.forwarding.sees_answers() {
        return None;
    }
    let (name, mode) = (&service.name, service.forwarding.label());
    let known = Signal::ALL.into_iter().filter(|signal| signal.is_measured(service.protocol, service.forwarding));
    let known: Vec<_> = known.map(Signal::label).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let fuse = if service.fuse.is_some() { "; the fuse counts repeated SYNs only, no refused connections" } else { "" };
    Some(format!("service {name}: with {mode} answers do not come by: signals for plans: {known}{fuse}"))
}

/// The sub-steps of a plan under caps, and what of it can never be reached.
fn ways_of(content: &Content) -> (Vec<String>, Vec<String>) {
    let plan = match content {
        Content::Plan(plan) => plan,
        Content::Config(config) => return (config.services.iter().filter_map(unseen).collect(), Vec::new()),
    };
    let name = &plan.metadata.name;
    if !outline::has_all_shares(plan) {
        let line = "sub-steps depend on shares that are measured; give each segment its `share` to see them";
        return (vec![line.to_owned()], Vec::new());
    }
    let (mut lines, mut unreachable) = (Vec::new(), Vec::new());
    for way in outline::ways(plan, &plan.spec.candidate) {
        let step = way.stage + 1;
        if let Some(why) = way.stuck {
            unreachable
                .push(format!("plan {name}: step {step} can never be reached: {why}; change the step or the caps"));
        } else if !way.exposures.is_empty() {
            let said: Vec<_> = way.exposures.iter().map(Exposure::said).collect();
            let takes = humantime::format_duration(way.takes);
            lines.push(format!("step {step} in {takes}: {}", said.join(" → ")));
        }
    }
    (lines, unreachable)
}

fn report(checked: Vec<Checked>, output: Output) -> Result<Exit, CliError> {
    let sound = checked.iter().all(|file| file.sound);
    let lines = |paint: Paint| {
        let sound = checked.iter().filter(|file| file.sound);
        let line = |file: &Checked| {
            let summary = file.summary.as_deref().unwrap_or_default();
            let ways: String = file.ways.iter().map(|way| format!("  {way}\n")).collect();
            let prospect = |found: &StepProspect| {
                format!("  step {}, {}: {}\n", found.step, found.prospect.metric, found.prospect.sentence)
            };
            let shown: String = file.prospects.iter().map(prospect).collect();
            format!("{}: {}: {summary}\n{ways}{shown}", file.file.display(), paint.text(Tone::Good, "sound"))
        };
        sound.map(line).collect()
    };
    output.answer(&checked, lines)?;
    if output.format == Format::Text {
        checked.iter().flat_map(|file| &file.problems).for_each(|problem| complain(problem));
    }
    Ok(if sound { Exit::Done } else { Exit::WrongInput })
}

fn read(file: &Path) -> Result<String, CliError> {
    let text = File::open(file).and_then(|opened| {
        let mut text = String::new();
        opened.take(FILE_BYTES + 1).read_to_string(&mut text)?;
        Ok(text)
    });
    let text = text.map_err(|cause| CliError::Input(format!("{} cannot be read: {cause}", file.display())))?;
    if text.len() as u64 > FILE_BYTES {
        let name = file.display();
        return Err(CliError::Input(format!(
            "{name} is too long; a configuration or plan has at most {FILE_BYTES} bytes"
        )));
    }
    Ok(text)
}

fn content(file: &Path) -> Result<Content, Vec<String>> {
    let text = read(file).map_err(|error| vec![error.to_string()])?;
    if is_plan(&text) {
        plan(&text, file)
    } else {
        let config = load_config(&text, &file.to_string_lossy()).map_err(|error| error.lines().to_vec())?;
        Ok(Content::Config(Box::new(config)))
    }
}

fn plan(text: &str, file: &Path) -> Result<Content, Vec<String>> {
    let plan = load_plan(text, &file.to_string_lossy()).map_err(|error| error.lines().to_vec())?;
    Ok(Content::Plan(Box::new(plan)))
}

/// Only plans have a `kind`. Where the parser stumbles over the rest, a line that begins with it tells.
fn is_plan(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Head {
        kind: Option<String>,
    }
    match serde_saphyr::from_str::<Head>(text) {
        Ok(head) => head.kind.is_some(),
        Err(_) => text.lines().any(|line| line.starts_with("kind:")),
    }
}

fn summary(content: &Content) -> String {
    match content {
        Content::Config(config) => {
            let backends = config.services.iter().flat_map(|service| &service.versions);
            let backends: usize = backends.map(|version| version.backends.len()).sum();
            let (services, interfaces) = (config.services.len(), config.interfaces.len());
            format!("configuration; services {services}, backends {backends}, interfaces {interfaces}")
        }
        Content::Plan(plan) => {
            let (name, service, candidate) = (&plan.metadata.name, &plan.spec.service, &plan.spec.candidate);
            let how = match &plan.spec.strategy {
                Strategy::Canary(Canary { ramp: Some(ramp), .. }) => format!("ramp {}", ramp.curve.label()),
                Strategy::Canary(canary) => format!("steps {}", canary.steps.len()),
                Strategy::BlueGreen(blue_green) => format!("blueGreen, steps {}", blue_green.steps.len()),
                Strategy::AbTest(test) => format!("abTest by {}", test.primary),
                Strategy::Rolling(rolling) => format!("rolling, {} at once", rolling.max_unavailable),
                Strategy::Shadow(shadow) => format!("shadow {}", shadow.sample),
            };
            format!("plan {name}; {service} to {candidate}, {how}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_a_kind_is_a_plan_however_broken_the_rest_is() {
        assert!(is_plan("apiVersion: grayxdp.io/v1\nkind: Rollout\nmetadata: {name: a}\n"));
        assert!(!is_plan("interfaces: [{name: eth0}]\n"));
        assert!(is_plan("kind: Rollout\nspec: {strategy: {canary: {steps: [{setWeight: .nan}]}}}\n"));
        assert!(is_plan("{\"kind\": \"Rollout\"}"));
        assert!(!is_plan("interfaces: [unclosed\n"));
    }
}
