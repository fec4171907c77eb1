//! The binary against a daemon that is only played: what it prints, and its exit statuses. Needs no root.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread::JoinHandle,
};

use grayxdp::{
    control::{Listeners, Service, serve},
    model::{
        Name,
        api::{
            ApiError, Done, Explained, Headers, Request, Response, RolloutRecord, RolloutStatus, Status, TraceBatch,
            TracedPacket,
        },
        event::Event,
        state::RolloutState,
    },
};
use tokio_util::sync::CancellationToken;

/// Answers as a daemon would; the name of a rollout says its state.
#[derive(Clone)]
struct Played;

impl Service for Played {
    async fn request(&self, request: Request, actor: String) -> Result<Response, ApiError> {
        match request {
            Request::Status => Ok(Response::Status(Box::new(status()))),
            Request::WeightsSet { .. } => {
                Err(ApiError::conflict("web is in a rollout: `grayxdp rollout abort web-v2`"))
            }
            Request::BackendList { .. } => Ok(Response::Backends(Vec::new())),
            Request::Reload { .. }
            | Request::Detach { .. }
            | Request::BackendChange { .. }
            | Request::QualityPost { .. }
            | Request::RolloutApply { .. }
            | Request::RolloutAbortAll { .. } => Ok(Response::Done(Done { changes: vec![actor], dry_run: false })),
            Request::Events { after, .. } => Ok(Response::Events(vec![event(after + 1), event(after + 2)])),
            Request::Explain { .. } => Err(ApiError::failed("the kernel refused the test run")),
            Request::TraceStart { .. } => Ok(Response::Trace(TraceBatch { id: 7, ..TraceBatch::default() })),
            Request::TraceRead { id } | Request::TraceEnd { id } => {
                let (lost, ended) = (2, Some("5s are over".to_owned()));
                Ok(Response::Trace(TraceBatch { id, packets: vec![packet()], lost, ended }))
            }
            Request::RolloutStart { plan, .. } => rollout(&plan.metadata.name),
            Request::RolloutRecord { name, .. } => {
                let Response::Rollout(status) = rollout(&name)? else { panic!("a rollout") };
                let (runs, events, weights) = (vec![1], vec![event(1)], Vec::new());
                let record =
                    RolloutRecord { number: 1, runs, status: *status, plan: serde_json::json!({}), events, weights };
                Ok(Response::Record(Box::new(record)))
            }
            Request::RolloutList => Ok(Response::Rollouts(Vec::new())),
            Request::RolloutGet { name } | Request::RolloutChange { name, .. } => rollout(&name),
        }
    }

    async fn metrics(&self) -> Result<String, ApiError> {
        Ok(String::new())
    }

    async fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

fn packet() -> TracedPacket {
    TracedPacket {
        time: "2026-03-01T09:00:00Z".parse().expect("a time"),
        interface: "eth0".to_owned(),
        packet: Headers::default(),
        way: Explained { fate: "dropped".to_owned(), ..Explained::default() },
        left: None,
    }
}

fn status() -> Status {
    Status {
        version: "0.1.0".to_owned(),
        pid: 1,
        started: "2026-03-01T09:00:00Z".parse().expect("a time"),
        warnings: Vec::new(),
        notes: Vec::new(),
        interfaces: Vec::new(),
        exceptions: grayxdp::model::settling::ExceptionTableStatus::default(),
        flow_table: grayxdp::model::settling::FlowTableStatus::default(),
        services: Vec::new(),
    }
}

fn event(id: u64) -> Event {
    Event {
        id,
        time: "2026-03-01T09:00:00Z".parse().expect("a time"),
        actor: "daemon".to_owned(),
        service: None,
        rollout: None,
        kind: "started".to_owned(),
        message: "all is well".to_owned(),
        reason: None,
    }
}

fn rollout(name: &Name) -> Result<Response, ApiError> {
    let states = [RolloutState::Promoted, RolloutState::RolledBack, RolloutState::Paused, RolloutState::Progressing];
    let state = states
        .into_iter()
        .find(|state| state.label().eq_ignore_ascii_case(name.as_str()))
        .ok_or_else(|| ApiError::not_found(format!("there is no rollout {name}")))?;
    let version = |text: &str| text.parse().expect("a name");
    Ok(Response::Rollout(Box::new(RolloutStatus {
        prospects: Vec::new(),
        progress: None,
        name: name.clone(),
        service: version("web"),
        stable: version("v1"),
        candidate: version("v2"),
        state,
        message: "as played".to_owned(),
        step: 0,
        steps: vec!["setWeight 100".to_owned()],
        weight: "100".parse().expect("a weight"),
        segments: BTreeMap::new(),
        binding: Vec::new(),
        dwell_seconds: 0.0,
        pause_seconds: None,
        findings: Vec::new(),
        verdicts: BTreeMap::new(),
        started: "2026-03-01T09:00:00Z".parse().expect("a time"),
        ended: None,
        attempt: 1,
        fuse: None,
        lease: None,
        hooks: Vec::new(),
        outlets: Vec::new(),
        epoch: 1,
    })))
}

struct Daemon {
    folder: tempfile::TempDir,
    shutdown: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Daemon {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (socket, shutdown) = (folder.path().join("sock"), CancellationToken::new());
        let (bound, wait) = std::sync::mpsc::channel();
        let until = shutdown.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listeners = Listeners::bind(&socket, ([127, 0, 0, 1], 0).into()).await.expect("both are free");
                bound.send(()).expect("the test waits");
                serve(listeners, Played, until).await;
            });
        });
        wait.recv().expect("it binds");
        Self { folder, shutdown, thread: Some(thread) }
    }

    fn command(&self, words: &[&str]) -> Command {
        command(&self.folder.path().join("sock"), words)
    }

    fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        outcome(self.command(words).output().expect("the binary runs"))
    }

    fn plan(&self, name: &str) -> PathBuf {
        let path = self.folder.path().join("plan.yaml");
        let text = format!(
            "apiVersion: grayxdp.io/v1\nkind: Rollout\nmetadata: {{name: {name}}}\nspec:\n  service: web\n  stable: v1\n  \
             candidate: v2\n  strategy:\n    canary:\n      steps:\n      - {{setWeight: 100}}\n"
        );
        std::fs::write(&path, text).expect("it is writable");
        path
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the daemon ends in order");
        }
    }
}

fn command(socket: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_grayxdp"));
    command.arg("--socket").arg(socket).args(words).stdin(Stdio::null());
    command
}

fn outcome(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_exit_status_says_whose_fault_it_is() {
    let daemon = Daemon::start();
    let table: [(&[&str], i32, &str); 9] = [
        (&["status"], 0, ""),
        (&["reload"], 0, ""),
        (&["weights", "set", "web", "v1=90", "v2=10"], 1, "web is in a rollout: `grayxdp rollout abort web-v2`"),
        (&["explain", "--src", "10.0.0.1:1", "--dst", "10.0.0.2:2"], 1, "the kernel refused the test run"),
        (&["rollout", "get", "absent"], 2, "there is no rollout absent"),
        (&["weights", "get", "absent"], 2, "there is no service absent: `grayxdp status` lists all"),
        (&["weights", "set", "web", "v1=50", "v1=50"], 2, "a version is named twice: give each its weight once"),
        (&["check", "/absent.yaml"], 2, "/absent.yaml cannot be read: No such file or directory (os error 2)"),
        (&["status", "--loud"], 2, "unexpected argument '--loud' found; see --help"),
    ];
    for (words, code, complaint) in table {
        let (status, _, stderr) = daemon.run(words);
        let expected = if complaint.is_empty() { String::new() } else { format!("grayxdp: {complaint}\n") };
        assert_eq!((status, stderr), (Some(code), expected), "{words:?}");
    }
}

#[test]
fn waiting_ends_with_the_rollout_or_with_the_operator_or_with_the_time() {
    let daemon = Daemon::start();
    for (name, code) in [("promoted", 0), ("paused", 5), ("progressing", 4)] {
        let plan = daemon.plan(name);
        let plan = plan.to_str().expect("UTF-8");
        let (status, _, stderr) = daemon.run(&["rollout", "start", plan, "--wait", "--timeout", "1s"]);
        assert_eq!(status, Some(code), "{name}: {stderr}");
    }
    let (status, stdout, _) = daemon.run(&["rollout", "promote", "progressing", "--wait", "--timeout", "1s"]);
    assert_eq!(status, Some(4));
    assert_eq!(stdout, "progressing: progressing, step 1/1, weight 100 %: as played\n");
}

#[test]
fn a_rollout_that_rolled_back_is_3_unless_that_was_asked_for() {
    let daemon = Daemon::start();
    // A name has no capitals: the played daemon compares without them.
    let (status, stdout, _) = daemon.run(&["rollout", "promote", "rolledback", "--wait", "-o", "json"]);
    assert_eq!(status, Some(3));
    assert!(stdout.contains("\"state\": \"rolledBack\""), "{stdout}");
    let (status, ..) = daemon.run(&["rollout", "abort", "rolledback", "--wait"]);
    assert_eq!(status, Some(0));
}

#[test]
fn programs_get_json_and_yaml_with_the_words_of_the_files() {
    let daemon = Daemon::start();
    let (_, stdout, _) = daemon.run(&["status", "-o", "json"]);
    let read: Status = serde_json::from_str(&stdout).expect("a status");
    assert_eq!(read, status());
    let (_, stdout, _) = daemon.run(&["rollout", "get", "paused", "-o", "yaml"]);
    assert!(stdout.lines().any(|line| line == "state: paused"), "{stdout}");
}

#[test]
fn without_a_daemon_there_is_one_line_and_it_comes_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("absent");
    for words in [&["status"][..], &["events"], &["events", "-f"], &["rollout", "get", "web-v2", "-w"]] {
        let (status, stdout, stderr) = outcome(command(&socket, words).output().expect("the binary runs"));
        let line = format!("grayxdp: no daemon on {}: is `grayxdp daemon` running?\n", socket.display());
        assert_eq!((status, stdout.as_str(), stderr), (Some(1), "", line), "{words:?}");
    }
}

#[test]
fn a_reader_that_goes_away_ends_the_command_quietly() {
    let daemon = Daemon::start();
    let mut follower = daemon
        .command(&["events", "-f", "-o", "json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut first = [0; 1];
    let mut stdout = follower.stdout.take().expect("a pipe");
    stdout.read_exact(&mut first).expect("an event");
    drop(stdout);
    let (status, _, stderr) = outcome(follower.wait_with_output().expect("it ends"));
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
}

#[test]
fn files_are_checked_without_a_daemon() {
    let daemon = Daemon::start();
    let plan = daemon.plan("web-v2");
    let (status, stdout, stderr) = daemon.run(&["check", plan.to_str().expect("UTF-8")]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert!(stdout.ends_with("plan.yaml: sound: plan web-v2; web to v2, steps 1\n"), "{stdout}");
    let config = daemon.folder.path().join("grayxdp.yaml");
    std::fs::write(&config, "interfaces: [{name: eth0}]\nsevices: []\n").expect("it is writable");
    let (status, stdout, stderr) = daemon.run(&["check", config.to_str().expect("UTF-8")]);
    assert_eq!((status, stdout.as_str()), (Some(2), ""));
    assert!(stderr.starts_with("grayxdp: ") && stderr.contains("grayxdp.yaml:2:"), "{stderr}");
    assert!(stderr.contains("services") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn the_binary_brings_its_help_pages_completions_and_schemas() {
    let daemon = Daemon::start();
    for (words, contains) in [
        (&["--help"][..], "Usage: grayxdp"),
        (&["rollout", "start", "--help"], "Example:"),
        (&["completions", "bash"], "complete"),
        (&["man"], ".TH grayxdp 1"),
        (&["schema", "plan"], "setWeight"),
        (&["schema", "config"], "stateDir"),
    ] {
        let (status, stdout, stderr) = daemon.run(words);
        assert_eq!((status, stderr.as_str()), (Some(0), ""), "{words:?}");
        assert!(stdout.contains(contains), "{words:?}: {stdout}");
    }
    let pages = daemon.folder.path().join("man");
    assert_eq!(daemon.run(&["man", pages.to_str().expect("UTF-8")]).0, Some(0));
    assert!(pages.join("grayxdp-rollout-start.1").exists());
}

#[test]
fn detaching_where_nothing_is_attached_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("grayxdp.yaml");
    let text = format!("interfaces: [{{name: eth0}}]\npinDir: {}\n", folder.path().join("pins").display());
    std::fs::write(&config, text).expect("it is writable");
    let words = ["detach", "--config", config.to_str().expect("UTF-8")];
    let ended = outcome(command(&folder.path().join("absent"), &words).output().expect("the binary runs"));
    assert_eq!(ended, (Some(0), "nothing to change\n".to_owned(), String::new()));
    assert!(!folder.path().join("pins").exists());
}

/// The YAML blocks of a document, in their order.
fn yaml_blocks(document: &str) -> Vec<&str> {
    let blocks = document.split("```yaml\n").skip(1);
    blocks.map(|block| block.split("```").next().expect("split yields at least one part")).collect()
}

#[test]
fn the_files_in_the_readme_are_sound() {
    let folder = tempfile::tempdir().expect("a folder");
    let blocks = yaml_blocks(include_str!("../../README.md"));
    let files: Vec<PathBuf> = ["grayxdp.yaml", "plan.yaml"].iter().map(|name| folder.path().join(name)).collect();
    assert_eq!(blocks.len(), files.len());
    for (block, file) in blocks.iter().zip(&files) {
        std::fs::write(file, block).expect("it is writable");
    }
    let words = [&["check"][..], &files.iter().map(|file| file.to_str().expect("UTF-8")).collect::<Vec<_>>()].concat();
    let (status, stdout, stderr) =
        outcome(command(&folder.path().join("absent"), &words).output().expect("the binary runs"));
    assert_eq!((status, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("plan recsys-v2; recsys to v2, steps 5"), "{stdout}");
}

#[test]
fn a_trace_shows_packets_and_says_why_it_ended_and_what_it_missed() {
    let daemon = Daemon::start();
    let (status, shown, said) = daemon.run(&["trace", "-n", "5"]);
    assert_eq!((status, said.trim()), (Some(0), "1 packets, 2 more not seen in time; 5s are over"));
    assert!(shown.contains("dropped"), "{shown}");
}

/// The step of the example pipeline that releases, run as the pipeline runs it.
#[test]
fn the_example_pipelines_script_ends_as_the_rollout_does_and_keeps_a_report() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let pipeline = std::fs::read_to_string(root.join("deploy/github-actions/release.yml")).expect("the pipeline");
    let pipeline: serde_json::Value = serde_saphyr::from_str(&pipeline).expect("YAML");
    let steps = pipeline["jobs"]["release"]["steps"].as_array().expect("steps");
    let step = steps.iter().find(|step| step["name"] == "release").expect("the step that releases");
    let words: Vec<_> = step["run"].as_str().expect("a script").split(' ').collect();
    let [script, _, _, _] = words.as_slice() else { panic!("{words:?}") };
    assert!(step["env"]["DEPLOY_HOOK"].is_string());
    let daemon = Daemon::start();
    for (name, code, said) in [
        ("promoted", 0, "promoted: promoted"),
        ("rolledback", 3, "rolledback: rolled back"),
        ("paused", 5, "paused: waits for `grayxdp rollout resume paused`"),
        ("progressing", 4, "progressing: not done in time"),
    ] {
        let at = |file: &str| daemon.folder.path().join(file);
        let (plan, report, summary) = (daemon.plan(name), at("report.html"), at("summary.md"));
        let ran = Command::new(root.join(script))
            .arg(name)
            .args([&plan, &report])
            .env("GRAYXDP", env!("CARGO_BIN_EXE_grayxdp"))
            .env("GRAYXDP_SOCKET", at("sock"))
            .env("DEPLOY_HOOK", format!("echo deployed >> {}", at("deployed").display()))
            .env("ROLLOUT_TIMEOUT", "1s")
            .env("GITHUB_STEP_SUMMARY", &summary)
            .output();
        let (status, stdout, stderr) = outcome(ran.expect("the script runs"));
        assert_eq!(status, Some(code), "{name}: {stdout}{stderr}");
        assert!(stdout.contains(said), "{stdout}");
        let html = std::fs::read_to_string(&report).expect("a report");
        assert!(html.starts_with("<!DOCTYPE html>") && html.contains("all is well"), "{html}");
        let summary = std::fs::read_to_string(&summary).expect("a summary");
        assert!(summary.contains(&format!("# Rollout {name}")), "{summary}");
        std::fs::remove_file(&report).expect("there");
    }
    // A plan that is wrong is found before anything is deployed.
    let plan = daemon.folder.path().join("wrong.yaml");
    std::fs::write(&plan, "apiVersion: grayxdp.io/v1\nkind: Rollout\n").expect("written");
    let wrong = Command::new(root.join(script))
        .args(["wrong".as_ref(), plan.as_os_str()])
        .env("GRAYXDP", env!("CARGO_BIN_EXE_grayxdp"))
        .env("DEPLOY_HOOK", format!("echo deployed >> {}", daemon.folder.path().join("deployed").display()))
        .output();
    assert_eq!(outcome(wrong.expect("the script runs")).0, Some(2));
    let deployed = std::fs::read_to_string(daemon.folder.path().join("deployed")).expect("deployed");
    assert_eq!(deployed.lines().count(), 4);
}

#[test]
fn a_simulation_tells_its_story_and_draws_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |file: &str| folder.path().join(file);
    let plan = "apiVersion: grayxdp.io/v1\nkind: Rollout\nmetadata: {name: web-v2}\nspec:\n  service: web\n  stable: v1\n  \
                candidate: v2\n  strategy:\n    canary:\n      steps:\n      - {setWeight: 20, pause: {duration: 5m}}\n      \
                - {setWeight: 100}\n  analysis:\n    metrics:\n    - {name: errors, provider: {kernel: {signal: \
                connectFailureRatio}}, thresholdRange: {max: 0.02}}\n";
    std::fs::write(at("plan.yaml"), plan).expect("written");
    let traffic = "flowsPerSecond: 500\nincidents: [{at: 2m, failureRatio: 0.4}]\n";
    std::fs::write(at("traffic.yaml"), traffic).expect("written");
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_grayxdp"));
        let command = command.args(["plan", "simulate", "plan.yaml"]).args(words).current_dir(folder.path());
        outcome(command.output().expect("the binary runs"))
    };
    let (status, stdout, stderr) = run(&["--rate", "500"]);
    assert_eq!((status, stderr.as_str()), (Some(0), ""), "{stdout}");
    assert!(stdout.contains("promoted after 5m"), "{stdout}");
    let (status, stdout, _) = run(&["--traffic", "traffic.yaml", "--svg", "weights.svg"]);
    assert_eq!(status, Some(3), "{stdout}");
    assert!(stdout.contains("incident           at 2m: found after"), "{stdout}");
    let svg = std::fs::read_to_string(at("weights.svg")).expect("a picture");
    assert!(svg.contains("web-v2: rolledBack") && svg.contains("</svg>"));
    let (status, stdout, _) = run(&["--traffic", "traffic.yaml", "-o", "json"]);
    let story: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((status, &story["state"]), (Some(3), &serde_json::json!("rolledBack")));
    std::fs::write(at("wrong.yaml"), "nightly: 2\n").expect("written");
    let (status, _, stderr) = run(&["--traffic", "wrong.yaml"]);
    assert_eq!(
        (status, stderr.as_str()),
        (Some(2), "grayxdp: wrong.yaml:1:1: a ratio of 2; use 0 to 1, as 0.01 for 1 %\n")
    );
}
