//! `recado openapi`: prints the OpenAPI document. It generates the file in the repository.

use std::io::Write;

use anyhow::{Context, Result};
use recado_gateway::api::openapi;

pub fn run() -> Result<()> {
    std::io::stdout().write_all(openapi::text().as_bytes()).context(crate::output::NOT_PRINTED)
}
