//! The fake as a gateway sees it, over real sockets. The test double is itself tested.

mod answers;
mod callbacks;
mod harness;
mod http2;
mod load;
mod sends;
