//! The pages: every link has a target, every code block works, and the facts about the code are true.

mod code;
mod diagrams;
mod events;
mod links;
mod machine;
pub mod markdown;
mod nodes;
mod operations;
mod receivers;
mod tables;
mod twins;
