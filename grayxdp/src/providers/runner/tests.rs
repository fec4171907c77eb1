use std::{net::SocketAddr, process::Stdio};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::{Instant, timeout},
};

use super::*;

fn provider(json: serde_json::Value) -> Provider {
    serde_json::from_value(json).expect("a provider")
}

/// A server that answers every request with this, after having shown it to `look`; silence where there is no answer.
async fn server(answer: Option<&'static str>, look: impl Fn(&str) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a socket");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4_096];
            let read = stream.read(&mut buffer).await.unwrap_or_default();
            look(&String::from_utf8_lossy(&buffer[..read]));
            match answer {
                Some(answer) => stream.write_all(answer.as_bytes()).await.expect("written"),
                None => kept.push(stream),
            }
        }
    });
    address
}

fn reply(status: &str, body: &str) -> &'static str {
    let text = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    Box::leak(text.into_boxed_str())
}

#[tokio::test]
async fn a_provider_that_hangs_delays_nothing_else() {
    let silent = server(None, |_| {}).await;
    let prompt = server(Some(reply("200 OK", "{\"load\": 0.5}")), |_| {}).await;
    let key = |metric: &str| Key {
        service: "s".parse().expect("a name"),
        rollout: 1,
        metric: metric.parse().expect("a name"),
    };
    let target = |address: SocketAddr| Target {
        provider: provider(
            json!({"http": {"url": format!("http://{address}/"), "pointer": "/load", "timeout": "600ms"}}),
        ),
        interval: Duration::from_millis(100),
    };
    let (sender, receiver) =
        watch::channel(Targets::new([(key("hangs"), target(silent)), (key("prompt"), target(prompt))].into()));
    let (reports, mut found) = mpsc::channel(4);
    let runner = tokio::spawn(run(receiver, reports));
    let (begin, mut prompts) = (Instant::now(), 0);
    let hung = loop {
        let report = timeout(Duration::from_secs(5), found.recv()).await.expect("in time").expect("a report");
        if report.key == key("hangs") {
            break report.answer;
        }
        assert_eq!(report.answer, Answer::Values(vec![0.5]));
        prompts += 1;
    };
    assert_eq!(hung, Answer::Failed("no answer within 600ms".to_owned()));
    assert!(begin.elapsed() < Duration::from_secs(3) && prompts >= 4, "{prompts} answers in {:?}", begin.elapsed());
    drop(sender);
    runner.await.expect("it ends by itself");
}

#[tokio::test]
async fn an_answer_is_a_value_no_data_or_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "Bearer s3cret\n").expect("written");
    let cases = [
        ("200 OK", "0.25", json!({}), Answer::Values(vec![0.25])),
        ("200 OK", "{\"a\": [1, 2]}", json!({"pointer": "/a"}), Answer::Values(vec![1.0, 2.0])),
        ("200 OK", "{\"a\": null}", json!({"pointer": "/a"}), Answer::Empty),
        ("204 No Content", "", json!({}), Answer::Empty),
        ("503 Service Unavailable", "try\nlater", json!({}), Answer::Failed("HTTP status 503: try later".to_owned())),
        ("302 Found", "", json!({}), Answer::Failed("HTTP status 302".to_owned())),
        ("200 OK", "{}", json!({"pointer": "/a"}), Answer::Failed("the document has nothing at /a".to_owned())),
    ];
    for (status, body, more, expected) in cases {
        let address = server(Some(reply(status, body)), |request| {
            let request = request.to_lowercase();
            assert!(request.starts_with("get /x?y=1 http/1.1\r\n"), "{request}");
            assert!(
                request.contains("authorization: bearer s3cret\r\n") && request.contains("x-team: a\r\n"),
                "{request}"
            );
        })
        .await;
        let mut query = json!({
            "url": format!("http://{address}/x?y=1"), "headers": {"X-Team": "a"},
            "headersFrom": {"Authorization": {"file": token}},
        });
        query.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        assert_eq!(ask(&provider(json!({ "http": query }))).await, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn what_fails_is_tried_again_and_then_said_without_the_secret_address() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("url");
    let (sender, mut asked) = mpsc::unbounded_channel();
    let address = server(Some(reply("500 Internal Server Error", "")), move |_| sender.send(()).expect("kept")).await;
    std::fs::write(&file, format!("http://{address}/s3cret")).expect("written");
    let failing = provider(json!({"http": {"urlFrom": {"file": file}, "retries": 2}}));
    assert_eq!(ask(&failing).await, Answer::Failed("HTTP status 500".to_owned()));
    assert_eq!(std::iter::from_fn(|| asked.try_recv().ok()).count(), 3);
    // Bound and not listening: refused.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    std::fs::write(&file, format!("http://{}/s3cret", socket.local_addr().expect("bound"))).expect("written");
    let refused = provider(json!({"http": {"urlFrom": {"file": file}}}));
    assert_eq!(ask(&refused).await, Answer::Failed("connection refused".to_owned()));
}

#[tokio::test]
async fn a_program_is_asked_within_its_time_and_killed_with_all_that_it_began() {
    let shell = |script: &str, more: serde_json::Value| {
        let mut query = json!({"command": ["/bin/sh", "-c", script]});
        query.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        provider(json!({ "command": query }))
    };
    assert_eq!(ask(&shell("echo 0.75", json!({}))).await, Answer::Values(vec![0.75]));
    let document = shell("echo '{\"orders\": {\"ratio\": 1.5}}'", json!({"pointer": "/orders/ratio"}));
    assert_eq!(ask(&document).await, Answer::Values(vec![1.5]));
    assert_eq!(ask(&shell("true", json!({}))).await, Answer::Empty);
    let failing = ask(&shell("echo no database >&2; exit 3", json!({}))).await;
    assert_eq!(failing, Answer::Failed("/bin/sh ended with exit status: 3: no database".to_owned()));
    assert_eq!(
        ask(&shell("env | grep -c HOME", json!({}))).await,
        Answer::Failed("/bin/sh ended with exit status: 1".to_owned())
    );
    let missing = ask(&provider(json!({"command": {"command": ["/nowhere/orders"]}}))).await;
    assert_eq!(missing, Answer::Failed("/nowhere/orders: No such file or directory (os error 2)".to_owned()));

    let folder = tempfile::tempdir().expect("a folder");
    let pid = folder.path().join("pid");
    let script = format!("sleep 600 & echo $! > {}; wait", pid.display());
    let begin = Instant::now();
    let hung = ask(&shell(&script, json!({"timeout": "500ms"}))).await;
    assert_eq!(hung, Answer::Failed("no answer within 500ms".to_owned()));
    assert!(begin.elapsed() < Duration::from_secs(3));
    let child = std::fs::read_to_string(&pid).expect("it began");
    let gone = || match std::fs::read_to_string(format!("/proc/{}/stat", child.trim())) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    timeout(Duration::from_secs(5), async {
        while !gone() {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("its child is killed too");
}

/// A Prometheus server of this test's own.
struct Prometheus {
    address: String,
    _server: tokio::process::Child,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let config = folder.path().join("prometheus.yml");
        std::fs::write(&config, "global: {scrape_interval: 1s}\n").expect("written");
        let port = TcpListener::bind("127.0.0.1:0").await.expect("a socket").local_addr().expect("bound").port();
        let server = tokio::process::Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("prometheus is installed by `cargo xtask setup`");
        let address = format!("http://127.0.0.1:{port}");
        let ready =
            provider(json!({"http": {"url": format!("{address}/api/v1/status/runtimeinfo"), "pointer": "/status"}}));
        timeout(Duration::from_secs(60), async {
            while ask(&ready).await != Answer::Failed("\"success\" is no number".to_owned()) {
                sleep(Duration::from_millis(100)).await;
            }
        })
        .await
        .expect("prometheus is ready");
        Self { address, _server: server, _folder: folder }
    }

    async fn ask(&self, query: &str, range: Option<serde_json::Value>) -> Answer {
        let mut asked = json!({"address": self.address, "query": query});
        if let Some(range) = range {
            asked["range"] = range;
        }
        ask(&provider(json!({ "prometheus": asked }))).await
    }
}

#[tokio::test]
async fn a_real_prometheus_is_asked_at_an_instant_and_over_a_range() {
    let server = Prometheus::start().await;
    assert_eq!(server.ask("vector(0.25) * 2", None).await, Answer::Values(vec![0.5]));
    assert_eq!(server.ask("1 + 1", None).await, Answer::Values(vec![2.0]));
    assert_eq!(server.ask("no_such_series{a=\"b & c\"}", None).await, Answer::Empty);
    assert_eq!(server.ask("vector(0) / 0", None).await, Answer::Failed("the value is NaN: not a number".to_owned()));
    let Answer::Failed(why) = server.ask("sum(", None).await else { panic!("a query that is none") };
    assert!(why.starts_with("bad_data: "), "{why}");
    let minute = json!({"window": "1m", "step": "10s", "reduce": "max"});
    assert_eq!(server.ask("vector(3)", Some(minute)).await, Answer::Values(vec![3.0]));
    // Of the last ten seconds the newest and the mean of the clock differ by about five.
    let range = |reduce: &str| Some(json!({"window": "10s", "step": "1s", "reduce": reduce}));
    let value = |answer: Answer| match answer {
        Answer::Values(values) => values[0],
        other => panic!("{other:?}"),
    };
    let last = value(server.ask("vector(time())", range("last")).await);
    let mean = value(server.ask("vector(time())", range("mean")).await);
    assert!((3.0..=8.0).contains(&(last - mean)), "{last} {mean}");
}
