//! Lists of the objects of one institution, or of several.

use recado_domain::ids::InstitutionId;
use serde::Serialize;
use serde_json::{Value, json};

use super::as_value;
use crate::api::error::ApiError;

/// The rows of several institutions.
#[derive(Default)]
pub(super) struct Lists(Vec<(InstitutionId, Vec<Value>)>);

impl Lists {
    pub fn add(&mut self, of: InstitutionId, views: impl Iterator<Item = impl Serialize>) -> Result<(), ApiError> {
        self.0.push((of, views.map(as_value).collect::<Result<_, _>>()?));
        Ok(())
    }

    /// One list. If it is of several institutions, each row names its own.
    pub fn joined(self) -> Value {
        let names = self.0.len() > 1;
        let rows = self.0.into_iter().flat_map(|(of, rows)| rows.into_iter().map(move |row| (of, row)));
        rows.map(|(of, mut row)| {
            if names {
                row["institutionId"] = json!(of);
            }
            row
        })
        .collect()
    }
}
