//! The words of the command line: what is taken, and how what is not taken is said.

use std::{path::PathBuf, time::Duration};

use clap::{CommandFactory, Parser};

use super::{
    args::{Arguments, Command, Format, Linting, PlanCommand, RolloutCommand, WeightsCommand},
    exit::usage_line,
};
use crate::model::{api::ChangeOptions, config::Protocol};

fn parse(words: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(["grayxdp"].into_iter().chain(words.split_whitespace()))
}

#[test]
fn every_command_of_the_interface_is_taken() {
    for words in [
        "daemon --config /etc/grayxdp/grayxdp.yaml",
        "quality post recsys-v2 v1=80/15/20 v2=85/10/15 --metric model --reason nightly",
        "plan lint plan.yaml --rate 200 --traffic traffic.yaml",
        "check a.yaml b.yaml",
        "reload",
        "reload --diff --reset-weights recsys --reset-weights search",
        "status",
        "-o json status",
        "status -o yaml --socket /run/x.sock",
        "weights get",
        "weights get recsys",
        "weights set recsys v1=90 v2=10 --reason why --dry-run --if-epoch 4 --force",
        "events",
        "events -f --after 3 --limit 10",
        "explain --src 198.51.100.7:40000 --dst 192.0.2.10:80",
        "explain --src 198.51.100.7:40000 --dst 192.0.2.10:80 --protocol udp",
        "rollout list",
        "rollout start plan.yaml --wait --timeout 2h",
        "rollout get recsys-v2 -w",
        "rollout pause recsys-v2 --reason why",
        "rollout resume recsys-v2",
        "rollout promote recsys-v2 --full --wait",
        "rollout abort recsys-v2 --wait --timeout 10s",
        "rollout retry recsys-v2 --wait",
        "weights set recsys v1=100 --segment asia",
        "backend list",
        "backend list recsys -o json",
        "backend drain recsys v1/10.0.1.1:8080 v1/10.0.1.2 --wait --timeout 30m --reason disk",
        "backend disable recsys v1/10.0.1.1:8080 --dry-run",
        "backend enable recsys v1/10.0.1.1:8080 --if-epoch 4",
        "explain --src 10.0.0.1:1 --dst 10.0.0.2:2 --dscp 46",
        "explain --src 10.0.0.1:1 --dst 10.0.0.2:2 --later",
        "detach --dry-run",
        "completions bash",
        "man",
        "man /tmp/man",
        "plan lint plan.yaml --config grayxdp.yaml",
        "schema config",
        "demo --duration 30s --json",
    ] {
        assert!(parse(words).is_ok(), "{words}: {:?}", parse(words).err());
    }
}

#[test]
fn options_reach_their_fields() {
    let arguments = parse("weights set recsys v1=87.5 v2=12.5 --reason why --dry-run --if-epoch 4").expect("sound");
    let Command::Weights(WeightsCommand::Set { service, segment: None, weights, change }) = arguments.command else {
        panic!("{arguments:?}")
    };
    assert_eq!(service.as_str(), "recsys");
    assert_eq!(weights.iter().map(|(_, weight)| weight.hundredths()).collect::<Vec<_>>(), [8_750, 1_250]);
    let expected = ChangeOptions { reason: Some("why".to_owned()), dry_run: true, if_epoch: Some(4), force: false };
    assert_eq!(change.options(), expected);

    let arguments = parse("rollout start p.yaml --wait --timeout 90s -o json").expect("sound");
    assert_eq!((arguments.output, arguments.socket), (Format::Json, PathBuf::from("/run/grayxdp/grayxdp.sock")));
    let Command::Rollout(RolloutCommand::Start { wait, .. }) = arguments.command else { panic!("no start") };
    assert_eq!((wait.wait, wait.timeout), (true, Some(Duration::from_secs(90))));

    let arguments = parse("explain --src 10.0.0.1:1 --dst 10.0.0.2:2").expect("sound");
    assert!(matches!(arguments.command, Command::Explain { protocol: Protocol::Tcp, .. }));
    let arguments = parse("plan lint p.yaml").expect("sound");
    assert!(matches!(arguments.command, Command::Plan(PlanCommand::Lint(Linting { config: None, .. }))));
}

#[test]
fn a_usage_error_is_one_line() {
    for (words, line) in [
        ("stauts", "unrecognized subcommand 'stauts' (a similar subcommand exists: 'status'); see --help"),
        ("status --colour", "unexpected argument '--colour' found; see --help"),
        ("daemon", "the following required arguments were not provided: --config <FILE>; see --help"),
        (
            "weights set recsys v1",
            "invalid value 'v1' for '<VERSION=PERCENT>...': use VERSION=PERCENT, such as v2=10; see --help",
        ),
        (
            "weights set recsys v1=101",
            "invalid value 'v1=101' for '<VERSION=PERCENT>...': `101` is not a weight: use a percentage from 0 to 100 \
             with at most two decimals; see --help",
        ),
        ("rollout start p.yaml --timeout 5s", "the following required arguments were not provided: --wait; see --help"),
    ] {
        let error = parse(words).expect_err("not taken");
        assert_eq!(usage_line(&error), line, "{words}");
        assert_eq!(error.exit_code(), 2, "{words}");
    }
}

#[test]
fn every_command_has_an_example_that_is_taken() {
    fn walk(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            let help = [sub.get_after_help(), sub.get_long_about(), sub.get_about()].into_iter().flatten();
            let help: Vec<String> = help.map(ToString::to_string).collect();
            if !help.iter().any(|text| text.contains("Example:") && text.contains(path.trim_start())) {
                missing.push(path.clone());
            }
            walk(sub, &path, missing);
        }
    }
    let command = Arguments::command();
    command.clone().debug_assert();
    let mut missing = Vec::new();
    walk(&command, "grayxdp", &mut missing);
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn the_overview_of_commands_names_each_of_them() {
    fn walk(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            let leaf = sub.get_subcommands().next().is_none();
            if leaf && !include_str!("../../../docs/commands.md").contains(&format!("`{path}")) {
                missing.push(path.clone());
            }
            walk(sub, &path, missing);
        }
    }
    let mut missing = Vec::new();
    walk(&Arguments::command(), "grayxdp", &mut missing);
    assert!(missing.is_empty(), "{missing:?}");
}
