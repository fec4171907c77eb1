//! Prometheus metrics and logging.
//!
//! Nothing is counted here. Whoever is scraped reads the kernel, fills a [`MetricsView`] and has it [`render`]ed: a value
//! is as old as the scrape, and a daemon that restarts loses no count, but for signals: see `docs/metrics.md`.

mod exceptions;
mod family;
mod flow_log;
mod guards;
mod logging;
mod render;
mod shadow;
mod signals;
mod view;

pub use flow_log::{FlowLine, FlowLog};
pub use logging::{LoggingError, start_logging};
pub use render::{RenderError, render};
pub use view::{BackendMetrics, MetricsView, RolloutMetrics, ServiceMetrics, VersionMetrics};
