//! The fake as a gateway sees it: over real sockets. What the gateway is tested with is tested itself.

mod answers;
mod callbacks;
mod harness;
mod http2;
mod load;
mod sends;
