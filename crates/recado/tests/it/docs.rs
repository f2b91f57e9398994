//! The pages: every link leads somewhere, every code block does what it says, and what is told of the code is so.

mod code;
mod diagrams;
mod events;
mod links;
pub mod markdown;
mod tables;
mod twins;
