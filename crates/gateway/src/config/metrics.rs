//! Settings of metrics.

use std::net::SocketAddr;

use clap::Args;

/// Where metrics are served.
#[derive(Debug, Clone, Args)]
pub struct MetricsConfig {
    /// Address on which `GET /metrics` answers Prometheus, without a key; default: none. They name all institutions and
    /// channels, so callers must not reach it
    #[arg(long, env = "RECADO_METRICS_LISTEN", hide_env_values = true, value_name = "ADDR", value_parser = super::address)]
    pub metrics_listen: Option<SocketAddr>,

    /// Channels with series of their own, those with the oldest waiting messages first
    #[arg(long, env = "RECADO_METRICS_CHANNELS", hide_env_values = true, default_value_t = 2_000, value_name = "N",
          value_parser = clap::value_parser!(u32).range(..=100_000))]
    pub metrics_channels: u32,
}
