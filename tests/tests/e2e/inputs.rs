//! Wrong files and wrong words: one clear line, exit status 2, nothing changed.

use grayxdp_tests::stand::{SERVICE, Setup, Stand, assert_one_line, plan};

/// What is wrong, a change of the right configuration, and the words that the line must have.
type Case = (&'static str, fn(&str) -> String, &'static [&'static str]);

const CASES: [Case; 9] = [
    ("unknown field", |text| text.replace("affinity:", "afinity:"), &["grayxdp.yaml:12:3", "afinity", "affinity"]),
    ("weights", |text| text.replace("v1: 100", "v1: 90"), &["grayxdp.yaml", SERVICE, "90", "100"]),
    (
        "duplicate service",
        |text| text.to_owned() + &second(text, "192.0.2.10").replace("8080", "8081"),
        &["grayxdp.yaml", "192.0.2.10:80", SERVICE, "other"],
    ),
    (
        "one backend in two services",
        |text| text.to_owned() + &second(text, "192.0.2.11").replace("10.0.2.1, port: 8080", "10.0.2.1, port: 8081"),
        &["grayxdp.yaml", "10.0.1.1:8080", SERVICE, "other"],
    ),
    (
        "nine versions",
        |text| text.replace("  weights:", &(versions(7) + "  weights:")),
        &["grayxdp.yaml", SERVICE, "9 versions", "8"],
    ),
    (
        "no backends",
        |text| text.replace("[{address: 10.0.1.1, port: 8080, weight: 1}]", "[]"),
        &["grayxdp.yaml", "v1", "backend"],
    ),
    ("not YAML", |text| text.replace("services:", "services: ["), &["grayxdp.yaml"]),
    ("a port of no kind", |text| text.replace("port: 80\n", "port: 80000\n"), &["grayxdp.yaml", "65535"]),
    ("a mode of no kind", |text| text.replace("mode: native", "mode: fast"), &["grayxdp.yaml", "fast", "native"]),
];

/// So many versions more.
fn versions(count: u8) -> String {
    let version = |n: u8| format!("  - {{name: more{n}, backends: [{{address: 10.0.9.{n}}}]}}\n");
    (1..=count).map(version).collect()
}

/// The same service under another name.
fn second(text: &str, vip: &str) -> String {
    let (_, service) = text.split_once("services:\n").unwrap();
    service.replace(&format!("name: {SERVICE}"), "name: other").replace("192.0.2.10", vip)
}

#[test]
fn a_wrong_configuration_is_refused_by_check_and_by_a_first_start() {
    let stand = Stand::new(Setup::default());
    let right = stand.configuration();
    assert!(stand.cli(&["check", &stand.config_file().to_string_lossy()]).status.success());
    for (what, wrong, words) in CASES {
        let file = stand.write("grayxdp.yaml", &wrong(&right));
        assert_ne!(stand.configuration(), right, "{what}");
        let before = stand.snapshot();
        assert_one_line(&stand.cli(&["check", &file.to_string_lossy()]), 2, words);
        assert_one_line(&stand.refused(&mut stand.daemon_command(&file)), 2, words);
        stand.assert_unchanged(&before, what);
        assert!(!stand.file("state").exists(), "{what}");
    }
}

#[test]
fn a_wrong_configuration_is_refused_by_reload_and_traffic_goes_on() {
    let mut stand = Stand::running(Setup { v2_weight: 30, ..Setup::default() });
    let running = stand.traffic().start(stand.lab().client()).unwrap();
    let right = stand.configuration();
    let epoch = stand.service().epoch;
    // The file says 70 to 30 here.
    let cases = CASES.into_iter().filter(|(what, ..)| *what != "weights");
    for (what, wrong, words) in cases {
        stand.write("grayxdp.yaml", &wrong(&right));
        let before = stand.snapshot();
        let output = stand.cli(&["reload"]);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{what}: {output:?}");
        assert_one_line(&output, output.status.code().unwrap(), words);
        stand.assert_unchanged(&before, what);
        assert_eq!((stand.service().epoch, stand.v2()), (epoch, 30.0), "{what}");
    }
    stand.write("grayxdp.yaml", &right);
    assert!(stand.is_alive());
    let _ = stand.done(&["reload"]);
    assert_eq!(running.stop().failed(), 0);
}

#[test]
fn an_interface_that_does_not_exist_is_named_and_the_others_stay_free() {
    let stand = Stand::new(Setup::default());
    let file = stand.write("grayxdp.yaml", &stand.configuration().replace("backend2", "backend7"));
    let before = stand.snapshot();
    assert_one_line(&stand.refused(&mut stand.daemon_command(&file)), 1, &["backend7"]);
    let after = stand.snapshot();
    assert_eq!((after.pins, after.programs), (before.pins, before.programs));
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let stand = Stand::new(Setup::default());
    let absent = stand.file("absent.yaml");
    assert_one_line(&stand.refused(&mut stand.daemon_command(&absent)), 2, &["absent.yaml"]);
    assert_one_line(&stand.cli(&["check", &absent.to_string_lossy()]), 2, &["absent.yaml"]);
    assert_one_line(&stand.cli(&["status"]), 1, &["grayxdp.sock"]);
}

#[test]
fn a_wrong_command_or_plan_changes_nothing() {
    let stand = Stand::running(Setup { v2_weight: 30, ..Setup::default() });
    let right = plan("right", &[(10, "1h"), (100, "none")], true);
    let plans = [
        ("interval", "intervall", &["wrong.yaml:", "intervall", "interval"][..]),
        ("service: recsys", "service: nothing", &["nothing"]),
        ("candidate: v2", "candidate: v9", &["v9"]),
        ("setWeight: 10,", "setWeight: 110,", &["wrong.yaml:", "110"]),
        ("grayxdp.io/v1", "grayxdp.io/v7", &["wrong.yaml:", "grayxdp.io/v7"]),
    ];
    let before = stand.snapshot();
    for (from, to, words) in plans {
        let file = stand.write("wrong.yaml", &right.replace(from, to));
        assert_one_line(&stand.cli(&["rollout", "start", &file.to_string_lossy()]), 2, words);
    }
    std::fs::remove_file(stand.file("wrong.yaml")).unwrap();
    let commands: [(&[&str], i32, &[&str]); 6] = [
        (&["weights", "set", SERVICE, "v1=60", "v2=30"], 2, &["90", "100"]),
        (&["weights", "set", SERVICE, "v1=60", "v9=40"], 2, &["v9"]),
        (&["weights", "set", "resys", "v1=60", "v2=40"], 2, &["resys", SERVICE]),
        (&["weights", "set", SERVICE, "v1=60", "v2=40", "--if-epoch", "999"], 1, &["999"]),
        (&["rollout", "abort", "nothing"], 2, &["nothing"]),
        (&["weights", "set", SERVICE, "v1=60", "v2=many"], 2, &["many"]),
    ];
    for (words, status, named) in commands {
        assert_one_line(&stand.cli(words), status, named);
    }
    stand.assert_unchanged(&before, "wrong words");
    assert_eq!(stand.send(100).failed(), 0);
}
