//! The routes: one request endpoint for the command line, and readable ones for people and machines.

use std::{future::Future, time::Duration};

use axum::{
    Extension, Json, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, Query, Request as HttpRequest, State, rejection::QueryRejection},
    http::{Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response as HttpResponse},
    routing::{get, post},
};
use serde::Deserialize;

use crate::{
    control::{Service, openapi, peer::Peer},
    model::{
        Name,
        api::{ApiError, ErrorClass, PostedQuality, Request, Response},
    },
};

/// Longest body of a request, in bytes: a plan is a few thousand.
const BODY_BYTES: usize = 1 << 20;

/// Time in which a request is read and answered.
const REQUEST_TIME: Duration = Duration::from_secs(30);

/// Events answered where no `limit` is given.
const EVENTS_LIMIT: usize = 100;

/// Content type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All routes. Who asks comes as an [`Extension`] of the connection.
pub(super) fn router<S: Service>(service: S) -> Router {
    Router::new()
        .route("/api/v1/request", post(request::<S>))
        .route("/api/v1/status", get(status::<S>))
        .route("/api/v1/rollouts", get(rollouts::<S>))
        .route("/api/v1/rollouts/{name}", get(rollout::<S>))
        .route("/api/v1/rollouts/{name}/quality", post(quality::<S>))
        .route("/api/v1/backends", get(backends::<S>))
        .route("/api/v1/events", get(events::<S>))
        .route("/api/v1/openapi.json", get(|| async { Json(openapi::document()) }))
        .route("/metrics", get(metrics::<S>))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready::<S>))
        .fallback(|request: HttpRequest| async move {
            failure(&ApiError::not_found(format!("there is no {}: see /api/v1/openapi.json", request.uri().path())))
        })
        .method_not_allowed_fallback(|request: HttpRequest| async move {
            let message = format!("{} does not take {}", request.uri().path(), request.method());
            (StatusCode::METHOD_NOT_ALLOWED, Json(ApiError::input(message))).into_response()
        })
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(middleware::from_fn(only_reading_over_tcp))
        .layer(middleware::from_fn(in_time))
        .with_state(service)
}

async fn only_reading_over_tcp(Extension(peer): Extension<Peer>, request: HttpRequest, next: Next) -> HttpResponse {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match peer {
        Peer::Tcp if !reads => {
            let message = "over HTTP grayxdp can only be read: changes go over the socket (`control.socket`)";
            (StatusCode::FORBIDDEN, Json(ApiError::input(message))).into_response()
        }
        Peer::Tcp | Peer::Socket { .. } => next.run(request).await,
    }
}

async fn in_time(request: HttpRequest, next: Next) -> HttpResponse {
    tokio::time::timeout(REQUEST_TIME, next.run(request)).await.unwrap_or_else(|_| {
        let message = format!("no answer within {REQUEST_TIME:?}; a change may still happen: see `grayxdp status`");
        (StatusCode::GATEWAY_TIMEOUT, Json(ApiError::failed(message))).into_response()
    })
}

async fn request<S: Service>(
    State(service): State<S>,
    Extension(peer): Extension<Peer>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> HttpResponse {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return (rejection.status(), Json(ApiError::input(rejection.body_text()))).into_response(),
    };
    match serde_json::from_slice::<Request>(&body) {
        Ok(request) => match service.request(request, peer.actor()).await {
            Ok(response) => Json(response).into_response(),
            Err(error) => failure(&error),
        },
        Err(cause) => failure(&ApiError::input(format!("the body is no request: {cause}"))),
    }
}

async fn status<S: Service>(State(service): State<S>, Extension(peer): Extension<Peer>) -> HttpResponse {
    answer(service.request(Request::Status, peer.actor())).await
}

async fn rollouts<S: Service>(State(service): State<S>, Extension(peer): Extension<Peer>) -> HttpResponse {
    answer(service.request(Request::RolloutList, peer.actor())).await
}

/// The query of `/api/v1/backends`.
#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct BackendsQuery {
    service: Option<Name>,
}

async fn backends<S: Service>(
    State(service): State<S>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<BackendsQuery>, QueryRejection>,
) -> HttpResponse {
    match query {
        Ok(Query(BackendsQuery { service: only })) => {
            answer(service.request(Request::BackendList { service: only }, peer.actor())).await
        }
        Err(rejection) => failure(&ApiError::input(rejection.body_text())),
    }
}

async fn rollout<S: Service>(
    State(service): State<S>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
) -> HttpResponse {
    match name.parse::<Name>() {
        Ok(name) => answer(service.request(Request::RolloutGet { name }, peer.actor())).await,
        Err(cause) => failure(&ApiError::input(cause.to_string())),
    }
}

async fn quality<S: Service>(
    State(service): State<S>,
    Extension(peer): Extension<Peer>,
    Path(name): Path<String>,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> HttpResponse {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return (rejection.status(), Json(ApiError::input(rejection.body_text()))).into_response(),
    };
    match (name.parse::<Name>(), serde_json::from_slice::<PostedQuality>(&body)) {
        (Ok(rollout), Ok(quality)) => {
            let quality = Box::new(quality);
            answer(service.request(Request::QualityPost { rollout, quality }, peer.actor())).await
        }
        (Err(cause), _) => failure(&ApiError::input(cause.to_string())),
        (_, Err(cause)) => failure(&ApiError::input(format!("the body is no quality: {cause}"))),
    }
}

/// The query of `/api/v1/events`.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct EventsQuery {
    after: u64,
    limit: usize,
}

impl Default for EventsQuery {
    fn default() -> Self {
        Self { after: 0, limit: EVENTS_LIMIT }
    }
}

async fn events<S: Service>(
    State(service): State<S>,
    Extension(peer): Extension<Peer>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> HttpResponse {
    match query {
        Ok(Query(EventsQuery { after, limit })) => {
            answer(service.request(Request::Events { after, limit }, peer.actor())).await
        }
        Err(rejection) => failure(&ApiError::input(rejection.body_text())),
    }
}

async fn metrics<S: Service>(State(service): State<S>) -> HttpResponse {
    match service.metrics().await {
        Ok(text) => ([(header::CONTENT_TYPE, METRICS_TYPE)], text).into_response(),
        Err(error) => failure(&error),
    }
}

async fn ready<S: Service>(State(service): State<S>) -> HttpResponse {
    match service.ready().await {
        Ok(()) => "ready\n".into_response(),
        Err(missing) => (StatusCode::SERVICE_UNAVAILABLE, format!("{missing}\n")).into_response(),
    }
}

/// An answer without its envelope.
async fn answer(response: impl Future<Output = Result<Response, ApiError>>) -> HttpResponse {
    match response.await {
        Ok(Response::Status(body)) => Json(body).into_response(),
        Ok(Response::Done(body)) => Json(body).into_response(),
        Ok(Response::Events(body)) => Json(body).into_response(),
        Ok(Response::Explained(body)) => Json(body).into_response(),
        Ok(Response::Trace(body)) => Json(body).into_response(),
        Ok(Response::Rollouts(body)) => Json(body).into_response(),
        Ok(Response::Rollout(body)) => Json(body).into_response(),
        Ok(Response::Record(body)) => Json(body).into_response(),
        Ok(Response::Backends(body)) => Json(body).into_response(),
        Err(error) => failure(&error),
    }
}

fn failure(error: &ApiError) -> HttpResponse {
    let status = match error.class {
        ErrorClass::Input => StatusCode::BAD_REQUEST,
        ErrorClass::NotFound => StatusCode::NOT_FOUND,
        ErrorClass::Conflict => StatusCode::CONFLICT,
        ErrorClass::Failed => StatusCode::INTERNAL_SERVER_ERROR,
    };
    (status, Json(error)).into_response()
}
