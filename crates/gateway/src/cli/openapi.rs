//! `recado openapi`: prints the OpenAPI document. The one in the repository is kept by it.

use std::io::Write;

use anyhow::{Context, Result};

use crate::api::openapi;

pub fn run() -> Result<()> {
    std::io::stdout().write_all(openapi::text().as_bytes()).context(super::output::NOT_PRINTED)
}
