//! `recado openapi`: prints the OpenAPI document. The one in the repository is kept by it.

use std::io::Write;

use anyhow::Result;

use crate::api::openapi;

pub fn run() -> Result<()> {
    Ok(std::io::stdout().write_all(openapi::text().as_bytes())?)
}
