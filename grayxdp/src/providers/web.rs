//! HTTP for all who are asked outside: one client, answers of bounded size, no redirects, no address in an error.

use std::{collections::BTreeMap, error::Error, sync::OnceLock, time::Duration};

use reqwest::{
    Client, RequestBuilder, Response, StatusCode,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};

use crate::{model::plan::SecretSource, providers::secret};

/// Longest answer, in bytes.
const LONGEST: usize = 1 << 20;

/// Longest part of an answer that an error quotes, in characters.
const QUOTED: usize = 200;

/// Whom to ask by HTTP, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Web {
    /// Where, or where that is read.
    pub address: Result<String, SecretSource>,
    /// Headers.
    pub headers: BTreeMap<String, String>,
    /// Headers whose values are read elsewhere.
    pub headers_from: BTreeMap<String, SecretSource>,
}

/// A document that is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Post {
    /// To whom.
    pub web: Web,
    /// What, as JSON.
    pub body: serde_json::Value,
    /// How long an answer may take.
    pub timeout: Duration,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) body: String,
}

impl Answered {
    /// The body of an answer with a status from 200 to 299.
    pub(super) fn good(self) -> Result<String, String> {
        match self.status.is_success() {
            true => Ok(self.body),
            false => Err(self.refused()),
        }
    }

    /// A bad status with the beginning of what was said.
    pub(super) fn refused(&self) -> String {
        let words: String = self.body.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(QUOTED).collect();
        match words.is_empty() {
            true => format!("HTTP status {}", self.status.as_u16()),
            false => format!("HTTP status {}: {words}", self.status.as_u16()),
        }
    }
}

/// Why a document was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There was an answer with another status than 200 to 299.
    #[error("{why}")]
    Refused {
        /// The status.
        status: u16,
        /// It, and what was said.
        why: String,
    },
    /// There was none.
    #[error("{0}")]
    NoAnswer(String),
}

impl Failure {
    /// Whether the same would be refused again: a status from 400 to 499 but for those that mean "later".
    #[must_use]
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Refused { status: 408 | 425 | 429, .. } | Self::NoAnswer(_) => false,
            Self::Refused { status, .. } => *status >= 400 && *status < 500,
        }
    }
}

/// Sends a document; done when a status from 200 to 299 came back.
///
/// # Errors
/// One line without the address.
pub async fn post(post: &Post) -> Result<(), Failure> {
    let asked = async {
        let address = post.web.address().await?;
        let request = client()?.post(address).body(post.body.to_string());
        let request = request.header(reqwest::header::CONTENT_TYPE, "application/json");
        send(request, &post.web).await
    };
    let answered = within(post.timeout, asked).await.map_err(Failure::NoAnswer)?;
    match answered.status.is_success() {
        true => Ok(()),
        false => Err(Failure::Refused { status: answered.status.as_u16(), why: answered.refused() }),
    }
}

impl Web {
    /// The address, read where it is a secret.
    pub(super) async fn address(&self) -> Result<String, String> {
        match &self.address {
            Ok(address) => Ok(address.clone()),
            Err(source) => secret::read(source).await,
        }
    }

    async fn header_map(&self) -> Result<HeaderMap, String> {
        let mut map = HeaderMap::new();
        let mut insert = |name: &str, value: &str, is_secret: bool| {
            let header = HeaderName::try_from(name).map_err(|_| format!("`{name}` is no name of a header"))?;
            let mut value = HeaderValue::from_str(value).map_err(|_| format!("the value of {name} is no header"))?;
            value.set_sensitive(is_secret);
            map.insert(header, value);
            Ok::<_, String>(())
        };
        for (name, value) in &self.headers {
            insert(name, value, false)?;
        }
        for (name, source) in &self.headers_from {
            insert(name, &secret::read(source).await?, true)?;
        }
        Ok(map)
    }
}

/// Asks for a document.
pub(super) async fn get(web: &Web, path: &str, query: &[(&str, &str)]) -> Result<Answered, String> {
    let address = web.address().await?;
    let mut address: reqwest::Url =
        format!("{}{path}", if path.is_empty() { &address } else { address.trim_end_matches('/') })
            .parse()
            .map_err(|_| "the address is no web address".to_owned())?;
    if !query.is_empty() {
        address.query_pairs_mut().extend_pairs(query);
    }
    send(client()?.get(address), web).await
}

async fn send(request: RequestBuilder, web: &Web) -> Result<Answered, String> {
    let response = request.headers(web.header_map().await?).send().await.map_err(said)?;
    let status = response.status();
    Ok(Answered { status, body: read(response).await? })
}

async fn read(mut response: Response) -> Result<String, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(said)? {
        body.extend_from_slice(&chunk);
        if body.len() > LONGEST {
            return Err(format!("the answer is longer than {LONGEST} bytes"));
        }
    }
    String::from_utf8(body).map_err(|_| "the answer is not UTF-8".to_owned())
}

/// Breaks off what takes too long.
pub(super) async fn within<T>(timeout: Duration, asked: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let late = || Err(format!("no answer within {}", humantime::format_duration(timeout)));
    tokio::time::timeout(timeout, asked).await.unwrap_or_else(|_| late())
}

/// Made when it is first needed: a daemon that asks nobody has none.
fn client() -> Result<&'static Client, String> {
    static CLIENT: OnceLock<Result<Client, String>> = OnceLock::new();
    let made = CLIENT.get_or_init(|| {
        // An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = Client::builder().redirect(Policy::none()).no_proxy();
        let builder = builder.user_agent(concat!("grayxdp/", env!("CARGO_PKG_VERSION")));
        builder.build().map_err(|error| format!("no HTTP client: {error}"))
    });
    made.as_ref().map_err(Clone::clone)
}

/// The last cause, which names what happened, without the address: it may be a secret.
fn said(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    match cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => "connection refused".to_owned(),
        Some(std::io::ErrorKind::ConnectionReset) => "connection reset".to_owned(),
        Some(_) | None => cause.to_string(),
    }
}
