//! The daemon as the API's service.

use crate::{
    control::Service,
    daemon::Handle,
    model::api::{ApiError, Request, Response},
    telemetry,
};

impl Service for Handle {
    async fn request(&self, request: Request, actor: String) -> Result<Response, ApiError> {
        Self::request(self, request, actor).await
    }

    async fn metrics(&self) -> Result<String, ApiError> {
        let view = self.metrics_view().await?;
        telemetry::render(&view).map_err(|error| ApiError::failed(error.to_string()))
    }

    async fn ready(&self) -> Result<(), String> {
        Self::ready(self).await.map_err(|error| error.message)
    }
}
