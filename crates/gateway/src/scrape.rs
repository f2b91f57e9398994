//! Scrapes: the listener that answers them, and the gauges that are set from the rest of the server.
//!
//! | File | |
//! |---|---|
//! | `sample` | reads channels, webhooks and files in the background, and only while something scrapes |
//! | `channels` | the series of channels |
//! | `process` | memory, CPU time and files of the process |

mod channels;
mod process;
mod sample;

use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use axum::http::{Method, Request, Response, StatusCode};
use prometheus_client::metrics::gauge::Gauge;
use recado_store::Health;
use tokio::net::TcpListener;

use crate::WHATSAPP_WEB;
use crate::gateway::Gateway;
use crate::metrics::{Build, METRICS};
use crate::server::{self, Answer, Limits, Steps};
use sample::Sampler;

/// Connections at a time.
const CONNECTIONS: u32 = 64;
/// How long an idle connection stays open: longer than the usual time between two scrapes.
const IDLE: Duration = Duration::from_mins(3);

/// Answers scrapes until the server stops. `most` channels have series of their own.
pub async fn serve(gateway: Arc<Gateway>, listener: TcpListener, most: usize, data_dir: PathBuf) {
    set_constants(&gateway);
    let sampler = Arc::new(Sampler::new(gateway.clone(), most, data_dir));
    let stop = gateway.stop.clone();
    let sampling = stop.run_until_cancelled(sampler.run());
    let steps = Steps::new(Duration::ZERO, stop.clone());
    let scrape = Scrape { gateway, sampler: sampler.clone() };
    let limits = Limits::new(CONNECTIONS, IDLE);
    tokio::join!(sampling, server::serve(listener, scrape, limits, steps, Gauge::default(), pending()));
}

fn set_constants(gateway: &Gateway) {
    let engine = if gateway.nodes.are_shared() { "postgresql" } else { "sqlite" };
    let whatsapp_web = if WHATSAPP_WEB { "true" } else { "false" };
    let build = Build { version: env!("CARGO_PKG_VERSION"), engine, whatsapp_web };
    METRICS.build_info.get_or_create(&build).set(1);
    METRICS.message_ttl.set(gateway.behaviour.message_ttl.as_secs_f64());
    METRICS.most_files.set(process::most_files());
    METRICS.started.set(process::started(gateway.clock.now()));
}

#[derive(Clone)]
struct Scrape {
    gateway: Arc<Gateway>,
    sampler: Arc<Sampler>,
}

impl Answer for Scrape {
    async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let asked =
            (request.method() == Method::GET || request.method() == Method::HEAD) && request.uri().path() == "/metrics";
        if !asked {
            return plain(StatusCode::NOT_FOUND, "text/plain", "GET /metrics\n".to_owned());
        }
        self.sampler.scraped();
        set_gauges(&self.gateway);
        let accepted = request.headers().get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
        match METRICS.render(accepted.contains("application/openmetrics-text")) {
            Ok((text, content_type)) => plain(StatusCode::OK, content_type, text),
            Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
        }
    }
}

fn plain(status: StatusCode, content_type: &'static str, text: String) -> Response<Body> {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Sets the gauges that are read from memory.
fn set_gauges(gateway: &Gateway) {
    let up = *gateway.store.health().borrow() == Health::Up;
    METRICS.store_up.set(up.into());
    METRICS.ready.set((up && !gateway.draining.is_cancelled()).into());
    METRICS.event_streams.set(signed(gateway.events.connections()));
    METRICS.writes_waiting.set(signed(gateway.store.writes_waiting()));
    let leases = gateway.nodes.leases();
    METRICS.lease_remaining.set(leases.remaining().map_or(-1.0, |left| left.as_secs_f64()));
    let owned = if leases.is_standalone() { gateway.directory.channels().len() } else { leases.held().len() };
    METRICS.node_channels.set(signed(owned));
    process::set();
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
