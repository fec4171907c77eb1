//! Server and client over a real socket and real TCP, with a service that only remembers.

use std::{
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixListener},
};
use tokio_util::sync::CancellationToken;

use super::{BindError, Client, ClientError, Listeners, Service, SocketError, serve};
use crate::model::api::{ApiError, ChangeOptions, Done, ErrorClass, Request, Response};

#[derive(Clone, Default)]
struct Fake {
    asked: Arc<Mutex<Vec<(Request, String)>>>,
}

impl Service for Fake {
    async fn request(&self, request: Request, actor: String) -> Result<Response, ApiError> {
        self.asked.lock().expect("no test panics while it holds the lock").push((request.clone(), actor));
        match request {
            Request::RolloutGet { name } => Err(ApiError::not_found(format!("there is no rollout {name}"))),
            Request::Detach { .. } => Err(ApiError::conflict("not now")),
            _ => Ok(Response::Done(Done { changes: vec!["one".to_owned()], dry_run: false })),
        }
    }

    async fn metrics(&self) -> Result<String, ApiError> {
        Ok("up 1\n".to_owned())
    }

    async fn ready(&self) -> Result<(), String> {
        Err("eth0 is not attached".to_owned())
    }
}

struct Running {
    socket: PathBuf,
    http: SocketAddr,
    service: Fake,
    shutdown: CancellationToken,
    served: tokio::task::JoinHandle<()>,
    _folder: tempfile::TempDir,
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

async fn start() -> Running {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("run/grayxdp/grayxdp.sock");
    let listeners = Listeners::bind(&socket, anywhere()).await.expect("both addresses are free");
    let http = listeners.http_address().expect("it is bound");
    let (service, shutdown) = (Fake::default(), CancellationToken::new());
    let served = tokio::spawn(serve(listeners, service.clone(), shutdown.clone()));
    Running { socket, http, service, shutdown, served, _folder: folder }
}

/// Status code and body of one raw HTTP exchange over TCP.
async fn over_tcp(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    let code = head.split(' ').nth(1).expect("a status line").parse().expect("a number");
    (code, body.to_owned())
}

#[tokio::test]
async fn the_socket_takes_changes_and_names_the_peer() {
    let running = start().await;
    let client = Client::new(&running.socket);
    let request = Request::Reload { diff: false, reset_weights: Vec::new(), options: ChangeOptions::default() };
    let answer = client.request(&request).await.expect("an answer");
    assert_eq!(answer, Response::Done(Done { changes: vec!["one".to_owned()], dry_run: false }));
    let asked = running.service.asked.lock().expect("nobody panicked");
    assert_eq!(asked[0].0, request);
    assert!(asked[0].1.starts_with("uid "), "{}", asked[0].1);
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
    let running = start().await;
    let mode = std::fs::metadata(&running.socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    running.shutdown.cancel();
    running.served.await.expect("it ends in order");
    assert!(!running.socket.exists());
    let failed = Client::new(&running.socket).request(&Request::Status).await.expect_err("nobody listens");
    let expected = format!("no daemon on {}: is `grayxdp daemon` running?", running.socket.display());
    assert_eq!(failed.to_string(), expected);
}

#[tokio::test]
async fn a_refusal_keeps_its_class_and_its_words() {
    let running = start().await;
    let client = Client::new(&running.socket);
    let request = Request::RolloutGet { name: "absent".parse().expect("a name") };
    match client.request(&request).await {
        Err(ClientError::Refused(error)) => {
            assert_eq!(error.class, ErrorClass::NotFound);
            assert_eq!(error.message, "there is no rollout absent");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn quality_is_posted_over_the_socket_and_not_over_tcp() {
    let running = start().await;
    let path = "/api/v1/rollouts/recsys-v2/quality";
    let body = "{\"matrices\": {\"v2\": {\"tp\": 85, \"fp\": 10, \"fn\": 15}}}";
    assert_eq!(over_tcp(running.http, "POST", path, body).await.0, 403);
    let over_socket = async |body: &str| {
        let mut stream = tokio::net::UnixStream::connect(&running.socket).await.expect("it listens");
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("it answers");
        answer
    };
    let answer = over_socket(body).await;
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("{\"changes\":[\"one\"],\"dryRun\":false}"),
        "{answer}"
    );
    let answer = over_socket("{\"matrices\": {\"v2\": {\"tp\": 85}}}").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("missing field `fp`"), "{answer}");
    let asked = running.service.asked.lock().expect("no test panics while it holds the lock");
    let [(Request::QualityPost { rollout, quality }, actor)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((rollout.as_str(), quality.matrices.len()), ("recsys-v2", 1));
    assert!(actor.starts_with("uid "), "{actor}");
}

#[tokio::test]
async fn tcp_is_read_only() {
    let running = start().await;
    let detach = r#"{"request":"detach"}"#;
    let (code, body) = over_tcp(running.http, "POST", "/api/v1/request", detach).await;
    assert_eq!(code, 403);
    assert!(body.contains("changes go over the socket"), "{body}");
    for method in ["PUT", "DELETE", "PATCH"] {
        assert_eq!(over_tcp(running.http, method, "/api/v1/status", "").await.0, 403, "{method}");
    }
    assert!(running.service.asked.lock().expect("nobody panicked").is_empty());
}

#[tokio::test]
async fn each_path_answers_with_its_status() {
    let running = start().await;
    let table = [
        ("/healthz", 200, "ok\n"),
        ("/readyz", 503, "eth0 is not attached\n"),
        ("/metrics", 200, "up 1\n"),
        ("/api/v1/status", 200, r#"{"changes":["one"],"dryRun":false}"#),
        ("/api/v1/rollouts/absent", 404, r#"{"class":"notFound","message":"there is no rollout absent"}"#),
        ("/nothing", 404, r#"{"class":"notFound","message":"there is no /nothing: see /api/v1/openapi.json"}"#),
        ("/api/v1/request", 405, r#"{"class":"input","message":"/api/v1/request does not take GET"}"#),
    ];
    for (path, code, body) in table {
        assert_eq!(over_tcp(running.http, "GET", path, "").await, (code, body.to_owned()), "{path}");
    }
    for (path, code) in
        [("/api/v1/rollouts/NO", 400), ("/api/v1/events?after=x", 400), ("/api/v1/events?after=3&limit=7", 200)]
    {
        assert_eq!(over_tcp(running.http, "GET", path, "").await.0, code, "{path}");
    }
    let asked = running.service.asked.lock().expect("nobody panicked");
    assert_eq!(asked.last(), Some(&(Request::Events { after: 3, limit: 7 }, "http".to_owned())));
}

#[tokio::test]
async fn the_openapi_document_refers_only_to_what_it_defines() {
    let running = start().await;
    let (code, body) = over_tcp(running.http, "GET", "/api/v1/openapi.json", "").await;
    assert_eq!(code, 200);
    let document: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    for reference in body.split("#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("split yields at least one part");
        assert!(document["components"]["schemas"][name].is_object(), "{name}");
    }
    assert!(document["components"]["schemas"]["RolloutStatus"].is_object());
}

#[tokio::test]
async fn a_body_that_is_too_long_or_no_request_is_refused() {
    let running = start().await;
    let answer = |body: Vec<u8>| {
        let socket = running.socket.clone();
        async move {
            let mut stream = tokio::net::UnixStream::connect(socket).await.expect("it listens");
            let head = format!("POST /api/v1/request HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).await.expect("it reads");
            // The server may answer and close before it has read everything.
            let _closed_early = stream.write_all(&body).await;
            let mut start = [0; 12];
            stream.read_exact(&mut start).await.expect("it answers");
            String::from_utf8_lossy(&start).into_owned()
        }
    };
    assert_eq!(answer(b"{\"request\":\"dance\"}".to_vec()).await, "HTTP/1.1 400");
    assert_eq!(answer(vec![b' '; 2 << 20]).await, "HTTP/1.1 413");
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_is_untouched() {
    let running = start().await;
    let refused = Listeners::bind(&running.socket, anywhere()).await.expect_err("the first one lives");
    assert!(matches!(refused, BindError::Socket(SocketError::InUse(_))), "{refused}");
    assert!(refused.to_string().starts_with("another daemon already listens on "), "{refused}");
    assert!(Client::new(&running.socket).request(&Request::Status).await.is_ok());
}

async fn bound_at(path: &Path) -> Result<Listeners, BindError> {
    Listeners::bind(path, anywhere()).await
}

#[tokio::test]
async fn the_socket_of_a_dead_daemon_is_replaced_and_a_stranger_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let stale = folder.path().join("stale.sock");
    drop(UnixListener::bind(&stale).expect("it is free"));
    assert!(stale.exists());
    assert!(bound_at(&stale).await.is_ok());

    let foreign = folder.path().join("foreign.sock");
    let _listens = UnixListener::bind(&foreign).expect("it is free");
    assert!(matches!(bound_at(&foreign).await, Err(BindError::Socket(SocketError::InUse(_)))));

    let file = folder.path().join("file");
    std::fs::write(&file, "precious").expect("it is writable");
    assert!(matches!(bound_at(&file).await, Err(BindError::Socket(SocketError::NotASocket(_)))));
    assert_eq!(std::fs::read_to_string(&file).expect("it is still there"), "precious");
}

#[tokio::test]
async fn a_taken_http_address_is_named() {
    let taken = tokio::net::TcpListener::bind(anywhere()).await.expect("a port");
    let address = taken.local_addr().expect("it is bound");
    let folder = tempfile::tempdir().expect("a folder");
    let refused = Listeners::bind(&folder.path().join("s"), address).await.expect_err("it is taken");
    assert!(refused.to_string().starts_with(&format!("cannot listen on {address} (`http.listen`)")), "{refused}");
}

#[tokio::test]
async fn a_request_that_runs_at_shutdown_gets_its_answer() {
    let running = start().await;
    let mut stream = TcpStream::connect(running.http).await.expect("it listens");
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n").await.expect("it reads");
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.shutdown.cancel();
    stream.write_all(b"\r\n").await.expect("it still reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    running.served.await.expect("it ends in order");
}
