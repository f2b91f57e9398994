//! Recado's gateway. The modules are in the order in which a message passes through them.

pub mod config;
pub mod server;

pub mod api;
pub mod directory;
pub mod operations;

pub mod cluster;
pub mod dispatch;
pub mod erasures;
pub mod events;
pub mod signature;

pub mod contents;
pub mod control;
pub mod disconnected;
pub mod gateway;
pub mod housekeeping;
pub mod idle;
pub mod intake;
pub mod last_backup;
pub mod lock;
pub mod log;
pub mod media;
pub mod metrics;
pub mod moved;
pub mod origin;
pub mod outages;
pub mod periodic;
pub mod rate_limit;
pub mod read_signals;
pub mod refused;
pub mod schedule;
pub mod scrape;
pub mod sealed;
pub mod shutdown;
pub mod stranded;
pub mod systemd;
pub mod unfinished;
pub mod webhooks;

/// Whether this build has channels that are linked by QR code.
pub const WHATSAPP_WEB: bool = cfg!(feature = "whatsapp-web");
