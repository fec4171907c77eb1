//! Two who change the same thing at once.

use std::process::{Output, Stdio};

use grayxdp_tests::stand::{SERVICE, Setup, Stand, assert_one_line, plan};

/// Runs commands all at once.
fn at_once(stand: &Stand, commands: &[Vec<String>]) -> Vec<Output> {
    let children: Vec<_> = commands
        .iter()
        .map(|words| {
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let mut command = stand.cli_command(&words);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

fn set(v2: u8, more: &[&str]) -> Vec<String> {
    let shares = [format!("v1={}", 100 - v2), format!("v2={v2}")];
    let words = ["weights", "set", SERVICE, &shares[0], &shares[1]];
    words.iter().chain(more).map(|word| (*word).to_owned()).collect()
}

#[test]
fn fifty_changes_at_once_are_all_made_one_after_the_other() {
    let mut stand = Stand::running(Setup::default());
    let before = stand.service().epoch;
    let mut commands: Vec<_> = (1..=50).map(|v2| set(v2, &[])).collect();
    for place in (0..50).step_by(5) {
        commands.insert(place, vec!["status".to_owned()]);
    }
    for output in at_once(&stand, &commands) {
        assert!(output.status.success(), "{output:?}");
    }
    let after = stand.service();
    assert_eq!(after.epoch, before + 50, "no two of the weights are alike: each is a change");
    stand.kill();
    stand.start();
    assert_eq!(stand.service().versions.map_weights(), after.versions.map_weights(), "the journal has the last one");
    assert_eq!(stand.service().epoch, after.epoch);
}

/// Names and weights.
trait Weights {
    fn map_weights(&self) -> Vec<(String, u16)>;
}

impl Weights for Vec<grayxdp::model::api::VersionStatus> {
    fn map_weights(&self) -> Vec<(String, u16)> {
        self.iter().map(|version| (version.name.to_string(), version.buckets)).collect()
    }
}

#[test]
fn of_many_changes_that_expect_the_same_epoch_one_is_made() {
    let stand = Stand::running(Setup::default());
    let before = stand.service().epoch;
    let epoch = before.to_string();
    let commands: Vec<_> = (1..=10).map(|v2| set(v2, &["--if-epoch", &epoch])).collect();
    let outputs = at_once(&stand, &commands);
    let (made, refused): (Vec<_>, Vec<_>) = outputs.iter().partition(|output| output.status.success());
    assert_eq!((made.len(), refused.len()), (1, 9));
    for output in refused {
        assert_one_line(output, 1, &[SERVICE, "epoch"]);
    }
    assert_eq!(stand.service().epoch, before + 1);
}

#[test]
fn of_two_rollouts_of_a_service_at_once_one_begins() {
    let stand = Stand::running(Setup::default());
    let start = |name: &str| {
        let file = stand.write(&format!("{name}.yaml"), &plan(name, &[(10, "1h"), (100, "none")], false));
        vec!["rollout".to_owned(), "start".to_owned(), file.to_string_lossy().into_owned()]
    };
    let outputs = at_once(&stand, &[start("red"), start("blue")]);
    let refused: Vec<_> = outputs.iter().filter(|output| !output.status.success()).collect();
    assert_eq!(refused.len(), 1, "{outputs:?}");
    assert_one_line(refused[0], 1, &[SERVICE]);
    assert!(stand.service().rollout.is_some());
    let weights = set(50, &[]);
    let refused = stand.cli(&weights.iter().map(String::as_str).collect::<Vec<_>>());
    assert_one_line(&refused, 1, &["rollout abort"]);
}
