//! The OpenAPI document, made of the types that are sent: it cannot differ from them.

use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Value, json};

use crate::model::{
    api::{ApiError, Done, ListedBackend, PostedQuality, Request, Response, RolloutStatus, Status},
    event::Event,
};

/// The document at `/api/v1/openapi.json`.
pub(super) fn document() -> Value {
    let mut schemas = SchemaSettings::openapi3().into_generator();
    let status = json_body::<Status>(&mut schemas);
    let rollouts = json_body::<Vec<RolloutStatus>>(&mut schemas);
    let rollout = json_body::<RolloutStatus>(&mut schemas);
    let backends = json_body::<Vec<ListedBackend>>(&mut schemas);
    let events = json_body::<Vec<Event>>(&mut schemas);
    let quality = json_body::<PostedQuality>(&mut schemas);
    let done = json_body::<Done>(&mut schemas);
    let request = json_body::<Request>(&mut schemas);
    let response = json_body::<Response>(&mut schemas);
    let error = json_body::<ApiError>(&mut schemas);
    let failed = |why: &str| json!({"description": why, "content": error});
    let text = json!({"text/plain": {"schema": {"type": "string"}}});
    json!({
        "openapi": "3.0.3",
        "info": {
            "title": "grayxdp",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Served on the Unix socket of `control.socket` and on `http.listen`; the latter can only be read.",
        },
        "paths": {
            "/api/v1/status": {"get": reading("How everything stands.", &status, &[])},
            "/api/v1/rollouts": {"get": reading("All rollouts that the journal knows, the newest first.", &rollouts, &[])},
            "/api/v1/rollouts/{name}": {"get": {
                "summary": "One rollout.",
                "parameters": [{"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}],
                "responses": {
                    "200": {"description": "The answer.", "content": rollout},
                    "404": failed("No rollout has this name."),
                },
            }},
            "/api/v1/rollouts/{name}/quality": {"post": {
                "summary": "Confusion matrices of a running rollout's models. Only on the Unix socket.",
                "parameters": [{"name": "name", "in": "path", "required": true, "schema": {"type": "string"}}],
                "requestBody": {"required": true, "content": quality},
                "responses": {
                    "200": {"description": "Taken; the next look judges it.", "content": done},
                    "400": failed("The body is no quality, or misses the candidate's counts."),
                    "403": failed("It came over TCP."),
                    "404": failed("No rollout, metric or version has this name."),
                    "409": failed("The rollout has ended, or has no metric whose values are posted."),
                },
            }},
            "/api/v1/backends": {"get": {
                "summary": "All backends and how they stand.",
                "parameters": [{
                    "name": "service", "in": "query", "required": false, "schema": {"type": "string"},
                    "description": "Only those of this service.",
                }],
                "responses": {
                    "200": {"description": "The answer.", "content": backends},
                    "404": failed("No service has this name."),
                },
            }},
            "/api/v1/events": {"get": reading(
                "What happened after a number, oldest first, at most 1,000; the newest where there are more.",
                &events,
                &[("after", "Number of the last event already seen."), ("limit", "How many; 100 where it is left out.")],
            )},
            "/api/v1/request": {"post": {
                "summary": "Any request, also one that changes something. Only on the Unix socket.",
                "requestBody": {"required": true, "content": request},
                "responses": {
                    "200": {"description": "Done, or answered.", "content": response},
                    "400": failed("The request is wrong."),
                    "403": failed("It came over TCP."),
                    "404": failed("It names what is not there."),
                    "409": failed("It does not fit the present state."),
                    "500": failed("It was right and did not work."),
                    "504": failed("No answer in time; a change may still happen."),
                },
            }},
            "/metrics": {"get": reading("Metrics in the Prometheus text format, read from the kernel now.", &text, &[])},
            "/healthz": {"get": reading("The daemon answers.", &text, &[])},
            "/readyz": {"get": {
                "summary": "Whether the split is in force.",
                "responses": {
                    "200": {"description": "It is.", "content": text},
                    "503": {"description": "What is still missing.", "content": text},
                },
            }},
        },
        "components": {"schemas": schemas.take_definitions(true)},
    })
}

fn json_body<T: JsonSchema>(schemas: &mut SchemaGenerator) -> Value {
    json!({"application/json": {"schema": schemas.subschema_for::<T>()}})
}

/// A `GET` with these numbers in its query.
fn reading(summary: &str, content: &Value, query: &[(&str, &str)]) -> Value {
    let number = |(name, description): &(&str, &str)| {
        json!({
            "name": name, "in": "query", "required": false, "description": description,
            "schema": {"type": "integer", "minimum": 0},
        })
    };
    json!({
        "summary": summary,
        "parameters": query.iter().map(number).collect::<Vec<_>>(),
        "responses": {"200": {"description": "The answer.", "content": content}},
    })
}
